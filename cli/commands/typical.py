"""`vacancy typical`."""

from __future__ import annotations

from typing import Annotated

import typer

from vacancy.cli import options as o
from vacancy.cli.context import CommandContext
from vacancy.cli.output import emit_json


def typical(
    device: Annotated[
        str,
        typer.Argument(metavar="CLASS", help="Resource class of the devices, for example CUSTOM_GPU_MILLI."),
    ],
    limit: Annotated[
        int, typer.Option("--limit", min=1, max=256, help="Maximum number of different requests.")
    ] = 256,
    store: o.StoreOption = None,
    config: o.ConfigOption = None,
) -> None:
    """Derive the typical workload from the current allocations and print it as JSON, for --typical.

    The order least_fragmentation uses it. Requests with the same needs are counted as one kind.
    """
    context = CommandContext(store=store, config=config)
    context.registry().check(device)
    from vacancy.clients.scheduler.order_names import learn_typical

    with context.open_reader() as reader:
        emit_json(learn_typical(reader, device, limit).model_dump(mode="json", exclude_defaults=True))
