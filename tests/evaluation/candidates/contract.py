"""What every candidate must do, as a scenario on the fleet that the quick comparison has loaded; see `test_quick_comparison.py`."""

from __future__ import annotations

import os

import pytest

from evaluation.candidates import jobs
from evaluation.candidates.candidate import COMMON, RARE, Candidate, Fleet, Request
from evaluation.candidates.registry import candidate
from evaluation.candidates.schedulers import Schedulers
from evaluation.scenarios.result import ScenarioResult
from evaluation.scenarios.running import Site, running
from evaluation.scenarios.scenario import QUICK_NODES, SHARED_USED, Plan, Scenario

WITH_TRAIT = Request({"VCPU": 2, "MEMORY_MB": 512, "DISK_GB": 10}, (COMMON,))
RARE_ONE = Request({"VCPU": 1, "MEMORY_MB": 256}, (RARE,))
TOO_MUCH = Request({"VCPU": 100_000})
REQUIRED = "VACANCY_TEST_CANDIDATES"
"""The environment variable that names candidates whose absence is a failure, separated by commas; `all` for all."""

OVERCOMMITS = "placement-gate"
"""With ten tries inside of one transaction it can accept more than the capacity: a finding, which is no error of this project."""

_FULL_S = 60.0


def started(name: str) -> Candidate:
    """The candidate, if its store is installed here. Otherwise the test is skipped with one line that says what to install, or
    fails where `VACANCY_TEST_CANDIDATES` requires it."""
    one = candidate(name)
    missing = one.missing()
    if missing is not None:
        required = os.environ.get(REQUIRED, "").split(",")
        if name in required or "all" in required:
            pytest.fail(f"{name} is required here: {missing}")
        pytest.skip(f"{name} is left out: {missing}")
    return one


def check_about(one: Candidate) -> None:
    """What the report needs is there, and each setting has a source."""
    about = one.about()
    assert about.version
    assert about.acknowledgement
    assert about.durability
    assert about.processes
    assert about.replicas >= 1
    assert about.code_lines > 0
    assert about.settings
    for setting in about.settings:
        assert setting.name
        assert setting.source, f"{setting.name} has no source"
    assert about.review


def check_contract(name: str, plan: Plan) -> list[ScenarioResult]:
    """Check a candidate: loading, queries, placements and releases. Other scenarios check the rest: `racing` that no unit stays free
    and none is taken twice, `crash` kills and restarts the store, `staleness` places again what was released."""
    fleet = Fleet(QUICK_NODES, plan.seed)
    with running(name, plan, fleet, SHARED_USED) as site, site.schedulers(2) as schedulers:
        assert site.fill.how
        _check_queries(fleet, schedulers)
        _check_placements(site, schedulers)
    return []


CONTRACT = Scenario("contract", "It proves that the adapter does what every adapter must do.", check_contract)


def _check_queries(fleet: Fleet, schedulers: Schedulers) -> None:
    """Queries see amounts and traits, and `place` says that there is no room."""
    rare = [one.name for one in fleet.providers() if RARE in one.traits]
    assert len(rare) == 1
    for request, found in ((WITH_TRAIT, 10), (RARE_ONE, 1), (TOO_MUCH, 0)):
        answers = schedulers.run([jobs.Query(requests=(request,), most=2, limit=10)] * 2)
        assert [result.found for result in answers] == [2 * found] * 2, request
    (placed, _) = schedulers.run(
        [
            jobs.Place(prefix="none", requests=(TOO_MUCH,), most=1),
            jobs.Query(requests=(RARE_ONE,), most=1),
        ]
    )
    assert placed.by_status == {"no_room": ["none-0"]}


def _check_placements(site: Site, schedulers: Schedulers) -> None:
    """Nodes that match are chosen at random. All is released again."""
    done = site.place(schedulers, 3, request=WITH_TRAIT, seconds=_FULL_S, most=6)
    placed = [entry for result in done for entry in result.placed]
    assert len(placed) == 12, [result.reasons for result in done]
    for _, provider, _ in placed:
        assert COMMON in site.fleet.provider(site.fleet.number(provider)).traits
    # Those of the gate's setup are not: its name of the variable has no effect.
    if site.candidate.name != OVERCOMMITS:
        assert len({provider for _, provider, _ in placed}) > 4, "providers are not chosen at random"
    held = [tuple(consumer for consumer, _, _ in one.placed) for one in done]
    released = schedulers.run([jobs.Release(consumers=consumers, in_flight=2) for consumers in held])
    site.note(released)
    assert [len(result.released) for result in released] == [len(consumers) for consumers in held]
