"""The SQLite log: several processes at once, waiting for the writer, bad files and full disks."""

from __future__ import annotations

import contextlib
import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from vacancy.resources.model.errors import LogError, LogUnavailable
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import NewRecord
from vacancy.streams.clocks.uptime import passed_ms, uptime_mark
from vacancy.streams.log import READ_BYTES, create_log, open_log
from vacancy.streams.log_url import parse_log_url
from vacancy.streams.sqlite.log import SqliteLog

PROCESS = Path(__file__).parents[1] / "log_process.py"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.db"


@pytest.fixture
def log(path: Path, openings: Any) -> Any:
    with create_log(f"sqlite://{path}", 4, openings(4)) as made:
        yield made


def spawn(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, str(PROCESS), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


# -- several processes ------------------------------------------------------------------------------------


def test_processes_append_and_read_at_once(log: Any) -> None:
    appenders = [spawn("append", log.url, name, 60) for name in range(3)]
    # Each appends 12 rounds of 1 + 2 + 3 + 4 + 5 records, of which a quarter go to each partition.
    follower = spawn("follow", log.url, 2, 1 + 3 * 45)
    acknowledged: dict[tuple[int, int], str] = {}
    for process in appenders:
        out, _ = process.communicate(timeout=90)
        assert process.returncode == 0
        for line in out.splitlines():
            place, offset, value = line.split(maxsplit=2)
            assert acknowledged.setdefault((int(place), int(offset)), value) == value, "two got one offset"
    assert len(acknowledged) == 3 * 180
    seen, _ = follower.communicate(timeout=90)
    for partition in range(4):
        records = log.read(partition, 0, 1000)
        assert [r.offset for r in records] == list(range(len(records)))
        assert [acknowledged[partition, r.offset] for r in records[1:]] == [
            r.value.decode() for r in records[1:]
        ]
        order = defaultdict(list)
        for record in records[1:]:
            name, batch, number = map(int, record.value.split())
            order[name].append((batch, number))
        assert all(places == sorted(places) for places in order.values())
    expected = [f"{r.offset} {r.value.decode()}" for r in log.read(2, 1, 1000)]
    assert seen.splitlines()[1:] == expected


def test_acknowledged_records_of_a_killed_process_are_in_the_log(log: Any) -> None:
    process = spawn("append", log.url, 0, 100_000)
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(200)]
    process.kill()
    lines += process.stdout.read().splitlines(keepends=True)
    process.stdout.close()
    process.wait()
    reopened = open_log(log.url)
    for line in (line for line in lines if line.endswith("\n")):
        partition, offset, value = line.strip().split(maxsplit=2)
        assert reopened.read(int(partition), int(offset), 1)[0].value.decode() == value
    # A batch is there whole or not at all: the last of each append has the highest number.
    values = [r.value.split() for p in range(4) for r in reopened.read(p, 1, 100_000)]
    sizes: dict[int, int] = defaultdict(int)
    for _, batch, _number in values:
        sizes[int(batch)] += 1
    assert sizes == {batch: 1 + batch % 5 for batch in range(max(sizes) + 1)}
    reopened.close()


def test_of_two_processes_that_create_a_log_one_is_refused(path: Path, openings: Any) -> None:
    results: list[object] = []
    together = threading.Barrier(4)

    def make() -> None:
        together.wait()
        try:
            with create_log(f"sqlite://{path}", 2, openings(2)) as made:
                results.append(made.identity())
        except LogError as error:
            results.append(error)

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    refused = [r for r in results if isinstance(r, LogError)]
    assert len(refused) == 3
    assert all("exists already" in str(error) for error in refused)
    assert [p.name for p in path.parent.iterdir()] == ["log.db"]


# -- waiting ----------------------------------------------------------------------------------------------


def test_a_writer_waits_its_turn_and_then_gives_up(log: Any, path: Path) -> None:
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(LogUnavailable, match="locked") as raised:
        log.append([NewRecord("a", b"late")], timeout_s=0.05)
    assert log.url in str(raised.value)
    timer = threading.Timer(0.05, other.execute, ("ROLLBACK",))
    timer.start()
    (landed,) = log.append([NewRecord("a", b"in time")], timeout_s=30)
    timer.join()
    other.close()
    assert [r.value for r in log.read(landed.partition, 1, 10)] == [b"in time"]


def test_polling_an_unchanged_log_reads_only_the_version(log: Any) -> None:
    asked: list[str] = []
    assert log.read(0, 1, 100) == []
    log._reader.set_trace_callback(asked.append)
    for _ in range(10):
        assert log.read(0, 1, 100) == []
    assert asked == ["PRAGMA data_version"] * 10
    log.append([NewRecord(covering_cells(4)[0], b"x")])
    assert len(log.read(0, 1, 100)) == 1
    assert log.read(0, 2, 100) == []


