"""The count of what a store holds finds each kind of problem."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))  # `evaluation` is not installed

from evaluation.candidates.audit import audit
from evaluation.candidates.candidate import Fleet, Held, Request
from evaluation.candidates.jobs import JobResult

FLEET = Fleet(size=2, kind="brim")
ONE = Request({"VCPU": 1})
NODE = FLEET.name(0)
OTHER = FLEET.name(1)


def held(consumer: str, provider: str = NODE, amount: int = 1) -> Held:
    return Held(consumer, provider, {"VCPU": amount})


@pytest.mark.parametrize(
    ("held_now", "counts"),
    [
        ([held("a")], (0, 0, 0)),
        ([held("a"), held("unknown")], (0, 0, 0)),
        ([held("a"), held("not-released")], (0, 0, 0)),
        ([], (0, 1, 0)),
        ([held("a", OTHER)], (0, 1, 0)),
        ([held("a", amount=2)], (0, 1, 0)),
        ([held("a"), held("a", OTHER)], (0, 0, 1)),
        ([held("a"), held("unknown"), held("unknown", OTHER)], (0, 0, 1)),
        ([held("a"), held("refused")], (0, 0, 1)),
        ([held("a"), held("given-back")], (0, 0, 1)),
        ([held("a"), held("unknown", amount=4)], (1, 0, 0)),
    ],
)
def test_each_problem_is_counted(held_now: list[Held], counts: tuple[int, int, int]) -> None:
    said = JobResult(
        placed=[("a", NODE, 0), ("given-back", NODE, 0), ("not-released", NODE, 0)],
        by_status={"no_room": ["refused"], "unknown": ["unknown"]},
        released=["given-back"],
        not_released=["not-released"],
    )
    found = audit(FLEET, 0.0, held_now, [said], (ONE,))
    assert (found.overcommitted, found.lost, found.doubled) == counts
    assert found.clean == (counts == (0, 0, 0))
    assert bool(found.examples) != found.clean


def test_what_was_filled_before_counts() -> None:
    fillers = list(FLEET.fillers(0.5))
    assert audit(FLEET, 0.5, fillers, [], (ONE,)).clean
    assert audit(FLEET, 0.5, fillers[1:], [], (ONE,)).lost == 1
    assert audit(FLEET, 0.5, [*fillers, held("x", amount=3)], [], (ONE,)).overcommitted == 1
