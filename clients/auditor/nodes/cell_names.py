"""How many names of classes, attributes and traits the providers of each cell have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from vacancy.clients.auditor.claims.consumers import Key
from vacancy.clients.auditor.classes.class_auditor import Refused
from vacancy.clients.auditor.rules_in_force import AuditedLimits


class ProviderNames(NamedTuple):
    """The names of one provider, the node's and the operator's."""

    classes: frozenset[str]
    attributes: frozenset[str]
    traits: frozenset[str]


NO_NAMES = ProviderNames(frozenset(), frozenset(), frozenset())


class CellNames:
    """The names of the providers that were written under rules that count them."""

    def __init__(self) -> None:
        self._of: dict[Key, ProviderNames] = {}
        self._counts: dict[str, tuple[Counter[str], ...]] = {}

    def is_counted(self, provider: Key) -> bool:
        """Whether a provider's names were counted."""
        return provider in self._of

    def has(self, cell: str, kind: str, name: str) -> bool:
        """Whether a provider has this `class` or `trait`."""
        counts = self._counts.get(cell)
        return counts is not None and name in counts[0 if kind == "class" else 2]

    def set(self, provider: Key, names: ProviderNames | None) -> None:
        """A provider was written; None: it is gone."""
        counts = self._counts.setdefault(provider[0], (Counter(), Counter(), Counter()))
        for count, old, new in zip(counts, self._of.get(provider, NO_NAMES), names or NO_NAMES, strict=True):
            for name in old - new:
                count[name] -= 1
                if not count[name]:
                    del count[name]
            count.update(new - old)
        if names is None:
            self._of.pop(provider, None)
        else:
            self._of[provider] = names

    def check(self, cell: str, after: Mapping[str, ProviderNames | None], limits: AuditedLimits) -> None:
        """Raise `Refused` where an event changes too many names, or gives a cell more than it may have. `after` is what
        providers have after it."""
        most = (limits.cell_classes, limits.cell_attributes, limits.cell_traits)
        counts = self._counts.get(cell, (Counter(), Counter(), Counter()))
        changes = [(self._of.get((cell, id_), NO_NAMES), names or NO_NAMES) for id_, names in after.items()]
        if sum(_size_of_sets(changes, kind) for kind in range(len(most))) > limits.changed_names:
            raise Refused
        for kind, (count, limit) in enumerate(zip(counts, most, strict=True)):
            delta = Counter[str]()
            for old, new in changes:
                delta.update(new[kind] - old[kind])
                delta.subtract(old[kind] - new[kind])
            added = sum(by > 0 and name not in count for name, by in delta.items())
            gone = sum(by < 0 and count[name] + by == 0 for name, by in delta.items())
            if added > gone and len(count) + added - gone > limit:
                raise Refused


def _size_of_sets(changes: Sequence[tuple[ProviderNames, ProviderNames]], kind: int) -> int:
    """The names in the sets of names of one kind that more or fewer providers have than before."""
    providers = Counter[frozenset[str]]()
    for old, new in changes:
        providers[old[kind]] -= 1
        providers[new[kind]] += 1
    return sum(len(names) for names, by in providers.items() if by)
