"""The options of commands that read the tables: where they are, and as of when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from vacancy.cli.context import CommandContext
from vacancy.cli.options import shared_options as o
from vacancy.cli.options.option_groups import with_option_group


@dataclass(frozen=True, kw_only=True)
class ReadingOptions:
    """Each field is an option of the same name."""

    as_of: Annotated[
        str | None,
        typer.Option(
            "--as-of",
            metavar="POINT",
            help="Answer as of then: a position such as 0:7,1:1, a time such as 2026-11-28T13:14:33Z, or -2h (before now)."
            " The tables of that time are made from the log and the nearest snapshot.",
        ),
    ] = None
    at_least: Annotated[
        str | None,
        typer.Option(
            "--at-least",
            metavar="POSITION",
            help="Wait until this host's tables have reached this position, for example that of a record just written.",
        ),
    ] = None
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", min=0.0, help="How long --at-least waits.")
    ] = 10.0
    log: o.LogOption = None
    store: o.StoreOption = None
    snapshots: o.SnapshotsOption = None
    archive: o.ArchiveOption = None
    config: o.ConfigOption = None
    kafka: o.KafkaOption = None

    def context(self) -> CommandContext:
        """The context of the command. With `--as-of` its store is the one of then, which is made first; with `--at-least`
        the store has reached the position."""
        return CommandContext(
            log=self.log,
            store=self.store,
            snapshots=self.snapshots,
            archive=self.archive,
            config=self.config,
            kafka=self.kafka,
            as_of=self.as_of,
            at_least=self.at_least,
            timeout_s=self.timeout,
        )


with_reading_options = with_option_group("reading", ReadingOptions)
