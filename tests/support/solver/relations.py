"""Server groups and copies for the solver in `brute_force`, by the rules of docs/relations.md.

It tries every combination of assignments. Only hard rules exclude combinations.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from tests.support.solver.brute_force import Assignment, Fleet, Request, ancestors, fits_all

Members = Mapping[str, Sequence[set[str]]]
"""Group -> the roots of each copy of each member."""


def gangs(
    fleet: Fleet, request: Request, options: Sequence[Assignment], members: Members
) -> Iterator[tuple[Assignment, ...]]:
    """All combinations of these assignments, one per copy, that may be placed together."""
    for some in itertools.combinations_with_replacement(options, request["copies"]):
        if is_gang(fleet, request, some, members):
            yield some


def is_gang(fleet: Fleet, request: Request, copies: Sequence[Assignment], members: Members) -> bool:
    """Whether copies may be placed with these assignments."""
    at = [roots_of(fleet, [(name, id_) for _, name, id_ in assignment]) for assignment in copies]
    alone = request["copies_on"] != "distinct" or len(set[str]().union(*at)) == sum(map(len, at))
    kept = all(keeps(fleet, one, members.get(one["group"], ()), at) for one in request["memberships"])
    return alone and kept and fits_all(fleet, request, copies)


def roots_of(fleet: Fleet, served: Iterable[tuple[str, str]]) -> set[str]:
    """The nodes of a copy, from its (class, provider) pairs. Sharing providers count only if there is no other."""
    serving = [id_ for name, id_ in served if name]
    own = [id_ for id_ in serving if "MISC_SHARES_VIA_AGGREGATE" not in fleet[id_].traits]
    return {ancestors(fleet, id_)[-1] for id_ in own or serving}


def domains(fleet: Fleet, rule: Mapping[str, Any], roots: set[str]) -> set[str]:
    """The domains (nodes or scopes) of a copy on these nodes."""
    found = set[str]()
    for root in roots:
        scope = rule.get("scope")
        named = {name for name in fleet[root].aggregates if scope and name.startswith(scope)}
        found |= named or {f"node {root}"}
    return found


def eligible(fleet: Fleet, kind: str) -> set[str]:
    """The aggregates of a kind in which a node takes new claims."""
    roots = [one for one in fleet.values() if one.parent is None and one.enabled]
    return {name for one in roots for name in one.aggregates if name.startswith(kind)}


def keeps(fleet: Fleet, rule: Mapping[str, Any], there: Sequence[set[str]], mine: Sequence[set[str]]) -> bool:
    """Whether copies on these nodes may join a group with these members."""
    if not rule.get("hard", True):
        return True
    others, own = ([domains(fleet, rule, roots) for roots in them] for them in (there, mine))
    if rule["policy"] == "spread":
        counts = Counter(domain for one in (*others, *own) for domain in one)
        fewest = min((counts[domain] for domain in eligible(fleet, rule["scope"])), default=0)
        touched = set[str]().union(*own)
        return all(
            not domain.startswith("node ") and counts[domain] - fewest <= rule.get("max_skew", 1)
            for domain in touched
        )
    if rule["policy"] == "affinity":
        each = [domains(fleet, rule, {root}) for roots in mine for root in roots]
        if others:
            return all(one & set().union(*others) for one in each)
        return bool(set.intersection(*each))
    most = rule.get("max_per_node", 1)
    return all(sum(domain in one for one in (*others, *own)) <= most for domain in set[str]().union(*own))


def misses(fleet: Fleet, rule: Mapping[str, Any], there: Sequence[set[str]], mine: set[str]) -> int:
    """The number of violations of a soft rule by one copy on these nodes."""
    others, own = [domains(fleet, rule, roots) for roots in there], domains(fleet, rule, mine)
    if rule["policy"] == "spread":
        raise ValueError("how much a soft spread is missed by depends on all nodes")
    if rule["policy"] == "affinity":
        return int(bool(others) and not own & set().union(*others))
    most = rule.get("max_per_node", 1)
    return sum(max(0, 1 + sum(domain in one for one in others) - most) for domain in own)
