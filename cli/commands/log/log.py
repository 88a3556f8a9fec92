"""`vacancy log`: the records of the log, and its archives."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from vacancy.cli.commands.log import log_archive
from vacancy.cli.context import CommandContext
from vacancy.cli.options import shared_options as o
from vacancy.cli.output import emit, emit_json_line
from vacancy.resources.model.errors import StoreError, UsageError

if TYPE_CHECKING:
    from vacancy.clients.history.log_reading import RecordFilter, TimedRecord
    from vacancy.clients.history.record_outcome import RecordOutcome
    from vacancy.projections.reader.store_reader import StoreReader
    from vacancy.resources.model.record import Record
    from vacancy.streams.log import Log

app = typer.Typer(help="Show the records of the log, and make archives of it.", rich_markup_mode=None)

app.command(name="export")(log_archive.export)
app.command(name="import")(log_archive.import_)

_NEWEST = 20
"""Records that `tail` shows unless it is asked for another number."""

_POLL_S = 0.2
_RANGE = re.compile(r"(\d{1,9}):(\d{1,15})(?:-(?:(\d{1,9}):)?(\d{1,15}))?")


@app.command()
def show(
    place: Annotated[
        str,
        typer.Argument(metavar="P:O", help="Partition and offset of a record, or of several: 2:4, 2:4-9."),
    ],
    count: Annotated[
        int, typer.Option("--count", min=1, max=10_000, help="Show this number of records from there on.")
    ] = 1,
    full: Annotated[bool, typer.Option("--full", help="Show all of long lists and texts.")] = False,
    log: o.LogOption = None,
    store: o.StoreOption = None,
    config: o.ConfigOption = None,
    archive: o.ArchiveOption = None,
    kafka: o.KafkaOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Show one record, and what the fold made of it: `vacancy log show 2:4`, or several: `vacancy log show 2:4-9`.

    What the fold made of it comes from this host's tables; without tables it is left out. With --json each record is one
    line, with its whole envelope.
    """
    from vacancy.clients.history.log_reading import read_range

    partition, first, end = _range(place, count)
    context = CommandContext(log=log, store=store, archive=archive, config=config, kafka=kafka)
    with context.open_log() as opened:
        records = read_range(opened, partition, first, end)
        reader = _reader_of(context, opened)
        try:
            for number, record in enumerate(records):
                if number and not as_json:
                    emit()
                _print_record(record, reader, full=full, as_json=as_json)
        finally:
            if reader is not None:
                reader.close()


def _range(place: str, count: int) -> tuple[int, int, int]:
    """Partition, first offset, and the offset after the last one. Raises `UsageError`."""
    found = _RANGE.fullmatch(place.strip())
    if found is None or (found[3] is not None and found[3] != found[1]):
        raise UsageError(
            f"{place!r} is not the place of a record", do="write PARTITION:OFFSET, such as 2:4, or 2:4-9"
        )
    partition, first = int(found[1]), int(found[2])
    end = first + count if found[4] is None else int(found[4]) + 1
    if end <= first:
        raise UsageError(f"{place!r} ends before it begins", do="write the smaller offset first")
    return partition, first, end


def _reader_of(context: CommandContext, log: Log) -> StoreReader | None:
    """This host's tables, if there are some of this log."""
    try:
        reader = context.open_reader(with_view=False)
    except StoreError:
        return None
    if reader.manifest.log != log.identity().log:
        reader.close()
        return None
    return reader


def _print_record(record: Record, reader: StoreReader | None, *, full: bool, as_json: bool) -> None:
    from vacancy.clients.history.record_outcome import record_outcome
    from vacancy.clients.history.record_view import record_lines, view_record

    view = view_record(record)
    outcome = None if reader is None else record_outcome(reader, record)
    if as_json:
        emit_json_line({**view.as_json(), "outcome": outcome})
        return
    for line in record_lines(view, full=full):
        emit(line)
    if outcome is not None:
        print_outcome(outcome)


_STATES = {
    "applied": "applied",
    "waiting": "this host's store has not read it yet",
    "unknown": "not known: the store no longer keeps dead letters of that time",
}


def print_outcome(outcome: RecordOutcome) -> None:
    """Print what the fold made of a record."""
    for reason in outcome.reasons:
        emit(f"outcome:  refused: {reason}")
    if not outcome.reasons:
        emit(f"outcome:  {_STATES[outcome.state]}")
    for claim in outcome.claims:
        said = {True: "accepted", False: f"rejected: {claim.reason}", None: claim.reason}[claim.accepted]
        emit(f"  claim {claim.claim} of {claim.consumer}: {said}")


