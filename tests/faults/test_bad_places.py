"""Logs and stores that were replaced, truncated or damaged: each is refused with an error that says what, where and
what to do.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import uuid
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.faults.site_on_disk import Site, check_error_text, wait_for
from tests.support.logs.events_json import claim, claims, event, provider, reported
from vacancy.clients.replay_tool.replay import digest, read_all, replay
from vacancy.clients.replay_tool.verify import verify
from vacancy.clients.runtime.bootstrap import installed_registry
from vacancy.clients.scheduler.client import Scheduler
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.model.errors import LogError, StoreError, StoreInUse, StoreMismatch, VacancyError
from vacancy.streams.log import open_log
from vacancy.streams.sqlite.schema import checksums

CELL = "auto-0"
REPORTS = 20
END = 1 + REPORTS


def report(number: int) -> bytes:
    return reported("node-1", [provider("node-1", VCPU=number)], sequence=number)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site whose worker has folded the log and was stopped."""
    made = Site.made(tmp_path)
    made.append(CELL, *(report(number) for number in range(1, END)))
    made.fold()
    return made


def alter(site: Site, statement: str, *values: Any) -> None:
    """Change the log's file directly."""
    with closing(sqlite3.connect(site.file)) as db, db:
        db.execute(statement, values)


def replace(site: Site, offset: int, value: bytes) -> None:
    """Put another value in the place of a record of each partition, as a program would that writes checksums."""
    with closing(sqlite3.connect(site.file)) as db, db:
        rows = db.execute(
            "SELECT partition, timestamp_ms, key FROM records WHERE offset = ?", (offset,)
        ).fetchall()
        for partition, timestamp_ms, key in rows:
            (stored,) = checksums([(partition, offset, timestamp_ms, key, value)])
            db.execute(
                "UPDATE records SET value = ?, checksum = ? WHERE partition = ? AND offset = ?",
                (value, stored, partition, offset),
            )


def remove(site: Site, offset: int) -> None:
    alter(site, "DELETE FROM records WHERE offset = ?", offset)


def worker_error(site: Site, store: Path | None = None) -> VacancyError:
    """The error of a worker that cannot continue."""
    worker = site.worker(store)
    worker.start()
    with pytest.raises(VacancyError) as caught:
        worker.wait_ready()
    with suppress(VacancyError):  # the same again, if it has not ended yet
        worker.stop()
    return caught.value


def content(directory: Path) -> dict[str, bytes]:
    """The content of all files of a directory."""
    return {str(path): path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()}


# -- the log ended, was made anew, or has a hole ------------------------------------------------------------------


def truncate(site: Site) -> None:
    """As an older copy of the file is."""
    alter(site, "DELETE FROM records WHERE offset >= ?", END - 5)
    alter(site, "UPDATE meta SET value = ? WHERE name = 'end_0'", END - 5)


def rewrite(site: Site) -> None:
    """Truncate the log and append other records."""
    truncate(site)
    site.append(CELL, *(report(number) for number in range(100, 110)))


def make_anew(site: Site) -> None:
    for file in site.home.glob("log.db*"):
        file.unlink()
    Site.made(site.home)
    site.append(CELL, *(report(number) for number in range(1, END)))


def make_anew_with_more_partitions(site: Site) -> None:
    named = json.loads((site.store / "store.json").read_text())["log"]
    for file in site.home.glob("log.db*"):
        file.unlink()
    Site.made(site.home, 2)
    with closing(sqlite3.connect(site.file)) as db, db:
        ours = db.execute("SELECT value FROM records WHERE partition = 0").fetchone()[0]
    replace(site, 0, ours.replace(json.loads(ours)["data"]["log"].encode(), named.encode()))


