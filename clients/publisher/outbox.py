"""The events of a node that the log has not confirmed yet: a small durable queue in one SQLite file.

An event is written here before it is sent, and removed when the log has confirmed it. So a crash in between sends the
same event twice, and never loses or reorders one. The fold drops repetitions.

The queue stays small because of what the events mean. A full report replaces all pending events before it, because it
closes any gap. A heartbeat is not needed while any other event is pending. Only changes add up. Where they would exceed
the bound, they are refused until the next full report (`needs_full_report`).

When the disk fails, the queue goes on in memory, and an error is logged: a node that can still send must go on. It
returns to the disk with the next full report that fits there.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from hashlib import blake2b
from pathlib import Path
from threading import RLock
from types import TracebackType
from typing import Final, NamedTuple, Self, TypeVar
from urllib.parse import quote

from vacancy.resources.model.errors import UsageError, VacancyError
from vacancy.streams.files.file_modes import make_file

logger = logging.getLogger(__name__)
T = TypeVar("T")

ENTRIES_MAX: Final = 1024
BYTES_MAX: Final = 16 * 2**20

_APPLICATION: Final = 0x7661634F
_VERSION: Final = 1
_NEWEST: Final = """CREATE TABLE IF NOT EXISTS newest (
    one INTEGER PRIMARY KEY CHECK (one = 1), incarnation TEXT NOT NULL, sequence INTEGER NOT NULL
)"""
_SIGNED: Final = """CREATE TABLE IF NOT EXISTS signed (
    one INTEGER PRIMARY KEY CHECK (one = 1), last INTEGER NOT NULL
)"""
# AUTOINCREMENT, so that no number is ever given twice: an acknowledgement that comes after its entries were
# superseded must not hit the entry that superseded them.
_SCHEMA: Final = f"""
    BEGIN IMMEDIATE;
    CREATE TABLE pending (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        cell TEXT NOT NULL,
        kind TEXT NOT NULL,
        incarnation TEXT NOT NULL,
        sequence INTEGER NOT NULL,
        confirms INTEGER NOT NULL,
        value BLOB NOT NULL
    );
    CREATE TABLE home (one INTEGER PRIMARY KEY CHECK (one = 1), root TEXT NOT NULL, cell TEXT NOT NULL);
    {_NEWEST};
    {_SIGNED};
    PRAGMA application_id = {_APPLICATION};
    PRAGMA user_version = {_VERSION};
    COMMIT;
"""
_DELETE_IT: Final = (
    "stop the publisher, delete the file and start again: the node's next full report has everything"
)


class OutboxError(VacancyError):
    """The outbox cannot be opened or written. Operator action: see the disk it is on."""


class OutboxInUse(OutboxError):
    """Another publisher holds this outbox. Operator action: stop one of the two."""


class OutboxCorrupt(OutboxError):
    """The outbox does not read back. Operator action: delete it; the node's next full report has everything."""


class OutboxFull(OutboxError):
    """A change was refused. Action: give a full report, which replaces all pending events."""


class CellChanged(OutboxError):
    """The node was given another cell than the one it is known in. Operator action: retire it in the old cell first."""

    exit_code = 2


class OutboxKind(StrEnum):
    """The kinds of a node's events that the queue distinguishes."""

    FULL = "full"
    CHANGED = "changed"
    HEARTBEAT = "heartbeat"
    RETIRED = "retired"


class Outgoing(NamedTuple):
    """An event to be sent: `value` is its bytes. `confirms`: it names consumers, and so confirms their holds."""

    cell: str
    kind: OutboxKind
    incarnation: str
    sequence: int
    value: bytes
    confirms: bool = False


class QueuedEvents(NamedTuple):
    """An event in the queue, under the number by which it is acknowledged."""

    number: int
    event: Outgoing


