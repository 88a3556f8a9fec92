"""Server groups: who is in them, and whether one more may join. First in the log wins here as everywhere.

Where a member is, is asked of the providers each time: a part may have become another tree's, a node may have moved
to another rack. So a row never has an old place of a member.
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
"""Where members count together: ("", a root) or (a scope, an aggregate)."""


def check_memberships(transaction: Transaction, claim: Claim) -> Rejection | None:
    """Why a claim whose allocations fit breaks a group, or None.

    What its consumer holds now does not count against it, and what makes nothing worse than it is is allowed.
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
    """For each copy the providers that it is on."""
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
    """A hard membership, and where everyone is: `before` are the places its own consumer leaves."""

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
        """Each copy is where others are; where there are none, all copies are together."""
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
        """No node has more members than it may, or than it had."""
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
        """The claim's roots, copy by copy."""
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
