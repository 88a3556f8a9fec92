"""`vacancy replay --against`: compares this build's fold with another build's, or with a store and snapshots."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vacancy.cli.context import CommandContext
from vacancy.cli.errors import DifferenceFound
from vacancy.cli.output import emit, emit_json, emit_table, note, position_text, progress_bar, time_text
from vacancy.resources.model.errors import UsageError

if TYPE_CHECKING:
    from vacancy.clients.replay_tool.against_build import BuildComparison, OtherBuild, RecordDifference
    from vacancy.clients.replay_tool.against_store import Mark, PartitionComparison
    from vacancy.streams.log import Log

_ROW_CHARACTERS = 2_000
"""Of a row, or of a record's value, that are printed for people."""


def end_of(log: Log, until: str | None) -> dict[int, int] | None:
    """The position that `--until` means; None: the log's end."""
    if until is None:
        return None
    from vacancy.clients.past.points import parse_point, resolve

    return resolve(parse_point(until), log)


def start_of(context: CommandContext, log: Log, url: str, store: Path, end: Mapping[int, int] | None) -> None:
    """Make the store of the newest snapshot that is not after `end`, if there is no store."""
    from vacancy.clients.snapshots.restore import start_from_snapshot
    from vacancy.projections.snapshots.storage import SnapshotStorage

    start_from_snapshot(log, SnapshotStorage(url), store, context.registry(), note, until=end)


def compare(
    context: CommandContext,
    against: Path,
    *,
    until: str | None,
    from_snapshot: str | None,
    processes: int | None,
    as_json: bool,
) -> None:
    """Compare, and print what differs. Raises `DifferenceFound` where something does."""
    from vacancy.clients.replay_tool.parallel import cores
    from vacancy.projections.store.manifest import FILE

    count = processes or cores()
    with tempfile.TemporaryDirectory(prefix="vacancy-against-") as scratch:
        if (against / FILE).exists():
            if until is not None or from_snapshot is not None:
                raise UsageError(
                    "a store is compared at its own position, from the first record on",
                    do="leave out --until and --from-snapshot",
                )
            _compare_store(context, against, Path(scratch) / "store", count, as_json)
        else:
            _compare_build(context, against, Path(scratch), until, from_snapshot, count, as_json)


# -- with another build -------------------------------------------------------------------------------------


def _compare_build(
    context: CommandContext,
    against: Path,
    scratch: Path,
    until: str | None,
    from_snapshot: str | None,
    processes: int,
    as_json: bool,
) -> None:
    from vacancy.clients.replay_tool.against_build import NoProtocol, OtherBuild, compare_builds

    build = OtherBuild.at(against)
    with context.open_log() as log:
        given = end_of(log, until)
        ends = given or log.end()
        if from_snapshot is not None:
            start_of(context, log, from_snapshot, scratch / "this", ends)
    if (scratch / "this").exists():
        shutil.copytree(scratch / "this", scratch / "other")
    try:
        with progress_bar("records compared") as progress:
            found = compare_builds(
                context.settings.log,
                build,
                scratch,
                ends,
                processes=processes,
                client_settings=context.settings.log_options,
                progress=progress,
            )
    except NoProtocol as error:
        note(f"{error}; the digests of whole folds are compared instead")
        _compare_digests(context, build, scratch, given, as_json)
        return
    if as_json:
        emit_json({"equal": not found.differences, **found._asdict()})
    else:
        _print_comparison(found)
    if found.differences:
        first = found.differences[0]
        raise DifferenceFound(
            f"the builds fold record {first.partition}:{first.offset} differently",
            where=f"log {context.settings.log}, this build {found.this_build}, the other {found.other_build}",
            do="do not use both on one log before the cause is found",
        )


def _print_comparison(found: BuildComparison) -> None:
    for partition, why in sorted(found.stopped.items()):
        note(f"both builds stop in partition {partition}: {why}")
    if not found.differences:
        emit(f"both builds fold the same from {found.records} records, up to {position_text(found.position)}")
        return
    for number, one in enumerate(found.differences):
        if number:
            emit()
        _print_difference(one)


def _print_difference(one: RecordDifference) -> None:
    emit(f"first difference of partition {one.partition}: record {one.partition}:{one.offset}")
    emit(f"time   {time_text(one.timestamp_ms)}")
    emit(f"key    {one.key}")
    emit(f"value  {one.value[:_ROW_CHARACTERS]}")
    for name, error in (("this build", one.this_error), ("the other build", one.other_error)):
        if error:
            emit(f"{name} stops here: {error}")
    rows: Iterable[tuple[str, str, Any, Any]] = one.rows
    _print_rows(rows, "THIS BUILD", "OTHER BUILD")


