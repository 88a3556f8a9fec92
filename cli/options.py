"""Options that several commands have, each said once.

Nothing heavy is imported here or at the top of any command's module: `vacancy --help` must answer at once, so
a command imports what it needs when it runs.
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
        help="The log: sqlite:///path/to/log.db or kafka://host:port[,host:port]/topic. [env: VACANCY_LOG]",
    ),
]
StoreOption = Annotated[
    Path | None,
    typer.Option(
        "--store",
        metavar="DIR",
        help="The directory of this host's tables. [env: VACANCY_STORE]",
    ),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="A TOML file of settings (default: ./vacancy.toml, if it is there). [env: VACANCY_CONFIG]",
    ),
]
KafkaOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="A Kafka client setting under its own name, as in security.protocol=SSL. Repeatable.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Answer in JSON.")]
CellOption = Annotated[
    str | None,
    typer.Option("--cell", metavar="NAME", help="The cell, where it is not clear."),
]
TimeoutOption = Annotated[
    float, typer.Option("--timeout", metavar="SECONDS", min=0.0, help="How long to wait for the outcome.")
]
OrderOption = Annotated[
    str | None,
    typer.Option(
        "--order",
        metavar="ORDER",
        help="Which places come first: random, pack (fullest first), spread, best_fit or least_fragmentation. "
        "NAME:N claims one of the best N.",
        show_default="random",
    ),
]
TypicalOption = Annotated[
    Path | None,
    typer.Option(
        "--typical",
        metavar="FILE",
        help="What is typically asked for: what least_fragmentation goes by. `vacancy typical` makes one.",
    ),
]
WeighOption = Annotated[
    list[str] | None,
    typer.Option(
        "--weigh",
        metavar="[MULTIPLIER:]EXPR",
        help="Prefer nodes by a number, as in MEMORY_MB.free or '-2:attributes.age' (docs/expressions.md). Repeatable.",
    ),
]
SeedOption = Annotated[
    int | None,
    typer.Option("--seed", min=0, help="Make random choices repeatable."),
]

MaxStalenessOption = Annotated[
    float | None,
    typer.Option(
        "--max-staleness",
        metavar="SECONDS",
        min=0.0,
        help="Leave out nodes that have not been heard from for so long.",
    ),
]
