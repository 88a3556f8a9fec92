"""Why nothing was found, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vacancy.cli.output import emit, emit_table, time_text

if TYPE_CHECKING:
    from vacancy.projections.diagnostics.summary import Explanation


def render_explanation(told: Explanation) -> None:
    """What each constraint removed, and who missed by least. Constraints that remove nothing are left out."""
    emit(f"of {told.nodes} nodes {told.left} are left; each constraint removes so many, alone and in order:")
    emit_table(
        ("GROUP", "CONSTRAINT", "ALONE", "IN ORDER"),
        (
            (one.group, one.constraint, "" if one.alone is None else one.alone, one.in_order)
            for one in told.constraints
            if one.alone or one.in_order
        ),
    )
    if not told.nearest:
        return
    emit("\nnearest misses:")
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
            for tree in told.nearest
            for group, provider, failure in tree.misses
        ),
    )


def number_text(kind: str, number: int | None) -> object:
    """What was asked or is there, for people: a time where it is one."""
    return time_text(number or 0) if kind == "heard" else number
