"""`vacancy replay` and `vacancy digest`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vacancy.cli.commands.store.replay_comparison import compare, end_of, start_of
from vacancy.cli.context import CommandContext
from vacancy.cli.options import shared_options as o
from vacancy.cli.options.reading_options import ReadingOptions, with_reading_options
from vacancy.cli.output import emit, emit_json, emit_table, note, progress_bar
from vacancy.resources.model.errors import UsageError

if TYPE_CHECKING:
    from vacancy.clients.replay_tool.replay import Digest
    from vacancy.resources.model.errors import VacancyError


def replay(
    into: Annotated[
        Path | None,
        typer.Option(
            "--into",
            "--store",
            metavar="DIR",
            help="The store to fold into (default: the configured one). [env: VACANCY_STORE]",
        ),
    ] = None,
    rebuild: Annotated[
        bool,
        typer.Option("--rebuild", help="Rename the existing store, and fold from the log's first record."),
    ] = False,
    swap: Annotated[
        bool,
        typer.Option(
            "--swap",
            help="Fold from the log's first record beside the store, and put the result in its place; workers and readers go on.",
        ),
    ] = False,
    until: Annotated[
        str | None,
        typer.Option(
            "--until",
            metavar="POSITION|TIME",
            help="Stop there: 0:7,1:4, 2026-11-28T13:14:33Z or -2h (default: the log's end).",
        ),
    ] = None,
    from_snapshot: Annotated[
        str | None,
        typer.Option(
            "--from-snapshot",
            metavar="URL",
            help="If there is no store, start with the newest snapshot of this log at URL.",
        ),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(
            "--against",
            metavar="BUILD|STORE",
            help="Compare the fold with that of another virtual environment, or with a store and the snapshots; fold into"
            " a temporary directory. Ends with 5 if they differ.",
        ),
    ] = None,
    snapshots: o.SnapshotsOption = None,
    processes: Annotated[
        int | None,
        typer.Option(
            "--processes",
            min=1,
            help="The number of processes that fold partitions in parallel (default: one a core).",
        ),
    ] = None,
    emit_changes: Annotated[bool, typer.Option("--emit-changes", hidden=True)] = False,
    log: o.LogOption = None,
    config: o.ConfigOption = None,
    kafka: o.KafkaOption = None,
    archive: o.ArchiveOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Fold the log into a store, up to the log's current end or up to --until, and print the digest.

    Appends nothing to the log. An existing store continues from its position, also after a kill.
    """
    context = CommandContext(
        log=log, store=into, snapshots=snapshots, archive=archive, config=config, kafka=kafka
    )
    if emit_changes:
        _emit_changes(context)
        return
    if against is not None:
        if rebuild or into is not None:
            raise UsageError(
                "--against folds into a temporary directory", do="leave out --into, --store and --rebuild"
            )
        compare(
            context, against, until=until, from_snapshot=from_snapshot, processes=processes, as_json=as_json
        )
        return
    if swap:
        if rebuild or until is not None:
            raise UsageError("--swap folds up to the log's end", do="leave out --until and --rebuild")
        _swap(context, from_snapshot, processes)
        from vacancy.clients.replay_tool.replay import digest as digest_of

        _print_digest(digest_of(context.store, context.registry()), as_json)
        return
    from vacancy.clients.replay_tool.set_aside import set_aside

    with context.open_log() as opened:
        opened.identity()  # do not rename the store for a log that cannot be read
        end = end_of(opened, until)
        if rebuild and (aside := set_aside(context.store)) is not None:
            note(f"the old store {context.store} is now {aside}; remove it when you no longer need it")
        if from_snapshot is not None:
            start_of(context, opened, from_snapshot, context.store, end)
    _print_digest(_fold(context, end, processes), as_json)


def _emit_changes(context: CommandContext) -> None:
    """Answer the process that compares this build with another one."""
    from vacancy.clients.replay_tool.change_emitter import emit_changes

    with context.open_log() as opened:
        emit_changes(opened, context.store, context.registry(), sys.stdin, emit)


def _swap(context: CommandContext, from_snapshot: str | None, processes: int | None) -> None:
    """Put a new store in the place of the one that is there."""
    from vacancy.clients.replay_tool.swap import swap_store

    def prepare(new: Path) -> None:
        if from_snapshot is not None:
            with context.open_log() as opened:
                start_of(context, opened, from_snapshot, new, None)

    with progress_bar("records folded") as progress:
        done = swap_store(
            context.settings.log,
            context.store,
            context.registry(),
            prepare=prepare,
            processes=processes,
            progress=progress,
            on_error=_report,
            client_settings=context.settings.log_options,
        )
    if done.finished_earlier:
        note("an earlier call had put its store in place and was killed then; the rest of it is done now")
    if done.aside is not None:
        note(f"the old store is now {done.aside}; remove it when you no longer need it")


def _report(partition: int, error: VacancyError) -> None:
    note(f"partition {partition} stopped: {error}")


def _fold(context: CommandContext, end: Mapping[int, int] | None, processes: int | None) -> Digest:
    from vacancy.clients.replay_tool.parallel import replay_processes

    with progress_bar("records folded") as progress:
        return replay_processes(
            context.settings.log,
            context.store,
            context.registry(),
            processes=processes,
            until=end,
            progress=progress,
            on_error=_report,
            client_settings=context.settings.log_options,
        )


@with_reading_options
def digest(
    reading: ReadingOptions,
    as_json: o.JsonOption = False,
) -> None:
    """Print one hash of the whole content of the tables. Two stores at the same position have the same digest."""
    site = reading.context()
    from vacancy.clients.replay_tool.replay import digest as digest_of

    _print_digest(digest_of(site.store, site.registry()), as_json)


def _print_digest(found: Digest, as_json: bool) -> None:
    if as_json:
        emit_json({"digest": found.whole, "partitions": list(found.partitions), "position": found.position})
        return
    emit(found.whole)
    emit_table(
        ("PARTITION", "POSITION", "DIGEST"),
        (
            (partition, offset, one)
            for (partition, offset), one in zip(sorted(found.position.items()), found.partitions, strict=True)
        ),
    )
