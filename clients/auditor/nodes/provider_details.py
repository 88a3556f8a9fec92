"""What transactions see of providers, in the auditor's ledger: names, who made them, and generations that count changes.

Written from docs/events.md. A generation rises once a record.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from vacancy.clients.auditor.claims.consumers import Key

MADE_INCARNATION = "0" * 16


class ProviderDetails:
    """The details of all providers of a partition. A provider without any has generation 0, and its id as name."""

    def __init__(self) -> None:
        self.generations: dict[Key, int] = {}
        self.made: set[Key] = set()
        """Providers that a transaction created, and that no node has reported since."""
        self.names: dict[Key, str] = {}
        """Names that are not the ids of their providers."""
        self.customs: set[tuple[str, str, str]] = set()
        """(cell, `class` or `trait`, name) of what transactions created."""
        self._touched: set[Key] = set()
        self._new: set[Key] = set()
        self._raises: Mapping[Key, int] | None = None
        self._raised: set[Key] = set()

    def touch(self, key: Key) -> None:
        """This record changed a provider, or took something of it."""
        self._touched.add(key)

    def add(self, key: Key) -> None:
        """This record added a provider."""
        self._new.add(key)

    def judged(self, raises: Mapping[Key, int]) -> None:
        """The record is a transaction that was judged, and raises these generations; only these, and none if it was refused."""
        self._raises = raises

    def make(self, key: Key) -> None:
        """A transaction creates a provider."""
        self.made.add(key)
        self.generations[key] = 0

    def name_of(self, key: Key) -> str:
        """The name of a provider."""
        return self.names.get(key, key[1])

    def forget(self, key: Key) -> None:
        """A provider is gone."""
        self.generations.pop(key, None)
        self.made.discard(key)
        self.names.pop(key, None)

    def reported(self, keys: Iterable[Key]) -> None:
        """A node reports these providers."""
        self.made.difference_update(keys)

    def rename(self, cell: str, names: Mapping[str, str]) -> None:
        """Providers have other ids from now on."""
        found = []
        for before, after in names.items():
            old = (cell, before)
            if before != after and old in self.generations:
                found.append(((cell, after), self.generations[old], old in self.made, self.names.get(old)))
                self.forget(old)
            elif before != after:
                self.forget(old)
        for key, generation, made, name in found:
            if key in self.generations:
                self.generations[key] = max(self.generations[key], generation)
                continue
            self.generations[key] = generation
            if made:
                self.made.add(key)
            if name is not None and name != key[1]:
                self.names[key] = name

    def deadlines_ended(self, there: Mapping[Key, object]) -> None:
        """Raise the generations of what the deadlines of a record changed, before its event."""
        self._raise(self._changed(), there)
        self._raised = set(self._touched)
        self._touched.clear()
        self._new.clear()

    def _changed(self) -> Mapping[Key, int]:
        touched = self._touched - self._raised
        return {key: 1 for key in touched if key not in self._new or key in self.generations}

    def conclude(self, there: Mapping[Key, object]) -> None:
        """The record ends: raise the generations of what it changed. `there` are the providers that there are now."""
        self._raise(self._changed() if self._raises is None else self._raises, there)
        self._touched.clear()
        self._new.clear()
        self._raised.clear()
        self._raises = None

    def _raise(self, raises: Mapping[Key, int], there: Mapping[Key, object]) -> None:
        for key, by in raises.items():
            if key in there:
                self.generations[key] = self.generations.get(key, 0) + by
