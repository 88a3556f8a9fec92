"""`vacancy worker`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Annotated

import typer

from vacancy.cli.commands.store.snapshot import seconds
from vacancy.cli.context import CommandContext, named_options
from vacancy.cli.options import shared_options as o
from vacancy.cli.output import note, position_text
from vacancy.resources.model.errors import UsageError

if TYPE_CHECKING:
    from vacancy.clients.runtime.worker_process import RunningWorker
    from vacancy.clients.snapshots.schedule import SnapshotPlan
    from vacancy.streams.log import Log
    from vacancy.streams.settings import Settings
    from vacancy.streams.worker.state_digests import DigestInterval


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
            help="Address that serves /ready, /status and /metrics.",
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
    ui_host: Annotated[
        str | None,
        typer.Option(
            "--ui-host",
            metavar="HOST",
            help="Address that serves the page of --ui-port, which has no login.",
            show_default="127.0.0.1",
        ),
    ] = None,
    ui_port: Annotated[
        str | None,
        typer.Option(
            "--ui-port",
            metavar="PORT|off",
            help="Serve the page of `vacancy ui` at this port, in a process of the lowest priority; 0 chooses a free port.",
            show_default="off",
        ),
    ] = None,
    from_snapshot: Annotated[
        str | None,
        typer.Option(
            "--from-snapshot",
            metavar="URL",
            help="If there is no store, start it with the newest snapshot of this log at URL.",
        ),
    ] = None,
    archive: o.ArchiveOption = None,
    snapshot_every: Annotated[
        str | None,
        typer.Option(
            "--snapshot-every", metavar="TIME", help="Make a snapshot this often, for example 30m or 1h."
        ),
    ] = None,
    snapshots: o.SnapshotsOption = None,
    snapshot_keep: Annotated[
        int,
        typer.Option(
            "--snapshot-keep", min=1, metavar="N", help="Keep the N snapshots with the most records."
        ),
    ] = 24,
    snapshot_max_age: Annotated[
        str | None,
        typer.Option(
            "--snapshot-max-age", metavar="TIME", help="Remove older snapshots, for example after 7d."
        ),
    ] = None,
    digest_every: Annotated[
        str,
        typer.Option(
            "--digest-every",
            metavar="TIME|off",
            help="How often the workers of all hosts compare digests of their stores through the log.",
        ),
    ] = "10m",
) -> None:
    """Fold the log into this host's store continuously, until SIGTERM or Ctrl-C.

    To use a second CPU, start a second worker on the same store: each folds half of the partitions of a Kafka log.

    If no log is named, the default log on this host is used; it is created if it does not exist. Create any other log
    with `vacancy topics create`.
    """
    context = CommandContext(
        log=log,
        store=store,
        snapshots=snapshots,
        archive=archive,
        config=config,
        kafka=kafka,
        web_host=web_host,
        web_port=web_port,
        ui_host=ui_host,
        ui_port=ui_port,
    )
    interval = _interval(digest_every)
    plan = _plan(context, snapshot_every, snapshot_keep, snapshot_max_age)
    context.ensure_log()
    from vacancy.clients.runtime.worker_process import run_worker
    from vacancy.streams.files.file_modes import too_open

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
    flags = named_options(log=log, store=store, snapshots=snapshots, archive=archive, config=config)
    with _schedule(plan), _page(settings, flags) as page:
        run_worker(
            settings.log,
            context.store,
            client_settings=settings.kafka,
            on_ready=report_ready,
            web=settings.web._replace(page=page),
            before_opening=lambda opened: _start(context, opened, from_snapshot),
            digest_interval=interval,
            tracing=settings.tracing,
        )


def _interval(every: str) -> DigestInterval:
    """Raises `UsageError`."""
    from vacancy.streams.worker.state_digests import DigestInterval

    return DigestInterval(0.0 if every == "off" else seconds(every, "--digest-every"))


def _start(context: CommandContext, log: Log, from_snapshot: str | None) -> None:
    """Make the store of a snapshot, if that is wanted, and fold what was trimmed from the archive, if one is named."""
    if from_snapshot is not None:
        from vacancy.clients.snapshots.restore import start_from_snapshot
        from vacancy.projections.snapshots.storage import SnapshotStorage

        start_from_snapshot(log, SnapshotStorage(from_snapshot), context.store, context.registry(), note)
    settings = context.settings
    if settings.archive:
        from vacancy.clients.replay_tool.trimmed import fold_trimmed

        fold_trimmed(
            log,
            context.store,
            context.registry(),
            archive=settings.archive,
            client_settings=settings.kafka,
            report=note,
        )


@contextmanager
def _page(settings: Settings, flags: tuple[str, ...]) -> Iterator[Callable[[], str]]:
    """Serve the page, if that is wanted. Gives what returns its address."""
    from vacancy.streams.settings import no_page

    if settings.ui_port == "off":
        yield no_page
        return
    from vacancy.ui.beside_worker import PageProcess

    with PageProcess(settings, flags, note) as process:
        yield lambda: process.address


def _plan(context: CommandContext, every: str | None, keep: int, max_age: str | None) -> SnapshotPlan | None:
    """The plan of snapshots; None if none are wanted. Raises `UsageError`."""
    if every is None:
        if max_age is not None:
            raise UsageError("--snapshot-max-age needs --snapshot-every", do="give both")
        return None
    from vacancy.clients.snapshots.schedule import SnapshotPlan

    context.open_snapshots()  # raises now what would fail each time
    age_ms = None if max_age is None else int(1000 * seconds(max_age, "--snapshot-max-age"))
    every_s = seconds(every, "--snapshot-every")
    return SnapshotPlan(context.store, context.settings.snapshots, every_s, keep, age_ms)


def _schedule(plan: SnapshotPlan | None) -> AbstractContextManager[object]:
    if plan is None:
        return nullcontext()
    from vacancy.clients.snapshots.schedule import SnapshotSchedule

    return SnapshotSchedule(plan)
