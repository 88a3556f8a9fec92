"""Renders the explanation of a request that has no candidates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vacancy.cli.output import emit, emit_table, time_text

if TYPE_CHECKING:
    from vacancy.projections.diagnostics.summary import Explanation


def render_explanation(explanation: Explanation) -> None:
    """Write how many nodes each constraint removes, and the nearest misses. Constraints that remove no node are omitted."""
    emit(
        f"{explanation.left} of {explanation.nodes} nodes remain; nodes removed by each constraint, alone and in order:"
    )
    emit_table(
        ("GROUP", "CONSTRAINT", "ALONE", "IN ORDER"),
        (
            (one.group, one.constraint, "" if one.alone is None else one.alone, one.in_order)
            for one in explanation.constraints
            if one.alone or one.in_order
        ),
    )
    if not explanation.nearest:
        return
    emit()
    emit("nearest misses:")
    emit_table(
        ("NODE", "GROUP", "PROVIDER", "CONSTRAINT", "ASKED", "AVAILABLE", "WHY"),
        (
            (
                tree.root,
                group,
                provider,
                failure.constraint,
                number_text(failure.kind, failure.asked),
                number_text(failure.kind, failure.available),
                failure.reason.replace("_", " "),
            )
            for tree in explanation.nearest
            for group, provider, failure in tree.misses
        ),
    )


def number_text(kind: str, number: int | None) -> object:
    """A requested or available number as text; the number of a "heard" constraint is a time."""
    return time_text(number or 0) if kind == "heard" else number
