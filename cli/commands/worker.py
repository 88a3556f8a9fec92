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
            help="Address that serves /ready, /status and /metrics (Kafka logs only).",
            show_default="127.0.0.1",
        ),
    ] = None,
    web_port: Annotated[
        str | None,
        typer.Option(
            "--web-port",
            metavar="PORT|off",
            help="Port that serves /ready, /status and /metrics; 0 chooses a free port, off disables them.",
            show_default="6066, or a free port if that is in use",
        ),
    ] = None,
) -> None:
    """Fold the log into this host's store continuously, until SIGTERM or Ctrl-C.

    To use a second CPU, start a second worker on the same store: each folds half of the partitions of a Kafka log.

    If no log is named, the default log on this host is used; it is created if it does not exist. Create any other log
    with `vacancy topics create`.
    """
    context = CommandContext(
        log=log, store=store, config=config, kafka=kafka, web_host=web_host, web_port=web_port
    )
    context.ensure_log()
    from vacancy.clients.runtime.worker_process import run_worker
    from vacancy.streams.file_modes import too_open

    def report_ready(running: RunningWorker) -> None:
        failed = running.errors
        at = position_text({p: offset for p, offset in running.position.items() if p not in failed})
        without = (
            f", except partition {', '.join(map(str, sorted(failed)))}, which stopped with the error above"
            if failed
            else ""
        )
        note(f"caught up with {context.settings.log} at {at}{without}; store {context.store}")
        address = getattr(running, "web_address", None)
        if address is not None:
            note(f"status at http://{address}/status")

    for warning in too_open(context.settings.log, context.store):
        note(warning)
    note(f"folding {context.settings.log} into {context.store}; stop with Ctrl-C")
    settings = context.settings
    run_worker(
        settings.log, context.store, client_settings=settings.kafka, on_ready=report_ready, web=settings.web
    )
