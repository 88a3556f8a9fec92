"""The times of an SQLite log: which record comes after a time, also where clocks go back and earlier builds appended."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.streams.conftest import opening_entries
from tests.support.logs.tape_log import TapeLog
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import NewRecord, Record
from vacancy.streams.log import create_log
from vacancy.streams.log_url import LogUrl, parse_log_url
from vacancy.streams.sqlite.log import SqliteLog
from vacancy.streams.sqlite.times import BLOCK

CELLS = covering_cells(2)


@pytest.fixture
def place(tmp_path: Path) -> LogUrl:
    place = parse_log_url(f"sqlite://{tmp_path / 'log.db'}")
    create_log(place.url, 2, opening_entries(2)).close()
    return place


@pytest.fixture
def times(place: LogUrl) -> list[int]:
    """The timestamps of partition 0: four blocks and some, appended by a clock that goes back at intervals."""
    clock = iter([1_000_000 + at * 10 - (50_000 if at % 7 == 3 else 0) for at in range(1, 100)])
    now = 0
    with SqliteLog(place, clock=lambda: now, uptime=lambda: 0) as log:
        found = [record.timestamp_ms for record in log.read(0, 0, 10)]
        while len(found) < 4 * BLOCK + 100:
            now = found[0] + next(clock)
            entries = [NewRecord(CELLS[0], b"x")] * 97
            found += [one.timestamp_ms for one in log.append(entries)]
    return found


def expected(times: list[int], time_ms: int) -> int:
    return next((at for at, one in enumerate(times) if one > time_ms), len(times))


def rows(place: LogUrl) -> list[tuple[int, int, int, int]]:
    db = sqlite3.connect(place.place)
    found = db.execute("SELECT * FROM times ORDER BY partition, block").fetchall()
    db.close()
    return found


def change(place: LogUrl, sql: str) -> None:
    db = sqlite3.connect(place.place, isolation_level=None)
    db.execute(sql)
    db.close()


def check(place: LogUrl, times: list[int]) -> None:
    with SqliteLog(place) as log:
        for time_ms in {0, *times, *(one - 1 for one in times), max(times) + 1}:
            assert log.offset_after(0, time_ms) == expected(times, time_ms)


def test_appends_keep_the_highest_timestamp_of_each_block(place: LogUrl, times: list[int]) -> None:
    assert times != sorted(times)
    blocks = [max(times[n * BLOCK : (n + 1) * BLOCK]) for n in range(4)]
    assert [row[:3] for row in rows(place)] == [(0, n, highest) for n, highest in enumerate(blocks)]
    check(place, times)


@pytest.mark.parametrize(
    "sql",
    [
        "DROP TABLE times",
        "DELETE FROM times WHERE block = 1",
        "UPDATE times SET timestamp_max = timestamp_max - 100000 WHERE block = 2",
        "UPDATE times SET timestamp_max = 'late' WHERE block = 0",
        "UPDATE times SET block = 7 WHERE block = 0",
    ],
)
def test_what_is_not_kept_is_computed_and_kept(place: LogUrl, times: list[int], sql: str) -> None:
    before = rows(place)
    change(place, sql)
    check(place, times)
    assert [row for row in rows(place) if row[1] < 4] == before


def test_a_file_that_cannot_be_written_is_searched_all_the_same(place: LogUrl, times: list[int]) -> None:
    change(place, "DROP TABLE times")
    db = sqlite3.connect(place.place, isolation_level=None)
    db.execute("BEGIN IMMEDIATE")  # another writer, for longer than a search waits
    try:
        with SqliteLog(place) as log:
            assert log.offset_after(0, times[2000]) == expected(times, times[2000])
    finally:
        db.close()


@given(st.lists(st.integers(0, 20), min_size=1, max_size=60), st.integers(-1, 21))
def test_the_first_later_record_of_any_times(steps: list[int], time_ms: int) -> None:
    log = TapeLog({0: [Record(0, at, one, b"", b"") for at, one in enumerate(steps)]})
    assert log.offset_after(0, time_ms) == expected(steps, time_ms)
