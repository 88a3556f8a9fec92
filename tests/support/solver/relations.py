"""Where several copies may be, and who is near to whom: the rules of docs/relations.md for the solver in `brute_force`,
which tries every combination of ways. Hard rules only: wishes forbid nothing."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from tests.support.solver.brute_force import Fleet, Request, Way, fits_all, line

Members = Mapping[str, Sequence[set[str]]]
"""Group -> the roots that each member's each copy is on."""


def gangs(
    fleet: Fleet, request: Request, options: Sequence[Way], members: Members
) -> Iterator[tuple[Way, ...]]:
    """All places for all copies together, of these ways to serve one."""
    for some in itertools.combinations_with_replacement(options, request["copies"]):
        if is_gang(fleet, request, some, members):
            yield some


def is_gang(fleet: Fleet, request: Request, copies: Sequence[Way], members: Members) -> bool:
    """Whether copies may be placed like that."""
    at = [roots_of(fleet, [(name, id_) for _, name, id_ in way]) for way in copies]
    alone = request["copies_on"] != "distinct" or len(set[str]().union(*at)) == sum(map(len, at))
    kept = all(keeps(fleet, one, members.get(one["group"], ()), at) for one in request["memberships"])
    return alone and kept and fits_all(fleet, request, copies)


def roots_of(fleet: Fleet, served: Iterable[tuple[str, str]]) -> set[str]:
    """The nodes that a copy is on, of (class, provider): sharing providers do not count if there is another."""
    serving = [id_ for name, id_ in served if name]
    own = [id_ for id_ in serving if "MISC_SHARES_VIA_AGGREGATE" not in fleet[id_].traits]
    return {line(fleet, id_)[-1] for id_ in own or serving}


def domains(fleet: Fleet, rule: Mapping[str, Any], roots: set[str]) -> set[str]:
    """Where a copy on these nodes counts."""
    found = set[str]()
    for root in roots:
        scope = rule.get("scope")
        named = {name for name in fleet[root].aggregates if scope and name.startswith(scope)}
        found |= named or {f"node {root}"}
    return found


def keeps(fleet: Fleet, rule: Mapping[str, Any], there: Sequence[set[str]], mine: Sequence[set[str]]) -> bool:
    """Whether copies on these nodes may join a group that is there."""
    if not rule.get("hard", True):
        return True
    others, own = ([domains(fleet, rule, roots) for roots in them] for them in (there, mine))
    if rule["policy"] == "affinity":
        each = [domains(fleet, rule, {root}) for roots in mine for root in roots]
        if others:
            return all(one & set().union(*others) for one in each)
        return bool(set.intersection(*each))
    most = rule.get("max_per_node", 1)
    return all(sum(domain in one for one in (*others, *own)) <= most for domain in set[str]().union(*own))


def misses(fleet: Fleet, rule: Mapping[str, Any], there: Sequence[set[str]], mine: set[str]) -> int:
    """By how much one copy on these nodes is not as one wishes."""
    others, own = [domains(fleet, rule, roots) for roots in there], domains(fleet, rule, mine)
    if rule["policy"] == "affinity":
        return int(bool(others) and not own & set().union(*others))
    most = rule.get("max_per_node", 1)
    return sum(max(0, 1 + sum(domain in one for one in others) - most) for domain in own)
