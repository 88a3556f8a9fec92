"""Hypothesis strategies: logs written by `RandomEvents`, and divisions of a log into batches."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TypeVar

from hypothesis import strategies as st

from tests.support.logs.events_json import Tape
from tests.support.random_logs.random_events import RandomEvents

T = TypeVar("T")


@st.composite
def logs(draw: st.DrawFn, *, partitions: int = 1, wild: bool = True, length: int = 40) -> Tape:
    """A log with this many partitions, written by `RandomEvents`."""

    def pick(options: Sequence[T]) -> T:
        return options[draw(st.integers(0, len(options) - 1))]

    world = RandomEvents(pick, Tape(partitions), wild=wild)
    world.settle()
    for _ in range(draw(st.integers(0, length))):
        world.step()
    return world.tape


def batches(draw: st.DrawFn, count: int) -> list[tuple[int, int]]:
    """A division of `count` records into batches, as (first, end)."""
    cuts = sorted({0, count, *draw(st.lists(st.integers(0, count), max_size=6))})
    return list(itertools.pairwise(cuts))
