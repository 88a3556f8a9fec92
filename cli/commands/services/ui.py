"""`vacancy ui`."""

from __future__ import annotations

from typing import Annotated

import typer

from vacancy.cli.context import CommandContext, named_options
from vacancy.cli.options import shared_options as o
from vacancy.cli.output import note


def ui(
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="Address to listen on.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65_535, help="Port to listen on; 0: a free one.")
    ] = 6080,
    redacted: Annotated[
        bool, typer.Option("--redacted", help="Show amounts, and no names: for tenants.")
    ] = False,
    silent_after: Annotated[
        float,
        typer.Option("--silent-after", min=1.0, metavar="SECONDS", help="When a node counts as silent."),
    ] = 60.0,
    scheduler: Annotated[
        list[str] | None,
        typer.Option(
            "--scheduler",
            metavar="URL",
            help="Metrics of a scheduler, whose latency is shown; may be repeated. Example: http://127.0.0.1:8000/metrics",
        ),
    ] = None,
    log: o.LogOption = None,
    store: o.StoreOption = None,
    snapshots: o.SnapshotsOption = None,
    archive: o.ArchiveOption = None,
    config: o.ConfigOption = None,
    kafka: o.KafkaOption = None,
) -> None:
    """Serve pages that show this host's store: the fleet, nodes, consumers, requests, the log, at any time. Until SIGTERM or Ctrl-C.

    It reads the store that `vacancy worker` keeps on this host, and the log. It writes to neither. There is no authentication, so
    it listens on the loopback address unless --host says otherwise.
    """
    context = CommandContext(
        log=log,
        store=store,
        snapshots=snapshots,
        archive=archive,
        config=config,
        kafka=kafka,
        schedulers=scheduler,
    )
    from vacancy.ui.http.server import serve
    from vacancy.ui.site import Site, SiteOptions

    flags = named_options(log=log, store=store, snapshots=snapshots, archive=archive, config=config)
    site = Site(context.settings, context.registry(), SiteOptions(redacted, silent_after, flags))
    try:
        serve(site, host, port, lambda address: note(f"the fleet is at {address}; stop with Ctrl-C"))
    finally:
        site.close()
