"""A trace as the commands use it: the nodes of a cluster and its requests, and which requests are released when."""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from vacancy.projections.ranking.workload import Workload, tally
from vacancy.resources.model.errors import UsageError
from vacancy.resources.model.events import ProviderReport
from vacancy.resources.model.request import RequestSpec

Tree = tuple[ProviderReport, ...]
"""A node: its root provider, then its other providers."""


class Pod(NamedTuple):
    """One request of a trace. `amount` is what it asks for of the measured class, over all its groups. Times are in seconds
    since the trace's start; None where the trace has none, and for requests that it does not see end."""

    name: str
    spec: RequestSpec
    amount: int
    created_s: int | None = None
    deleted_s: int | None = None


class Trace(NamedTuple):
    """The nodes and the requests, in order of arrival. `measured` is the class by which it is measured how full the fleet
    is. `notes` say what the loader left out."""

    trees: list[Tree]
    pods: list[Pod]
    measured: str
    notes: tuple[str, ...] = ()

    @property
    def capacity(self) -> int:
        """What the fleet has of the measured class."""
        return capacity_of(self.trees, self.measured)

    @property
    def typical(self) -> Workload:
        """The typical workload of its requests."""
        return tally(((pod.spec, 1) for pod in self.pods), self.measured)


def capacity_of(trees: Iterable[Tree], name: str) -> int:
    """What a fleet has of a class."""
    return sum(int(str(part.inventories.get(name, {}).get("total", 0))) for tree in trees for part in tree)


def amount_of(spec: RequestSpec, name: str) -> int:
    """What a request asks for of a counted class, over all its groups."""
    asks = (group.resources.get(name, 0) for group in spec.groups)
    return sum(ask for ask in asks if isinstance(ask, int))


def fill_schedule(pods: Sequence[Pod], capacity: int, fill: float) -> list[int | None]:
    """For each pod, the arrival (an index into `pods`) before which it is released; None: never.

    The oldest pods are released first, no more than needed so that the live pods request at most the share `fill` of
    the fleet's `capacity` of the measured class.
    """
    limit = int(fill * capacity)
    released: list[int | None] = [None] * len(pods)
    alive: deque[int] = deque()
    requested = 0
    for arrival, pod in enumerate(pods):
        requested += pod.amount
        while alive and requested > limit:
            oldest = alive.popleft()
            released[oldest] = arrival
            requested -= pods[oldest].amount
        alive.append(arrival)
    return released


def recorded_schedule(pods: Sequence[Pod]) -> list[int | None]:
    """As `fill_schedule`, by the recorded times: a pod is released before the first arrival that comes at or after its end.
    Raises `UsageError` if a pod has no time of arrival, or comes before the one that precedes it."""
    released: list[int | None] = [None] * len(pods)
    alive: list[tuple[int, int]] = []
    before = None
    for arrival, pod in enumerate(pods):
        if pod.created_s is None:
            raise UsageError(
                "the trace has no times of arrival", do="release by --fill, or load a trace with times"
            )
        if before is not None and pod.created_s < before:
            raise UsageError(
                f"{pod.name} comes at {pod.created_s} s, before the request that precedes it",
                do="sort the requests by their times",
            )
        before = pod.created_s
        while alive and alive[0][0] <= before:
            released[heapq.heappop(alive)[1]] = arrival
        if pod.deleted_s is not None:
            heapq.heappush(alive, (pod.deleted_s, arrival))
    return released


def saturation_draw(pods: Sequence[Pod], seed: int, capacity: int, factor: float = 1.3) -> list[Pod]:
    """Draw pods with replacement until they request `factor` times the fleet's `capacity` of the measured class.

    A pod may be drawn several times, so its index in the result, not its name, is unique. Raises `UsageError` if no pod
    requests anything of that class.
    """
    if not any(pod.amount for pod in pods):
        raise UsageError(
            "no pod requests the class by which the fleet is measured, so no draw saturates it",
            do="load another list of pods",
        )
    rng = random.Random(seed)
    drawn: list[Pod] = []
    requested = 0
    while requested < factor * capacity:
        pod = rng.choice(pods)
        drawn.append(pod)
        requested += pod.amount
    return drawn