OTHER_LOGS: Mapping[str, tuple[Callable[[Site], None], tuple[str, ...]]] = {
    "it ends before the position": (
        truncate,
        (
            "the log",
            "partition 0, offset 2",
            "rebuild the store from this",
        ),
    ),
    "it went on otherwise": (
        rewrite,
        (
            "another record than the one that was folded",
            f"partition 0, offset {END - 1}",
            "rebuild the store from this one",
        ),
    ),
    "it was made anew": (
        make_anew,
        ("the store was folded from log", "STORE", "name the log it came from, another --store, or rebuild"),
    ),
    "it has other partitions": (
        make_anew_with_more_partitions,
        ("the store has 1 partitions, the log has 2", "STORE", "make a new log"),
    ),
}


@pytest.mark.parametrize("name", OTHER_LOGS)
def test_a_log_that_is_not_the_one_that_was_folded(name: str, site: Site) -> None:
    spoil, fragments = OTHER_LOGS[name]
    spoil(site)
    tables = digest(site.store, installed_registry())
    error = worker_error(site)
    assert isinstance(error, StoreMismatch | LogError)
    check_error_text(error, *(fragment.replace("STORE", str(site.store)) for fragment in fragments))
    with site.log() as log, pytest.raises((StoreMismatch, LogError)) as again:
        replay(log, site.store, installed_registry())
    assert str(again.value) == str(error)
    # What is in the tables is there still, for whoever only reads.
    assert digest(site.store, installed_registry()) == tables


def test_a_rebuilt_store_follows_the_log_that_is_there(site: Site) -> None:
    rewrite(site)
    assert isinstance(worker_error(site), StoreMismatch)
    shutil.rmtree(site.store)
    with site.with_worker():
        assert site.settle() == {0: END - 5 + 10}
    site.check_whole()


def test_a_log_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(LogError) as caught:
        open_log(f"sqlite://{tmp_path}/log.db")
    check_error_text(
        caught.value, "there is no log", f"{tmp_path}/log.db", f"--log sqlite://{tmp_path}/log.db"
    )


def test_a_log_that_does_not_start_as_one(tmp_path: Path) -> None:
    site = Site.made(tmp_path)
    replace(site, 0, report(1))
    error = worker_error(site)
    check_error_text(
        error,
        "does not start with vacancy.log.opened.v1 but with 'vacancy.node.reported.v1'",
        "partition 0, offset 0",
        "vacancy topics create",
    )
    assert not site.store.exists()


def test_a_log_whose_first_record_is_gone(tmp_path: Path) -> None:
    site = Site.made(tmp_path)
    site.append(CELL, report(1), report(2))
    remove(site, 0)
    check_error_text(
        worker_error(site), "no partition of the log has its first record", "if retention removed it"
    )


def test_a_gap_ahead_stops_the_worker_before_it(site: Site) -> None:
    site.append(CELL, *(report(number) for number in range(END, END + 10)))
    remove(site, END + 4)
    error = worker_error(site)
    assert isinstance(error, LogError)
    check_error_text(
        error, "the log has a gap", f"{site.url}, partition 0, between {END} and {END + 9}", "from a backup"
    )
    with site.reader() as reader:
        assert reader.position == {0: END}


def test_a_gap_under_a_running_worker(site: Site) -> None:
    """The next record is missing, as after an incomplete restore."""
    worker = site.worker()
    worker.start()
    worker.wait_ready()
    with site.log() as log:
        alter(
            site,
            "INSERT INTO records SELECT partition, ?, timestamp_ms, key, value, checksum, uptime FROM records WHERE offset = ?",
            END + 1,
            END - 1,
        )
        wait_for(lambda: worker.exit_code is not None)  # its only partition has failed
        with pytest.raises(LogError) as caught:
            worker.check()
        check_error_text(caught.value, "the log has a gap", "partition 0", f"between {END} and {END + 1}")
        assert log.end() == {0: END + 2}
    with site.reader() as reader:
        assert reader.position == {0: END}


