"""`vacancy typical`."""

from __future__ import annotations

from typing import Annotated

import typer

from vacancy.cli.options.reading_options import ReadingOptions, with_reading_options
from vacancy.cli.output import as_of_text, emit_json, note


@with_reading_options
def typical(
    reading: ReadingOptions,
    device: Annotated[
        str,
        typer.Argument(metavar="CLASS", help="Resource class of the devices, for example CUSTOM_GPU_MILLI."),
    ],
    limit: Annotated[
        int, typer.Option("--limit", min=1, max=256, help="Maximum number of different requests.")
    ] = 256,
) -> None:
    """Derive the typical workload from the current allocations and print it as JSON, for --typical.

    The order least_fragmentation uses it. Requests with the same needs are counted as one kind.
    """
    context = reading.context()
    context.registry().check(device)
    from vacancy.clients.scheduler.order_names import learn_typical

    with context.open_reader() as reader:
        if context.is_past:
            note(as_of_text(reader))
        emit_json(learn_typical(reader, device, limit).model_dump(mode="json", exclude_defaults=True))
