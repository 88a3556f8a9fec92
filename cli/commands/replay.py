"""`vacancy replay` and `vacancy digest`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vacancy.cli import options as o
from vacancy.cli.context import CommandContext
from vacancy.cli.output import emit, emit_json, emit_table, note, progress_bar
from vacancy.cli.reading_options import ReadingOptions, with_reading_options

if TYPE_CHECKING:
    from vacancy.clients.replay_tool.replay import Digest


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
    processes: Annotated[
        int,
        typer.Option("--processes", min=1, help="The number of processes that fold partitions in parallel."),
    ] = 1,
    log: o.LogOption = None,
    config: o.ConfigOption = None,
    kafka: o.KafkaOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Fold the log into a store, up to the log's current end, and print the digest.

    Appends nothing to the log. An existing store continues from its position.
    """
    site = CommandContext(log=log, store=into, config=config, kafka=kafka)
    from vacancy.clients.replay_tool.parallel import replay_processes as fold_in_parallel
    from vacancy.clients.replay_tool.replay import replay as fold_all
    from vacancy.clients.replay_tool.set_aside import set_aside

    with site.open_log() as opened:
        opened.identity()  # do not rename the store for a log that cannot be read
        if rebuild and (aside := set_aside(site.store)) is not None:
            note(f"the old store {site.store} is now {aside}; remove it when you no longer need it")
        with progress_bar("records folded") as progress:
            if processes == 1:
                found = fold_all(opened, site.store, site.registry(), progress=progress)
            else:
                found = fold_in_parallel(
                    site.settings.log,
                    site.store,
                    site.registry(),
                    processes=processes,
                    progress=progress,
                    client_settings=site.settings.kafka,
                )
    _print_digest(found, as_json)


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
