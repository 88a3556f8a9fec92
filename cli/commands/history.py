"""`vacancy history`: all that happened to one thing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from vacancy.cli import options as o
from vacancy.cli.context import CommandContext
from vacancy.cli.output import emit_json, emit_table, note, progress_bar
from vacancy.resources.model.errors import UsageError

if TYPE_CHECKING:
    from vacancy.clients.history.history import HistoryEntry, Kind


def history(
    name: Annotated[
        str, typer.Argument(metavar="NODE|PROVIDER|CONSUMER", help="The name of the thing, complete.")
    ],
    kind: Annotated[
        str | None,
        typer.Option(
            "--kind", metavar="KIND", help="node, provider or consumer, if two things have this name."
        ),
    ] = None,
    from_: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="POINT", help="From there on: 0:7,1:1 or 2026-11-28T13:14:33Z or -2h."
        ),
    ] = None,
    to: Annotated[str | None, typer.Option("--to", metavar="POINT", help="Up to there, as --from.")] = None,
    limit: Annotated[
        int, typer.Option("--limit", min=1, max=1_000_000, help="The number of records, the newest ones.")
    ] = 100,
    everything: Annotated[
        bool, typer.Option("--all", help="Also records that changed nothing, such as heartbeats.")
    ] = False,
    log: o.LogOption = None,
    archive: o.ArchiveOption = None,
    config: o.ConfigOption = None,
    kafka: o.KafkaOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Show all that happened to one node, provider or consumer, and what each record did to it.

    `vacancy history vm-1` shows when it was placed, moved, rejected and released. `vacancy history node-7 --from -1d` shows
    the reports of a node, its operator settings, and who took and gave back what. It reads the log and folds the
    partitions that name the thing; it needs no store.
    """
    from vacancy.clients.history.history import history as find_history

    of = _kind(kind)
    context = CommandContext(log=log, archive=archive, config=config, kafka=kafka)
    with context.open_log() as opened, progress_bar("reading") as progress:
        from vacancy.clients.history.points import parse_point, resolve

        found = find_history(
            opened,
            name,
            context.registry(),
            kind=of,
            start=None if from_ is None else resolve(parse_point(from_), opened),
            until=None if to is None else resolve(parse_point(to), opened),
            limit=limit,
            everything=everything,
            progress=progress,
        )
    if as_json:
        emit_json(found)
        return
    emit_table(
        ("RECORD", "TIME", "EVENT", "WHAT HAPPENED"), (row for one in found.entries for row in _rows(one))
    )
    if found.earlier:
        note(f"{found.earlier} earlier records are left out: --limit {found.earlier + limit} shows them")
    if found.left_out and not everything:
        note(f"{found.left_out} records that changed nothing are left out: --all shows them")


def _kind(text: str | None) -> Kind | None:
    from vacancy.clients.history.history import KINDS

    if text is None:
        return None
    for one in KINDS:
        if one == text:
            return one
    raise UsageError(f"{text!r} is not a kind of thing with a history", do=f"choose {', '.join(KINDS)}")


def _rows(entry: HistoryEntry) -> list[tuple[Any, ...]]:
    """A record as lines of a table: one for each effect."""
    from vacancy.clients.history.record_view import short_type, time_text

    place = (
        f"{entry.partition}:{entry.offset}",
        time_text(entry.timestamp_ms),
        short_type(entry.type) or "no event",
    )
    texts = [one.text for one in entry.effects] or [f"nothing changed ({entry.summary})"]
    return [(*place, texts[0]), *(("", "", "", text) for text in texts[1:])]
