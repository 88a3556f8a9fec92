"""Flipped bits and cut files of a store and of a log that nobody has open.

`VACANCY_FUZZ_DAMAGES` is how many files of each kind are damaged (`make explore`), `VACANCY_SEED` chooses others.
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.fuzz.damage.damage import FILES, Outcomes, Twin, log_agrees, reader_agrees, worker_agrees
from tests.support.sites.damaged_files import damage
from tests.support.sites.temporary_stores import FAST

DAMAGES = int(os.environ.get("VACANCY_FUZZ_DAMAGES", "3"))
MANY = 40 + DAMAGES
"""Of so many damaged files of a kind, at least one is noticed."""
SEED = os.environ.get("VACANCY_SEED", "")
KINDS = tuple(FILES)
LOOKS = {"a reader": reader_agrees, "a worker": worker_agrees}
LOOKS_AT_THE_LOG = {"a rebuild": log_agrees}


@pytest.fixture(scope="module")
def twin() -> Iterator[Twin]:
    with tempfile.TemporaryDirectory(prefix="vacancy-test-", dir=FAST) as directory:
        yield Twin(Path(directory) / "twin")


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_noticed_or_harmless(kind: str, twin: Twin) -> None:
    rng, outcomes = random.Random(SEED + kind), Outcomes()
    # Readers take what is damaged in a ring from the store. Of all other files the looks must find something, and where it is in a file
    # that RocksDB wrote differs from run to run: then more of them are damaged.
    must_notice = kind != "ring"
    for number in range(MANY):
        if number >= DAMAGES and (outcomes["noticed"] or not must_notice):
            break
        site = twin.copied(twin.site.home.with_name(f"{number}"))
        what = damage(rng, rng.choice(FILES[kind](site)))
        for name, agrees in (LOOKS | LOOKS_AT_THE_LOG if kind == "log" else LOOKS).items():
            outcomes.judge(f"{name}: {what}", site, partial(agrees, site, twin.digests))
        shutil.rmtree(site.home)
    assert outcomes.wrong == []
    assert outcomes["noticed"] or not must_notice
