"""No sequence of moves, resizes, updates, rollbacks, ends of holds and cancellations changes a grant that was not asked to change,
and usage is the sum of grants."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.classes.ports_class import REGISTRY
from tests.support.random_logs.random_moves import RandomMoves, not_adding_up
from tests.support.sites.temporary_stores import opened_store
from vacancy.projections.store.digest import as_scan, partition_digest

T = TypeVar("T")
SEEN: Counter[str] = Counter()


@st.composite
def moves(draw: st.DrawFn) -> RandomMoves:
    def pick(options: Sequence[T]) -> T:
        return options[draw(st.integers(0, len(options) - 1))]

    world = RandomMoves(pick)
    for _ in range(draw(st.integers(5, 30))):
        world.step()
        if not world.problems:
            world.problems += not_adding_up(world)
    return world


@settings(max_examples=150, deadline=None)
@given(moves())
def test_only_what_is_asked_to_change_changes_and_usage_is_the_sum_of_grants(world: RandomMoves) -> None:
    assert world.problems == []
    SEEN.update(world.kinds)


@settings(max_examples=15, deadline=None)
@given(moves())
def test_live_is_rebuilt(world: RandomMoves) -> None:
    records = world.tape.records[0]
    with opened_store() as store:
        for at in range(0, len(records), 3):
            store.apply(0, records[at : at + 3])
        live = partition_digest(store.partition(0).scan, REGISTRY)
    assert live == partition_digest(as_scan(world.state.items), REGISTRY)


def test_enough_happened_to_tell() -> None:
    wanted = (
        "accepted",
        "cancelled",
        "no_room",
        "provider_disabled",
        "resized",
        "hold ended",
        "update",
        "confirm",
    )
    assert [kind for kind in wanted if not SEEN[kind]] == []
