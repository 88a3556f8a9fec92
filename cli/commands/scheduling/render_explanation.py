"""Renders the explanation of a request that has no candidates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from vacancy.cli.output import emit, emit_table, time_text

if TYPE_CHECKING:
    from vacancy.projections.diagnostics.node_report import FailedConstraint
    from vacancy.projections.diagnostics.summary import Explanation

_WITHHELD_SHOWN: Final = 4


def render_explanation(explanation: Explanation) -> None:
    """Write how many nodes each constraint removes, and the nearest misses. Constraints that remove no node are omitted. Each
    alternative of the request has a section of its own."""
    if not explanation.alternatives:
        _render_one(explanation)
        return
    for number, one in enumerate((explanation, *explanation.alternatives)):
        if number:
            emit()
        emit(f"{alternative_text(number)}:")
        _render_one(one)


def alternative_text(number: int) -> str:
    """The name of the request's own groups (0) and of its alternatives (from 1), in the order of preference."""
    return f"alternative {number}" if number else "first choice"


def _render_one(explanation: Explanation) -> None:
    if not explanation.nodes:
        emit(
            "this store has no node: check that `vacancy worker` runs, and report one with `vacancy publish`"
        )
        return
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
    if not any(True for tree in explanation.nearest for _ in tree.misses):
        return  # each node by itself serves the request, but not together
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
                ", ".join(filter(None, (_why(failure), withheld_text(failure.withheld)))),
            )
            for tree in explanation.nearest
            for group, provider, failure in tree.misses
        ),
    )


def _why(failure: FailedConstraint) -> str:
    if failure.kind == "taint":
        return failure.constraint.replace("tolerates taint ", "add --tolerate ")
    return failure.reason.replace("_", " ")


def number_text(kind: str, number: int | None) -> object:
    """A requested or available number as text; the number of a "heard" constraint is a time."""
    return time_text(number or 0) if kind == "heard" else number


def withheld_text(devices: Sequence[str]) -> str:
    """That devices would help and are granted to nobody; empty if there are none."""
    if not devices:
        return ""
    named = ", ".join(devices[:_WITHHELD_SHOWN])
    more = f" and {len(devices) - _WITHHELD_SHOWN} more" if len(devices) > _WITHHELD_SHOWN else ""
    return f"out of service: {named}{more}"
