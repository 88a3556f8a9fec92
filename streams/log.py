"""The log: the single source of truth, as a small protocol with three backends, and archives, which are only read.

Records of one partition have consecutive offsets from 0. Their timestamps are the times at which they were appended, by
the clock of who appended them (SQLite) or of the broker (Kafka): they may go back. Records never change; the oldest may
be gone, if they were trimmed or the operator set a retention.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from types import TracebackType
from typing import Final, NamedTuple, Protocol, Self

from vacancy.resources.model.errors import LogError, LogUnavailable, RecordTooLarge, UsageError
from vacancy.resources.model.limits import LIMITS_1
from vacancy.resources.model.record import NewRecord, Record
from vacancy.streams.clocks.log_clock import LogClock
from vacancy.streams.log_identity import LogIdentity, check_openings, is_opening, parse_opening
from vacancy.streams.log_url import ARCHIVE, parse_log_url

SEND_S: Final = 10.0
"""Default of how long `Log.send` waits for a log that does not answer."""

_SCAN_RECORDS: Final = 1_000

RECORD_BYTES_MAX: Final = LIMITS_1.record_bytes
"""The longest value of a record. The fold refuses longer ones, so a log does not take them."""

KEY_BYTES_MAX: Final = 1_024
"""The longest key of a record. The name of a cell is shorter."""

READ_BYTES: Final = RECORD_BYTES_MAX
"""After about this number of bytes a read returns, however many records were asked for."""


class AppendedAt(NamedTuple):
    """The position of an appended entry, and the log's timestamp for it (milliseconds since 1970, UTC)."""

    partition: int
    offset: int
    timestamp_ms: int


class Receipt(Protocol):
    """The pending acknowledgement of one `Log.send`."""

    @property
    def done(self) -> bool:
        """Whether `wait` would return at once."""

    def wait(self, timeout_s: float = 30.0) -> list[AppendedAt]:
        """Wait until all entries are durable; returns their positions in the order given to `send`.

        Raises LogUnavailable after `timeout_s`: the entries may still be appended later, so sending them again must be
        harmless. Raises LogError if the log refused them.
        """


