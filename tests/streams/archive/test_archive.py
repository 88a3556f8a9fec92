"""Archives: what is read is what was exported, and everything that is not is noticed and named.

`VACANCY_ARCHIVE_FLIPS` is how many bits are flipped (`make explore`).
"""

from __future__ import annotations

import os
import random
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tests.streams.conftest import opening_entries
from tests.support.sites.damaged_files import flip
from vacancy.clients.archives.export import export_log
from vacancy.resources.model.errors import LogError, UsageError
from vacancy.resources.model.record import NewRecord, Record
from vacancy.streams.archive.log import ArchiveLog
from vacancy.streams.archive.manifest import ArchiveManifest, encode_manifest
from vacancy.streams.archive.segment import ROW_GROUP, encode_segment
from vacancy.streams.archive.storage import ArchiveStorage
from vacancy.streams.log import Log, create_log, open_log
from vacancy.streams.log_url import LogUrl

FLIPS = int(os.environ.get("VACANCY_ARCHIVE_FLIPS", "60"))
RNG = random.Random(os.environ.get("VACANCY_SEED", "7"))
RECORDS = 40


@pytest.fixture
def log() -> Log:
    """A log with two partitions and some records."""
    made = create_log(f"memory://{uuid.uuid4()}", 2, opening_entries(2))
    made.append([NewRecord(f"cell-{n % 5}", b"%d " % n * (n + 1)) for n in range(RECORDS)])
    return made


@pytest.fixture
def folder(tmp_path: Path, log: Log) -> Path:
    """An archive of that log with several segments in each partition."""
    export_log(log, ArchiveStorage(f"file://{tmp_path}/archive"), segment_records=5)
    return tmp_path / "archive"


def records_of(log: Log) -> list[Record]:
    """All records of a log, in order."""
    found: list[Record] = []
    start, end = log.start(), log.end()
    for partition in range(log.partitions):
        offset = start[partition]
        while offset < end[partition]:
            found += log.read(partition, offset, 7, timeout_s=10)
            offset = found[-1].offset + 1
    return found


def read_archive(folder: Path) -> list[Record]:
    """All that a reader of an archive reads, its identity first."""
    with open_log(f"archive+file://{folder}") as archive:
        archive.identity()
        return records_of(archive)


def rewritten(folder: Path, change: Callable[[ArchiveManifest], ArchiveManifest]) -> None:
    """Change the manifest of an archive, with a checksum that fits."""
    manifest = ArchiveStorage(f"file://{folder}").manifest()
    assert manifest is not None
    (folder / "archive.json").write_bytes(encode_manifest(change(manifest)))


def test_an_archive_has_what_the_log_has(log: Log, folder: Path) -> None:
    with open_log(f"archive+file://{folder}") as archive:
        assert archive.identity() == log.identity()
        assert (archive.start(), archive.end()) == (log.start(), log.end())
        assert records_of(archive) == records_of(log)
        assert archive.url == f"archive+file://{folder}"
        assert archive.name == "archive"


def test_records_are_decoded_in_groups() -> None:
    made = create_log(f"memory://{uuid.uuid4()}", 1, opening_entries(1))
    made.append([NewRecord("cell", b"%d" % n) for n in range(2 * ROW_GROUP + 5)])
    storage = ArchiveStorage(f"memory:///{uuid.uuid4()}")
    export_log(made, storage)
    with ArchiveLog(LogUrl("archive", storage.url)) as archive:
        assert len(archive.read(0, 0, 10_000)) == ROW_GROUP
        assert records_of(archive) == records_of(made)
        assert archive.read(0, ROW_GROUP - 1, 2)[0].value == b"%d" % (ROW_GROUP - 2)


def test_the_same_records_give_the_same_bytes(log: Log, folder: Path, tmp_path: Path) -> None:
    export_log(log, ArchiveStorage(f"file://{tmp_path}/second"), segment_records=5)
    files = [path.relative_to(folder) for path in sorted(folder.rglob("*.*"))]
    assert len(files) >= 6
    for file in files:
        assert (folder / file).read_bytes() == (tmp_path / "second" / file).read_bytes()


def test_nothing_is_appended_to_an_archive(folder: Path) -> None:
    with open_log(f"archive+file://{folder}") as archive, pytest.raises(LogError, match="only read"):
        archive.append([NewRecord("cell", b"x")])
    with pytest.raises(UsageError, match="vacancy log export"):
        create_log(f"archive+file://{folder}", 1, opening_entries(1))
    with pytest.raises(LogError, match="there is no archive"):
        open_log(f"archive+file://{folder}/other")
    with pytest.raises(UsageError, match="not installed"):
        open_log("archive+s3://bucket/here")


def test_what_an_export_added_is_read_by_an_open_archive(log: Log, folder: Path) -> None:
    with open_log(f"archive+file://{folder}") as archive:
        end = archive.end()[0]
        assert archive.read(0, end, 10) == []
        for n in range(30):
            log.append([NewRecord(f"cell-{n}", b"new")])
        export_log(log, ArchiveStorage(f"file://{folder}"))
        assert archive.read(0, end, 10)[0].value == b"new"


