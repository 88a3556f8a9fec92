"""`vacancy replay` and `vacancy digest`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vacancy.cli import options as o
from vacancy.cli.context import CommandContext
from vacancy.cli.output import emit, emit_json, emit_table, note, progress_bar

if TYPE_CHECKING:
    from vacancy.clients.replay_tool.replay import Digest


def replay(
    into: Annotated[
        Path | None,
        typer.Option(
            "--into",
            "--store",
            metavar="DIR",
            help="The store to fold into (default: the one that is set). [env: VACANCY_STORE]",
        ),
    ] = None,
    rebuild: Annotated[
        bool,
        typer.Option("--rebuild", help="Move what is there aside, and fold from the log's first record."),
    ] = False,
    processes: Annotated[
        int, typer.Option("--processes", min=1, help="Fold partitions side by side, in so many processes.")
    ] = 1,
    log: o.LogOption = None,
    config: o.ConfigOption = None,
    kafka: o.KafkaOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Fold the log into a store up to the log's end as it is now, and tell the digest.

    Appends nothing. A store that is there goes on from where it stands.
    """
    site = CommandContext(log=log, store=into, config=config, kafka=kafka)
    from vacancy.clients.replay_tool.parallel import replay_processes as fold_side_by_side
    from vacancy.clients.replay_tool.replay import replay as fold_all
    from vacancy.clients.replay_tool.set_aside import set_aside

    with site.open_log() as opened:
        opened.identity()  # nothing is moved for a log that cannot be read
        if rebuild and (aside := set_aside(site.store)) is not None:
            note(f"what was in {site.store} is now in {aside}; remove it when you no longer need it")
        with progress_bar("records folded") as progress:
            if processes == 1:
                found = fold_all(opened, site.store, site.registry(), progress=progress)
            else:
                found = fold_side_by_side(
                    site.settings.log,
                    site.store,
                    site.registry(),
                    processes=processes,
                    progress=progress,
                    client_settings=site.settings.kafka,
                )
    _tell(found, as_json)


def digest(
    store: o.StoreOption = None,
    config: o.ConfigOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """One hash over all that the tables say. Two stores at one position have the same, or one of them is wrong."""
    site = CommandContext(store=store, config=config)
    from vacancy.clients.replay_tool.replay import digest as digest_of

    _tell(digest_of(site.store, site.registry()), as_json)


def _tell(found: Digest, as_json: bool) -> None:
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
