"""The order of a node's events: which one comes next, which was seen before, and which shows that two writers speak for
the node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from vacancy.clients.auditor.classes.class_auditor import Refused

INCARNATIONS_KEPT = 8
GAPS_KEPT = 8
"""Gaps of one incarnation. Of more, the two lowest become one, with what is between them."""

Gaps = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class LedgerNode:
    """A node. `incarnations` are (incarnation, last sequence), newest first. `complete` is False from a gap in the
    sequence to the next full report. `gaps`: incarnation -> the first and the last number of each gap in its sequence."""

    incarnations: tuple[tuple[str, int], ...]
    complete: bool = True
    retired: bool = False
    gaps: Mapping[str, Gaps] = field(default_factory=dict)


def next_of(
    node: LedgerNode | None, data: Mapping[str, Any], *, opens: bool, keeps_gaps: bool
) -> LedgerNode | None:
    """The node after an event, or None where the event changes nothing. `opens` is whether it is a full report;
    `keeps_gaps` is whether the rules ask which numbers were left out.

    Raises `Refused` where no full report opened the event's incarnation.
    """
    here = (data["incarnation"], data["sequence"])
    known = node.incarnations if node is not None else ()
    last = 0
    if node is None or here[0] not in dict(known):
        if not opens:
            raise Refused
        after = LedgerNode((here, *known)[:INCARNATIONS_KEPT])
    else:
        current, last = known[0]
        if here[0] != current or here[1] <= last:
            return None
        after = LedgerNode((here, *known[1:]))
    if not opens and node is not None:
        after = replace(after, complete=node.complete and here[1] == last + 1, retired=node.retired)
    gaps = node.gaps if node is not None else {}
    return replace(after, gaps=_gaps(gaps, after, here, last)) if keeps_gaps else after


def _gaps(
    before: Mapping[str, Gaps], node: LedgerNode, here: tuple[str, int], last: int
) -> Mapping[str, Gaps]:
    """The gaps of the incarnations that the node still has, after an event that follows number `last`."""
    gaps = {name: before[name] for name, _ in node.incarnations if name in before}
    if here[1] > last + 1:
        mine = (*gaps.get(here[0], ()), (last + 1, here[1] - 1))
        gaps[here[0]] = mine if len(mine) <= GAPS_KEPT else ((mine[0][0], mine[1][1]), *mine[2:])
    return gaps


def is_conflict(node: LedgerNode, data: Mapping[str, Any]) -> bool:
    """Whether an event that changes nothing cannot be a repetition: no event with its number was read before."""
    incarnation, sequence = data["incarnation"], data["sequence"]
    if sequence > dict(node.incarnations)[incarnation]:
        return True
    return any(first <= sequence <= last for first, last in node.gaps.get(incarnation, ()))