class Outbox:
    """The queue at `path`, made if it does not exist, and locked until `close`. Any thread may use it.

    Raises OutboxInUse, OutboxCorrupt, or OutboxError if the file cannot be opened.
    """

    def __init__(self, path: Path, *, entries_max: int = ENTRIES_MAX, bytes_max: int = BYTES_MAX) -> None:
        if entries_max < 1 or bytes_max < 1:
            raise UsageError("an outbox without any space is invalid", do="give bounds of 1 or more")
        self._path, self._entries_max, self._bytes_max = path, entries_max, bytes_max
        self._lock = RLock()
        self._disk = _open(path)
        self._db = self._disk
        self._last = _last_number(self._disk)
        self._needs_full_report = False

    # -- what is pending ----------------------------------------------------------------------------------

    def put(self, root: str, event: Outgoing) -> bool:
        """Write `event` behind what is pending; it is durable when this returns.

        A full report replaces the pending events of its cell (except an older one that confirms consumers, if this one
        confirms none). False: a heartbeat that was not stored, because a pending event has the same effect. Raises
        OutboxFull for a change beyond the bounds, CellChanged, and UsageError if the outbox belongs to another node.
        """
        with self._lock:
            if event.kind is not OutboxKind.RETIRED:
                self.check_home(root, event.cell)
            if event.kind is OutboxKind.HEARTBEAT and len(self):
                return False
            if event.kind is OutboxKind.CHANGED:
                self._check_room(len(event.value))
            self._last = self._do(lambda db: _put(db, root, event))
            if event.kind is OutboxKind.FULL:
                self._needs_full_report = False
                self._go_to_disk()
            return True

    def pending(self, limit: int = 100) -> list[QueuedEvents]:
        """The first `limit` events to send, in the order they were put."""
        return self._do(lambda db: _pending(db, limit))

    def acknowledge(self, up_to: int) -> None:
        """The log has every event with a number up to `up_to`: forget them."""
        self._do(lambda db: db.execute("DELETE FROM pending WHERE number <= ?", (up_to,)))

    def __len__(self) -> int:
        return self.size[0]

    @property
    def size(self) -> tuple[int, int]:
        """How many events are pending, and their bytes."""
        return self._do(_size)

    @property
    def changes_pending(self) -> bool:
        """Whether a change is pending: an event that means nothing without those before it."""
        found = self._do(
            lambda db: db.execute("SELECT 1 FROM pending WHERE kind = ?", (OutboxKind.CHANGED,)).fetchone()
        )
        return found is not None

    @property
    def needs_full_report(self) -> bool:
        """Whether a change was refused or lost, so that only a full report makes the node whole again."""
        return self._needs_full_report

    @property
    def durable(self) -> bool:
        """Whether the queue is on disk. False: the disk failed, and what is pending would not survive a crash."""
        return self._db is self._disk

    # -- node and cell --------------------------------------------------------------------------------------

    @property
    def cell(self) -> str | None:
        """The cell the node is known in; None before its first full report and after its retirement."""
        found = self._do(_home)
        return None if found is None else found[1]

    @property
    def newest_incarnation(self) -> tuple[str, int] | None:
        """The incarnation of the last event that was put, and its sequence; None before the node's first full report and
        after its retirement."""
        return self._do(_newest)

    @property
    def last_signed(self) -> int:
        """The highest number of a signature that was noted, 0 for none. It outlives the node's retirement."""
        return self._do(_last_signed)

    def note_signed(self, number: int) -> None:
        """Remember the number of the last signature, before what it signs is sent."""
        self._do(lambda db: db.execute("INSERT OR REPLACE INTO signed VALUES (1, ?)", (number,)))

    def check_home(self, root: str, cell: str) -> None:
        """Raises CellChanged if the node is known in another cell, UsageError if this is another node's."""
        known_root, known_cell = self._do(_home) or (root, cell)
        if known_root != root:
            raise UsageError(
                f"the outbox belongs to node {known_root}, not to {root}",
                where=str(self._path),
                do="give each node an outbox of its own",
            )
        if known_cell != cell:
            raise CellChanged(
                f"node {root} is known in cell {known_cell} and was now given cell {cell}",
                where=str(self._path),
                do=f"retire it in {known_cell} first, or let --move-cell do that",
            )

    # -- the file -----------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the file. Pending events stay in it."""
        with self._lock:
            for db in {self._db, self._disk}:
                with suppress(sqlite3.Error):  # only the tidying of the write-ahead log can fail here
                    db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _do(self, step: Callable[[sqlite3.Connection], T]) -> T:
        """What `step` returns: on the disk, or in memory where the disk fails it."""
        with self._lock:
            try:
                return step(self._db)
            except sqlite3.ProgrammingError as error:
                raise OutboxError(
                    "the outbox is closed", where=str(self._path), do="open it again"
                ) from error
            except sqlite3.Error as error:
                if self._db is not self._disk:
                    raise _translated(error, self._path, "report this") from error
                self._go_to_memory(error)
                return step(self._db)

    def _check_room(self, added: int) -> None:
        # After a refused change, later ones would be applied to a state that lacks it.
        entries, size = self._do(_size)
        if not self._needs_full_report and entries < self._entries_max and size + added <= self._bytes_max:
            return
        self._needs_full_report = True
        raise OutboxFull(
            f"the outbox holds {entries} events ({size} bytes) and takes no more changes",
            where=str(self._path),
            do="give a full report",
        )

    def _go_to_memory(self, error: sqlite3.Error) -> None:
        logger.error(
            "%s", _translated(error, self._path, "the queue goes on in memory, and a crash would lose it")
        )
        memory = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        memory.executescript(_SCHEMA)
        try:
            _copy(self._disk, memory)
        except sqlite3.Error:
            # The pending events are lost; the next full report has their content.
            memory.execute("INSERT INTO sqlite_sequence VALUES ('pending', ?)", (self._last,))
            self._needs_full_report = True
        self._db = memory

    def _go_to_disk(self) -> None:
        if self._db is self._disk:
            return
        try:
            _copy(self._db, self._disk)
        except sqlite3.Error:
            return
        self._db.close()
        self._db = self._disk
        logger.warning("the outbox is on disk again (%s)", self._path)


