"""Whether any tree could have served a request: what the auditor asks of every `no_valid_host`.

Trees are judged one by one, each group against each provider of the tree. What a request found is remembered,
and only trees that changed since are judged again; what is still in flight can only take away from that.

It errs on the mild side: what sharing providers lend to a tree, and that several providers may serve a group
together, is not considered, so that a request that only they could serve is not called wrongly refused. Not judged at
all are groups in one subtree, several copies, and classes that are not counted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from vacancy.clients.auditor.classes.devices import DEVICE_CLASSES
from vacancy.clients.auditor.consumers import Key
from vacancy.clients.auditor.inventory import NO_FACTS
from vacancy.clients.auditor.ledger import Ledger

Taken = Mapping[tuple[str, str, str], int]
"""What claims in flight would take: (cell, provider, class) -> amount."""

Group = Mapping[str, Any]


def is_known(spec: Mapping[str, Any]) -> bool:
    """Whether the shape of a request is one that is judged here: groups in one subtree and several copies are not."""
    return not spec.get("same_subtree") and spec.get("copies", 1) == 1


def is_counted(books: Ledger, spec: Mapping[str, Any]) -> bool:
    """Whether every ask of a request is an amount of a class that is counted."""
    return all(
        type(ask) is int and name not in books.plugins and not _has_names(books, name)
        for group in spec["groups"]
        for name, ask in group.get("resources", {}).items()
    )


def _has_names(books: Ledger, name: str) -> bool:
    """Whether any provider's devices of this class have names: which are free is not booked by amount."""
    return name in DEVICE_CLASSES and any(
        name in provider.stock and provider.stock[name].opaque for provider in books.providers.values()
    )


class CandidateTrees:
    """Which trees of one partition could serve which request, as of the records booked so far."""

    def __init__(self, books: Ledger) -> None:
        self._books = books
        self._found: dict[str, tuple[int, set[Key]]] = {}
        self._most: dict[Key, dict[str, int]] = {}
        self._seen = 0

    def serving(self, spec: Mapping[str, Any], taken: Taken) -> set[Key]:
        """The trees (cell, root) that could serve `spec`, net of `taken`."""
        changes = self._books.changes
        for tree in changes[self._seen :]:
            self._most.pop(tree, None)
        self._seen = len(changes)
        name = json.dumps(spec, sort_keys=True)
        since, found = self._found.get(name, (0, set()))
        for tree in set(changes[since:]):
            if self._serves(tree, spec, {}):
                found.add(tree)
            else:
                found.discard(tree)
        self._found[name] = (len(changes), found)
        touched = {self._tree(cell, provider) for cell, provider, _ in taken}
        return {tree for tree in found if tree not in touched or self._serves(tree, spec, taken)}

    def _tree(self, cell: str, id_: str) -> Key | None:
        provider = self._books.providers.get((cell, id_))
        return None if provider is None else (cell, provider.root)

    def _serves(self, tree: Key, spec: Mapping[str, Any], taken: Taken) -> bool:
        books, cell = self._books, tree[0]
        if tree not in books.providers or books.closed(tree):
            return False
        traits = books.traits(tree)
        if not traits.issuperset(spec.get("root_required", ())):
            return False
        if not traits.isdisjoint(spec.get("root_forbidden", ())):
            return False
        groups: Sequence[Group] = spec["groups"]
        most = self._most_free(tree)
        for group in groups:
            for name, ask in group.get("resources", {}).items():
                if ask > most.get(name, 0):
                    return False
        members = sorted(books.members[tree])
        choices = []
        for group in groups:
            if group.get("in_tree") is not None and group["in_tree"] not in members:
                return False
            fits = [m for m in members if self._fits((cell, m), group, taken)]
            if not fits:
                return False
            choices.append((group, fits))
        # Like groups side by side, those with the fewest choices first.
        choices.sort(key=lambda choice: (len(choice[1]), _wants(choice[0])))
        isolate = spec.get("group_policy", "none") == "isolate"
        if isolate and len({member for _, fits in choices for member in fits}) < len(groups):
            return False

        def room(member: str, name: str) -> int:
            return self._free((cell, member), name) - taken.get((cell, member, name), 0)

        return _assign(choices, room, isolate=isolate)

    def _most_free(self, tree: Key) -> Mapping[str, int]:
        """Of each class, the most that one provider of the tree has free."""
        most = self._most.get(tree)
        if most is None:
            most = {}
            for member in self._books.members[tree]:
                for name in self._books.providers[(tree[0], member)].stock:
                    most[name] = max(most.get(name, 0), self._free((tree[0], member), name))
            self._most[tree] = most
        return most

    def _free(self, key: Key, name: str) -> int:
        return self._books.capacity(key, name) - self._books.providers[key].used.get(name, 0)

    def _fits(self, key: Key, group: Group, taken: Taken) -> bool:
        """Whether one provider could serve one group, if it served no other."""
        books = self._books
        stock = books.providers[key].stock
        for name, ask in group.get("resources", {}).items():
            of = stock.get(name)
            if of is None or not max(1, of.min_unit) <= ask <= of.max_unit or ask % of.step_size:
                return False
            if ask > self._free(key, name) - taken.get((*key, name), 0):
                return False
        if books.closed(key):
            return False
        traits, aggregates = books.traits(key), books.facts.get(key, NO_FACTS).aggregates
        return (
            traits.issuperset(group.get("required", ()))
            and traits.isdisjoint(group.get("forbidden", ()))
            and all(not traits.isdisjoint(some) for some in group.get("any_traits", ()))
            and all(not aggregates.isdisjoint(some) for some in group.get("member_of", ()))
            and aggregates.isdisjoint(group.get("not_member_of", ()))
        )


def _wants(group: Group) -> str:
    """What a group wants but for its name: two groups of the same wants may change places."""
    return json.dumps({key: value for key, value in group.items() if key != "name"}, sort_keys=True)


def _assign(
    choices: Sequence[tuple[Group, Sequence[str]]], room: Callable[[str, str], int], *, isolate: bool
) -> bool:
    """Whether all groups fit at once. Of groups alike, a later one takes no earlier provider: it is the same."""
    wants = [_wants(group) for group, _ in choices]
    took: list[str] = []

    def fits(group: Group, member: str) -> bool:
        if isolate and member in took:
            return False
        return all(ask <= room(member, name) - _sum(took, member, name) for name, ask in _asks(group))

    def _sum(members: Iterable[str], member: str, name: str) -> int:
        return sum(
            choices[at][0].get("resources", {}).get(name, 0)
            for at, other in enumerate(members)
            if other == member
        )

    def search() -> bool:
        at = len(took)
        if at == len(choices):
            return True
        group, members = choices[at]
        least = took[-1] if at and wants[at] == wants[at - 1] else ""
        for member in members:
            if member >= least and fits(group, member):
                took.append(member)
                if search():
                    return True
                took.pop()
        return False

    return search()


def _asks(group: Group) -> Iterable[tuple[str, int]]:
    resources: Mapping[str, int] = group.get("resources", {})
    return resources.items()
