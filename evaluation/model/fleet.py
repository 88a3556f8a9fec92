"""The nodes of the model: what is free on each, by the log and as schedulers see it at earlier positions."""

from __future__ import annotations

import math
import random
from array import array
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence

_DRAWS = 64
"""Nodes that are drawn before the fleet is scanned from a random node on."""


class ModelFleet:
    """Nodes 0, 1, … with room for equal claims; node n is in partition n modulo `partitions`.

    At the start each place is in use with the probability `fill`. The log order of a partition counts its changes: each
    accepted claim and each release has a sequence number.
    """

    def __init__(self, nodes: int, room: int, partitions: int, fill: float, rng: random.Random) -> None:
        self.nodes, self.room, self.partitions = nodes, room, partitions
        self._rng = rng
        start = rng.choices(range(room + 1), _odds(room, fill), k=nodes) if fill else [0] * nodes
        self._start = array("l", start)
        self._used = array("l", self._start)
        self._old = array("l", self._start)  # what is left of the start
        self._old_left = sum(self._start)
        self._placed: list[int] = []  # the node of each claim of this run that holds a place
        self._takes: defaultdict[int, list[int]] = defaultdict(list)
        self._releases: defaultdict[int, list[int]] = defaultdict(list)
        self.sequence = [0] * partitions
        """Of each partition: the number of its newest change."""

    @property
    def used(self) -> int:
        """Claims that hold a place now, those of the start included."""
        return self._old_left + len(self._placed)

    def used_on(self, node: int) -> int:
        """Claims that hold a place on this node now."""
        return self._used[node]

    def judge(self, node: int) -> bool:
        """Append a claim: it is accepted if there is room at its place in the log."""
        if self._used[node] >= self.room:
            return False
        self._used[node] += 1
        self._placed.append(node)
        self._takes[node].append(self._next(node))
        return True

    def release_one(self) -> int | None:
        """Append the release of a random place in use. Returns its node; None if nothing is in use."""
        if not self.used:
            return None
        if self._rng.randrange(self.used) < self._old_left:
            node = self._rng.randrange(self.nodes)
            while self._rng.random() * self.room >= self._old[node]:
                node = self._rng.randrange(self.nodes)
            self._old[node] -= 1
            self._old_left -= 1
        else:
            at = self._rng.randrange(len(self._placed))
            self._placed[at], self._placed[-1] = self._placed[-1], self._placed[at]
            node = self._placed.pop()
        self._used[node] -= 1
        self._releases[node].append(self._next(node))
        return node

    def _next(self, node: int) -> int:
        partition = node % self.partitions
        self.sequence[partition] += 1
        return self.sequence[partition]

    def free_as_of(self, node: int, seen: Sequence[int]) -> int:
        """What is free on a node for a scheduler that has seen the changes of each partition up to `seen`."""
        limit = seen[node % self.partitions]
        taken = bisect_right(self._takes[node], limit) if node in self._takes else 0
        released = bisect_right(self._releases[node], limit) if node in self._releases else 0
        return self.room - self._start[node] - taken + released

    def choose(
        self, count: int, seen: Sequence[int], reserved: Counter[int], avoid: Collection[int] = ()
    ) -> list[int]:
        """Up to `count` distinct nodes of one partition that have room as of `seen`, each as likely as any other.
        `reserved`: what the scheduler's claims without a verdict will take. `avoid`: nodes that just rejected a claim."""
        chosen: dict[int, None] = {}

        def fits(node: int) -> bool:
            return node not in chosen and node not in avoid and self.free_as_of(node, seen) > reserved[node]

        first = self._draw(range(self.nodes), fits)
        if first is None:
            return []
        chosen[first] = None
        partition = range(first % self.partitions, self.nodes, self.partitions)
        while len(chosen) < count and (node := self._draw(partition, fits)) is not None:
            chosen[node] = None
        return list(chosen)

    def _draw(self, nodes: range, fits: Callable[[int], bool]) -> int | None:
        for _ in range(_DRAWS):
            if fits(node := nodes[self._rng.randrange(len(nodes))]):
                return node
        start = self._rng.randrange(len(nodes))
        order = (nodes[(start + step) % len(nodes)] for step in range(len(nodes)))
        return next(filter(fits, order), None)


def _odds(room: int, fill: float) -> list[float]:
    """The binomial distribution: how likely each number of places in use is. `fill` is more than 0 and less than 1."""
    return [
        math.exp(
            math.lgamma(room + 1)
            - math.lgamma(used + 1)
            - math.lgamma(room - used + 1)
            + used * math.log(fill)
            + (room - used) * math.log1p(-fill)
        )
        for used in range(room + 1)
    ]