def default_outbox(log: str, root: str) -> Path:
    """The file of a node's outbox: one for each node and log URL, so that no publisher sends the events of another."""
    return _directory() / f"{quote(root, safe='')}-{_log_hash(log)}.db"


def outboxes_of(log: str) -> list[Path]:
    """The outboxes of a log that are at their default places on this host."""
    return sorted(_directory().glob(f"*-{_log_hash(log)}.db"))


def _directory() -> Path:
    from vacancy.streams.settings import state_directory

    return state_directory() / "outbox"


def _log_hash(log: str) -> str:
    return blake2b(log.encode(), digest_size=4).hexdigest()


def _open(path: Path) -> sqlite3.Connection:
    try:
        make_file(path)
        db = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
    except (OSError, sqlite3.Error) as error:
        raise _translated(error, path, "check that its directory can be written") from None
    try:
        # The lock of this mode is kept until the connection closes, and the system drops it with the process.
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("BEGIN EXCLUSIVE")
        tables, application, version = (
            db.execute(sql).fetchone()[0]
            for sql in ("SELECT count(*) FROM sqlite_master", "PRAGMA application_id", "PRAGMA user_version")
        )
        db.execute("COMMIT")
        if tables and (application, version) != (_APPLICATION, _VERSION):
            raise OutboxError(
                "the file is an SQLite database, but no outbox of this version",
                where=str(path),
                do="name another file",
            )
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        if not tables:
            db.executescript(_SCHEMA)
        for table in (_NEWEST, _SIGNED):
            db.execute(table)  # an outbox of an earlier build does not have it
        if db.execute("PRAGMA quick_check").fetchone()[0] != "ok":
            raise OutboxCorrupt("the outbox is damaged", where=str(path), do=_DELETE_IT)
    except sqlite3.Error as error:
        db.close()
        raise _translated(error, path, "free some space or repair the disk, then start again") from None
    except OutboxError:
        db.close()
        raise
    return db


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield db
        db.execute("COMMIT")
    except BaseException:
        # A full disk may have rolled back already.
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _put(connection: sqlite3.Connection, root: str, event: Outgoing) -> int:
    """Write `event` and what follows from it; returns its number."""
    with _transaction(connection) as db:
        return _insert(db, root, event)


