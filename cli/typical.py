"""`vacancy typical`."""

from __future__ import annotations

from typing import Annotated

import typer

from vacancy.cli import options as o
from vacancy.cli.context import CommandContext
from vacancy.cli.output import emit


def typical(
    device: Annotated[
        str,
        typer.Argument(metavar="CLASS", help="The class of the devices, as CUSTOM_GPU_MILLI."),
    ],
    limit: Annotated[
        int, typer.Option("--limit", min=1, max=256, help="How many kinds of requests at most.")
    ] = 256,
    store: o.StoreOption = None,
    config: o.ConfigOption = None,
) -> None:
    """Learn what is typically asked for from what is held now, as JSON: the file for --typical.

    The order least_fragmentation goes by it. Requests that need the same are counted as one.
    """
    site = CommandContext(store=store, config=config)
    site.registry().check(device)
    from vacancy.clients.scheduler.order_names import learn_typical

    with site.open_reader() as reader:
        emit(learn_typical(reader, device, limit).model_dump_json(exclude_defaults=True))