def test_an_append_wakes_who_waits_and_says_which_partition_has_something(log: Any) -> None:
    cells = covering_cells(4)
    ends = log.end()
    assert list(log.unread(ends)) == []
    assert list(log.unread({**ends, 2: 0})) == [2]
    with open_log(log.url) as follower:
        assert not follower.wait(0.001, 0.001)
        for number in range(3):  # from the second on it relies on being woken
            timer = threading.Timer(0.05, log.append, ([NewRecord(cells[3], b"x")],))
            started = time.monotonic()
            timer.start()
            assert follower.wait(30.0, 30.0)
            assert time.monotonic() - started < 15.0
            timer.join()
            assert list(follower.unread(ends)) == [3]
            ends[3] += 1
            assert len(follower.read(3, 1, 100)) == number + 1


def test_an_append_that_wakes_nobody_is_found_at_the_usual_pace(
    log: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_log(log.url) as follower:
        ends = follower.end()
        follower.wait(0.0, 0.0)
        log.append([NewRecord(covering_cells(4)[0], b"x")])
        assert follower.wait(30.0, 30.0)
        assert list(follower.unread(ends)) == [0]
        monkeypatch.setattr(SqliteLog, "_ring", lambda _log: None)
        log.append([NewRecord(covering_cells(4)[1], b"x")])
        assert list(follower.unread(ends)) == [0, 1]
        started = time.monotonic()
        follower.wait(0.001, 30.0)
        assert time.monotonic() - started < 15.0


def test_where_the_end_of_one_partition_is_damaged_the_others_are_read(log: Any, path: Path) -> None:
    cells = covering_cells(4)
    log.append([NewRecord(cell, b"x") for cell in cells])
    with sqlite3.connect(path) as other:
        other.execute("DELETE FROM records WHERE partition = 1 AND offset = 1")
    with open_log(log.url) as follower:
        assert list(follower.unread({0: 2, 1: 1, 2: 1, 3: 2})) == [1, 2]
        assert len(follower.read(2, 1, 10)) == 1
        with pytest.raises(LogError, match="records are missing"):
            follower.read(1, 1, 10)


def test_readers_do_not_hold_the_write_ahead_log(log: Any, path: Path) -> None:
    for n in range(50):
        log.append([NewRecord("a", b"x" * 10_000)])
        log.read(n % 4, 1, 5)
    other = sqlite3.connect(path)
    busy, _, _ = other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    other.close()
    assert busy == 0


# -- clocks -----------------------------------------------------------------------------------------------

HOUR_MS = 3_600_000
BOOT = 7 << 42
"""The mark of a machine that has just started."""


class Machine:
    """A machine whose processes read a wall clock that may be wrong. Times in ms."""

    def __init__(self, path: Path, openings: Any) -> None:
        create_log(f"sqlite://{path}", 1, openings(1)).close()
        self._path = path
        self.start_ms = time.time_ns() // 1_000_000
        self.up, self.boot = HOUR_MS, BOOT
        self.append()  # the opening has the mark of the real machine

    def append(self, ahead_ms: int = 0, count: int = 1) -> list[int]:
        """Append records by a clock that is ahead by so much. Returns how far their timestamps are ahead."""
        real_ms = self.start_ms + self.up
        with SqliteLog(
            parse_log_url(f"sqlite://{self._path}"),
            clock=lambda: real_ms + ahead_ms,
            uptime=lambda: self.boot | self.up,
        ) as log:
            return [one.timestamp_ms - real_ms for one in log.append([NewRecord("a", b"")] * count)]


@pytest.mark.parametrize("ahead_ms", [48 * HOUR_MS, 100 * 365 * 24 * HOUR_MS])
def test_a_process_with_a_fast_clock_does_not_move_the_time_of_the_log(
    ahead_ms: int, path: Path, openings: Any
) -> None:
    machine = Machine(path, openings)
    for _ in range(50):
        assert machine.append(ahead_ms, 3) == [0, 0, 0]  # no time has passed
    machine.up += 1_000
    assert machine.append(ahead_ms) == [1_000]
    assert machine.append() == [0]  # below the last timestamp


def test_a_process_with_a_fast_clock_moves_the_log_at_twice_the_speed_at_most(
    path: Path, openings: Any
) -> None:
    machine = Machine(path, openings)
    ahead = 0
    for number in range(200):
        machine.up += 10
        ahead = max(ahead, *machine.append(48 * HOUR_MS if number % 3 else 0))
    assert 0 < ahead <= 200 * 10


def test_one_append_with_a_slow_clock_does_not_hold_the_time_of_the_log_back(
    path: Path, openings: Any
) -> None:
    machine = Machine(path, openings)
    assert machine.append(-48 * HOUR_MS) == [-48 * HOUR_MS]
    assert machine.append() == [0]


def test_a_clock_that_was_set_right_is_followed(path: Path, openings: Any) -> None:
    machine = Machine(path, openings)
    for _ in range(8):
        assert machine.append(-HOUR_MS) == [-HOUR_MS]
    for _ in range(60):
        assert machine.append() < [0]  # which of the two clocks is right is not known yet
        machine.up += 60_000
    assert machine.append() == [0]


def test_an_append_whose_mark_is_older_than_that_of_the_last_record_is_bounded_too(
    path: Path, openings: Any
) -> None:
    machine = Machine(path, openings)
    machine.up -= 5  # it waited for the lock while another process appended
    assert machine.append(48 * HOUR_MS) == [5]


def test_a_log_that_was_idle_for_a_week_has_the_right_time_at_once(path: Path, openings: Any) -> None:
    machine = Machine(path, openings)
    machine.up += 7 * 24 * HOUR_MS
    assert machine.append() == [0]


def test_after_a_restart_of_the_machine_the_clock_is_taken_as_it_is(path: Path, openings: Any) -> None:
    machine = Machine(path, openings)
    machine.boot, machine.start_ms, machine.up = 8 << 42, machine.start_ms + 3 * HOUR_MS, 10
    assert machine.append() == [0]


def test_the_mark_of_this_machine_counts_its_time() -> None:
    first = uptime_mark()
    time.sleep(0.02)
    passed = passed_ms(first, uptime_mark())
    assert passed is not None
    assert 20 <= passed < 10_000
    assert passed_ms(first, first - 1) == 0
    assert passed_ms(first, first + (1 << 42)) is None
    assert passed_ms(0, first) is None


# -- damage and size --------------------------------------------------------------------------------------


def changed(path: Path, sql: str, *values: Any) -> None:
    """Change the file of a log as no program should, also to what its columns do not allow."""
    schema = "UPDATE sqlite_master SET sql = replace(sql, ?, ?) WHERE name = 'records'"
    steps = [
        (schema, (" NOT NULL", " /* any */")),
        (sql, values),
        (schema, (" /* any */", " NOT NULL")),
    ]
    for step in steps:
        with contextlib.closing(sqlite3.connect(path)) as db:
            db.execute("PRAGMA writable_schema = ON")
            db.execute(*step)
            db.commit()


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("value", b"other"),
        ("value", 5),
        ("value", None),
        ("key", b"b"),
        ("key", "b"),
        ("key", None),
        ("timestamp_ms", 1),
        ("timestamp_ms", b"1"),
        ("timestamp_ms", None),
        ("checksum", 5),
        ("checksum", b"5"),
        ("checksum", None),
    ],
)
def test_a_damaged_record_is_noticed(log: Any, path: Path, column: str, value: object) -> None:
    (landed,) = log.append([NewRecord("a", b"as it was")])
    assert len(log.read(landed.partition, landed.offset, 1)) == 1
    changed(path, f"UPDATE records SET {column} = ? WHERE offset = 1", value)  # noqa: S608 - of this test
    with pytest.raises(LogError, match=f"damaged.*partition {landed.partition}, offset 1"):
        log.read(landed.partition, landed.offset, 1)


