"""`vacancy topics`: create a log, and check the settings of one."""

from __future__ import annotations

from typing import Annotated

import typer

from vacancy.cli import options as o
from vacancy.cli.context import DEFAULT_PARTITIONS, CommandContext
from vacancy.cli.errors import DifferenceFound
from vacancy.cli.output import emit, emit_json

app = typer.Typer(help="Create a log, or check the settings of one.", rich_markup_mode=None)


@app.command()
def create(
    partitions: Annotated[
        int,
        typer.Option(
            "--partitions", min=1, max=10_000, help="Number of partitions. It cannot be changed later."
        ),
    ] = DEFAULT_PARTITIONS,
    replication: Annotated[
        int | None,
        typer.Option(
            "--replication",
            min=1,
            help="Replicas of each partition on Kafka (default: 3, or the number of brokers if less).",
        ),
    ] = None,
    log: o.LogOption = None,
    config: o.ConfigOption = None,
    kafka: o.KafkaOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Create a log: a Kafka topic or an SQLite file. It allows the resource classes of the plugins installed here."""
    context = CommandContext(log=log, config=config, kafka=kafka)
    from vacancy.clients.runtime.bootstrap import new_log

    with new_log(
        context.settings.log,
        partitions,
        context.registry(),
        replication=replication,
        **context.settings.kafka,
    ) as created:
        identity = created.identity()
    if as_json:
        emit_json({"url": context.settings.log, "log": identity.log, "partitions": identity.partitions})
    else:
        emit(f"made {context.settings.log} with {identity.partitions} partitions: log {identity.log}")


@app.command()
def check(
    log: o.LogOption = None,
    config: o.ConfigOption = None,
    kafka: o.KafkaOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Check the settings of a log and list every problem. Exits with 5 if there are problems."""
    context = CommandContext(log=log, config=config, kafka=kafka)
    with context.open_log() as opened:
        identity = opened.identity()
    problems: list[str] = []
    if context.settings.log.startswith("kafka://"):
        from vacancy.streams.kafka.topic import check_topic

        problems = check_topic(context.settings.log, **context.settings.kafka)
    if as_json:
        emit_json(
            {
                "url": context.settings.log,
                "log": identity.log,
                "partitions": identity.partitions,
                "wrong": problems,
            }
        )
    else:
        for problem in problems:
            emit(problem)
        if not problems:
            emit(
                f"no problems found in {context.settings.log}: log {identity.log}, {identity.partitions} partitions"
            )
    if problems:
        count = f"found {len(problems)} problem{'s' if len(problems) > 1 else ''} in the settings of the log"
        raise DifferenceFound(
            count, where=context.settings.log, do="correct the topic's settings, then check again"
        )
