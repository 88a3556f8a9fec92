"""A log is shortened only where a snapshot and an archive have what it loses, and everything goes on afterwards."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.clients.archives.conftest import ArchivedSite
from tests.streams.archive.test_archive import records_of
from tests.support.sites.damaged_files import flip
from tests.support.sites.snapshot_site import REGISTRY, SnapshotSite
from vacancy.clients.archives.importing import import_log
from vacancy.clients.archives.trim import prepare_trim, trim
from vacancy.clients.publisher.known_rules import KnownRules
from vacancy.clients.replay_tool.replay import digest, replay
from vacancy.clients.runtime.bootstrap import new_log
from vacancy.resources.fold.rules_versions import RULES_VERSION
from vacancy.resources.model.errors import LogError, StoreCorrupt, StoreMismatch
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import NewRecord
from vacancy.streams.archive.manifest import encode_manifest
from vacancy.streams.archive.storage import ArchiveStorage
from vacancy.streams.log import Log, open_log
from vacancy.streams.sqlite.schema import checksums


def trimmed(archived: ArchivedSite) -> dict[int, int]:
    """Trim the log, and append to it again. Returns where it begins."""
    prepare_trim(archived.site.log)
    snapshot = archived.snapshot()
    archived.export()
    archived.site.report()
    plan = archived.plan(snapshot)
    trim(archived.site.log, plan)
    return plan.before


def test_marks_change_nothing(archived: ArchivedSite) -> None:
    before = archived.site.fold()
    marks = prepare_trim(archived.site.log)
    after = archived.site.fold()
    assert {p: offset - 1 for p, offset in after.position.items()} == before.position
    assert [at.offset for at in marks] == [before.position[at.partition] for at in marks]
    with archived.site.log as log:
        for at in marks:
            assert log.read(at.partition, at.offset, 1)[0][3:] == log.read(at.partition, 0, 1)[0][3:]


def test_all_goes_on_after_a_trim(archived: ArchivedSite) -> None:
    site = archived.site
    name, expected = site.log.identity(), records_of(site.log)
    start = trimmed(archived)
    assert all(start.values())
    assert site.log.start() == start
    assert site.log.identity() == name
    rules = KnownRules(site.log, 0).look()
    assert rules is not None
    assert rules.version == RULES_VERSION
    live = site.fold()  # the store goes on
    with pytest.raises(LogError, match="name the log's archive"):
        replay(site.log, site.home / "without", REGISTRY)
    with archived.joined() as log:
        assert (log.identity(), log.end()) == (name, site.log.end())
        assert log.start() == {0: 0, 1: 0}
        assert records_of(log)[: len(expected)][0] == expected[0]
        assert set(expected) <= set(records_of(log))
        assert replay(log, site.home / "with", REGISTRY).whole == live.whole


def test_a_second_trim_cuts_at_later_marks(archived: ArchivedSite) -> None:
    first = trimmed(archived)
    second = trimmed(archived)
    assert all(second[p] > first[p] for p in first)
    with archived.joined() as log:
        assert replay(log, archived.site.home / "with", REGISTRY).whole == archived.site.fold().whole


def test_without_a_mark_nothing_is_cut(archived: ArchivedSite) -> None:
    snapshot = archived.snapshot()
    archived.export()
    with pytest.raises(LogError, match="trim --prepare"):
        archived.plan(snapshot)
    prepare_trim(archived.site.log)
    archived.export()
    with pytest.raises(LogError, match="no partition has a mark before snapshot"):
        archived.plan(snapshot)


def test_a_trim_that_ended_has_nothing_left_to_do(archived: ArchivedSite) -> None:
    start = trimmed(archived)
    snapshot = archived.snapshot()
    archived.export()
    plan = archived.plan(snapshot)
    assert (plan.before, plan.records) == (start, 0)
    trim(archived.site.log, plan)
    assert archived.site.log.start() == start


def test_a_partition_without_its_first_record_is_not_cut(archived: ArchivedSite) -> None:
    archived.site.log.trim(1, 1)
    with pytest.raises(
        LogError, match=r"does not begin with its log.opened record \(log, partition 1, offset 1\)"
    ):
        prepare_trim(archived.site.log)


def test_only_a_copy_of_the_first_record_is_a_mark(archived: ArchivedSite) -> None:
    log = archived.site.log
    prepare_trim(log)
    expected = {p: end - 1 for p, end in log.end().items()}
    for partition, cell in enumerate(covering_cells(2)):
        event = json.loads(log.read(partition, 0, 1)[0].value)
        event["data"]["rules"]["version"] = 99
        same = json.dumps(event).encode()
        event["data"]["log"] = "another"
        values = (same, json.dumps(event).encode(), b"vacancy.log.opened.v1")
        log.append([NewRecord(cell, value) for value in values])
    snapshot = archived.snapshot()
    archived.export()
    assert archived.plan(snapshot).before == expected


def test_an_archive_that_lacks_something_is_refused(archived: ArchivedSite, tmp_path: Path) -> None:
    archived.export()
    prepare_trim(archived.site.log)
    snapshot = archived.snapshot()
    with pytest.raises(LogError, match="the archive ends at offset"):
        archived.plan(snapshot)
    archived.export()
    for file in sorted((tmp_path / "archive").rglob("*.parquet"))[::3]:
        flip(file, 200)
        with pytest.raises(LogError, match=str(file)):
            archived.plan(snapshot)
        flip(file, 200)
    assert archived.plan(snapshot).records > 0
    other = new_log(f"sqlite://{tmp_path}/other.db", 2, REGISTRY)
    with other, pytest.raises(StoreMismatch, match="the snapshot is of log"):
        archived.plan(snapshot, other)


def test_records_that_differ_from_the_archive_are_not_deleted(archived: ArchivedSite, tmp_path: Path) -> None:
    """The archive is whole, and another history of the same log."""
    prepare_trim(archived.site.log)
    snapshot = archived.snapshot()
    other = ArchivedSite(SnapshotSite(_rewritten(archived, tmp_path), tmp_path))
    other.export()
    with pytest.raises(
        LogError, match=r"the log has another record than the archive .*partition 0, offset 1"
    ):
        archived.plan(snapshot)


def _rewritten(archived: ArchivedSite, home: Path) -> Log:
    """The same log with another timestamp in it."""
    url = f"sqlite://{home}/rewritten.db"
    whole = ArchivedSite(SnapshotSite(archived.site.log, home / "whole"))
    whole.export()
    with whole.archive() as archive:
        import_log(archive, url)
    record = archived.site.log.read(0, 1, 1)[0]._replace(timestamp_ms=5)
    with sqlite3.connect(home / "rewritten.db") as db:
        db.execute(
            "UPDATE records SET timestamp_ms = 5, checksum = ? WHERE partition = 0 AND offset = 1",
            (checksums([record])[0],),
        )
    db.close()
    return open_log(url)


def test_a_damaged_snapshot_is_refused(archived: ArchivedSite, tmp_path: Path) -> None:
    prepare_trim(archived.site.log)
    snapshot = archived.snapshot()
    archived.export()
    file = next((tmp_path / "snapshots" / snapshot).rglob("*.sst.gz"))
    flip(file, 20)
    with pytest.raises(StoreCorrupt, match=str(file)):
        archived.plan(snapshot)


def test_the_archive_of_another_log_is_not_joined(archived: ArchivedSite, tmp_path: Path) -> None:
    trimmed(archived)
    storage = ArchiveStorage(archived.archive_url)
    manifest = storage.manifest()
    assert manifest is not None
    file = tmp_path / "archive" / "archive.json"
    good = file.read_bytes()
    lies = {
        "is of log": replace(manifest, log="0" * 32, segments=()),
        "the records between are missing": replace(manifest, segments=manifest.segments[:1]),
        "has another record": replace(
            manifest,
            segments=tuple(
                replace(one, last_checksum=7) if one.end == manifest.end[one.partition] else one
                for one in manifest.segments
            ),
        ),
    }
    for message, lie in lies.items():
        file.write_bytes(encode_manifest(lie))
        with archived.joined() as log, pytest.raises(LogError, match=message):
            log.read(0, 1, 1)
    file.write_bytes(good)
    with archived.joined() as log:
        assert log.read(0, 1, 1)
        with pytest.raises(LogError, match="cannot be deleted"):
            log.trim(0, 5)


def test_an_archive_is_not_opened_before_it_is_needed(archived: ArchivedSite) -> None:
    with open_log(archived.site.log.url, archive="file:///nowhere/archive") as log:
        assert log.start() == {0: 0, 1: 0}
        assert records_of(log) == records_of(archived.site.log)
        assert log.offset_after(0, 0) == 0
    trimmed(archived)
    with open_log(archived.site.log.url, archive="file:///nowhere/archive") as log:
        assert log.identity() == archived.site.log.identity()
        end = log.end()[0]
        assert log.read(0, end - 1, 5)
        with pytest.raises(LogError, match="there is no archive"):
            log.start()


def test_a_log_that_is_trimmed_while_it_is_read(archived: ArchivedSite) -> None:
    expected = records_of(archived.site.log)
    with archived.joined() as log:
        assert log.read(0, 0, 1) == expected[:1]
        trimmed(archived)
        assert set(expected) < set(records_of(log))
        times = [one.timestamp_ms for one in expected if one.partition == 0]
        assert log.offset_after(0, times[0] - 1) == 0
        assert log.offset_after(0, times[-1] + 10**9) == log.end()[0]


def test_equal_digests_everywhere(archived: ArchivedSite, tmp_path: Path) -> None:
    """The live store, the log, its archive, the imported log and the trimmed log with the archive."""
    trimmed(archived)
    with archived.joined() as log:
        export = ArchivedSite(SnapshotSite(log, tmp_path / "all"))
        export.export()
        with export.archive() as archive:
            import_log(archive, f"sqlite://{tmp_path}/imported.db")
            found = {"archive": replay(archive, tmp_path / "a", REGISTRY)}
        found["joined"] = replay(log, tmp_path / "j", REGISTRY)
    with open_log(f"sqlite://{tmp_path}/imported.db") as imported:
        found["imported"] = replay(imported, tmp_path / "i", REGISTRY)
    found["live"] = archived.site.fold()
    assert len({one.whole for one in found.values()}) == 1, found
    assert digest(tmp_path / "i", REGISTRY) == found["live"]