class Log(Protocol):
    """An open log. `append` and `send` may be called from any thread; `read` from one thread at a time.

    `url` is the canonical URL, `name` a short name for messages, `partitions` their number. `clock` compares the log's clock
    with this host's.
    """

    url: str
    name: str
    partitions: int
    clock: LogClock

    @abstractmethod
    def send(self, entries: Sequence[NewRecord], timeout_s: float = SEND_S) -> Receipt:
        """Append `entries` in order; does not wait for the acknowledgement if the backend can avoid it.

        Raises LogUnavailable if the log does not answer within `timeout_s`: then nothing was sent. If it stops
        answering after the first entries were sent, the receipt raises instead.
        """

    @abstractmethod
    def read(self, partition: int, offset: int, limit: int, timeout_s: float = 0.0) -> list[Record]:
        """Up to `limit` records that start exactly at `offset`; empty if none arrived within `timeout_s`.

        Raises LogError if `offset` is before the first record kept (retention removed it) or beyond the end (the log
        was truncated or created again), LogUnavailable if the log did not answer.
        """

    def unread(self, positions: Mapping[int, int]) -> Collection[int]:
        """Of partitions with these positions, those that may have records there: the others have none for sure. Logs that
        cannot tell cheaply return all. Raises as `read` does."""
        return positions

    def wait(self, pause_s: float, longest_s: float) -> bool:
        """Wait until somebody may have appended something. Logs that cannot tell wait for `pause_s`, the others for `longest_s`
        at most. Returns whether something was appended, as far as is known. One thread at a time may wait."""
        del longest_s
        time.sleep(pause_s)
        return False

    @abstractmethod
    def start(self) -> dict[int, int]:
        """Partition -> the earliest offset that can still be read."""

    @abstractmethod
    def end(self) -> dict[int, int]:
        """Partition -> the offset that the next record will get."""

    def offset_after(self, partition: int, time_ms: int) -> int:
        """The first offset that can still be read whose timestamp is later than `time_ms` (milliseconds since 1970, UTC), or
        the end of the partition. As timestamps may go back, later records can have timestamps up to `time_ms`.

        This reads the records; the logs that are kept elsewhere have faster ways. Raises as `read` does.
        """
        if not 0 <= partition < self.partitions:
            raise no_partition(self.name, partition, self.partitions)
        offset, end = self.start()[partition], self.end()[partition]
        while offset < end:
            records = self.read(partition, offset, _SCAN_RECORDS, timeout_s=SEND_S)
            for record in records:
                if record.timestamp_ms > time_ms:
                    return record.offset
            if not records:
                raise LogUnavailable(
                    f"the log did not answer within {SEND_S:g} s",
                    where=f"{self.name}, partition {partition}, offset {offset}",
                    do="try again",
                )
            offset += len(records)
        return end

    def trim(self, partition: int, before: int) -> None:
        """Delete the records of a partition below offset `before`; its last record always stays. Raises LogError where
        records of this log cannot be deleted."""
        raise LogError(
            "records of this log cannot be deleted", where=self.url, do="name the log itself, not its archive"
        )

    @abstractmethod
    def close(self) -> None:
        """Release files, connections and threads. Entries sent but not acknowledged may be lost."""

    def append(self, entries: Sequence[NewRecord], timeout_s: float = 30.0) -> list[AppendedAt]:
        """Append `entries` in order; they are durable when this returns.

        Raises as `Receipt.wait` does, `timeout_s` from now at the latest.
        """
        until = time.monotonic() + timeout_s
        receipt = self.send(entries, min(timeout_s, SEND_S))
        return receipt.wait(max(0.0, until - time.monotonic()))

    def identity(self) -> LogIdentity:
        """The log's UUID and number of partitions, from a `log.opened` record: the first record of a partition. After a
        trim the first record that is kept is one, too.

        Raises LogError if no partition begins with this record, or if the number of partitions has changed: keys would map
        to other partitions than before.
        """
        end = self.end()
        for partition, first in sorted(self.start().items()):
            records = self.read(partition, first, 1, timeout_s=5.0) if first < end[partition] else []
            if records and (first == 0 or is_opening(records[0])):
                found = parse_opening(records[0], self.name)
                break
        else:
            raise LogError(
                "no partition of the log has its first record",
                where=self.name,
                do="if retention removed it, name the log's archive (VACANCY_ARCHIVE), or create a new log; if the log"
                " was just created, try again",
            )
        if found.partitions != self.partitions:
            raise LogError(
                f"the log has {self.partitions} partitions but was created with {found.partitions}",
                where=self.name,
                do="never change the number of partitions: create a new log and publish again",
            )
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_log(
    url: str, timeout_s: float | None = None, /, *, archive: str = "", **client_settings: str
) -> Log:
    """Open the log at `url`.

    `client_settings` are Kafka's, under their own names. `timeout_s` limits the wait for Kafka if it is less than
    `bootstrap.timeout.ms` (10 s by default). Other logs ignore both. `archive` is the directory or URL of the log's archive:
    records that the log does not have any more are read from there.

    Raises UsageError for an invalid URL or setting, LogError if there is no log or it cannot be read, LogUnavailable
    if it does not answer.
    """
    log = _open_plain(url, timeout_s, client_settings)
    if not archive or parse_log_url(url).scheme == ARCHIVE:
        return log
    from vacancy.streams.archive.joined_log import JoinedLog, opener

    return JoinedLog(log, opener(archive))