@app.command()
def tail(
    node: Annotated[
        list[str] | None,
        typer.Option(
            "--node", metavar="ID", help="Only records that name this node or a part of it. Repeatable."
        ),
    ] = None,
    provider: Annotated[
        list[str] | None,
        typer.Option("--provider", metavar="ID", help="Only records that name this provider. Repeatable."),
    ] = None,
    consumer: Annotated[
        list[str] | None,
        typer.Option("--consumer", metavar="ID", help="Only records that name this consumer. Repeatable."),
    ] = None,
    type_: Annotated[
        list[str] | None,
        typer.Option(
            "--type",
            metavar="TYPE",
            help="Only events of this type: node.reported, or node.reported.v2 for one version. Repeatable.",
        ),
    ] = None,
    partition: Annotated[
        list[int] | None, typer.Option("--partition", min=0, help="Only this partition. Repeatable.")
    ] = None,
    from_: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="POINT",
            help="Show the first records from there on, instead of the newest ones: 0:7,1:1 or 2026-11-28T13:14:33Z or"
            " -2h.",
        ),
    ] = None,
    count: Annotated[
        int | None,
        typer.Option(
            "--count", min=1, max=1_000_000, help="The number of records (default: 20, or all with --from)."
        ),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with new records until Ctrl-C or SIGTERM.")
    ] = False,
    log: o.LogOption = None,
    store: o.StoreOption = None,
    config: o.ConfigOption = None,
    archive: o.ArchiveOption = None,
    kafka: o.KafkaOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Show the newest records of the log, oldest first: `vacancy log tail --consumer vm-1 --follow`.

    The records of all partitions are merged by log time. With --json each record is one line, with its whole envelope.
    """
    from vacancy.clients.history.log_reading import RecordFilter, newest, read_from

    context = CommandContext(log=log, store=store, archive=archive, config=config, kafka=kafka)
    with context.open_log() as opened:
        wanted = RecordFilter(
            node_providers=_trees(context, opened, node or ()),
            providers=frozenset(provider or ()),
            consumers=frozenset(consumer or ()),
            types=frozenset(type_ or ()),
        )
        ends = _only(opened, opened.end(), partition)
        if from_ is None:
            found: Iterable[TimedRecord] = newest(
                opened, count or _NEWEST, until=ends, partitions=ends, wanted=wanted
            )
        else:
            start = _only(opened, context.resolve_beginning(from_, opened), partition)
            found = itertools.islice(read_from(opened, start, until=ends, wanted=wanted), count)
        _print_lines(found, as_json=as_json)
        if follow:
            _follow(opened, ends, wanted, as_json=as_json)


def _only(log: Log, position: dict[int, int], partitions: Iterable[int] | None) -> dict[int, int]:
    """The position of these partitions, or of all. Raises `UsageError` for one that the log does not have."""
    from vacancy.streams.log import no_partition

    if not partitions:
        return position
    for one in partitions:
        if one not in position:
            error = no_partition(log.name, one, log.partitions)
            raise UsageError(error.what, where=error.where, do=error.do)
    return {one: position[one] for one in sorted(set(partitions))}


def _trees(context: CommandContext, log: Log, nodes: Iterable[str]) -> frozenset[str]:
    """The nodes, and the other providers of their trees as far as this host's tables have them."""
    names = frozenset(nodes)
    reader = _reader_of(context, log) if names else None
    if reader is None:
        return names
    from vacancy.clients.history.log_reading import tree_names

    with reader:
        return frozenset(one for name in names for one in tree_names(reader, name))


def _follow(log: Log, position: dict[int, int], wanted: RecordFilter, *, as_json: bool) -> None:
    from vacancy.clients.history.log_reading import follow as followed
    from vacancy.streams.worker.shutdown import StopSignal, forward_signals, stop_requested

    stop = StopSignal()
    with forward_signals(stop):
        for one in followed(log, position, lambda: stop_requested(stop, _POLL_S), wanted=wanted):
            _print_lines([one], as_json=as_json)


def _print_lines(records: Iterable[TimedRecord], *, as_json: bool) -> None:
    """Records as one line each."""
    from vacancy.clients.history.record_view import view_record

    views = (view_record(one.record) for one in records)
    if as_json:
        for view in views:
            emit_json_line(view.as_json())
        return
    for view in views:
        emit(view.line)