def _insert(db: sqlite3.Connection, root: str, event: Outgoing) -> int:
    if event.kind is OutboxKind.FULL:
        db.execute("DELETE FROM pending WHERE cell = ? AND confirms <= ?", (event.cell, event.confirms))
        db.execute("INSERT OR REPLACE INTO home VALUES (1, ?, ?)", (root, event.cell))
    elif event.kind is OutboxKind.RETIRED:
        db.execute("DELETE FROM home WHERE cell = ?", (event.cell,))
    if event.kind is OutboxKind.RETIRED:
        db.execute("DELETE FROM newest")
    else:
        db.execute("INSERT OR REPLACE INTO newest VALUES (1, ?, ?)", (event.incarnation, event.sequence))
    cursor = db.execute(
        "INSERT INTO pending (cell, kind, incarnation, sequence, confirms, value) VALUES (?, ?, ?, ?, ?, ?)",
        (event.cell, event.kind, event.incarnation, event.sequence, event.confirms, event.value),
    )
    return cursor.lastrowid or 0


def _size(db: sqlite3.Connection) -> tuple[int, int]:
    """How many events are pending, and their bytes."""
    row = db.execute("SELECT count(*), coalesce(sum(length(value)), 0) FROM pending").fetchone()
    return int(row[0]), int(row[1])


def _home(db: sqlite3.Connection) -> tuple[str, str] | None:
    """The node and its cell, where they are known."""
    row = db.execute("SELECT root, cell FROM home").fetchone()
    return None if row is None else (str(row[0]), str(row[1]))


def _newest(db: sqlite3.Connection) -> tuple[str, int] | None:
    row = db.execute("SELECT incarnation, sequence FROM newest").fetchone()
    return None if row is None else (str(row[0]), int(row[1]))


def _last_signed(db: sqlite3.Connection) -> int:
    row = db.execute("SELECT last FROM signed").fetchone()
    return 0 if row is None else int(row[0])


def _last_number(db: sqlite3.Connection) -> int:
    row = db.execute("SELECT seq FROM sqlite_sequence").fetchone()
    return 0 if row is None else int(row[0])


def _pending(db: sqlite3.Connection, limit: int) -> list[QueuedEvents]:
    rows = db.execute(
        "SELECT number, cell, kind, incarnation, sequence, value, confirms FROM pending ORDER BY number LIMIT ?",
        (limit,),
    )
    return [
        QueuedEvents(number, Outgoing(cell, OutboxKind(kind), incarnation, sequence, value, bool(confirms)))
        for number, cell, kind, incarnation, sequence, value, confirms in rows
    ]


def _copy(source: sqlite3.Connection, target: sqlite3.Connection) -> None:
    """Copy all rows of `source` to `target`, numbers included."""
    with _transaction(target) as db:
        for table, columns in (
            ("pending", 7),
            ("home", 3),
            ("newest", 3),
            ("signed", 2),
            ("sqlite_sequence", 2),
        ):
            rows = source.execute(f"SELECT * FROM {table}").fetchall()  # noqa: S608  (names of our own)
            db.execute(f"DELETE FROM {table}")  # noqa: S608
            db.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * columns)})", rows)  # noqa: S608


def _translated(error: Exception, path: Path, do: str) -> OutboxError:
    """`error` as an OutboxError. `do` is the action for a disk that fails."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    where = str(path)
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return OutboxInUse(
            "another publisher holds the outbox",
            where=where,
            do="stop it, or give this one an outbox of its own",
        )
    if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        return OutboxCorrupt(f"the outbox is damaged: {error}", where=where, do=_DELETE_IT)
    if code == sqlite3.SQLITE_FULL:
        return OutboxError("the disk of the outbox is full", where=where, do=do)
    return OutboxError(f"the outbox cannot be opened or written: {error}", where=where, do=do)