def test_a_log_of_format_1_gets_checksums_from_then_on(log: Any, path: Path) -> None:
    (before,) = log.append([NewRecord("a", b"before")])
    log.close()
    for sql in (
        "ALTER TABLE records DROP COLUMN checksum",
        "ALTER TABLE records DROP COLUMN uptime",
        "UPDATE meta SET value = 1 WHERE name = 'format'",
    ):
        changed(path, sql)
    with open_log(f"sqlite://{path}") as first, open_log(f"sqlite://{path}") as second:
        (after,) = second.append([NewRecord("a", b"after")])
        found = first.read(before.partition, before.offset, 10)
        assert [record.value for record in found] == [b"before", b"after"]
        with pytest.raises(sqlite3.IntegrityError, match="format 2"):  # a build that was running before
            changed(
                path,
                "INSERT INTO records (partition, offset, timestamp_ms, key, value) VALUES (0, 9, 0, 'a', 'b')",
            )
        changed(path, "UPDATE records SET checksum = NULL WHERE offset = ?", after.offset)
        assert first.read(before.partition, before.offset, 1) == found[:1]
        with pytest.raises(LogError, match="damaged"):
            first.read(before.partition, after.offset, 1)


def test_a_read_of_large_records_returns_few(log: Any) -> None:
    value = bytes(READ_BYTES // 3)
    partition = log.append([NewRecord("a", value) for _ in range(8)])[0].partition
    assert [len(log.read(partition, offset, 500)) for offset in (1, 2, 6, 7, 9)] == [3, 3, 3, 2, 0]


# -- bad files --------------------------------------------------------------------------------------------


def test_files_that_are_not_logs(path: Path) -> None:
    path.write_text("these are my notes\n" * 100)
    with pytest.raises(LogError, match="not an SQLite database"):
        open_log(f"sqlite://{path}")
    path.write_bytes(b"")
    with pytest.raises(LogError, match="not a vacancy log"):
        open_log(f"sqlite://{path}")
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE meta (a, b)")
    db.close()
    with pytest.raises(LogError, match="SQLite failed: no such column: name"):
        open_log(f"sqlite://{path}")
    with pytest.raises(LogError, match="no log"):
        open_log(f"sqlite://{path.parent}")


def test_a_newer_format_is_refused(log: Any, path: Path) -> None:
    db = sqlite3.connect(path)
    with db:
        db.execute("UPDATE meta SET value = 3 WHERE name = 'format'")
    db.close()
    with pytest.raises(LogError, match=r"format 3, this version reads up to format 2.*upgrade"):
        open_log(log.url)


def test_a_damaged_file_is_reported_and_not_read(path: Path, openings: Any) -> None:
    with create_log(f"sqlite://{path}", 1, openings(1)) as log:
        log.append([NewRecord("a", b"x" * 1000) for _ in range(500)])
    rng = random.Random(1)
    content = bytearray(path.read_bytes())
    content[3 * 8192 :] = rng.randbytes(len(content) - 3 * 8192)
    path.write_bytes(content)
    with open_log(f"sqlite://{path}") as log, pytest.raises(LogError, match=r"damaged.*backup"):
        log.read(0, 0, 1000)


def test_a_gap_is_reported(log: Any, path: Path) -> None:
    cell = covering_cells(4)[3]
    log.append([NewRecord(cell, b"%d" % n) for n in range(10)])
    db = sqlite3.connect(path)
    with db:
        db.execute("DELETE FROM records WHERE partition = 3 AND offset = 5")
    db.close()
    for offset in (0, 5):
        with pytest.raises(LogError, match="gap"):
            log.read(3, offset, 100)


def test_a_file_that_is_removed_while_it_is_open_is_noticed(log: Any, path: Path, openings: Any) -> None:
    assert log.read(0, 1, 1) == []
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink()
    with pytest.raises(LogError, match="removed or replaced"):
        log.append([NewRecord("a", b"lost")])
    create_log(log.url, 4, openings(4)).close()
    with pytest.raises(LogError, match="removed or replaced"):
        log.read(0, 1, 1)


def test_a_directory_that_cannot_be_written(tmp_path: Path, openings: Any) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LogError, match="cannot be created"):
        create_log(f"sqlite://{tmp_path}/file/log.db", 1, openings(1))


# -- full disks -------------------------------------------------------------------------------------------


def test_a_full_database_writes_no_incomplete_append(log: Any) -> None:
    pages = log._writer.execute("PRAGMA page_count").fetchone()[0]
    log._writer.execute(f"PRAGMA max_page_count = {pages + 4}")
    end = log.end()
    with pytest.raises(LogError, match=r"disk is full: nothing was written.*free disk space") as raised:
        log.append([NewRecord("a", b"x" * 1000) for _ in range(200)])
    assert not isinstance(raised.value, LogUnavailable)
    assert log.end() == end
    log._writer.execute(f"PRAGMA max_page_count = {pages + 1000}")
    assert len(log.append([NewRecord("a", b"x" * 1000) for _ in range(200)])) == 200


def test_a_full_disk_writes_no_incomplete_append(log: Any) -> None:
    process = spawn("fill", log.url, 400_000)
    out, _ = process.communicate(timeout=90)
    held, error = out.splitlines()
    assert process.returncode == 0
    assert error.startswith("LogError the disk failed to read or write: nothing was written")
    assert int(held) > 5
    (end,) = (end for end in log.end().values() if end > 1)
    assert end == 1 + 10 * int(held)
    log.append([NewRecord("a", b"room again")])
