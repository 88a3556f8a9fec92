"""What one scheduler of a race is to do, as plain data that can be sent to its process."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import NamedTuple

from vacancy.resources.model.request import RequestSpec


class Place(NamedTuple):
    """Place a request."""

    spec: RequestSpec


class Release(NamedTuple):
    """Release what the nth `Place` of the plan (from 0) placed, if it was placed. It comes after that `Place`."""

    place: int


Plan = tuple[Place | Release, ...]


class Arrival(NamedTuple):
    """A request, and before which arrival (of all, from 0) it is to be released; None: not at all."""

    spec: RequestSpec
    release_before: int | None = None


def deal(arrivals: Sequence[Arrival], schedulers: int) -> list[Plan]:
    """Deal arrivals round robin to a number of schedulers.

    Each releases its own, when its own arrivals have come to the number before which they are to be released;
    what is due after its last arrival stays.
    """
    return [_plan(arrivals, first, schedulers) for first in range(schedulers)]


def _plan(arrivals: Sequence[Arrival], first: int, stride: int) -> Plan:
    steps: list[Place | Release] = []
    due: list[tuple[int, int]] = []
    for place, number in enumerate(range(first, len(arrivals), stride)):
        while due and due[0][0] <= number:
            steps.append(Release(heapq.heappop(due)[1]))
        steps.append(Place(arrivals[number].spec))
        before = arrivals[number].release_before
        if before is not None:
            heapq.heappush(due, (before, place))
    return tuple(steps)
