"""Large withdrawals, which go on over several records.

The ledger withdraws at once what a node no longer reports. This module only knows how long that takes by the rules: what
waits, in which order, and how much of it each record withdraws. A withdrawn provider costs one unit, one for each of its
classes, and one for four of its traits and attributes. A class that a provider no longer has costs one unit. Meanwhile the
node is closed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from vacancy.clients.auditor.claims.consumers import Key
from vacancy.clients.auditor.classes.class_auditor import Refused
from vacancy.clients.auditor.deadlines import Deadlines

WITHDRAWAL: Final = b"W"

NAMES_OF_A_UNIT: Final = 4

Names = tuple[str, ...]
"""Names of classes."""


class Withdrawn(NamedTuple):
    """A provider that is withdrawn: its classes, and how many traits and attributes its node reported of it."""

    classes: Names
    others: int

    @property
    def units(self) -> int:
        """What it costs."""
        return 1 + len(self.classes) + self.others // NAMES_OF_A_UNIT


@dataclass(slots=True)
class Waiting:
    """What waits of one tree, in order: the classes of providers that stay, and then whole providers with all of their
    classes. `at_ms` is its deadline."""

    at_ms: int
    classes: dict[str, Names] = field(default_factory=dict)
    providers: dict[str, Withdrawn] = field(default_factory=dict)
    is_new: bool = True
    has_stepped: bool = False


class Withdrawals:
    """What is still to be withdrawn in one partition, by tree (cell, root).

    `on_done(cell, provider)` is called for each provider that is withdrawn after it waited, as a whole or in part.
    """

    def __init__(self, deadlines: Deadlines, on_done: Callable[[str, str], None]) -> None:
        self._deadlines = deadlines
        self._on_done = on_done
        self._trees: dict[Key, Waiting] = {}
        self._changed: set[Key] = set()
        self._units = 0
        self.closed: set[Key] = set()
        """Nodes that are closed because part of their trees waits."""

    def is_waiting(self, tree: Key) -> bool:
        """Whether a report or a change of this tree has to wait."""
        return tree in self._trees

    def names(self, tree: Key, provider: str) -> Names | None:
        """The classes that wait of a provider; None if the whole of it waits."""
        waiting = self._trees.get(tree)
        if waiting is None:
            return ()
        return None if provider in waiting.providers else waiting.classes.get(provider, ())

    def provider(self, tree: Key, provider: str, withdrawn: Withdrawn, limit: int, now_ms: int) -> None:
        """A node no longer reports a provider."""
        waiting = self._trees.get(tree)
        if self._units >= limit:
            self._tree(tree, now_ms).providers.setdefault(provider, withdrawn)
        elif waiting is None or provider not in waiting.providers:
            self.settle(tree, provider, limit)
            self._units += withdrawn.units

    def root(self, tree: Key, withdrawn: Withdrawn, limit: int) -> None:
        """A root is withdrawn: it never waits."""
        self.settle(tree, tree[1], limit)
        self._units += withdrawn.units

    def classes(self, tree: Key, provider: str, names: Sequence[str], limit: int, now_ms: int) -> None:
        """A node no longer reports these classes of a provider."""
        if names and self._units >= limit:
            self._tree(tree, now_ms).classes[provider] = tuple(names)
        else:
            self._units += len(names)

    def settle(self, tree: Key, provider: str, limit: int) -> None:
        """Something else changes a provider, so what waits of it is withdrawn first. Raises `Refused` where the record has
        withdrawn as much as it may."""
        waiting = self._trees.get(tree)
        if waiting is None or (provider not in waiting.classes and provider not in waiting.providers):
            return
        if self._units >= limit:
            raise Refused
        self._units += len(waiting.classes.pop(provider, ()))
        if provider in waiting.providers:
            self._units += waiting.providers.pop(provider).units
        self._done(tree, provider)

    def settle_class(self, tree: Key, provider: str, name: str) -> None:
        """The use of a class changes, so it is withdrawn first if it waits."""
        waiting = self._trees.get(tree)
        if waiting is None:
            return
        if provider in waiting.providers:
            names = waiting.providers.pop(provider).classes
            self._units += len(waiting.classes.pop(provider, ()))
            waiting.classes[provider] = names
        names = waiting.classes.get(provider, ())
        if name in names:
            del waiting.classes[provider]
            left = tuple(other for other in names if other != name)
            if left:
                waiting.classes[provider] = left
            self._units += 1
        self._done(tree, provider)

    def step(self, tree: Key, limit: int) -> None:
        """Withdraw more of a tree, at its deadline."""
        waiting = self._trees.get(tree)
        if waiting is None:
            return
        waiting.has_stepped = True
        self._changed.add(tree)
        while waiting.classes and self._units < limit:
            provider = next(iter(waiting.classes))
            self._units += len(waiting.classes.pop(provider))
            self._done(tree, provider)
        while waiting.providers and self._units < limit:
            provider = next(iter(waiting.providers))
            self._units += waiting.providers.pop(provider).units
            self._done(tree, provider)

    def save(self) -> tuple[dict[Key, Waiting], set[Key], int]:
        """What waits now, for `restore`."""
        trees = {
            tree: replace(waiting, classes=dict(waiting.classes), providers=dict(waiting.providers))
            for tree, waiting in self._trees.items()
        }
        return trees, set(self._changed), self._units

    def restore(self, saved: tuple[dict[Key, Waiting], set[Key], int]) -> None:
        """Undo what an event did that was refused."""
        self._trees, self._changed, self._units = saved

    def conclude(self) -> list[Key]:
        """End the deadlines or the event of a record. Returns the nodes that opened or closed."""
        found = []
        for tree in sorted(self._changed):
            waiting, subject = self._trees[tree], f"{tree[0]}\0{tree[1]}".encode()
            if waiting.classes or waiting.providers:
                self._deadlines.set(waiting.at_ms, WITHDRAWAL, subject)
                if waiting.is_new:
                    self.closed.add(tree)
                    found.append(tree)
                waiting.is_new = waiting.has_stepped = False
                continue
            del self._trees[tree]
            self._deadlines.clear(waiting.at_ms, WITHDRAWAL, subject)
            if not waiting.is_new:
                self.closed.discard(tree)
                found.append(tree)
        self._changed.clear()
        self._units = 0
        return found

    def _tree(self, tree: Key, now_ms: int) -> Waiting:
        self._changed.add(tree)
        return self._trees.setdefault(tree, Waiting(now_ms - 1))

    def _done(self, tree: Key, provider: str) -> None:
        self._changed.add(tree)
        self._on_done(tree[0], provider)
