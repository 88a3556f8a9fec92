"""The times of an SQLite log: for each 1,024 records of a partition their highest timestamp, so that the record of a time is
found without reading all records.

Records never change, so a row for a full block of records never changes either. Appenders write it with the last record of
the block. Processes of earlier builds do not: then the first search computes it. The table can be deleted at any time.
"""

from __future__ import annotations

import contextlib
import sqlite3
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple
from zlib import crc32

BLOCK: Final = 1_024
"""Records in a block: those from `BLOCK * n` on are block `n` of their partition."""

CREATE: Final = """
CREATE TABLE IF NOT EXISTS times (
    partition     INTEGER NOT NULL,
    block         INTEGER NOT NULL,
    timestamp_max INTEGER NOT NULL,
    checksum      INTEGER NOT NULL,
    PRIMARY KEY (partition, block)
) WITHOUT ROWID
"""
"""The table. Files of earlier builds get it when it is first written."""

_IS_THERE: Final = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'times'"
_KEEP: Final = "INSERT OR REPLACE INTO times (partition, block, timestamp_max, checksum) VALUES (?, ?, ?, ?)"
_ROWS: Final = (
    "SELECT block, timestamp_max, checksum FROM times WHERE partition = ? AND block >= ? ORDER BY block"
)
# The timestamp comes before the value in a row, so large values are not read.
_HIGHEST: Final = (
    "SELECT count(*), max(CAST(timestamp_ms AS INTEGER)) FROM records"
    " WHERE partition = ? AND offset >= ? AND offset < ?"
)
_FIRST_LATER: Final = (
    "SELECT offset FROM records WHERE partition = ? AND offset >= ? AND offset < ?"
    " AND CAST(timestamp_ms AS INTEGER) > ? ORDER BY offset LIMIT 1"
)

_pack = struct.Struct("<3q").pack


class Block(NamedTuple):
    """The highest timestamp (ms since 1970) of a full block of a partition."""

    partition: int
    block: int
    timestamp_max: int


def note_blocks(db: sqlite3.Connection, starts: Mapping[int, int], ends: Mapping[int, int]) -> None:
    """Keep the blocks that an append has filled. It is called in the transaction of the append; `starts` and `ends` are the
    ends of the partitions before and after it."""
    filled = [
        block
        for partition, end in ends.items()
        for number in range(starts[partition] // BLOCK, end // BLOCK)
        if (block := _computed(db, partition, number)) is not None
    ]
    if filled:
        _write(db, filled)


def keep_blocks(db: sqlite3.Connection, blocks: Sequence[Block]) -> None:
    """Keep blocks that a search has computed, if the file can be written now. Without that the next search computes them."""
    with contextlib.suppress(sqlite3.OperationalError):
        db.execute("BEGIN IMMEDIATE")
        try:
            _write(db, blocks)
            db.execute("COMMIT")
        finally:
            if db.in_transaction:
                db.execute("ROLLBACK")


def offset_after(
    db: sqlite3.Connection, partition: int, time_ms: int, bounds: tuple[int, int], missing: list[Block]
) -> int:
    """The first offset of a partition whose timestamp is later than `time_ms`, or its end. `bounds` are its first offset and
    its end. Blocks that are not kept yet are computed and added to `missing`."""
    start, end = bounds
    known = dict(_known(db, partition, start // BLOCK))
    for number in range(start // BLOCK, end // BLOCK):
        highest = known.get(number)
        if highest is None:
            block = _computed(db, partition, number)
            if block is not None:
                missing.append(block)
                highest = block.timestamp_max
        if highest is None or highest > time_ms:
            found = _first_later(db, partition, number * BLOCK, (number + 1) * BLOCK, time_ms)
            if found is not None:
                return found
    found = _first_later(db, partition, max(start, end // BLOCK * BLOCK), end, time_ms)
    return end if found is None else found


def _known(db: sqlite3.Connection, partition: int, first: int) -> Iterator[tuple[int, int]]:
    """The kept blocks from `first` on: number and highest timestamp. A damaged row is passed over."""
    if db.execute(_IS_THERE).fetchone() is None:
        return
    for number, highest, checksum in db.execute(_ROWS, (partition, first)).fetchall():
        are_numbers = isinstance(number, int) and isinstance(highest, int)
        if are_numbers and checksum == crc32(_pack(partition, number, highest)):
            yield number, highest


def _computed(db: sqlite3.Connection, partition: int, number: int) -> Block | None:
    """A block of the records; None unless all of them are there."""
    count, highest = db.execute(_HIGHEST, (partition, number * BLOCK, (number + 1) * BLOCK)).fetchone()
    return Block(partition, number, highest) if count == BLOCK else None


def _first_later(db: sqlite3.Connection, partition: int, start: int, end: int, time_ms: int) -> int | None:
    row = db.execute(_FIRST_LATER, (partition, start, end, time_ms)).fetchone()
    return None if row is None else int(row[0])


def _write(db: sqlite3.Connection, blocks: Sequence[Block]) -> None:
    db.execute(CREATE)
    db.executemany(_KEEP, [(*block, crc32(_pack(*block))) for block in blocks])
