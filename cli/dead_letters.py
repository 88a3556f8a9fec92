"""`vacancy dead-letters`."""

from __future__ import annotations

from typing import Annotated

import typer

from vacancy.cli import options as o
from vacancy.cli.context import CommandContext
from vacancy.cli.output import emit, emit_json, emit_table, time_text


def dead_letters(
    partition: Annotated[
        int | None, typer.Option("--partition", min=0, help="Of this partition only.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="The newest so many of each partition.")] = 100,
    store: o.StoreOption = None,
    config: o.ConfigOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Show the records that were refused, and why. JSON has what was in them, too."""
    from vacancy.clients.inspection.status import dead_letters as kept

    with CommandContext(store=store, config=config).open_reader() as reader:
        found = kept(reader, partition=partition, limit=limit)
    if as_json:
        emit_json({"dead_letters": found})
        return
    if not found:
        emit("there are no dead letters")
        return
    emit_table(
        ("PARTITION", "OFFSET", "TIME", "KEY", "BYTES", "REASON"),
        ((x.partition, x.offset, time_text(x.timestamp_ms), x.key, x.size, x.reason) for x in found),
    )
