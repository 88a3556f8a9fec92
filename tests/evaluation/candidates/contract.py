"""What every candidate must do, on a tiny fleet. An adapter's test calls `check_contract`, which needs nothing else.

```python
def test_contract(tmp_path: Path) -> None:
    check_contract("postgresql", tmp_path)
```
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from evaluation.candidates import jobs
from evaluation.candidates.audit import audit
from evaluation.candidates.candidate import COMMON, RARE, Candidate, Fleet, Request
from evaluation.candidates.jobs import JobResult
from evaluation.candidates.registry import candidate
from evaluation.candidates.schedulers import Schedulers, together

PLAIN = Fleet(size=40)
BRIM = Fleet(size=6, kind="brim")
ONE = Request({"VCPU": 1})
WITH_TRAIT = Request({"VCPU": 2, "MEMORY_MB": 512, "DISK_GB": 10}, (COMMON,))
RARE_ONE = Request({"VCPU": 1, "MEMORY_MB": 256}, (RARE,))
TOO_MUCH = Request({"VCPU": 100_000})
REQUIRED = "VACANCY_TEST_CANDIDATES"
"""The environment variable that names candidates whose absence is a failure, separated by commas; `all` for all."""


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


def check_contract(name: str, directory: Path) -> None:
    """Check a candidate: at the brim with two schedulers, then on plain nodes with a kill in between."""
    one = started(name)
    check_about(one)
    for part, check in (("brim", check_brim), ("plain", check_plain)):
        workdir = directory / part
        workdir.mkdir()
        try:
            one.start(workdir)
            check(one)
        finally:
            one.stop()
    one.stop()


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


def check_brim(one: Candidate) -> None:
    """Two schedulers with several claims in flight fill small nodes to the brim: never beyond, and nothing stays free. What is
    released can be placed again."""
    one.fill(BRIM, 0.0)
    places = BRIM.places(ONE)
    with Schedulers(one, 2) as schedulers:
        at = together()
        filled = schedulers.run(
            [
                jobs.Place(at, prefix=f"a{n}", requests=(ONE,), in_flight=4, most=places, until_full=True)
                for n in range(2)
            ]
        )
        assert sum(len(result.placed) for result in filled) == places
        assert audit(BRIM, 0.0, one.held(), filled, (ONE,)).clean
        given = [tuple(consumer for consumer, _, _ in result.placed[:3]) for result in filled]
        given_back = schedulers.run([jobs.Release(consumers=consumers, in_flight=2) for consumers in given])
        assert [len(result.released) for result in given_back] == [len(consumers) for consumers in given]
        again = schedulers.run(
            [
                jobs.Place(prefix=f"b{n}", requests=(ONE,), in_flight=4, most=places, until_full=True)
                for n in range(2)
            ]
        )
        assert sum(len(result.placed) for result in again) == sum(map(len, given))
        _check_clean(one, BRIM, 0.0, [*filled, *given_back, *again], (ONE,))


def check_plain(one: Candidate) -> None:
    """Queries see amounts, traits and what was filled; what was acknowledged survives a kill; connections work again after
    it; the footprint is measured."""
    fill = one.fill(PLAIN, 0.5)
    assert fill.how
    _check_clean(one, PLAIN, 0.5, [], (WITH_TRAIT,))
    results: list[JobResult] = []
    with Schedulers(one, 2) as schedulers:
        _check_queries(schedulers)
        for prefix in ("before", "during", "after"):
            placing = [
                jobs.Place(prefix=f"{prefix}{n}", requests=(WITH_TRAIT,), in_flight=3, most=20)
                for n in range(2)
            ]
            done = schedulers.run(placing)
            results += done
            placed = [entry for result in done for entry in result.placed]
            if prefix != "during":  # the first calls after a kill find broken connections
                assert len(placed) == 40, [result.reasons for result in done]
                assert len({provider for _, provider, _ in placed}) > 5, "providers are not chosen at random"
            for _, provider, _ in placed:
                assert COMMON in PLAIN.provider(PLAIN.number(provider)).traits
            if prefix == "before":
                assert one.footprint().memory_bytes > 0
                assert one.kill()
                one.restart()
            _check_clean(one, PLAIN, 0.5, results, (WITH_TRAIT,))
    assert one.footprint().disk_bytes > 0


def _check_queries(schedulers: Schedulers) -> None:
    rare = {PLAIN.name(number) for number in range(PLAIN.size) if RARE in PLAIN.provider(number).traits}
    assert len(rare) == 1
    for request, found in ((WITH_TRAIT, 10), (RARE_ONE, 1), (TOO_MUCH, 0)):
        answers = schedulers.run([jobs.Query(requests=(request,), most=2, limit=10)] * 2)
        assert [result.found for result in answers] == [2 * found] * 2, request
    (placed, _) = schedulers.run(
        [
            jobs.Place(prefix="none", requests=(TOO_MUCH,), most=1),
            jobs.Query(requests=(ONE,), most=1),
        ]
    )
    assert placed.by_status == {"no_room": ["none-0"]}


def _check_clean(
    one: Candidate, fleet: Fleet, used_share: float, results: list[JobResult], requests: tuple[Request, ...]
) -> None:
    found = audit(fleet, used_share, one.held(), results, requests)
    assert found.clean, found
