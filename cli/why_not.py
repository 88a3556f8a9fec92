"""`vacancy why-not`."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from vacancy.cli import options as o
from vacancy.cli.context import ASK_S, CommandContext
from vacancy.cli.output import emit, emit_json, emit_table, note, position_text, time_text
from vacancy.cli.render_explanation import number_text
from vacancy.cli.request_options import RequestOptions, asks
from vacancy.resources.model.errors import LogError

if TYPE_CHECKING:
    from vacancy.clients.inspection.why_not import Lack, WhyNot
    from vacancy.streams.log import Log


@asks
def why_not(
    node: Annotated[str, typer.Argument(metavar="NODE")],
    asked: RequestOptions,
    max_staleness: o.MaxStalenessOption = None,
    cell: o.CellOption = None,
    log: o.LogOption = None,
    store: o.StoreOption = None,
    config: o.ConfigOption = None,
    kafka: o.KafkaOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Why a node is no place for a request: all that it fails, and who took the last of what is short.

    The request is written as for `vacancy candidates`. The log tells when and by whom; without one there are
    offsets. NODE is a node, or any provider of its tree.
    """
    site = CommandContext(log=log, store=store, config=config, kafka=kafka)
    parsed = asked.parse(site.registry())
    from vacancy.clients.inspection.why_not import why_not as ask

    with ExitStack() as open_:
        opened = _log(site, open_)
        reader = open_.enter_context(site.open_reader())
        told = ask(reader, parsed.spec, node, cell=cell, log=opened, max_staleness_s=max_staleness)
    if as_json:
        emit_json(told)
        return
    _tell(told)
    note(f"as of {position_text(told.as_of)}")


def _log(site: CommandContext, open_: ExitStack) -> Log | None:
    """The log, if it is at hand: the tables say most without it."""
    try:
        return open_.enter_context(site.open_log(ASK_S))
    except LogError as error:
        note(f"without the log: {error.what}")
        return None


def _tell(told: WhyNot) -> None:
    state = f"{told.node.state}, last heard {time_text(told.node.heard_ms)}" if told.node else "gone"
    emit(f"node {told.root} in cell {told.cell}: {state}")
    if told.fits:
        emit("it is a candidate")
    else:
        emit("it is no candidate")
    rows: list[tuple[object, ...]] = []
    for group in told.groups:
        best = group.providers[0]
        if not best.lacks:
            rows.append((group.group, best.provider, "fits"))
            continue
        rows += [
            (group.group, one.provider, *_lack_cells(lack)) for one in group.providers for lack in one.lacks
        ]
    rows += [("", told.root, *_lack_cells(lack)) for lack in told.whole]
    emit_table(
        ("GROUP", "PROVIDER", "CONSTRAINT", "ASKED", "AVAILABLE", "WHY"),
        ((*row, *[""] * (6 - len(row))) for row in rows),
    )


def _lack_cells(lack: Lack) -> tuple[object, ...]:
    from vacancy.clients.inspection.provenance import place_text, taking_text

    if lack.kind == "open":
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
