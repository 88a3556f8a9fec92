"""A fold in bulk commits many records at once, and ends with the tables of any other fold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from rocksdict import WriteOptions

from tests.recorded_logs.recording import Recording, digest_of, read_recording
from tests.support.classes.ports_class import REGISTRY
from tests.support.logs.events_json import LOG, Tape, provider, reported, rules_in_steps
from vacancy.clients.replay_tool.replay import Digest, store_digests
from vacancy.projections.store import deadline_index, partition_store
from vacancy.projections.store import store as module
from vacancy.projections.store.deadline_index import DeadlineIndex
from vacancy.projections.store.rocksdb import open_primary, scan_keys, without_wal
from vacancy.projections.store.store import Store
from vacancy.resources.fold.rules_versions import RULES_VERSION
from vacancy.resources.model.errors import Halt, StoreError
from vacancy.resources.model.record import Record
from vacancy.resources.state.tables import DEADLINES, deadline_key


def batches(recording: Recording, size: int) -> Iterator[tuple[int, Sequence[Record]]]:
    """The records of a recording, by partition."""
    for partition in recording.ends:
        records = [record for record in recording.records if record.partition == partition]
        for first in range(0, len(records), size):
            yield partition, records[first : first + size]


def opened_in_bulk(recording: Recording, path: Path, *, first_rules: int = 1) -> Store:
    return Store(
        path,
        log=recording.log,
        partitions=recording.partitions,
        registry=recording.registry,
        bulk=True,
        first_rules=first_rules,
    )


def folded(recording: Recording, path: Path, *, first_rules: int = 1) -> Digest:
    """The digest of a store that was folded in bulk."""
    with opened_in_bulk(recording, path, first_rules=first_rules) as store:
        for partition, records in batches(recording, 40):
            store.apply(partition, records)
        return store_digests(store, recording.registry)


@pytest.mark.parametrize("records", [1, 100, 100_000])
def test_the_tables_are_the_same_however_many_records_a_commit_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, records: int
) -> None:
    monkeypatch.setattr(module, "BULK_RECORDS_A_COMMIT", records)
    assert folded(read_recording("raised_to_6"), tmp_path) == digest_of("raised_to_6")


@pytest.mark.parametrize("limit", ["ROWS_STAGED", "ROWS_CACHED"])
def test_rows_that_fill_the_memory_are_committed_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(partition_store, limit, 50)
    assert folded(read_recording("version_6"), tmp_path, first_rules=RULES_VERSION) == digest_of("version_6")


def test_large_records_are_committed_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They change few rows, so only their bytes bound the memory."""
    recording = read_recording("version_6")
    commits: list[None] = []

    def counted() -> WriteOptions:
        commits.append(None)
        return without_wal()

    monkeypatch.setattr(module, "BULK_BYTES_A_COMMIT", 20_000)
    monkeypatch.setattr(partition_store, "without_wal", counted)
    assert folded(recording, tmp_path, first_rules=RULES_VERSION) == digest_of("version_6")
    size = sum(len(record.value) for record in recording.records)
    largest = max(sum(len(one.value) for one in batch) for _, batch in batches(recording, 40))
    assert size // (20_000 + largest) <= len(commits) <= size // 20_000 + 2 * recording.partitions


def test_deadlines_that_are_deleted_in_one_commit_are_stepped_over_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as those of holds, which are confirmed long before they end."""
    read = []

    def counted(db: Any, start: bytes) -> Iterator[bytes]:
        for key in scan_keys(db, start):
            read.append(key)
            yield key

    monkeypatch.setattr(deadline_index, "scan_keys", counted)
    holds = [deadline_key(1_000 + number, b"h", b"hold") for number in range(200)]
    with closing(open_primary(tmp_path / "p", (DEADLINES.family,))) as db:
        family = db.get_column_family(DEADLINES.family)
        for hold in holds:
            family[hold] = b""
        index = DeadlineIndex(family)
        index.stage(dict.fromkeys(holds))
        for number in range(100):
            own = deadline_key(number, b"v", b"verdict")
            index.stage({own: b""})
            assert index.due(number) == [own]
            index.stage({own: None})
        assert len(read) < 2 * len(holds)
        index.stage({holds[7]: b""})
        assert index.due(5_000) == [holds[7]]
        family.close()


def test_a_record_that_stops_the_fold_leaves_all_before_it(tmp_path: Path) -> None:
    tape = Tape(version=RULES_VERSION)
    for number in range(1, 31):
        tape.append(tape.cells[0], reported("n1", [provider("n1", VCPU=number)], sequence=number))
    for value in rules_in_steps(99, ["PORTS"]):
        tape.append(tape.cells[0], value)
    with Store(tmp_path, log=LOG, partitions=1, registry=REGISTRY, bulk=True) as store:
        store.apply(0, tape.records[0][:10])
        with pytest.raises(Halt, match="rules are version 99"):
            store.apply(0, tape.records[0][10:])
        stopped = len(tape.records[0]) - 1
        assert store.position() == {0: stopped}
    with Store(tmp_path, log=LOG, partitions=1, registry=REGISTRY) as store:
        assert store.position() == {0: stopped}


def test_what_cannot_be_written_is_folded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise OSError(28, "No space left on device")

    with opened_in_bulk(read_recording("version_6"), tmp_path) as store:
        records = [record for record in read_recording("version_6").records if record.partition == 0]
        store.apply(0, records[:40])
        with monkeypatch.context() as patched:
            patched.setattr(partition_store, "without_wal", fail)
            with pytest.raises(StoreError, match="No space left"):
                store.position()
        assert store.position()[0] == 0
        store.apply(0, records)
        assert store_digests(store, store.registry).partitions[0] == digest_of("version_6").partitions[0]
