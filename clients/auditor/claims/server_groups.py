"""The auditor's own judgement of server groups: does a claim violate affinity, anti-affinity or spread?

It follows the documented rules (docs/relations.md), member by member, over the auditor's ledger.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from vacancy.clients.auditor.claims.consumers import HeldByConsumer
from vacancy.clients.auditor.ledger import Ledger
from vacancy.clients.auditor.nodes.operator_settings import NO_SETTINGS

GROUP_MEMBERS_MAX = 1024

Membership = Mapping[str, Any]
Copy = Collection[str]
"""The providers that one copy is on."""


def copies(ledger: Ledger, cell: str, allocations: Iterable[Mapping[str, Any]]) -> tuple[Copy, ...]:
    """The providers of each copy of a claim. Sharing providers are left out, unless a copy has no other."""
    found: dict[str, set[str]] = {}
    for allocation in allocations:
        _, _, number = allocation.get("group", "").partition("#")
        found.setdefault(number, set()).add(allocation["provider"])
    return tuple(
        {id_ for id_ in providers if not _is_sharing(ledger, cell, id_)} or providers
        for providers in found.values()
    )


def broken_groups(ledger: Ledger, cell: str, claim: Mapping[str, Any]) -> Iterator[str]:
    """The objections to a claim's memberships."""
    memberships = claim.get("memberships", ())
    names = [one["group"] for one in memberships]
    for name in sorted(set(names)):
        if not name.startswith(f"{cell}/") or "/" in name[len(cell) + 1 :]:
            yield f"group {name} is in another cell"
        elif names.count(name) > 1:
            yield f"it is in group {name} twice"
    mine = copies(ledger, cell, claim["allocations"])
    for one in memberships:
        yield from _broken(ledger, cell, claim["consumer"], one, mine)


def rule(membership: Membership) -> tuple[str, bool, int, str | None]:
    """What must be equal for all members of a group."""
    most = "max_skew" if membership["policy"] == "spread" else "max_per_node"
    return (
        membership["policy"],
        membership.get("hard", True),
        membership.get(most) or 1,
        membership.get("scope"),
    )


def members(ledger: Ledger, group: str, but: tuple[str, str] | None = None) -> list[HeldByConsumer]:
    """What the members of a group hold, except one consumer."""
    return [ledger.consumers[key] for key in ledger.consumers.groups.get(group, ()) if key != but]


def domains(ledger: Ledger, cell: str, copy: Copy, scope: str | None) -> set[str]:
    """The nodes of a copy. With a scope: the aggregates of these nodes whose names start with it, and `node NAME` for a
    node without one."""
    found: set[str] = set()
    for id_ in copy:
        provider = ledger.providers.get((cell, id_))
        if provider is not None:
            settings = ledger.settings.get((cell, provider.root), NO_SETTINGS)
            there = {name for name in settings.aggregates if scope is not None and name.startswith(scope)}
            found |= there or {f"node {provider.root}"}
    return found


def admits(
    ledger: Ledger, tree: tuple[str, str], spec: Mapping[str, Any], in_flight: Iterable[Mapping[str, Any]]
) -> bool:
    """Whether the server groups of a request for one copy allow a tree. Claims in flight count as members."""
    cell, root = tree
    for wanted in spec.get("memberships", ()):
        group, (policy, hard, most, scope) = wanted["group"], rule(wanted)
        if group.rpartition("/")[0] != cell:
            return False
        held = [copy for member in members(ledger, group) for copy in member.copies]
        joining = [
            copy
            for claim in in_flight
            if any(one["group"] == group for one in claim.get("memberships", ()))
            and (cell, claim["consumer"]) not in ledger.consumers.groups.get(group, ())
            for copy in copies(ledger, cell, claim["allocations"])
        ]
        there = [domains(ledger, cell, copy, scope) for copy in (*held, *joining)]
        here = domains(ledger, cell, (root,), scope)
        if policy == "spread":
            counts, own = _counted(there), _counted([here])
            if hard and any(_uneven(ledger, cell, scope or "", most, counts, own, own)):
                return False
            continue
        if hard and policy == "affinity" and there and not any(here & some for some in there):
            return False
        if hard and policy != "affinity" and any(sum(d in some for some in there) >= most for d in here):
            return False
    return True


