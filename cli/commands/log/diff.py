"""`vacancy diff`: what differs between two points in time, snapshots or stores."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vacancy.cli.context import CommandContext
from vacancy.cli.options import shared_options as o
from vacancy.cli.output import emit, emit_json, emit_table, note, position_text, progress_bar, time_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from vacancy.clients.history.differences import Differences, Side, Total

# `-2h` is a point in time, not an option.
SETTINGS = {"ignore_unknown_options": True}


def diff(
    before: Annotated[
        str,
        typer.Argument(
            metavar="A",
            help="A point in time (-2h), snapshot:ID, or the directory of a store.",
            show_default=False,
        ),
    ],
    after: Annotated[
        str | None, typer.Argument(metavar="B", help="The same (default: this host's store).")
    ] = None,
    across_logs: Annotated[
        bool, typer.Option("--across-logs", help="Compare stores of different logs, too.")
    ] = False,
    limit: Annotated[
        int, typer.Option("--limit", min=1, max=1_000_000, help="Rows of each table. JSON has all of them.")
    ] = 20,
    log: o.LogOption = None,
    store: o.StoreOption = None,
    snapshots: o.SnapshotsOption = None,
    archive: o.ArchiveOption = None,
    config: o.ConfigOption = None,
    kafka: o.KafkaOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Show what differs: nodes that came, are gone or changed; who took and gave back what; totals.

    `vacancy diff -2h` compares the tables of two hours ago with this host's store. `vacancy diff 0:7,1:1 -30m` compares two
    points in time, `vacancy diff snapshot:ID /var/lib/vacancy/store` a snapshot and a store.
    """
    from vacancy.clients.history.diff_sources import open_source
    from vacancy.clients.history.differences import differences

    context = CommandContext(
        log=log, store=store, snapshots=snapshots, archive=archive, config=config, kafka=kafka
    )
    with ExitStack() as opened, progress_bar("records folded") as progress:
        names = (before, str(context.store) if after is None else after)
        sides = [
            opened.enter_context(open_source(text, context.settings, context.registry(), progress=progress))
            for text in names
        ]
        found = differences(*sides, across_logs=across_logs, names=names)
    if as_json:
        emit_json(found)
        return
    _print(found, limit)


def _print(found: Differences, limit: int) -> None:
    from vacancy.clients.history.differences import changed_totals, counts

    emit(f"A: {_side_text(found.before)}")
    emit(f"B: {_side_text(found.after)}")
    nodes, consumers = counts(found)
    emit(f"nodes: {nodes['came']} came, {nodes['gone']} gone, {nodes['changed']} changed")
    emit(
        f"consumers: {consumers['took']} took, {consumers['gave back']} gave back, {consumers['changed']} changed"
    )
    _print_table(
        ("NODE", "CELL", "WHAT DIFFERS"), [(one.node, one.cell, one.text) for one in found.nodes], limit
    )
    _print_table(
        ("CONSUMER", "CELL", "PROJECT", "", "WHAT"),
        [(one.consumer, one.cell, one.project, one.what, one.text) for one in found.consumers],
        limit,
    )
    _print_table(("CLASS", "CAPACITY", "USED"), _totals(changed_totals(found.totals)), limit)
    for name, totals in (("PROJECT", found.by_project), ("CELL", found.by_cell)):
        rows = [(of, *row) for of, them in totals.items() for row in _totals(changed_totals(them))]
        _print_table((name, "CLASS", "CAPACITY", "USED"), rows, limit)


def _side_text(side: Side) -> str:
    return f"{position_text(side.position)}, log time {time_text(side.time_ms) or 'none'}"


def _totals(totals: Iterable[Total]) -> list[tuple[str, str, str]]:
    return [
        (
            one.unit,
            _change(one.capacity_before, one.capacity_after),
            _change(one.used_before, one.used_after),
        )
        for one in totals
    ]


def _change(before: int | None, after: int | None) -> str:
    if before == after:
        return "" if after is None else str(after)
    return f"{'none' if before is None else before} -> {'none' if after is None else after}"


def _print_table(columns: Sequence[str], rows: Sequence[tuple[Any, ...]], limit: int) -> None:
    if not rows:
        return
    emit()
    if columns[0] == "PROJECT":  # projects have no capacity
        columns, rows = (*columns[:2], columns[3]), [(*row[:2], row[3]) for row in rows]
    emit_table(columns, rows[:limit])
    if len(rows) > limit:
        note(f"{len(rows) - limit} more of this table are left out: --limit {len(rows)} shows them")
