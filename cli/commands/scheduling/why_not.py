"""`vacancy why-not`."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from vacancy.cli.commands.scheduling.render_explanation import alternative_text, number_text
from vacancy.cli.context import OPTIONAL_LOG_S, CommandContext
from vacancy.cli.options import shared_options as o
from vacancy.cli.options.reading_options import ReadingOptions, with_reading_options
from vacancy.cli.options.request_options import QualitiesOnlyOption, RequestOptions, with_request_options
from vacancy.cli.output import emit, emit_json, emit_table, note, position_text, time_text
from vacancy.resources.model.errors import LogError

if TYPE_CHECKING:
    from vacancy.clients.inspection.why_not import Lack, WhyNot
    from vacancy.streams.log import Log


@with_reading_options
@with_request_options
def why_not(
    node: Annotated[
        str, typer.Argument(metavar="NODE", help="Id of the node, or of any provider in its tree.")
    ],
    request_options: RequestOptions,
    reading: ReadingOptions,
    qualities_only: QualitiesOnlyOption = False,
    max_staleness: o.MaxStalenessOption = None,
    cell: o.CellOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Explain why a node cannot serve a request: every constraint that it fails, and who took the last unit.

    The options of the request are those of `vacancy candidates`. The consumer and the time of the last claim are read
    from the log; without the log only its offset is shown.
    """
    context = reading.context()
    parsed = request_options.parse(context.registry(), qualities_only=qualities_only)
    with ExitStack() as open_:
        opened = _open_log_if_available(context, open_)
        query = open_.enter_context(context.open_query())
        answer = query.why_not(
            parsed.spec,
            node,
            cell=cell,
            log=opened,
            max_staleness_s=max_staleness,
            qualities_only=qualities_only,
        )
    if as_json:
        emit_json(answer)
        return
    _render(answer, *(_QUALITIES if qualities_only else _CANDIDATE))
    note(f"as of {position_text(answer.as_of)}")


def _open_log_if_available(context: CommandContext, open_: ExitStack) -> Log | None:
    """The log, or None if it does not answer: most of the answer comes from the tables."""
    try:
        return open_.enter_context(context.open_log(OPTIONAL_LOG_S))
    except LogError as error:
        note(f"answering without the log: {error.what}")
        return None


_CANDIDATE = "it is a candidate", "it is not a candidate"
_QUALITIES = "it has the qualities that are asked for", "it lacks qualities that are asked for"


def _render(answer: WhyNot, fits: str, lacks: str) -> None:
    state = f"{answer.node.state}, last heard {time_text(answer.node.heard_ms)}" if answer.node else "gone"
    emit(f"node {answer.root} in cell {answer.cell}: {state}")
    if not answer.alternatives:
        emit(fits if answer.fits else lacks)
        _render_groups(answer)
        return
    emit(fits if answer.fits_any else lacks)
    for number, one in enumerate((answer, *answer.alternatives)):
        emit()
        emit(f"{alternative_text(number)}: {fits if one.fits else lacks}")
        _render_groups(one)


def _render_groups(answer: WhyNot) -> None:
    rows: list[tuple[object, ...]] = []
    for group in answer.groups:
        best = group.providers[0]
        if not best.lacks:
            rows.append((group.group, best.provider, "fits"))
            continue
        rows += [
            (group.group, one.provider, *_lack_cells(lack)) for one in group.providers for lack in one.lacks
        ]
    rows += [("", lack.provider, *_lack_cells(lack)) for lack in answer.whole]
    emit_table(
        ("GROUP", "PROVIDER", "CONSTRAINT", "ASKED", "AVAILABLE", "WHY"),
        ((*row, *[""] * (6 - len(row))) for row in rows),
    )


def _lack_cells(lack: Lack) -> tuple[object, ...]:
    from vacancy.clients.inspection.provenance import place_text, taking_text

    if lack.kind in ("open", "taint"):
        who = f" ({lack.event.source} at {place_text(lack.event)})" if lack.event else ""
        why = lack.why + who
    else:
        why = ", ".join(filter(None, (lack.why, taking_text(lack.event))))
    return (
        lack.constraint,
        number_text(lack.kind, lack.asked),
        number_text(lack.kind, lack.available),
        why,
    )
