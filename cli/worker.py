"""`vacancy worker`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vacancy.cli import options as o
from vacancy.cli.output import note, position_text
from vacancy.cli.site import Site

if TYPE_CHECKING:
    from vacancy.streams.worker import EmbeddedWorker


def worker(
    log: o.LogOption = None,
    store: o.StoreOption = None,
    config: o.ConfigOption = None,
    kafka: o.KafkaOption = None,
) -> None:
    """Fold the log into this host's store, and keep at it until stopped (SIGTERM or Ctrl-C).

    Where no log is named, the default one on this host is made if it is not there; any other is made with
    `vacancy topics create`.
    """
    site = Site(log=log, store=store, config=config, kafka=kafka)
    site.ensure_log()
    from vacancy.clients.worker_process import run_worker

    def tell(running: EmbeddedWorker) -> None:
        note(f"caught up with {site.settings.log} at {position_text(running.position)}; store {site.store}")

    note(f"folding {site.settings.log} into {site.store}; stop with Ctrl-C")
    run_worker(site.settings.log, site.store, client_settings=site.settings.kafka, on_ready=tell)
