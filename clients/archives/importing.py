"""Makes a new log of an archive: the same records, with their offsets and timestamps, under the same id."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import NamedTuple, Protocol

from vacancy.clients.archives.export import Progress
from vacancy.resources.model.errors import LogError, UsageError
from vacancy.resources.model.record import Record
from vacancy.streams.archive.log import ArchiveLog
from vacancy.streams.log import Log, existing_log, open_log
from vacancy.streams.log_identity import LogIdentity
from vacancy.streams.log_url import LogUrl, parse_log_url

_BATCH = 2_000
_READ_S = 10.0


class Imported(NamedTuple):
    """The log's identity, where it ends, and how many records this call added."""

    identity: LogIdentity
    position: dict[int, int]
    records: int


class _Target(Protocol):
    """A log that is being made."""

    def add(self, records: Sequence[Record]) -> None: ...

    def finish(self) -> None: ...

    def close(self) -> None: ...


def import_log(
    archive: ArchiveLog,
    url: str,
    *,
    progress: Progress | None = None,
    replication: int | None = None,
    client_settings: Mapping[str, str] | None = None,
) -> Imported:
    """Make the log at `url` of an archive. An import that was killed is continued; what is there is compared with the archive.

    `replication` and `client_settings` are Kafka's. Raises `LogError` if the log exists, if it cannot have the records exactly
    as they are, or if the archive is damaged; `UsageError` for a log of a kind that cannot be imported into.
    """
    place = parse_log_url(url)
    identity = archive.identity()
    start, end = archive.start(), archive.end()
    for partition in range(identity.partitions):
        if end[partition] <= start[partition]:
            raise LogError(
                f"the archive has no records of partition {partition}",
                where=archive.url,
                do="export the log to its end first",
            )
    settings = dict(client_settings or {})
    with ExitStack() as opened:
        if place.scheme == "sqlite":
            target, position = opened.enter_context(_sqlite(place, archive, start))
        elif place.scheme == "kafka":
            target, position = opened.enter_context(_kafka(place, archive, start, settings, replication))
        else:
            do = "name sqlite:///path/to/log.db or kafka://host:port/topic"
            raise UsageError("an archive cannot be imported into this log", where=url, do=do)
        added = _copy(archive, target, position, end, progress)
        if place.scheme == "kafka":
            with open_log(url, **settings) as log:
                compare(log, archive, position, end, complete=True)
        target.finish()
    return Imported(identity, end, added)


def _copy(
    archive: ArchiveLog,
    target: _Target,
    position: Mapping[int, int],
    end: Mapping[int, int],
    progress: Progress | None,
) -> int:
    done, total = 0, sum(end[p] - offset for p, offset in position.items())
    for partition, first in sorted(position.items()):
        offset = first
        while offset < end[partition]:
            records = archive.read(partition, offset, min(_BATCH, end[partition] - offset))
            target.add(records)
            offset += len(records)
            done += len(records)
            if progress is not None:
                progress(done, total)
    return done


@contextmanager
def _sqlite(
    place: LogUrl, archive: ArchiveLog, start: dict[int, int]
) -> Iterator[tuple[_Target, dict[int, int]]]:
    """A SQLite log that is being made, and partition -> the first offset that it lacks."""
    from vacancy.streams.sqlite.importing import SqliteImport, importing

    with importing(place), closing(SqliteImport(place, archive.identity().log, start)) as target:
        position = {}
        for partition, first in start.items():
            last = target.last(partition)
            if last is not None and archive.read(partition, last.offset, 1) != [last]:
                raise _differs(place.url, partition, last.offset)
            position[partition] = first if last is None else last.offset + 1
        yield target, position


@contextmanager
def _kafka(
    place: LogUrl,
    archive: ArchiveLog,
    start: dict[int, int],
    settings: dict[str, str],
    replication: int | None,
) -> Iterator[tuple[_Target, dict[int, int]]]:
    """A Kafka log that is being made, and partition -> the first offset that it lacks."""
    from vacancy.streams.kafka.importing import KafkaImport

    trimmed = [partition for partition, first in start.items() if first]
    if trimmed:
        raise LogError(
            f"Kafka gives the first record offset 0, and the archive begins at offset {start[trimmed[0]]}",
            where=f"{archive.url}, partition {trimmed[0]}",
            do="import an archive with all records, or import this one into a SQLite log",
        )
    with closing(KafkaImport(place, archive.partitions, settings, replication)) as target:
        with open_log(place.url, **settings) as log:
            if log.partitions != archive.partitions:
                raise existing_log(place.url)
            position = log.end()
            compare(log, archive, start, position)
        yield target, position


def compare(
    log: Log,
    archive: ArchiveLog,
    first: Mapping[int, int],
    end: Mapping[int, int],
    *,
    complete: bool = False,
) -> None:
    """Compare the records of a log from `first` up to `end` with the archive's. Raises `LogError` for the first that is another
    one, and with `complete` if the log has more records than these."""
    ends = log.end()
    for partition, offset in first.items():
        while offset < end[partition]:
            expected = archive.read(partition, offset, min(_BATCH, end[partition] - offset))
            if not expected:
                raise _differs(log.url, partition, offset)
            found: list[Record] = []
            while len(found) < len(expected):
                more = log.read(partition, offset + len(found), len(expected) - len(found), timeout_s=_READ_S)
                if not more:
                    raise _differs(log.url, partition, offset + len(found))
                found += more
            for one, other in zip(found, expected, strict=True):
                if one != other:
                    raise _differs(log.url, partition, one.offset)
            offset += len(expected)
        if complete and ends[partition] != end[partition]:
            raise _differs(log.url, partition, end[partition])


def _differs(url: str, partition: int, offset: int) -> LogError:
    return LogError(
        "the log has another record than the archive",
        where=f"{url}, partition {partition}, offset {offset}",
        do="delete what was imported so far, stop whatever writes to it, and import the archive again",
    )