def test_a_gap_behind_is_found_by_whoever_reads_the_log_again(site: Site) -> None:
    remove(site, 7)
    with site.with_worker():  # it goes on: what it needs of the log is there
        site.append(CELL, report(END))
        site.settle()
    with site.log() as log:
        tries: tuple[Callable[[], object], ...] = (
            lambda: replay(log, site.home / "rebuilt", installed_registry()),
            lambda: read_all(log),
            lambda: verify(log, site.store, installed_registry()),
        )
        for again in tries:
            with pytest.raises(LogError) as caught:
                again()
            check_error_text(caught.value, "the log has a gap", "partition 0, between 0 and", "from a backup")


# -- stores -------------------------------------------------------------------------------------------------------


def of_another_version(site: Site) -> None:
    path = site.store / "store.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99, "shards": 3}))


def of_another_build(site: Site) -> None:
    path = site.store / "store.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "classes": ["LICENSES"]}))


def without_manifest(site: Site) -> None:
    (site.store / "store.json").unlink()


STORES: Mapping[str, tuple[Callable[[Site], None], tuple[str, ...]]] = {
    "of another version": (
        of_another_version,
        (
            "the store has format 99, this build reads 1",
            "store.json",
            "use the build that made it, or rebuild",
        ),
    ),
    "of a build with another class": (
        of_another_build,
        ("the store has tables of resource class LICENSES", "STORE", "install the package that provides it"),
    ),
    "without its manifest": (
        without_manifest,
        ("the store has no manifest", "store.json", "rebuild it from the log"),
    ),
}


@pytest.mark.parametrize("name", STORES)
def test_a_store_that_this_build_cannot_go_on_with(name: str, site: Site) -> None:
    spoil, fragments = STORES[name]
    spoil(site)
    before = content(site.store)
    wanted = [fragment.replace("STORE", str(site.store)) for fragment in fragments]
    check_error_text(worker_error(site), *wanted)
    with site.log() as log:
        tries: tuple[Callable[[], object], ...] = (
            lambda: replay(log, site.store, installed_registry()),
            lambda: Scheduler(log, site.store, installed_registry()),
            lambda: StoreReader(site.store, installed_registry()),
            lambda: verify(log, site.store, installed_registry()),
        )
        for attempt in tries:
            with pytest.raises(StoreError) as caught:
                attempt()
            check_error_text(caught.value, *wanted)
    assert content(site.store) == before


def test_a_store_in_use(site: Site) -> None:
    with site.with_worker():
        error = worker_error(site)
        assert isinstance(error, StoreInUse)
        check_error_text(
            error,
            "another process writes this store",
            str(site.store / "p00000"),
            "stop that worker, or give this one another --store",
        )
        with site.log() as log, pytest.raises(StoreInUse):
            replay(log, site.store, installed_registry())
        site.append(CELL, report(END))
        assert site.settle() == {0: END + 1}  # the first one did not notice
    site.fold()
    site.check_whole()


def test_a_partition_of_another_store(site: Site, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Site.made(tmp_path / "other")
    other.fold()
    shutil.rmtree(site.store / "p00000")
    shutil.copytree(other.store / "p00000", site.store / "p00000")
    check_error_text(
        worker_error(site),
        "the partition belongs to store",
        str(site.store / "p00000"),
        "put back the directory that was here, or rebuild it",
    )


def test_no_store_at_all(site: Site) -> None:
    with site.log() as log, pytest.raises(StoreError) as caught:
        Scheduler(log, site.home / "nowhere", installed_registry())
    check_error_text(caught.value, "there is no store", str(site.home / "nowhere"), "start `vacancy worker`")


def test_records_that_a_restored_log_has_twice_count_once(site: Site) -> None:
    """All records again under new offsets, as a producer sends them after an unknown outcome."""
    deadline_ms = site.records()[0][-1].timestamp_ms + 300_000
    site.append(CELL, claims(claim("c", "i", "node-1", {"VCPU": 1}, deadline_ms)))
    values = [record.value for record in site.records()[0][1:]]
    site.append(CELL, *values, *values)
    site.append(CELL, event("tick.v1", {}, uuid.uuid4().hex))
    with site.with_worker():
        site.settle()
    assert [len(rows) for rows in site.allocations().values()] == [1]
    assert site.check_whole().accepted == 1
