"""The order of a node's events: which one comes next, which was seen before, and which shows that two writers speak for
the node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from vacancy.clients.auditor.classes.class_auditor import Refused

INCARNATIONS_KEPT = 8
GAPS_KEPT = 8
"""Gaps of one incarnation that are kept apart; of more, the two lowest become one."""


@dataclass(frozen=True, slots=True)
class LedgerNode:
    """A node. `incarnations` are (incarnation, last sequence), newest first. `complete` is False from a gap in the
    sequence to the next full report. `gaps` are the first and the last number of each gap, by incarnation."""

    incarnations: tuple[tuple[str, int], ...]
    complete: bool = True
    retired: bool = False
    gaps: Mapping[str, tuple[tuple[int, int], ...]] = field(default_factory=dict)


def next_of(
    node: LedgerNode | None, data: Mapping[str, Any], *, opens: bool, keeps_gaps: bool
) -> LedgerNode | None:
    """The node after an event, or None where the event changes nothing. `opens` is whether it is a full report;
    `keeps_gaps` is whether the rules ask which numbers were left out.

    Raises `Refused` where no full report opened the event's incarnation.
    """
    here = (data["incarnation"], data["sequence"])
    known = node.incarnations if node is not None else ()
    gaps = node.gaps if node is not None else {}
    if node is None or here[0] not in dict(known):
        if not opens:
            raise Refused
        incarnations = (here, *known)[:INCARNATIONS_KEPT]
        gaps = {name: gaps[name] for name, _ in incarnations if name in gaps}
        return LedgerNode(incarnations, gaps=_with_gap(gaps, here, 1) if keeps_gaps else gaps)
    current, last = known[0]
    if here[0] != current or here[1] <= last:
        return None
    if keeps_gaps:
        gaps = _with_gap(gaps, here, last + 1)
    if opens:
        return LedgerNode((here, *known[1:]), gaps=gaps)
    complete = node.complete and here[1] == last + 1
    return replace(node, incarnations=(here, *known[1:]), complete=complete, gaps=gaps)


def _with_gap(
    gaps: Mapping[str, tuple[tuple[int, int], ...]], here: tuple[str, int], expected: int
) -> Mapping[str, tuple[tuple[int, int], ...]]:
    """The gaps after an event that came where another sequence was expected."""
    incarnation, sequence = here
    if sequence == expected:
        return gaps
    found = (*gaps.get(incarnation, ()), (expected, sequence - 1))
    if len(found) > GAPS_KEPT:
        found = ((found[0][0], found[1][1]), *found[2:])
    return {**gaps, incarnation: found}


def is_conflict(node: LedgerNode, data: Mapping[str, Any]) -> bool:
    """Whether an event that changes nothing cannot be a repetition: it is the first with its number that was read."""
    incarnation, sequence = data["incarnation"], data["sequence"]
    if incarnation != node.incarnations[0][0] and sequence > dict(node.incarnations)[incarnation]:
        return True
    return any(first <= sequence <= last for first, last in node.gaps.get(incarnation, ()))
