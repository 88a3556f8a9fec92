"""`vacancy metrics`."""

from __future__ import annotations

from pathlib import Path
from queue import SimpleQueue
from typing import Annotated

import typer

from vacancy.cli.context import CommandContext
from vacancy.cli.options import shared_options as o
from vacancy.cli.output import emit, note


def metrics(
    port: Annotated[
        int | None,
        typer.Option(
            "--port",
            metavar="PORT",
            min=0,
            max=65535,
            help="Serve the metrics at /metrics on this port until SIGTERM or Ctrl-C; 0 chooses a free port.",
        ),
    ] = None,
    host: Annotated[
        str, typer.Option("--host", metavar="HOST", help="Address that --port listens on.")
    ] = "127.0.0.1",
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            metavar="FILE",
            help="Write the metrics to this file once, for the textfile collector of node_exporter: name it *.prom.",
        ),
    ] = None,
    silent_after: Annotated[
        float,
        typer.Option(
            "--silent-after",
            metavar="SECONDS",
            min=1.0,
            help="Count a node as silent that was not heard from for so long.",
        ),
    ] = 90.0,
    store: o.StoreOption = None,
    snapshots: o.SnapshotsOption = None,
    config: o.ConfigOption = None,
) -> None:
    """Show the metrics of the fleet for Prometheus: nodes, capacity by class, cell and aggregate, age of snapshots.

    They are read from this host's store. Serve them on one host: all stores of a log have the same content. Workers serve their
    own metrics, publishers with --metrics-port or --metrics-file.
    """
    context = CommandContext(store=store, snapshots=snapshots, config=config)
    from vacancy.clients.metrics.fleet_metrics import FleetMetrics
    from vacancy.clients.metrics.publisher_metrics import write_metrics
    from vacancy.streams.pages.metrics import metrics_page, rendered
    from vacancy.streams.pages.page_server import PageServer
    from vacancy.streams.settings import WebAddress
    from vacancy.streams.worker.shutdown import StopSignal, forward_signals

    with context.open_reader(with_view=False) as reader:
        fleet = FleetMetrics(reader, snapshots=context.open_snapshots(), silent_s=silent_after)
        if file is not None:
            write_metrics(file, fleet)
        if port is None:
            if file is None:
                for line in rendered(fleet).splitlines():
                    emit(line)
            return
        stop: StopSignal = SimpleQueue()
        with forward_signals(stop):
            server = PageServer(WebAddress(host, port), metrics_page(fleet))
            note(f"metrics of the fleet at http://{server.web_address}/metrics; stop with Ctrl-C")
            stop.get()
            server.end()
