"""The order of a node's events: which one comes next, which was seen before, and which shows that two writers speak for
the node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from vacancy.clients.auditor.classes.class_auditor import Refused

INCARNATIONS_KEPT = 8


@dataclass(frozen=True, slots=True)
class LedgerNode:
    """A node. `incarnations` are (incarnation, last sequence), newest first. `complete` is False from a gap in the
    sequence to the next full report. `gaps` are the first and the last number of each gap of the newest incarnation."""

    incarnations: tuple[tuple[str, int], ...]
    complete: bool = True
    retired: bool = False
    gaps: tuple[tuple[int, int], ...] = ()


def next_of(
    node: LedgerNode | None, data: Mapping[str, Any], *, opens: bool, keeps_gaps: bool
) -> LedgerNode | None:
    """The node after an event, or None where the event changes nothing. `opens` is whether it is a full report;
    `keeps_gaps` is whether the rules ask which numbers were left out.

    Raises `Refused` where no full report opened the event's incarnation.
    """
    here = (data["incarnation"], data["sequence"])
    known = node.incarnations if node is not None else ()
    if node is None or here[0] not in dict(known):
        if not opens:
            raise Refused
        return LedgerNode((here, *known)[:INCARNATIONS_KEPT])
    current, last = known[0]
    if here[0] != current or here[1] <= last:
        return None
    contiguous = here[1] == last + 1
    gaps = node.gaps if contiguous or not keeps_gaps else (*node.gaps, (last + 1, here[1] - 1))
    if opens:
        return LedgerNode((here, *known[1:]), gaps=gaps)
    complete = node.complete and contiguous
    return replace(node, incarnations=(here, *known[1:]), complete=complete, gaps=gaps)


def is_conflict(node: LedgerNode, data: Mapping[str, Any]) -> bool:
    """Whether an event that changes nothing cannot be a repetition: it is the first with its number that was read."""
    incarnation, sequence = data["incarnation"], data["sequence"]
    current, _ = node.incarnations[0]
    if incarnation == current:
        return any(first <= sequence <= last for first, last in node.gaps)
    return bool(sequence > dict(node.incarnations)[incarnation])