def _open_plain(url: str, timeout_s: float | None, client_settings: Mapping[str, str]) -> Log:
    place = parse_log_url(url)
    # Backends are imported only when needed: a command on a SQLite log must not load Kafka's client.
    if place.scheme == "memory":
        from vacancy.streams.memory_log import MemoryLog

        return MemoryLog(place)
    if place.scheme == "sqlite":
        from vacancy.streams.sqlite.log import SqliteLog

        return SqliteLog(place)
    if place.scheme == ARCHIVE:
        from vacancy.streams.archive.log import ArchiveLog

        return ArchiveLog(place)
    from vacancy.streams.kafka.log import KafkaLog

    return KafkaLog(place, client_settings, timeout_s)


def create_log(
    url: str,
    partitions: int,
    openings: Sequence[NewRecord],
    *,
    replication: int | None = None,
    **client_settings: str,
) -> Log:
    """Create the log at `url`, write one `log.opened` entry into each partition, and open it.

    `replication` is for Kafka (default: 3, or the number of brokers if less). Raises LogError if the log exists,
    UsageError unless `openings` has exactly one entry for each partition.
    """
    place = parse_log_url(url)
    ordered = check_openings(partitions, openings)
    if place.scheme == "memory":
        from vacancy.streams.memory_log import create_memory_log

        create_memory_log(place, ordered)
    elif place.scheme == "sqlite":
        from vacancy.streams.sqlite.schema import create_sqlite_log

        create_sqlite_log(place, ordered)
    elif place.scheme == ARCHIVE:
        raise UsageError(
            "an archive cannot be created as a log",
            where=url,
            do="make it with `vacancy log export --to URL`",
        )
    else:
        from vacancy.streams.kafka.topic import create_topic

        create_topic(place, ordered, replication, client_settings)
    return open_log(url, **client_settings)


def check_entries(entries: Sequence[NewRecord], where: str) -> None:
    """Raise RecordTooLarge if one of the entries is larger than a log takes. Nothing may be appended then."""
    for key, value in entries:
        if len(value) > RECORD_BYTES_MAX or (
            len(key) * 4 > KEY_BYTES_MAX and len(key.encode()) > KEY_BYTES_MAX
        ):
            raise RecordTooLarge(
                f"the record has {len(value)} bytes and a key of {len(key)} characters; a log takes {RECORD_BYTES_MAX}"
                f" bytes and a key of {KEY_BYTES_MAX}",
                where=where,
                do="send less in one record",
            )


class SettledReceipt(NamedTuple):
    """The receipt of a log that writes before `send` returns."""

    appended: list[AppendedAt]

    @property
    def done(self) -> bool:
        return True

    def wait(self, timeout_s: float = 30.0) -> list[AppendedAt]:
        del timeout_s
        return self.appended


def missing_log(url: str) -> LogError:
    """The error for a log that does not exist."""
    return LogError("there is no log", where=url, do=f"create it with `vacancy topics create --log {url}`")


def existing_log(url: str) -> LogError:
    """The error for creating a log that exists."""
    return LogError("the log exists already", where=url, do="use it as it is, or choose another URL")


def no_partition(name: str, partition: int, partitions: int) -> LogError:
    """The error for a partition that the log does not have."""
    return LogError(
        f"there is no partition {partition}", where=name, do=f"the log has partitions 0 to {partitions - 1}"
    )


def out_of_range(name: str, partition: int, offset: int, start: int, end: int) -> LogError:
    """The error for an offset that cannot be read; the partition holds offsets `start` to `end`, `end` exclusive."""
    where = f"{name}, partition {partition}, offset {offset}, log holds {start} to {end}"
    if offset < start:
        return LogError(
            "the requested records are no longer in the log",
            where=where,
            do="name the log's archive, which has them (--archive URL, or VACANCY_ARCHIVE=URL), or make a worker's store of a"
            " snapshot (`vacancy snapshot restore --replace`)",
        )
    return LogError(
        "the position is beyond the end of the log",
        where=where,
        do="the log was truncated or created again: rebuild the store from this log",
    )
