"""`vacancy placement`: OpenStack Placement's API on the log."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vacancy.cli import options as o
from vacancy.cli.context import CommandContext
from vacancy.cli.output import note

app = typer.Typer(
    help="Serve OpenStack Placement's API.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.callback()
def _group() -> None:
    """Serve OpenStack Placement's API on the log."""


@app.command("serve")
def serve_(
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="Address to listen on.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65_535, help="Port to listen on.")] = 8778,
    processes: Annotated[
        int, typer.Option("--processes", min=1, metavar="N", help="Processes that answer requests.")
    ] = 2,
    placement_config: Annotated[
        Path | None,
        typer.Option(
            "--placement-config",
            metavar="DIR",
            help="Directory of placement.conf.",
            show_default="/etc/placement",
        ),
    ] = None,
    cell: Annotated[
        str | None,
        typer.Option("--cell", metavar="NAME", help="Cell to serve.", show_default="default"),
    ] = None,
    log: o.LogOption = None,
    store: o.StoreOption = None,
    config: o.ConfigOption = None,
    kafka: o.KafkaOption = None,
) -> None:
    """Serve OpenStack Placement's API until SIGTERM or Ctrl-C.

    It reads the store that `vacancy worker` keeps on this host, and writes to the log. Without `auth_strategy = keystone` in
    placement.conf there is no authentication, so it listens on the loopback address unless --host says otherwise.
    """
    context = CommandContext(log=log, store=store, cell=cell, config=config, kafka=kafka)
    from vacancy.placement_api.server import prepare, serve
    from vacancy.placement_api.wsgi import DEFAULT_CELL

    prepare(placement_config)
    context.open_reader(with_view=False).close()
    note(f"serving cell {context.settings.cell or DEFAULT_CELL} at http://{host}:{port}; stop with Ctrl-C")
    serve(context.settings, host, port, processes)
