"""The vocabulary of the tests for Hypothesis: logs that a `World` wrote, and how they are cut into batches."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TypeVar

from hypothesis import strategies as st

from tests.support.events_json import Tape
from tests.support.random_events import World

T = TypeVar("T")


@st.composite
def logs(draw: st.DrawFn, *, partitions: int = 1, wild: bool = True, length: int = 40) -> Tape:
    """A log with a number of partitions, written by a `World`."""

    def pick(options: Sequence[T]) -> T:
        return options[draw(st.integers(0, len(options) - 1))]

    world = World(pick, Tape(partitions), wild=wild)
    world.settle()
    for _ in range(draw(st.integers(0, length))):
        world.step()
    return world.tape


def batches(draw: st.DrawFn, count: int) -> list[tuple[int, int]]:
    """Cuts of `count` records into batches, as (first, end)."""
    cuts = sorted({0, count, *draw(st.lists(st.integers(0, count), max_size=6))})
    return list(itertools.pairwise(cuts))
