"""Imports: exactly the records of the archive, once, and only into a new log."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.streams.archive.test_archive import log, records_of
from tests.streams.conftest import opening_entries
from vacancy.clients.archives import importing
from vacancy.clients.archives.export import export_log
from vacancy.clients.archives.importing import import_log
from vacancy.resources.model.errors import LogError, UsageError
from vacancy.resources.model.record import NewRecord, Record
from vacancy.streams.archive.log import ArchiveLog
from vacancy.streams.archive.storage import ArchiveStorage
from vacancy.streams.log import Log, create_log, open_log
from vacancy.streams.log_url import LogUrl
from vacancy.streams.memory_log import MemoryLog
from vacancy.streams.sqlite.importing import SqliteImport

__all__ = ["log"]


def archive_of(log: Log, folder: Path) -> ArchiveLog:
    export_log(log, ArchiveStorage(f"file://{folder}"), segment_records=7)
    return ArchiveLog(LogUrl("archive", f"file://{folder}"))


def test_the_log_has_the_records_and_the_id(log: Log, tmp_path: Path) -> None:
    done = import_log(archive_of(log, tmp_path / "archive"), f"sqlite://{tmp_path}/new/log.db")
    assert (done.identity, done.position) == (log.identity(), log.end())
    with open_log(f"sqlite://{tmp_path}/new/log.db") as new:
        assert new.identity() == log.identity()
        assert records_of(new) == records_of(log)
        (place,) = new.append([NewRecord("cell-1", b"next")])
        assert place.offset == log.end()[place.partition]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["log.db"]


def test_a_log_that_exists_is_not_written_to(log: Log, tmp_path: Path) -> None:
    url = f"sqlite://{tmp_path}/log.db"
    create_log(url, 2, opening_entries(2)).close()
    before = (tmp_path / "log.db").read_bytes()
    with archive_of(log, tmp_path / "archive") as archive:
        with pytest.raises(LogError, match="exists already"):
            import_log(archive, url)
        assert (tmp_path / "log.db").read_bytes() == before
        with pytest.raises(UsageError, match="cannot be imported into this log"):
            import_log(archive, f"memory://{uuid.uuid4()}")
        blocked = tmp_path / "file"
        blocked.write_text("")
        with pytest.raises(LogError, match="cannot be created"):
            import_log(archive, f"sqlite://{blocked}/log.db")


def test_an_import_is_continued(log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite://{tmp_path}/log.db"
    with archive_of(log, tmp_path / "archive") as archive:
        monkeypatch.setattr(importing, "_BATCH", 4)
        monkeypatch.setattr(SqliteImport, "add", _third_fails(SqliteImport.add))
        with pytest.raises(LogError, match="interrupted"):
            import_log(archive, url)
        monkeypatch.undo()
        with pytest.raises(LogError, match="there is no log"):
            open_log(url)
        done = import_log(archive, url)
        assert done.records == sum(log.end().values()) - 7
    with open_log(url) as new:
        assert records_of(new) == records_of(log)


def _third_fails(add: Callable[[SqliteImport, list[Record]], None]) -> Any:
    calls: list[list[Record]] = []

    def failing(self: SqliteImport, records: list[Record]) -> None:
        calls.append(records)
        if len(calls) == 3:
            raise LogError("interrupted")
        add(self, records)

    return failing


def test_an_unfinished_import_of_another_log_is_left_alone(log: Log, tmp_path: Path) -> None:
    url, place = f"sqlite://{tmp_path}/log.db", LogUrl("sqlite", f"{tmp_path}/log.db")
    started = SqliteImport(place, "another", {0: 0, 1: 0})
    started.add([Record(0, 0, 5, b"k", b"v")])
    started.close()
    with archive_of(log, tmp_path / "archive") as archive:
        with pytest.raises(LogError, match="an import of log another into this file was not finished"):
            import_log(archive, url)
        (tmp_path / ".log.db.importing").unlink()
        started = SqliteImport(place, log.identity().log, {0: 0, 1: 0})
        started.add([Record(0, 0, 5, b"k", b"v")])
        started.close()
        with pytest.raises(LogError, match="has another record than the archive"):
            import_log(archive, url)


def test_what_was_killed_before_it_had_an_origin_begins_again(log: Log, tmp_path: Path) -> None:
    for text in (b"", b"nothing"):
        (tmp_path / ".log.db.importing").write_bytes(text)
        if text:
            with archive_of(log, tmp_path / "archive") as archive, pytest.raises(LogError, match="not a log"):
                import_log(archive, f"sqlite://{tmp_path}/other/../log.db")
            continue
        with archive_of(log, tmp_path / "archive") as archive:
            import_log(archive, f"sqlite://{tmp_path}/log.db")
        (tmp_path / "log.db").unlink()


def test_a_second_name_of_a_finished_log_is_removed(log: Log, tmp_path: Path) -> None:
    with archive_of(log, tmp_path / "archive") as archive:
        import_log(archive, f"sqlite://{tmp_path}/log.db")
        (tmp_path / ".log.db.importing").hardlink_to(tmp_path / "log.db")
        with pytest.raises(LogError, match="exists already"):
            import_log(archive, f"sqlite://{tmp_path}/log.db")
    assert not (tmp_path / ".log.db.importing").exists()


def test_an_archive_of_a_trimmed_log(tmp_path: Path) -> None:
    made = create_log(f"memory://{uuid.uuid4()}", 2, opening_entries(2))
    assert isinstance(made, MemoryLog)
    name = made.identity().log
    made.append([NewRecord(f"cell-{n % 5}", b"%d" % n) for n in range(20)])
    export_log(made, ArchiveStorage(f"file://{tmp_path}/half"), until={0: 3, 1: 0})
    half = ArchiveLog(LogUrl("archive", f"file://{tmp_path}/half"))
    with pytest.raises(LogError, match="the archive has no records of partition 1"):
        import_log(half, f"sqlite://{tmp_path}/log.db")
    made.trim(0, 3)
    with archive_of(made, tmp_path / "archive") as archive:
        assert archive.start() == {0: 3, 1: 0}
        import_log(archive, f"sqlite://{tmp_path}/log.db")
        with pytest.raises(LogError, match="Kafka gives the first record offset 0"):
            import_log(archive, "kafka://127.0.0.1:1/topic")
    with open_log(f"sqlite://{tmp_path}/log.db") as new:
        assert (new.start(), new.identity().log) == ({0: 3, 1: 0}, name)
        assert records_of(new) == records_of(made)


def test_the_file_is_that_of_a_log(log: Log, tmp_path: Path) -> None:
    with archive_of(log, tmp_path / "archive") as archive:
        import_log(archive, f"sqlite://{tmp_path}/log.db")
    db = sqlite3.connect(tmp_path / "log.db")
    tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master")}
    assert "import_of" not in tables
    assert dict(db.execute("SELECT name, value FROM meta")) == {
        "format": 2,
        "partitions": 2,
        "end_0": log.end()[0],
        "end_1": log.end()[1],
    }
    assert (tmp_path / "log.db").stat().st_mode & 0o777 == 0o640
    db.close()
