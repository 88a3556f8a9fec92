"""Server groups: their members, and whether a claim may add a member. The first claim in the log wins.

A row stores the providers of its members. Their nodes and racks are looked up at each check, because a provider may have
moved to another tree, and a node to another rack.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from vacancy.resources.fold.judge import Rejection
from vacancy.resources.model.events import Allocation, Claim
from vacancy.resources.model.server_group import (
    MEMBERS_MAX,
    SHARES,
    AffinityRule,
    ServerGroupMembership,
    copy_of,
    group_cell,
    group_name,
)
from vacancy.resources.state.rows import ServerGroupMember, ServerGroupRow
from vacancy.resources.state.tables import GROUPS
from vacancy.resources.state.transaction import Transaction

Places = tuple[tuple[str, ...], ...]
Domain = tuple[str, str]
"""The place in which members are counted: ("", root) for a node, or (scope, aggregate) for a rack."""


def check_memberships(transaction: Transaction, claim: Claim) -> Rejection | None:
    """Why a claim whose allocations fit violates the rule of a group, or None.

    The current allocation of its consumer does not count. A claim that makes an existing violation no worse is allowed.
    """
    named: set[str] = set()
    for one in claim.memberships:
        if group_cell(one.group) != transaction.cell:
            return Rejection("group_in_other_cell", group=one.group)
        if one.group in named:
            return Rejection("group_twice", group=one.group)
        named.add(one.group)
    places = _places(transaction, claim.allocations)
    for one in claim.memberships:
        wrong = _check(transaction, claim.consumer, one, places)
        if wrong is not None:
            return wrong
    return None


def add_member(transaction: Transaction, claim: Claim) -> None:
    """Add the consumer of an accepted claim to its groups. The caller has removed it from its groups before."""
    places = _places(transaction, claim.allocations)
    member = ServerGroupMember(claim.consumer, transaction.offset, places)
    for one in claim.memberships:
        key = transaction.key(group_name(one.group))
        row = transaction.get(GROUPS, key)
        members = row.members if row is not None else ()
        transaction.put(GROUPS, key, ServerGroupRow(*one.rule, (*members, member)))


def remove_member(transaction: Transaction, consumer: str, groups: Iterable[str]) -> None:
    """Remove a consumer from these groups. A group is deleted with its last member."""
    for name in groups:
        key = transaction.key(name)
        row = transaction.get(GROUPS, key)
        if row is None:
            continue
        members = tuple(member for member in row.members if member.consumer != consumer)
        if members:
            transaction.put(
                GROUPS, key, ServerGroupRow(row.policy, row.hard, row.max_per_node, row.scope, members)
            )
        else:
            transaction.delete(GROUPS, key)


def _places(transaction: Transaction, allocations: Iterable[Allocation]) -> Places:
    """The providers of each copy."""
    copies: dict[str, dict[str, None]] = {}
    for allocation in allocations:
        copies.setdefault(copy_of(allocation.group), {})[allocation.provider] = None
    return tuple(
        tuple(sorted([p for p in providers if not _is_sharing(transaction, p)] or providers))
        for providers in copies.values()
    )


def _is_sharing(transaction: Transaction, provider: str) -> bool:
    row = transaction.provider(provider)
    return row is not None and (SHARES in row.reported_traits or SHARES in row.operator_traits)


def _check(
    transaction: Transaction, consumer: str, wanted: ServerGroupMembership, places: Places
) -> Rejection | None:
    row = transaction.get(GROUPS, transaction.key(group_name(wanted.group)))
    members = row.members if row is not None else ()
    others = [member for member in members if member.consumer != consumer]
    if row is not None and others:
        if AffinityRule(row.policy, row.hard, row.max_per_node, row.scope) != wanted.rule:
            first = others[0]
            return Rejection(
                "group_policy_differs", group=wanted.group, other=first.consumer, taken=first.offset
            )
        left = MEMBERS_MAX - sum(len(member.places) for member in others)
        if len(places) > left:
            return Rejection("group_full", asked=len(places), available=left, group=wanted.group)
    if not wanted.hard:
        return None
    before = [place for member in members if member.consumer == consumer for place in member.places]
    judged = _Judged(transaction, consumer, wanted, places, before, others)
    return judged.affinity() if wanted.policy == "affinity" else judged.anti_affinity()


class _Judged:
    """Checks one hard membership. `before` are the places of its consumer's current allocation."""

    def __init__(
        self,
        transaction: Transaction,
        consumer: str,
        wanted: ServerGroupMembership,
        places: Places,
        before: Sequence[tuple[str, ...]],
        others: Sequence[ServerGroupMember],
    ) -> None:
        self._transaction = transaction
        self._consumer = consumer
        self._wanted = wanted
        self._places = places
        self._others = others
        self._known: dict[str, frozenset[Domain]] = {}
        self._before = Counter(domain for place in before for domain in self._domains(place))

    def affinity(self) -> Rejection | None:
        """Each copy must be in a domain of another member. If there is no other member, all copies must share a domain."""
        there = {d for member in self._others for place in member.places for d in self._domains(place)}
        if not self._others and {d for place in self._places for d in self._domains(place)} <= set(
            self._before
        ):
            return None
        together: frozenset[Domain] | None = None
        for root in self._roots():
            domains = self._of_root(root)
            if self._others:
                if domains.isdisjoint(there) and domains.isdisjoint(self._before):
                    last = self._others[-1]
                    return self._broken("affinity_broken", root, last.consumer, last.offset)
                continue
            together = domains if together is None else together & domains
            if not together:
                return self._broken("affinity_broken", root, self._consumer, -1)
        return None

    def anti_affinity(self) -> Rejection | None:
        """No domain may have more members than the rule allows, or than it had before."""
        counts: Counter[Domain] = Counter()
        last: dict[Domain, ServerGroupMember] = {}
        for member in self._others:
            for place in member.places:
                for domain in self._domains(place):
                    counts[domain] += 1
                    last[domain] = member
        own = Counter(domain for place in self._places for domain in self._domains(place))
        most = self._wanted.max_per_node
        for root in self._roots():
            for domain in sorted(self._of_root(root)):
                there = counts[domain]
                if there + own[domain] > max(most, there + self._before[domain]):
                    other = last.get(domain)
                    by, offset = (self._consumer, -1) if other is None else (other.consumer, other.offset)
                    broken = self._broken("anti_affinity_broken", root, by, offset)
                    return broken._replace(asked=own[domain], available=max(0, most - there))
        return None

    def _broken(self, reason: str, root: str, by: str, offset: int) -> Rejection:
        return Rejection(reason, root, taken=offset, group=self._wanted.group, other=by)

    def _roots(self) -> Iterator[str]:
        """The roots of the claim's providers, copy by copy."""
        for place in self._places:
            yield from sorted({root for provider in place for root in self._root(provider)})

    def _root(self, provider: str) -> tuple[str, ...]:
        row = self._transaction.provider(provider)
        return () if row is None else (row.root,)

    def _domains(self, place: Iterable[str]) -> frozenset[Domain]:
        return frozenset(
            domain for provider in place for root in self._root(provider) for domain in self._of_root(root)
        )

    def _of_root(self, root: str) -> frozenset[Domain]:
        found = self._known.get(root)
        if found is None:
            scope = self._wanted.scope
            row = self._transaction.provider(root) if scope is not None else None
            names = [a for a in row.aggregates if a.startswith(scope or "")] if row is not None else []
            domains = [(scope or "", name) for name in names]
            found = self._known[root] = frozenset(domains or [("", root)])
        return found
