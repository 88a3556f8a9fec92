"""`vacancy worker`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from vacancy.cli import options as o
from vacancy.cli.context import CommandContext
from vacancy.cli.output import note, position_text

if TYPE_CHECKING:
    from vacancy.clients.runtime.worker_process import RunningWorker


def worker(
    log: o.LogOption = None,
    store: o.StoreOption = None,
    config: o.ConfigOption = None,
    kafka: o.KafkaOption = None,
    web_host: Annotated[
        str | None,
        typer.Option(
            "--web-host",
            metavar="HOST",
            help="Where to serve /ready, /status and /metrics (Kafka).",
            show_default="127.0.0.1",
        ),
    ] = None,
    web_port: Annotated[
        str | None,
        typer.Option(
            "--web-port",
            metavar="PORT|off",
            help="0: any that is free.",
            show_default="6066, or any if that is taken",
        ),
    ] = None,
) -> None:
    """Fold the log into this host's store, and keep at it until stopped (SIGTERM or Ctrl-C).

    Start a second one on the same store to use a second processor: of a Kafka log's partitions each then takes
    half.

    Where no log is named, the default one on this host is made if it is not there; any other is made with
    `vacancy topics create`.
    """
    site = CommandContext(
        log=log, store=store, config=config, kafka=kafka, web_host=web_host, web_port=web_port
    )
    site.ensure_log()
    from vacancy.clients.runtime.worker_process import run_worker

    def tell(running: RunningWorker) -> None:
        failed = running.errors
        at = position_text({p: offset for p, offset in running.position.items() if p not in failed})
        but = (
            f", but for partition {', '.join(map(str, sorted(failed)))}, stopped as said above"
            if failed
            else ""
        )
        note(f"caught up with {site.settings.log} at {at}{but}; store {site.store}")
        address = getattr(running, "web_address", None)
        if address is not None:
            note(f"state at http://{address}/status")

    note(f"folding {site.settings.log} into {site.store}; stop with Ctrl-C")
    settings = site.settings
    run_worker(settings.log, site.store, client_settings=settings.kafka, on_ready=tell, web=settings.web)