def _print_rows(rows: Iterable[tuple[str, str, Any, Any]], this: str, other: str) -> None:
    shown = [(table, key, _row_text(ours), _row_text(theirs)) for table, key, ours, theirs in rows]
    if shown:
        emit_table(("TABLE", "KEY", this, other), shown)


def _row_text(row: Any) -> str:
    if row is None:
        return "no row"
    return row if isinstance(row, str) else json.dumps(row, separators=(",", ":"))[:_ROW_CHARACTERS]


def _compare_digests(
    context: CommandContext, build: OtherBuild, scratch: Path, until: dict[int, int] | None, as_json: bool
) -> None:
    from vacancy.clients.replay_tool.against_build import compare_digests

    position, found = compare_digests(
        context.settings.log,
        build,
        scratch,
        context.registry(),
        until=until,
        client_settings=context.settings.log_options,
    )
    if as_json:
        emit_json({"equal": not found, "position": position, "different": found})
    elif not found:
        emit(f"both builds have the same digest at {position_text(position)}")
    else:
        emit_table(
            ("PARTITION", "EQUAL AT", "DIFFERENT AT", "THIS BUILD", "OTHER BUILD"),
            ((one.partition, one.equal_at, one.position, one.this, one.other) for one in found),
        )
    if found:
        raise DifferenceFound(
            f"the builds fold partition {', '.join(str(one.partition) for one in found)} differently",
            where=f"log {context.settings.log} at {position_text(position)}",
            do="do not use both on one log before the cause is found",
        )


# -- with a store -------------------------------------------------------------------------------------------


def _compare_store(
    context: CommandContext, store: Path, scratch: Path, processes: int, as_json: bool
) -> None:
    from vacancy.clients.replay_tool.against_store import compare_store

    with context.open_log() as log:
        marks = _marks(context, log.identity().log)
    with progress_bar("records folded") as progress:
        found = compare_store(
            context.settings.log,
            store,
            context.registry(),
            scratch,
            marks,
            processes=processes,
            client_settings=context.settings.log_options,
            progress=progress,
        )
    different = [one for one in found if one.interval is not None]
    if as_json:
        emit_json({"equal": not different, "partitions": [_described(one) for one in found]})
    else:
        _print_marks(found)
    if different:
        intervals = ", ".join(_interval_text(one) for one in different)
        raise DifferenceFound(
            f"the log and what was compared with it part in {intervals}",
            where=f"log {context.settings.log}, store {store}",
            do="rebuild the store with `vacancy replay --rebuild`, and remove snapshots that differ",
        )


def _marks(context: CommandContext, log: str) -> dict[int, list[Mark]]:
    """What the snapshots of this log hold, by partition. Damaged ones are noted and left out."""
    from vacancy.clients.replay_tool.against_store import Mark

    marks: dict[int, list[Mark]] = {}
    for one in context.open_snapshots().snapshots():
        if one.error is not None:
            note(f"passed over: {one.error}")
        elif one.manifest is not None and one.manifest.log == log:
            for part in one.manifest.partitions:
                mark = Mark(f"snapshot {one.id}", part.position, part.digest)
                marks.setdefault(part.partition, []).append(mark)
    return marks


def _described(one: PartitionComparison) -> dict[str, Any]:
    return {
        "partition": one.partition,
        "interval": one.interval,
        "marks": [{**mark._asdict(), "equal": mark.equal} for mark in one.marks],
        "rows_different": one.rows_different,
        "rows": one.rows,
    }


def _print_marks(found: Iterable[PartitionComparison]) -> None:
    found = list(found)
    emit_table(
        ("PARTITION", "POSITION", "COMPARED WITH", "RESULT"),
        (
            (one.partition, mark.position, mark.name, "equal" if mark.equal else "different")
            for one in found
            for mark in one.marks
        ),
    )
    for one in found:
        if one.rows:
            emit()
            emit(f"rows of partition {one.partition} that differ: {one.rows_different}")
            _print_rows(one.rows, "LOG", "STORE")


def _interval_text(one: PartitionComparison) -> str:
    low, high = one.interval or (0, 0)
    at = f"at {one.partition}:{high}"
    return at if low == high else f"between {one.partition}:{low} and {one.partition}:{high}"
