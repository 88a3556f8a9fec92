"""Server groups: their members, and whether a claim may add a member. The first claim in the log wins.

A row stores the providers of its members. Their nodes and racks are looked up at each check, because a provider may have
moved to another tree, and a node to another rack.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from vacancy.resources.fold.claims.judge import Rejection
from vacancy.resources.fold.nodes.domains import domains_of
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
        new = ServerGroupRow(*one.rule, (*members, member))
        transaction.put(GROUPS, key, new)
        counted: _Members | None = transaction.groups.get(key)
        if counted is not None and row is not None and counted.row is row:
            counted.add(member)
            counted.row = new


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
    key = transaction.key(group_name(wanted.group))
    row = transaction.get(GROUPS, key)
    others, before = _members(transaction, key, row, consumer)
    if row is not None and others.newest is not None:
        if AffinityRule(row.policy, row.hard, row.max_per_node, row.scope) != wanted.rule:
            first = next(member for member in row.members if member.consumer != consumer)
            return Rejection(
                "group_policy_differs", group=wanted.group, other=first.consumer, taken=first.offset
            )
        left = MEMBERS_MAX - others.copies
        if len(places) > left:
            return Rejection("group_full", asked=len(places), available=left, group=wanted.group)
        left = transaction.rules.limits.group_providers - others.providers
        named = sum(map(len, places))
        if named > left:
            return Rejection("group_full", asked=named, available=left, group=wanted.group)
    if not wanted.hard:
        return None
    judged = _Judged(transaction, consumer, wanted, places, before, others)
    if wanted.rule.spreads:
        domains = domains_of(transaction, wanted.scope or "")
        transaction.read(len(domains))
        return judged.spread(domains)
    return judged.affinity() if wanted.policy == "affinity" else judged.anti_affinity()


def _members(
    transaction: Transaction, key: bytes, row: ServerGroupRow | None, consumer: str
) -> tuple[_Members, Sequence[tuple[str, ...]]]:
    """The members of a group except `consumer`, and the places of `consumer` in it. The members are counted once a record:
    only a claim that replaces an allocation is for a consumer that is a member already, and it is alone in its record."""
    counted: _Members | None = transaction.groups.get(key)
    if counted is None or counted.row is not row:
        counted = _Members(transaction, row)
        if row is not None:
            transaction.read(len(row.members))
            for member in row.members:
                counted.add(member)
        transaction.groups[key] = counted
    if row is None or consumer not in counted.consumers:
        return counted, ()
    others = _Members(transaction, row)
    before: list[tuple[str, ...]] = []
    for member in row.members:
        if member.consumer == consumer:
            before += member.places
        else:
            others.add(member)
    return others, before


class _Members:
    """Members of a group: how many copies and providers they have, and in which domains they are."""

    def __init__(self, transaction: Transaction, row: ServerGroupRow | None) -> None:
        self.row = row
        self.consumers: set[str] = set()
        self.copies = self.providers = 0
        self.newest: ServerGroupMember | None = None
        self._uncounted: list[ServerGroupMember] = []
        self._domains = _Domains(transaction, row.scope if row is not None else None)
        self._counts: Counter[Domain] = Counter()
        self._last: dict[Domain, ServerGroupMember] = {}

    def add(self, member: ServerGroupMember) -> None:
        """Add the newest member."""
        self.consumers.add(member.consumer)
        self.copies += len(member.places)
        for place in member.places:
            self.providers += len(place)
        self.newest = member
        self._uncounted.append(member)

    def occupied(self, transaction: Transaction) -> tuple[Counter[Domain], dict[Domain, ServerGroupMember]]:
        """How many copies are in each domain, and the last member there. Members that came after the last call are
        counted now."""
        for member in self._uncounted:
            for place in member.places:
                transaction.read(len(place))
                for domain in self._domains.of(place):
                    self._counts[domain] += 1
                    self._last[domain] = member
        self._uncounted = []
        return self._counts, self._last


class _Domains:
    """The domains of places under a scope. No claim moves a provider to another tree or a node to another rack."""

    def __init__(self, transaction: Transaction, scope: str | None) -> None:
        self._transaction = transaction
        self._scope = scope
        self._known: dict[str, frozenset[Domain]] = {}

    def of(self, place: Iterable[str]) -> frozenset[Domain]:
        """The domains of the roots of these providers."""
        return frozenset(
            domain for provider in place for root in self.root(provider) for domain in self.of_root(root)
        )

    def root(self, provider: str) -> tuple[str, ...]:
        """The root of a provider, if the provider exists."""
        row = self._transaction.provider(provider)
        return () if row is None else (row.root,)

    def of_root(self, root: str) -> frozenset[Domain]:
        """The domains of a node."""
        found = self._known.get(root)
        if found is None:
            scope = self._scope
            row = self._transaction.provider(root) if scope is not None else None
            names = [a for a in row.aggregates if a.startswith(scope or "")] if row is not None else []
            domains = [(scope or "", name) for name in names]
            found = self._known[root] = frozenset(domains or [("", root)])
        return found


class _Judged:
    """Checks one hard membership. `before` are the places of its consumer's current allocation, `others` the other members."""

    def __init__(
        self,
        transaction: Transaction,
        consumer: str,
        wanted: ServerGroupMembership,
        places: Places,
        before: Sequence[tuple[str, ...]],
        others: _Members,
    ) -> None:
        self._consumer = consumer
        self._wanted = wanted
        self._places = places
        self._others = others
        self._domains = _Domains(transaction, wanted.scope)
        self._before = Counter(domain for place in before for domain in self._domains.of(place))
        self._counts, self._last = others.occupied(transaction)

    def affinity(self) -> Rejection | None:
        """Each copy must be in a domain of another member. If there is no other member, all copies must share a domain."""
        last = self._others.newest
        if last is None and {d for place in self._places for d in self._domains.of(place)} <= set(
            self._before
        ):
            return None
        together: frozenset[Domain] | None = None
        for root in self._roots():
            domains = self._domains.of_root(root)
            if last is not None:
                if self._counts.keys().isdisjoint(domains) and domains.isdisjoint(self._before):
                    return self._broken("affinity_broken", root, last.consumer, last.offset)
                continue
            together = domains if together is None else together & domains
            if not together:
                return self._broken("affinity_broken", root, self._consumer, -1)
        return None

    def anti_affinity(self) -> Rejection | None:
        """No domain may have more members than the rule allows, or than it had before."""
        own = Counter(domain for place in self._places for domain in self._domains.of(place))
        most = self._wanted.max_per_node
        for root in self._roots():
            for domain in sorted(self._domains.of_root(root)):
                there = self._counts[domain]
                if there + own[domain] > max(most, there + self._before[domain]):
                    other = self._last.get(domain)
                    by, offset = (self._consumer, -1) if other is None else (other.consumer, other.offset)
                    broken = self._broken("anti_affinity_broken", root, by, offset)
                    return broken._replace(asked=own[domain], available=max(0, most - there))
        return None

    def spread(self, domains: Iterable[str]) -> Rejection | None:
        """No domain that the claim gives more members than it had before may then have more than `max_skew` members above the
        one of `domains` that has the fewest. A node without a domain gets no member."""
        own = Counter(domain for place in self._places for domain in self._domains.of(place))
        scope, most = self._wanted.scope or "", self._wanted.rule.max_per_node
        after = [(self._counts[scope, name] + own[scope, name], name) for name in domains]
        fewest, emptiest = min(after, default=(0, ""))
        for root in self._roots():
            for domain in sorted(self._domains.of_root(root)):
                there = self._counts[domain]
                if own[domain] <= self._before[domain]:
                    continue
                if not domain[0]:
                    return Rejection("no_spread_domain", root, group=self._wanted.group, other=scope)
                if there + own[domain] - fewest > most:
                    broken = self._broken("spread_broken", root, emptiest, -1)
                    return broken._replace(asked=own[domain], available=max(0, fewest + most - there))
        return None

    def _broken(self, reason: str, root: str, by: str, offset: int) -> Rejection:
        return Rejection(reason, root, taken=offset, group=self._wanted.group, other=by)

    def _roots(self) -> Iterator[str]:
        """The roots of the claim's providers, copy by copy."""
        for place in self._places:
            yield from sorted({root for provider in place for root in self._domains.root(provider)})