def test_without_pyarrow_the_error_names_the_extra(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with open_log(f"archive+file://{folder}") as archive:
        with pytest.raises(UsageError, match=r"pip install 'vacancy\[archive\]'"):
            archive.read(0, 0, 1)
        assert archive.end()[0] > 0


def test_each_flipped_bit_is_noticed_and_its_file_is_named(log: Log, folder: Path) -> None:
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".json", ".parquet"))
    expected = records_of(log)
    for _ in range(FLIPS):
        file = RNG.choice(files)
        at, bits = RNG.randrange(file.stat().st_size), 1 << RNG.randrange(8)
        flip(file, at, bits)
        with pytest.raises(LogError, match=r"restore the archive|has format") as raised:
            read_archive(folder)
        assert str(file) in str(raised.value), (file, at, bits)
        flip(file, at, bits)
    assert read_archive(folder) == expected


def test_a_missing_or_cut_segment_is_named(folder: Path) -> None:
    for file in sorted(folder.rglob("*.parquet")):
        kept = file.read_bytes()
        for damage in (file.unlink, lambda file=file, kept=kept: file.write_bytes(kept[:-1])):
            damage()
            with pytest.raises(LogError, match=r"is missing|is damaged") as raised:
                read_archive(folder)
            assert str(file) in str(raised.value)
            file.write_bytes(kept)


def test_a_segment_that_the_manifest_does_not_name_is_a_gap(folder: Path) -> None:
    rewritten(folder, lambda one: replace(one, segments=(one.segments[0], *one.segments[2:])))
    with pytest.raises(LogError, match=r"partition 0 lacks the segment at offset 5"):
        open_log(f"archive+file://{folder}")


LIES: dict[str, Callable[[ArchiveManifest], ArchiveManifest]] = {
    "another log": lambda one: replace(one, log="0" * 32),
    "other partitions": lambda one: replace(one, partitions=3),
    "no partitions": lambda one: replace(one, partitions=0),
    "a partition that is not there": lambda one: replace(one, partitions=1),
    "other offsets": lambda one: changed(one, first=1, end=11),
    "another end": lambda one: changed(one, end=9),
    "the first timestamp": lambda one: changed(one, first_ms=1),
    "the last timestamp": lambda one: changed(one, last_ms=1),
    "the latest timestamp": lambda one: changed(one, latest_ms=2**60),
    "the last record": lambda one: changed(one, last_checksum=7),
    "the size": lambda one: changed(one, size=7),
    "the checksum": lambda one: changed(one, sha256=one.segments[0].sha256[:16] + "0" * 48),
    "another file": lambda one: changed(one, sha256="0" * 64),
    "format 2": lambda one: replace(one, format=2),
}


def changed(manifest: ArchiveManifest, **fields: Any) -> ArchiveManifest:
    """The manifest with another last segment of partition 0."""
    last = max(at for at, one in enumerate(manifest.segments) if one.partition == 0)
    segments = list(manifest.segments)
    if "end" in fields:
        last = 0
        segments = segments[:1]
    segments[last] = replace(segments[last], **fields)
    return replace(manifest, segments=tuple(segments))


@pytest.mark.parametrize("lie", LIES)
def test_a_manifest_that_lies_is_noticed(folder: Path, lie: str) -> None:
    rewritten(folder, LIES[lie])
    with pytest.raises(LogError) as raised:
        read_archive(folder)
    assert str(folder) in str(raised.value)


def test_a_file_that_is_no_segment_is_noticed(folder: Path) -> None:
    for text in (b"{}", b"[]", b"\xff", b"", b'{"format": 1}'):
        (folder / "archive.json").write_bytes(text)
        with pytest.raises(LogError, match="does not read back"):
            open_log(f"archive+file://{folder}")


def test_a_segment_with_other_records_is_noticed(log: Log, folder: Path) -> None:
    """Its checksum fits, and its records do not."""
    wrong = {
        "offsets": [one._replace(offset=one.offset * 2) for one in records_of(log)[:5]],
        "partitions": [one._replace(partition=one.offset % 2) for one in records_of(log)[:5]],
        "timestamps": [
            one._replace(timestamp_ms=one.timestamp_ms - one.offset) for one in records_of(log)[:5]
        ],
    }
    for records in wrong.values():
        segment, data = encode_segment(records, log.identity().log)

        def lie(
            one: ArchiveManifest, size: int = segment.size, sha256: str = segment.sha256
        ) -> ArchiveManifest:
            return replace(
                one, segments=(replace(one.segments[0], size=size, sha256=sha256), *one.segments[1:])
            )

        rewritten(folder, lie)
        manifest = ArchiveStorage(f"file://{folder}").manifest()
        assert manifest is not None
        (folder / manifest.segments[0].path).write_bytes(data)
        with pytest.raises(LogError, match="not what the manifest says"):
            read_archive(folder)


def test_a_storage_that_refuses_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LogError, match="cannot be read or written"):
        open_log(f"archive+file://{tmp_path}/file/archive")
