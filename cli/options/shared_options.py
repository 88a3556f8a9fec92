"""Options that several commands share.

`vacancy --help` must be fast, so neither this module nor the top of a command's module imports a heavy library: a
command imports what it needs when it runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

LogOption = Annotated[
    str | None,
    typer.Option(
        "--log",
        metavar="URL",
        help="URL of the log: sqlite:///path/to/log.db or kafka://host:port[,host:port]/topic."
        " [env: VACANCY_LOG]",
    ),
]
StoreOption = Annotated[
    Path | None,
    typer.Option(
        "--store",
        metavar="DIR",
        help="Directory of this host's tables. [env: VACANCY_STORE]",
    ),
]
SnapshotsOption = Annotated[
    str | None,
    typer.Option(
        "--snapshots",
        metavar="URL",
        help="Where snapshots are kept: a directory, or a URL such as s3://bucket/path. [env: VACANCY_SNAPSHOTS]",
    ),
]
ArchiveOption = Annotated[
    str | None,
    typer.Option(
        "--archive",
        metavar="URL",
        help="The log's archive, which has the records that were trimmed: a directory, or a URL such as s3://bucket/path."
        " [env: VACANCY_ARCHIVE]",
    ),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="TOML file with settings (default: ./vacancy.toml, if it exists). [env: VACANCY_CONFIG]",
    ),
]
KafkaOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="A setting of the Kafka client, under Kafka's own name, for example security.protocol=SSL."
        " Repeatable.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]
ReplicationOption = Annotated[
    int | None,
    typer.Option(
        "--replication",
        min=1,
        help="Replicas of each partition on Kafka (default: 3, or the number of brokers if less).",
    ),
]
CellOption = Annotated[
    str | None,
    typer.Option("--cell", metavar="NAME", help="Cell to search, if the name occurs in several cells."),
]
TimeoutOption = Annotated[
    float,
    typer.Option(
        "--timeout",
        metavar="SECONDS",
        min=0.0,
        help="How long to wait for the log, and for this host's store to show the outcome.",
    ),
]
NoWaitOption = Annotated[
    bool,
    typer.Option(
        "--no-wait",
        help="Return when the log has the record. Do not wait until this host's store shows what became of it.",
    ),
]
OrderOption = Annotated[
    str | None,
    typer.Option(
        "--order",
        metavar="ORDER",
        help="Order of the candidates: random, pack (fullest node first), spread (emptiest node first), best_fit or"
        " least_fragmentation. NAME:N chooses at random among the best N.",
        show_default="random",
    ),
]
TypicalOption = Annotated[
    Path | None,
    typer.Option(
        "--typical",
        metavar="FILE",
        help="File with the typical workload, made by `vacancy typical`. least_fragmentation needs it.",
    ),
]
WeighOption = Annotated[
    list[str] | None,
    typer.Option(
        "--weigh",
        metavar="[MULTIPLIER:]EXPR",
        help="Prefer nodes with a high value of EXPR, for example MEMORY_MB.free or '-2:attributes.age'"
        " (docs/expressions.md). Repeatable.",
    ),
]
SeedOption = Annotated[
    int | None,
    typer.Option("--seed", min=0, help="Seed of the random choices, to make them repeatable."),
]

MaxStalenessOption = Annotated[
    float | None,
    typer.Option(
        "--max-staleness",
        metavar="SECONDS",
        min=0.0,
        help="Exclude nodes whose last report or heartbeat is older than this.",
    ),
]
