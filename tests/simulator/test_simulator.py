"""Simulated clouds from seeds, a few hundred steps each: nothing is overcommitted, and a replay gives the same state.

A failure prints its seed: `VACANCY_SEED=7 pytest tests/simulator` repeats the run, `VACANCY_SEED=0-999` runs many.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from pathlib import Path

import pytest

from tests.projections.view.test_fleet import told
from tests.simulator.simulation import NEWEST, Simulation, verify
from tests.support.classes.ports_class import REGISTRY
from tests.support.sites.temporary_stores import FAST
from vacancy.projections.reader.store_reader import StoreReader

STEPS = 250
FEW_STEPS = STEPS if "VACANCY_SEED" in os.environ else 150


def seeds() -> list[int]:
    given = os.environ.get("VACANCY_SEED")
    if given is None:
        return [*range(7), 17]
    first, _, last = given.partition("-")
    return list(range(int(first), int(last or first) + 1))


SEEN: Counter[str] = Counter()


@pytest.mark.parametrize("seed", seeds())
def test_nothing_is_lost_overcommitted_or_decided_twice(seed: int) -> None:
    simulate(seed, None, FEW_STEPS)


@pytest.mark.parametrize("seed", seeds()[:3])
def test_the_newest_rules_keep_what_the_earlier_ones_do_and_quotas(seed: int) -> None:
    """Also operators who change shares and parents, gangs, consumers that go to another project or to another cell."""
    simulate(seed, NEWEST, FEW_STEPS)


@pytest.mark.parametrize("seed", seeds()[:3])
def test_rules_that_are_raised_midway_lose_nothing_either(seed: int) -> None:
    """From versions 1 to 3; what was held before is counted by and by. Long enough that claims break an affinity and moves
    between cells end."""
    simulate(seed, 1 + seed % 3, STEPS, raised=True)


def simulate(seed: int, version: int | None, steps: int, *, raised: bool = False) -> None:
    print(f"VACANCY_SEED={seed}")  # noqa: T201 - pytest shows it with a failure
    with tempfile.TemporaryDirectory(prefix="vacancy-simulation-", dir=FAST) as directory:
        simulation = Simulation(seed, Path(directory), version, raised=raised)
        try:
            simulation.run(steps)
            SEEN.update(verify(simulation))
            with StoreReader(simulation.path, REGISTRY) as loaded:
                for scheduler in simulation.schedulers:
                    view = scheduler.reader.view
                    for taken in [one for sent in scheduler.under_way.values() for one in sent.taken]:
                        view.unreserve(taken)
                    assert told(view, scheduler.reader) == told(loaded.view, loaded)
        finally:
            simulation.close()


def test_the_same_seed_is_the_same_run(tmp_path: Path) -> None:
    tapes = []
    for name in ("one", "two"):
        simulation = Simulation(5, tmp_path / name)
        simulation.run(60)
        simulation.close()
        tapes.append(simulation.tape.records)
    assert tapes[0] == tapes[1]


def test_the_runs_covered_every_kind_of_event() -> None:
    if "VACANCY_SEED" in os.environ:
        return  # a run with a chosen seed need not cover everything
    kinds = (
        "accepted",
        "no_room",
        "cancelled",
        "late",
        "verdict read",
        "crash",
        "send_again",
        "restart_scheduler",
        "affinity_broken",
        "anti_affinity_broken",
        "over_quota",
        "gang",
        "update",
        "move_to_cell",
        "finished",
        "undone",
        "counted later",
    )
    missing = [kind for kind in kinds if not SEEN[kind]]
    assert not missing, "the simulation no longer covers these"
