"""`vacancy dead-letters`."""

from __future__ import annotations

from typing import Annotated

import typer

from vacancy.cli.options import shared_options as o
from vacancy.cli.options.reading_options import ReadingOptions, with_reading_options
from vacancy.cli.output import emit, emit_json, emit_table, note, past_text, position_fields, time_text


@with_reading_options
def dead_letters(
    reading: ReadingOptions,
    partition: Annotated[int | None, typer.Option("--partition", min=0, help="Only this partition.")] = None,
    limit: Annotated[
        int, typer.Option("--limit", min=1, help="The number of dead letters per partition, newest first.")
    ] = 100,
    as_json: o.JsonOption = False,
) -> None:
    """Show the records that the fold refused, and why. The JSON output also has their content."""
    from vacancy.clients.inspection.status import dead_letters as kept

    with reading.context().open_reader() as reader:
        found = kept(reader, partition=partition, limit=limit)
        position, past = position_fields(reader), past_text(reader)
    if as_json:
        emit_json({"dead_letters": found, **position})
        return
    if past:
        note(past)
    if not found:
        emit("there are no dead letters")
        return
    emit_table(
        ("PARTITION", "OFFSET", "TIME", "KEY", "BYTES", "REASON"),
        ((x.partition, x.offset, time_text(x.timestamp_ms), x.key, x.size, x.reason) for x in found),
    )
