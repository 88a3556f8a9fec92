"""Flipped bits and cut files of a store and a log while a worker writes them and a reader follows it, each in a process
of its own. None may die of it, and no answer may be wrong.

`VACANCY_FUZZ_DAMAGES` is how many files of each kind are damaged (`make explore`).
"""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from tests.faults.site_on_disk import Site
from tests.fuzz.damage.damage import FILES, Outcomes
from tests.fuzz.damage.sites import CELL, Reports, answers, partition
from tests.support.sites.damaged_files import damage
from tests.support.sites.temporary_stores import FAST
from vacancy.clients.runtime.child_process import ChildProcess
from vacancy.projections.changefeed.shared_ring import ring_path

DAMAGES = max(1, int(os.environ.get("VACANCY_FUZZ_DAMAGES", "8")) // 6)
KINDS = tuple(FILES)
LOOK_S = 0.5
GIVE_UP_S = 90.0


def read_forever(asked: Connection, site: Site) -> None:
    """A reader: for each position that it is sent it answers with its own, soon or when it is there, and its answers."""
    rng = random.Random(1)
    with site.reader() as reader:
        while True:
            position = asked.recv()
            give_up_at = time.monotonic() + LOOK_S
            while reader.position[0] < position and time.monotonic() < give_up_at:
                rng.choice((reader.follow, reader.catch_up))()
                time.sleep(0.002)
            asked.send((reader.position[0], answers(reader)))


class LivingSite:
    """A site whose worker and reader live."""

    def __init__(self, home: Path, seed: int) -> None:
        home.mkdir()
        self.site = Site.made(home)
        self.reports = Reports(random.Random(seed))
        self.site.append(CELL, *self.reports.some(20))
        self.site.fold()  # all is in tables then
        self.worker = self.site.worker()
        self.worker.start()
        self.worker.wait_ready()
        self.reader = ChildProcess("the reader", read_forever, self.site, where=f"store {self.site.store}")
        assert self.lives_on()

    def lives_on(self) -> bool:
        """Write more, and see whether the reader gets to its end and is right there. Raises the error of who noticed
        the damage, or a plain `VacancyError` where a process died."""
        for count in (1, 3, 20):
            end = self.site.append(CELL, *self.reports.some(count))[-1].offset + 1
            give_up_at = time.monotonic() + GIVE_UP_S
            position = -1
            while position != end:
                assert time.monotonic() < give_up_at, f"nobody gets from {position} to {end}"
                self.worker.check()
                self.reader.send(end)
                position, seen = self.reader.receive(GIVE_UP_S)
            if seen != self.reports.answers():
                return False
        return True

    def close(self) -> None:
        for process in (self.reader, self.worker):
            process.kill()
        self.reader.close()


@contextmanager
def living(home: Path, seed: int) -> Iterator[LivingSite]:
    site = LivingSite(home, seed)
    try:
        yield site
    finally:
        site.close()


@pytest.mark.parametrize("kind", KINDS)
def test_damage_in_use_is_noticed_or_harmless(kind: str) -> None:
    rng, outcomes = random.Random(kind), Outcomes()
    with tempfile.TemporaryDirectory(prefix="vacancy-test-", dir=FAST) as directory:
        while outcomes.total() < DAMAGES:
            with living(Path(directory) / f"{outcomes.total()}", outcomes.total()) as one:
                outcome = "harmless"
                while outcome == "harmless" and outcomes.total() < DAMAGES:
                    what = damage(rng, rng.choice(FILES[kind](one.site)))
                    outcome = outcomes.judge(what, one.site, one.lives_on)
    assert outcomes.wrong == []


@pytest.mark.parametrize("size", [0, 100, 1_000_000])
def test_a_ring_that_is_cut_kills_nobody(size: int, tmp_path: Path) -> None:
    """A page of a mapped file that is no longer there is a signal, not an error."""
    with living(tmp_path / "site", size) as one:
        os.truncate(ring_path(partition(one.site)), size)
        assert one.lives_on()
