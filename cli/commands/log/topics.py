"""`vacancy topics`: create a log, check the settings of one, and shorten one."""

from __future__ import annotations

from typing import Annotated

import typer

from vacancy.cli.context import DEFAULT_PARTITIONS, CommandContext
from vacancy.cli.errors import DifferenceFound
from vacancy.cli.options import shared_options as o
from vacancy.cli.output import emit, emit_json, emit_table, note, position_text
from vacancy.resources.model.errors import UsageError

app = typer.Typer(help="Create a log, check its settings, or shorten it.", rich_markup_mode=None)


@app.command()
def create(
    partitions: Annotated[
        int,
        typer.Option(
            "--partitions", min=1, max=10_000, help="Number of partitions. It cannot be changed later."
        ),
    ] = DEFAULT_PARTITIONS,
    replication: o.ReplicationOption = None,
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


@app.command()
def trim(
    before: Annotated[
        str | None,
        typer.Option("--before", metavar="SNAPSHOT", help="Delete records before this snapshot's position."),
    ] = None,
    prepare: Annotated[
        bool,
        typer.Option(
            "--prepare", help="Delete nothing: append the marks at which a later trim can cut the partitions."
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything and show what would be deleted.")
    ] = False,
    archive: o.ArchiveOption = None,
    snapshots: o.SnapshotsOption = None,
    log: o.LogOption = None,
    config: o.ConfigOption = None,
    kafka: o.KafkaOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Delete the oldest records of the log, where a snapshot and an archive have what they say.

    Both are checked whole first, and each record is compared with the archive before it is deleted. A partition is cut at the last mark
    before the snapshot's position. In this order: `vacancy topics trim --prepare`, `vacancy snapshot create`, `vacancy log export`,
    `vacancy topics trim --before SNAPSHOT`.
    """
    context = CommandContext(log=log, archive=archive, snapshots=snapshots, config=config, kafka=kafka)
    if (before is None) != prepare:
        raise UsageError("it is not clear what to do", do="give --before SNAPSHOT, or --prepare")
    if before is None:
        _prepare(context, as_json)
        return
    if not context.settings.archive:
        raise UsageError(
            "a log is trimmed only where an archive has its records",
            do="name the archive: --archive URL, VACANCY_ARCHIVE, or `archive` in vacancy.toml",
        )
    from vacancy.clients.archives.trim import plan_trim
    from vacancy.clients.archives.trim import trim as trim_log
    from vacancy.streams.archive.log import ArchiveLog
    from vacancy.streams.log_url import ARCHIVE, LogUrl

    place = LogUrl(ARCHIVE, context.settings.archive)
    with context.open_log(to_write=True) as opened, ArchiveLog(place) as kept:
        plan = plan_trim(opened, kept, context.open_snapshots(), before, context.registry())
        if not dry_run:
            trim_log(opened, plan)
    rows = [(p, plan.start[p], end, end - plan.start[p]) for p, end in plan.before.items()]
    if as_json:
        emit_json(
            {
                "url": context.settings.log,
                "snapshot": before,
                "archive": place.place,
                "dry_run": dry_run,
                "records": plan.records,
                "partitions": [
                    {"partition": p, "start": first, "before": end, "records": count}
                    for p, first, end, count in rows
                ],
            }
        )
        return
    if not plan.records:
        note("the log begins at its last marks before that snapshot already; --prepare appends new ones")
    emit(f"{'would delete' if dry_run else 'deleted'} {plan.records} records that {place.place} has")
    emit_table(("PARTITION", "FROM", "TO", "RECORDS"), rows)


def _prepare(context: CommandContext, as_json: bool) -> None:
    from vacancy.clients.archives.trim import prepare_trim

    with context.open_log(to_write=True) as opened:
        marks = {at.partition: at.offset for at in prepare_trim(opened)}
    if as_json:
        emit_json({"url": context.settings.log, "marks": marks})
        return
    emit(f"appended marks at {position_text(marks)}")
    emit("make a snapshot once this host's store has them, export the log, then trim before that snapshot")
