"""A worker is killed and its store loses its last commits: the end of the write-ahead log is cut, or the directory of
a partition is put back as it was. A reader that lived through all of it never shows another fleet than the log's.

`VACANCY_FUZZ_ROUNDS` is the number of rounds in all (`make explore`); `VACANCY_SEED` repeats one session.
"""

from __future__ import annotations

import os
import random
import shutil
import time
from pathlib import Path

import pytest

from tests.faults.site_on_disk import Site, wait_for
from tests.fuzz.damage.sites import CELL, Reports, answers, partition
from vacancy.projections.reader.store_reader import StoreReader

ROUNDS = 5
"""Rounds of one session, in which the reader is never opened again."""

FIRST = int(os.environ.get("VACANCY_SEED", "1"))
SESSIONS = int(os.environ.get("VACANCY_FUZZ_ROUNDS", "5")) // ROUNDS
SEEDS = [FIRST] if "VACANCY_SEED" in os.environ else range(1, 1 + SESSIONS)


@pytest.mark.parametrize("seed", SEEDS)
def test_no_reader_is_wrong_after_a_store_lost_commits(seed: int, tmp_path: Path) -> None:
    try:
        session = Session(Site.made(tmp_path), random.Random(seed))
        with session.site.with_worker():
            session.write(60)
        with session.site.reader() as follower:
            for _ in range(ROUNDS):
                session.round(follower)
        session.site.check_whole()
    except BaseException as error:
        error.add_note(f"VACANCY_SEED={seed} repeats this session")
        raise


class Session:
    """A site whose store loses commits again and again."""

    def __init__(self, site: Site, rng: random.Random) -> None:
        self.site, self._rng = site, rng
        self._reports = Reports(rng)
        self._kept = site.home / "kept"

    def write(self, count: int) -> None:
        """Append reports, one at a time so that commits are small, and wait until they are folded."""
        for value in self._reports.some(count):
            self.site.append(CELL, value)
            if self._rng.random() < 0.3:
                time.sleep(0.003)
        self.site.settle()

    def round(self, follower: StoreReader) -> None:
        """The worker dies, its store loses commits, and the next worker writes about as many."""
        worker = self.site.worker()
        worker.start()
        worker.wait_ready()
        self.write(self._rng.randint(5, 60))
        look(follower, self._rng)
        worker.kill()
        self._lose()
        look(follower, self._rng, seldom=True)
        with self.site.with_worker():
            look(follower, self._rng, seldom=True)
            self.write(self._rng.randint(1, 90))
            check_follows(self.site, follower, self._rng)

    def _lose(self) -> None:
        """What is kept from an earlier round is put back, or the log's tail is cut."""
        files = partition(self.site)
        if self._kept.exists() and self._rng.random() < 0.5:
            shutil.rmtree(files)
            self._kept.rename(files)
            return
        shutil.rmtree(self._kept, ignore_errors=True)
        shutil.copytree(files, self._kept)
        newest = max(files.glob("*.log"), key=lambda file: int(file.stem))
        os.truncate(newest, int(newest.stat().st_size * self._rng.random()))


def look(follower: StoreReader, rng: random.Random, *, seldom: bool = False) -> None:
    """The reader looks at the store, or does not."""
    if rng.random() < (0.2 if seldom else 0.9):
        rng.choice((follower.follow, follower.catch_up))()


def check_follows(site: Site, follower: StoreReader, rng: random.Random) -> None:
    """It gets to where a new reader is, and finds there what that one finds."""
    with site.reader() as newcomer:

        def there() -> bool:
            look(follower, rng)
            return follower.position == newcomer.position

        wait_for(there)
        assert answers(follower) == answers(newcomer)
