"""Which of the groupings that browsers show have changed: a node has another aggregate or attribute than before.

A grouping by cell changes with the nodes only, and one by state is made by the browser from the states that it has. The others are
made here again when a provider or an operator's settings changed; they take a while with many nodes, so not more often than `_REST`
allows.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

import numpy as np

from vacancy.resources.model.errors import UsageError
from vacancy.ui.heat_map.groups import Grouping, grouped
from vacancy.ui.nodes import FleetNodes, NodeIndex

_REST: Final = 20.0
"""After groupings were made, changes wait for that many times the time that it took."""

_KINDS: Final = ("aggregate", "attribute")


@dataclass(frozen=True, slots=True)
class _Seen:
    """A grouping as browsers have it. `labels` as of `FleetNodes.labels`."""

    grouping: Grouping
    generation: int
    labels: int


class Regrouping:
    """For the thread of the tables."""

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}
        self._not_before_s = 0.0

    def begin(self, nodes: FleetNodes, index: NodeIndex, group: str, grouping: Grouping) -> None:
        """A browser fetches this grouping."""
        if group.partition(":")[0] in _KINDS and group not in self._seen:
            self._seen[group] = _Seen(grouping, index.generation, nodes.labels)

    def look(self, nodes: FleetNodes, index: NodeIndex, groups: Collection[str]) -> set[str]:
        """Those of these groupings that are others than at the last look. The nodes are the same: browsers fetch all where they are not."""
        for gone in set(self._seen).difference(groups):
            del self._seen[gone]
        began_s = time.monotonic()
        if began_s < self._not_before_s:
            return set()
        changed = set()
        for group in groups:
            before = self._seen.get(group)
            if group.partition(":")[0] not in _KINDS or (before and before.labels == nodes.labels):
                continue
            try:
                grouping = grouped(nodes, index, group)
            except UsageError:  # the view has reported it to its browser
                continue
            self._seen[group] = _Seen(grouping, index.generation, nodes.labels)
            if before and before.generation == index.generation and not _same(before.grouping, grouping):
                changed.add(group)
        self._not_before_s = time.monotonic() + _REST * (time.monotonic() - began_s)
        return changed


def _same(one: Grouping, other: Grouping) -> bool:
    return one.names == other.names and bool(np.array_equal(one.of, other.of))
