"""Exports: continued after the last segment, one at a time, and never of two logs."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from tests.streams.archive.test_archive import log, records_of
from tests.streams.conftest import opening_entries
from vacancy.clients.archives.export import export_log
from vacancy.resources.model.errors import LogError, UsageError
from vacancy.resources.model.record import NewRecord
from vacancy.streams.archive.log import ArchiveLog
from vacancy.streams.archive.storage import ArchiveStorage
from vacancy.streams.log import Log, create_log
from vacancy.streams.log_url import LogUrl

__all__ = ["log"]


@pytest.fixture(params=["file", "memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> ArchiveStorage:
    return ArchiveStorage(
        f"file://{tmp_path}/archive" if request.param == "file" else f"memory:///{uuid.uuid4()}"
    )


def archive_of(storage: ArchiveStorage) -> ArchiveLog:
    return ArchiveLog(LogUrl("archive", storage.url))


def test_an_export_is_continued(log: Log, storage: ArchiveStorage) -> None:
    first = export_log(log, storage, until={0: 5, 1: 3}, segment_records=2)
    assert (first.manifest.end, first.segments, first.records) == ({0: 5, 1: 3}, 5, 8)
    assert export_log(log, storage, until={0: 4, 1: 1}).records == 0
    log.append([NewRecord("cell-9", b"later")])
    progress: list[tuple[int, int]] = []
    second = export_log(log, storage, segment_records=4, progress=lambda *now: progress.append(now))
    assert second.manifest.end == log.end()
    assert progress[-1] == (second.records, sum(log.end().values()) - 8)
    with archive_of(storage) as archive:
        assert records_of(archive) == records_of(log)
        assert archive.manifest.segments[:3] == first.manifest.segments[:3]


def test_an_export_of_another_log_is_refused(log: Log, storage: ArchiveStorage) -> None:
    export_log(log, storage)
    with pytest.raises(LogError, match="the archive is of log"):
        export_log(create_log(f"memory://{uuid.uuid4()}", 2, opening_entries(2)), storage)
    name = log.identity().log
    again = create_log(f"memory://{uuid.uuid4()}", 2, opening_entries(2, name))
    with pytest.raises(LogError, match="the archive ends at offset"):
        export_log(again, storage)
    again.append([NewRecord(f"cell-{n % 5}", b"other") for n in range(40)])
    with pytest.raises(LogError, match="the log has another record than the archive"):
        export_log(again, storage)


def test_two_exports_do_not_write_at_once(log: Log, storage: ArchiveStorage) -> None:
    other = ArchiveStorage(storage.url)
    export_log(log, storage, until={0: 1, 1: 1})
    other.manifest()
    if storage.url.startswith("file"):
        with other.locked(), pytest.raises(LogError, match="another export is writing this archive"):
            export_log(log, storage)
    export_log(log, storage)
    manifest = storage.manifest()
    assert manifest is not None
    with pytest.raises(LogError, match="another export is writing this archive"):
        other.write_manifest(manifest)
    assert export_log(log, other).manifest == manifest


def test_a_trimmed_log_is_exported_from_its_first_record(storage: ArchiveStorage) -> None:
    from vacancy.streams.memory_log import MemoryLog

    made = create_log(f"memory://{uuid.uuid4()}", 2, opening_entries(2))
    made.append([NewRecord(f"cell-{n % 5}", b"%d" % n) for n in range(40)])
    assert isinstance(made, MemoryLog)
    export_log(made, storage, until={0: 3, 1: 3})
    made.trim(0, 4)
    with pytest.raises(LogError, match="the archive ends at offset 3, the log has the records 4 to"):
        export_log(made, storage)
    fresh = ArchiveStorage(f"{storage.url}-new")
    done = export_log(made, fresh)
    assert (done.manifest.start, done.manifest.end) == (made.start(), made.end())


def test_wrong_numbers_are_refused(log: Log, storage: ArchiveStorage) -> None:
    with pytest.raises(UsageError, match="at least one record"):
        export_log(log, storage, segment_records=0)
    with pytest.raises(LogError, match="before 1000"):
        export_log(log, storage, until={0: 1000})
