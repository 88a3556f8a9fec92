"""`vacancy topics …`: make a log, and see whether one is as it must be."""

from __future__ import annotations

from typing import Annotated

import typer

from vacancy.cli import options as o
from vacancy.cli.context import DEFAULT_PARTITIONS, CommandContext
from vacancy.cli.errors import DifferenceFound
from vacancy.cli.output import emit, emit_json

app = typer.Typer(help="Make a log, or see what is wrong with one.", rich_markup_mode=None)


@app.command()
def create(
    partitions: Annotated[
        int, typer.Option("--partitions", min=1, max=10_000, help="How many; it never changes.")
    ] = DEFAULT_PARTITIONS,
    replication: Annotated[
        int | None,
        typer.Option(
            "--replication",
            min=1,
            help="Copies of each partition on Kafka (default: 3, or as many as there are brokers).",
        ),
    ] = None,
    log: o.LogOption = None,
    config: o.ConfigOption = None,
    kafka: o.KafkaOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Make a log: a Kafka topic, or a file. Its rules allow the resource classes of the plugins installed here."""
    site = CommandContext(log=log, config=config, kafka=kafka)
    from vacancy.clients.runtime.bootstrap import new_log

    with new_log(
        site.settings.log, partitions, site.registry(), replication=replication, **site.settings.kafka
    ) as made:
        identity = made.identity()
    if as_json:
        emit_json({"url": site.settings.log, "log": identity.log, "partitions": identity.partitions})
    else:
        emit(f"made {site.settings.log} with {identity.partitions} partitions: log {identity.log}")


@app.command()
def check(
    log: o.LogOption = None,
    config: o.ConfigOption = None,
    kafka: o.KafkaOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Say everything that is wrong with a log. Ends with 5 where something is."""
    site = CommandContext(log=log, config=config, kafka=kafka)
    with site.open_log() as opened:
        identity = opened.identity()
    wrong: list[str] = []
    if site.settings.log.startswith("kafka://"):
        from vacancy.streams.kafka.topic import check_topic

        wrong = check_topic(site.settings.log, **site.settings.kafka)
    if as_json:
        emit_json(
            {
                "url": site.settings.log,
                "log": identity.log,
                "partitions": identity.partitions,
                "wrong": wrong,
            }
        )
    else:
        for sentence in wrong:
            emit(sentence)
        if not wrong:
            emit(
                f"nothing is wrong with {site.settings.log}: log {identity.log}, {identity.partitions} partitions"
            )
    if wrong:
        count = f"{len(wrong)} thing{'s are' if len(wrong) > 1 else ' is'} wrong with the log"
        raise DifferenceFound(count, where=site.settings.log, do="set the topic right, then check again")