def _broken(
    ledger: Ledger, cell: str, consumer: str, wanted: Membership, mine: tuple[Copy, ...]
) -> Iterator[str]:
    group, (policy, hard, most, scope) = wanted["group"], rule(wanted)
    others = members(ledger, group, (cell, consumer))
    if others and rule(next(m for m in others[0].memberships if m["group"] == group)) != rule(wanted):
        yield f"group {group} has another policy"
        return
    if others and sum(len(held.copies) for held in others) + len(mine) > GROUP_MEMBERS_MAX:
        yield f"group {group} is full"
    named = sum(len(copy) for copy in (*(copy for held in others for copy in held.copies), *mine))
    if others and named > ledger.rules.limits.group_providers:
        yield f"the members of group {group} would name {named} providers"
    if not hard:
        return
    was = ledger.consumers.get((cell, consumer))
    old = was.copies if was is not None and (cell, consumer) in ledger.consumers.groups.get(group, ()) else ()
    there = [domains(ledger, cell, copy, scope) for held in others for copy in held.copies]
    here = [domains(ledger, cell, copy, scope) for copy in mine]
    left = [domains(ledger, cell, copy, scope) for copy in old]
    if policy == "affinity":
        yield from _affinity(ledger, cell, group, scope, mine, there, left)
        return
    counts, own, before = _counted(there), _counted(here), _counted(left)
    if policy == "spread":
        more = own - before
        yield from (
            f"group {group}: {text}" for text in _uneven(ledger, cell, scope or "", most, counts, own, more)
        )
        return
    for domain in sorted(own):
        if own[domain] > before[domain] and counts[domain] + own[domain] > most:
            yield f"{counts[domain]} of group {group} are on {domain}, {own[domain]} more asked, {most} allowed"


def _counted(copies: Iterable[Iterable[str]]) -> Counter[str]:
    """How many of these copies are in each domain."""
    return Counter(domain for some in copies for domain in some)


def _uneven(
    ledger: Ledger,
    cell: str,
    kind: str,
    max_skew: int,
    counts: Counter[str],
    own: Counter[str],
    more: Iterable[str],
) -> Iterator[str]:
    """Those of the domains `more` that would have too many members of a group, if to `counts` come those of `own`."""
    eligible = ledger.spread_domains(cell, kind)
    fewest = min((counts[domain] + own[domain] for domain in eligible), default=0)
    for domain in sorted(more):
        there = counts[domain] + own[domain]
        if domain.startswith("node "):
            yield f"{domain} is in no domain {kind}..."
        elif there - fewest > max_skew:
            yield f"{domain} would have {there} members, {fewest} are the fewest of a domain, and the skew is {max_skew}"


def _affinity(
    ledger: Ledger,
    cell: str,
    group: str,
    scope: str | None,
    mine: tuple[Copy, ...],
    there: list[set[str]],
    left: list[set[str]],
) -> Iterator[str]:
    """Copies that violate affinity."""
    roots = {
        ledger.providers[(cell, id_)].root for copy in mine for id_ in copy if (cell, id_) in ledger.providers
    }
    each = {root: domains(ledger, cell, (root,), scope) for root in sorted(roots)}
    before = set().union(*left)
    if there:
        allowed = set().union(*there) | before
        for root, its in each.items():
            if not its & allowed:
                yield f"no member of group {group} is on {root}, or in its domain"
    elif each and not set.intersection(*each.values()) and not set().union(*each.values()) <= before:
        yield f"its copies are not in one domain, and group {group} requires that"


def _is_sharing(ledger: Ledger, cell: str, id_: str) -> bool:
    return (cell, id_) in ledger.providers and "MISC_SHARES_VIA_AGGREGATE" in ledger.traits((cell, id_))
