"""A small site to damage: its records, and the answers that it must not give wrongly."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Final

import numpy as np

from tests.faults.site_on_disk import Site
from tests.support.logs.events_json import provider, reported
from tests.support.queries import find
from vacancy.projections.ranking.orders import RANDOM
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.projections.store.store import partition_path
from vacancy.resources.model.request import RequestGroup, RequestSpec

CELL: Final = "auto-0"
NODES: Final = 40
AMOUNTS: Final = (1, 3, 6, 10)
SPECS: Final = tuple(RequestSpec(groups=(RequestGroup(resources={"VCPU": amount}),)) for amount in AMOUNTS)

Answers = tuple[tuple[str, ...], ...]
"""For each of `SPECS`, the nodes that serve it."""


class Reports:
    """Reports of nodes whose amounts change all the time."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._sequence = Counter[str]()
        self._total: dict[str, int] = {}

    def some(self, count: int) -> list[bytes]:
        """The next reports."""
        return [self._report(f"n{self._rng.randrange(NODES)}") for _ in range(count)]

    def _report(self, root: str) -> bytes:
        self._sequence[root] += 1
        self._total[root] = self._rng.randrange(12)
        return reported(root, [provider(root, VCPU=self._total[root])], sequence=self._sequence[root])

    def answers(self) -> Answers:
        """What is right to answer once all of them are folded."""
        return tuple(
            tuple(sorted(root for root, total in self._total.items() if total >= amount))
            for amount in AMOUNTS
        )


def answers(reader: StoreReader) -> Answers:
    """What the reader's view answers now."""
    return tuple(
        tuple(
            sorted(
                candidate.root
                for candidate in find(
                    reader.view, spec, limit=NODES, order=RANDOM, rng=np.random.default_rng(1)
                )
            )
        )
        for spec in SPECS
    )


def partition(site: Site) -> Path:
    """The directory of the site's only partition."""
    return partition_path(site.store, 0)
