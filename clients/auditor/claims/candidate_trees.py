"""Whether any tree could have served a request: how the auditor checks each `no_valid_host`.

Each group is tried on each provider of a tree. The result of a request is remembered, and only trees that changed
since are tried again; claims in flight can only reduce it.

The check never reports too much: it ignores sharing providers, and it ignores that several providers may serve one
group, so it does not object to the refusal of a request that only they could serve. Of a class that is granted by name
(devices, CPUs, ports) it lets a provider serve one group, and none while a claim in flight asks for it there. It does not
judge groups in one subtree and several copies.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vacancy.clients.auditor.claims.claim_rules import refusals
from vacancy.clients.auditor.claims.consumers import Key
from vacancy.clients.auditor.ledger import Ledger
from vacancy.clients.auditor.nodes.operator_settings import NO_SETTINGS

InFlight = Mapping[tuple[str, str, str], int]
"""What claims in flight would take: (cell, provider, class) -> amount."""

Group = Mapping[str, Any]


def is_known(spec: Mapping[str, Any]) -> bool:
    """Whether this module judges requests of this shape: no groups in one subtree, one copy."""
    return not spec.get("same_subtree") and spec.get("copies", 1) == 1


def without_auditor(ledger: Ledger, spec: Mapping[str, Any]) -> list[str]:
    """The classes of a request of which nothing is known."""
    names = {name for group in spec["groups"] for name in group.get("resources", {})}
    return sorted(name for name in names if not ledger.auditor(name).is_judged)


class CandidateTrees:
    """The trees of one partition that could serve a request, as of the records applied so far."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._found: dict[str, tuple[int, set[Key]]] = {}
        self._most: dict[Key, dict[str, int]] = {}
        self._seen = 0

    def serving(self, spec: Mapping[str, Any], in_flight: InFlight) -> set[Key]:
        """The trees (cell, root) that could serve `spec`, net of `in_flight`."""
        changes = self._ledger.changes
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
        touched = {self._tree(cell, provider) for cell, provider, _ in in_flight}
        return {tree for tree in found if tree not in touched or self._serves(tree, spec, in_flight)}

    def _tree(self, cell: str, id_: str) -> Key | None:
        provider = self._ledger.providers.get((cell, id_))
        return None if provider is None else (cell, provider.root)

    def _serves(self, tree: Key, spec: Mapping[str, Any], in_flight: InFlight) -> bool:
        ledger, cell = self._ledger, tree[0]
        if tree not in ledger.providers or ledger.closed(tree) or ledger.repels(tree, spec):
            return False
        traits = ledger.traits(tree)
        if not traits.issuperset(spec.get("root_required", ())):
            return False
        if not traits.isdisjoint(spec.get("root_forbidden", ())):
            return False
        groups: Sequence[Group] = spec["groups"]
        most = self._most_free(tree)
        for group in groups:
            for name, ask in group.get("resources", {}).items():
                auditor = ledger.auditor(name)
                if auditor.always_counted and auditor.amount(ask) > most.get(name, 0):
                    return False
        members = sorted(ledger.members[tree])
        choices = []
        for group in groups:
            if group.get("in_tree") is not None and group["in_tree"] not in members:
                return False
            fits = [
                m
                for m in members
                if self._fits((cell, m), group, in_flight) and not ledger.repels((cell, m), spec)
            ]
            if not fits:
                return False
            choices.append((group, fits))
        # Equal groups next to each other, those with the fewest choices first.
        choices.sort(key=lambda choice: (len(choice[1]), _without_name(choice[0])))
        isolate = spec.get("group_policy", "none") == "isolate"
        if isolate and len({member for _, fits in choices for member in fits}) < len(groups):
            return False

        def free(member: str, name: str) -> int:
            if self._ledger.capacity((cell, member), name) is None:
                return 1  # one group
            return self._ledger.free((cell, member), name) - in_flight.get((cell, member, name), 0)

        def amounts(group: Group, member: str) -> Amounts:
            return [
                (name, 1 if self._is_named((cell, member), name, ask) else ledger.auditor(name).amount(ask))
                for name, ask in group.get("resources", {}).items()
            ]

        return _assign(choices, amounts, free, isolate=isolate)

    def _most_free(self, tree: Key) -> Mapping[str, int]:
        """Of each class, the most that one provider of the tree has free."""
        most = self._most.get(tree)
        if most is None:
            most = {}
            for member in self._ledger.members[tree]:
                for name in self._ledger.providers[(tree[0], member)].stock:
                    most[name] = max(most.get(name, 0), self._ledger.free((tree[0], member), name))
            self._most[tree] = most
        return most

    def _is_named(self, key: Key, name: str, ask: Any) -> bool:
        """Whether a provider grants an ask by name."""
        return self._ledger.auditor(name).count_of(ask) is None or self._ledger.capacity(key, name) is None

    def _fits(self, key: Key, group: Group, in_flight: InFlight) -> bool:
        """Whether one provider could serve one group, if it served no other."""
        ledger = self._ledger
        stock = ledger.providers[key].stock
        for name, ask in group.get("resources", {}).items():
            if name not in stock:
                return False
            if self._is_named(key, name, ask):
                if (*key, name) in in_flight or any(refusals(ledger, key, name, ask)):
                    return False
                continue
            amount = ledger.auditor(name).amount(ask)
            if amount < 1 or not ledger.auditor(name).fits_units(stock[name], amount):
                return False
            if amount > ledger.free(key, name) - in_flight.get((*key, name), 0):
                return False
        if ledger.closed(key):
            return False
        traits, aggregates = ledger.traits(key), ledger.settings.get(key, NO_SETTINGS).aggregates
        return (
            traits.issuperset(group.get("required", ()))
            and traits.isdisjoint(group.get("forbidden", ()))
            and all(not traits.isdisjoint(some) for some in group.get("any_traits", ()))
            and all(not aggregates.isdisjoint(some) for some in group.get("member_of", ()))
            and aggregates.isdisjoint(group.get("not_member_of", ()))
        )


def _without_name(group: Group) -> str:
    """A group but for its name, as JSON: groups that are equal in this may change places."""
    return json.dumps({key: value for key, value in group.items() if key != "name"}, sort_keys=True)


Choice = tuple[Group, Sequence[str]]
"""A group, and the providers that fit it."""

Amounts = Sequence[tuple[str, int]]
"""(class, amount) of each ask of a group, at one provider."""


def _assign(
    choices: Sequence[Choice],
    amounts_at: Callable[[Group, str], Amounts],
    free: Callable[[str, str], int],
    *,
    isolate: bool,
) -> bool:
    """Whether all groups fit at once. Of equal groups, a later one takes no earlier provider: that is the same."""
    groups = [_without_name(group) for group, _ in choices]
    assigned: list[str] = []

    def used(member: str, name: str) -> int:
        return sum(
            amount
            for other, (group, _) in zip(assigned, choices, strict=False)
            if other == member
            for asked, amount in amounts_at(group, member)
            if asked == name
        )

    def fits(group: Group, member: str) -> bool:
        if isolate and member in assigned:
            return False
        return all(
            amount <= free(member, name) - used(member, name) for name, amount in amounts_at(group, member)
        )

    def search() -> bool:
        at = len(assigned)
        if at == len(choices):
            return True
        group, members = choices[at]
        first = assigned[-1] if at and groups[at] == groups[at - 1] else ""
        for member in members:
            if member >= first and fits(group, member):
                assigned.append(member)
                if search():
                    return True
                assigned.pop()
        return False

    return search()
