"""`vacancy history`: all that happened to one thing."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vacancy.cli.context import CommandContext
from vacancy.cli.options import shared_options as o
from vacancy.cli.output import emit_json, emit_table, note, progress_bar
from vacancy.resources.model.errors import StoreError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vacancy.clients.history.history import HistoryEntry, Kind
    from vacancy.projections.reader.store_reader import StoreReader
    from vacancy.streams.log import Log


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
    snapshots: o.SnapshotsOption = None,
    archive: o.ArchiveOption = None,
    config: o.ConfigOption = None,
    kafka: o.KafkaOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Show all that happened to one node, provider or consumer, and what each record did to it.

    `vacancy history vm-1` shows when it was placed, moved, rejected and released. `vacancy history node-7 --from -1d` shows
    the reports of a node, its operator settings, and who took and gave back what. It reads the log and folds the
    partitions that name the thing, from the nearest snapshot before the first record that names it; it needs no store. With --from
    it also reads only from the nearest snapshot before that point.
    """
    from vacancy.clients.history.history import history as find_history
    from vacancy.clients.past.points import parse_point, resolve

    of = _kind(kind)
    context = CommandContext(log=log, snapshots=snapshots, archive=archive, config=config, kafka=kafka)
    with (
        ExitStack() as opened,
        context.open_log() as of_log,
        progress_bar("records read") as progress,
    ):
        start = None if from_ is None else context.resolve_beginning(from_, of_log)
        found = find_history(
            of_log,
            name,
            context.registry(),
            kind=of,
            start=start,
            until=None if to is None else resolve(parse_point(to), of_log),
            tables_before=lambda position: _tables_before(
                context, of_log, position, opened, needed=start is not None
            ),
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


def _tables_before(
    context: CommandContext, log: Log, position: Mapping[int, int], opened: ExitStack, *, needed: bool
) -> StoreReader | None:
    """The tables of the nearest snapshot or store of the past that is not after a position, if there are some. If they are not
    `needed`, snapshots that cannot be read are only reported."""
    from vacancy.clients.past.historical_store import open_stores
    from vacancy.projections.reader.store_reader import StoreReader

    try:
        stores = open_stores(log, context.settings, context.registry())
        near = stores.nearest(position)
        if not any(near.values()):
            return None
        store = opened.enter_context(stores.at(near))
    except (StoreError, UsageError) as error:
        if needed:
            raise
        note(f"folding from the first record: {error}")
        return None
    return opened.enter_context(StoreReader(store.path, context.registry(), with_view=False, still=True))


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
