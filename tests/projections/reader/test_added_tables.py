"""A later version of the rules adds tables to a store that is in use: its readers see them, without a restart."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.projections.store.writer_process import ACTIVATED_AT, noted_log, open_noted
from tests.support.classes.ports_class import REGISTRY
from tests.support.logs.events_json import LOG, Tape
from tests.support.logs.rules_versions import LATER_BUILD, LATER_VERSION, NOTE_COUNTS, NOTES, rule_set
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.projections.store.digest import partition_digest
from vacancy.projections.store.rocksdb import existing_families
from vacancy.projections.store.store import Store, partition_path
from vacancy.resources.classes.registry import CLASSES_1
from vacancy.resources.fold.fold import fold
from vacancy.resources.fold.rules_versions import RULES_VERSION, RULES_VERSIONS
from vacancy.resources.model.errors import StoreMismatch
from vacancy.resources.state.rule_set import RulesVersions
from vacancy.resources.state.tables import PARTITION, PARTITION_KEY, key

ROOT = Path(__file__).parents[3]
LACKED = f"rules version {LATER_VERSION}, this build supports up to {RULES_VERSION}"
SCRIPT = Path(__file__).parents[1] / "store/writer_process.py"
CELL = Tape().cells[0]


def notes_before(position: int) -> list[int]:
    """The offsets of the notes that were folded before a position."""
    return [offset for offset in range(ACTIVATED_AT + 1, position) if offset % 3]


def check(reader: StoreReader, *, exact: bool) -> None:
    """The rows are those of the reader's position; after `follow` those of the tables that are fed."""
    position = reader.position[0]
    notes = notes_before(position)
    note = reader.get(NOTES, CELL.encode(), cell=CELL)
    assert note == (b"%d" % notes[-1] if notes else None), position
    reported = [offset for offset in range(3, position, 3) if offset != ACTIVATED_AT]
    row = reader.get(REGISTRY.table("VCPU"), key(CELL, "n1"))
    assert (0 if row is None else row.record.total) == (reported[-1] if reported else 0), position
    if exact:
        count = reader.get(NOTE_COUNTS, CELL.encode(), cell=CELL)
        assert count == (b"%d" % len(notes) if notes else None), position
        partition = reader.get(PARTITION, PARTITION_KEY, cell=CELL)
        assert partition is None or partition.rules_version == (
            LATER_VERSION if position > ACTIVATED_AT else 1
        )
        assert [row for _, _, row in reader.scan(NOTES)] == ([note] if note else [])


@pytest.mark.parametrize("seed", [1, 2])
def test_a_reader_in_another_process_follows_across_the_activation(tmp_path: Path, seed: int) -> None:
    with subprocess.Popen(
        [sys.executable, str(SCRIPT), "activate", str(tmp_path), str(seed), "8"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as writer:
        assert writer.stdin is not None
        assert writer.stdout is not None
        assert writer.stdout.readline() == "open\n"
        rng = random.Random(seed)
        reader = StoreReader(tmp_path, REGISTRY, versions=LATER_BUILD)
        writer.stdin.close()  # now it goes on
        positions = {reader.position[0]}
        while writer.poll() is None:
            exact = rng.random() < 0.3
            if exact:
                reader.catch_up()
            else:
                reader.follow()
            check(reader, exact=exact)
            positions.add(reader.position[0])
            time.sleep(rng.choice((0, 0, 0, 0.002, 0.02)))
        last = int(writer.stdout.readline())
        reader.catch_up()
        check(reader, exact=True)
        reader.close()
    assert reader.position == {0: last}
    assert min(positions) < ACTIVATED_AT < last
    with StoreReader(tmp_path, REGISTRY, versions=LATER_BUILD) as late:  # one that never saw the old tables
        check(late, exact=True)


@pytest.mark.parametrize("move", [StoreReader.catch_up, StoreReader.follow])
def test_the_commit_that_activates_and_the_first_row_of_a_new_table(
    tmp_path: Path, move: Callable[[StoreReader], None]
) -> None:
    with open_noted(tmp_path) as store:
        log = noted_log()
        store.apply(0, list(itertools.islice(log, ACTIVATED_AT - 1)))
        assert not {"notes", "note_counts"} & set(existing_families(partition_path(tmp_path, 0)))
        with StoreReader(tmp_path, REGISTRY, versions=LATER_BUILD) as reader:
            for record in itertools.islice(log, 8):
                store.apply(0, [record])
                move(reader)
                check(reader, exact=move is StoreReader.catch_up)
        assert {"notes", "note_counts"} < set(existing_families(partition_path(tmp_path, 0)))


def test_one_commit_activates_and_writes(tmp_path: Path) -> None:
    with open_noted(tmp_path) as store:
        log = noted_log()
        store.apply(0, list(itertools.islice(log, 10)))
        with StoreReader(tmp_path, REGISTRY, versions=LATER_BUILD) as reader:
            store.apply(0, list(itertools.islice(log, ACTIVATED_AT + 20)))
            reader.follow()
            check(reader, exact=True)


def test_a_batch_that_fails_after_the_activation_leaves_the_state_of_before(tmp_path: Path) -> None:
    """The tables stay, empty: they weigh nothing, and the next try uses them."""
    with open_noted(tmp_path) as store:
        records = list(itertools.islice(noted_log(), ACTIVATED_AT + 3))
        store.apply(0, records[:ACTIVATED_AT])
        tables = store.partition(0)
        before = partition_digest(tables.scan, REGISTRY, LATER_BUILD)
        tables.stage(fold(tables, records[ACTIVATED_AT], REGISTRY, LATER_BUILD))
        tables.abandon()
        assert partition_digest(tables.scan, REGISTRY, LATER_BUILD) == before
        store.apply(0, records)
        assert tables.get(NOTES, CELL.encode()) is not None
    with open_noted(tmp_path) as store:
        assert store.position() == {0: len(records)}
        assert store.partition(0).get(NOTES, CELL.encode()) is not None


def test_however_it_is_folded_the_digest_is_the_same(tmp_path: Path) -> None:
    digests = set()
    for name, size in (("one", 1), ("some", 7), ("all", 400)):
        with open_noted(tmp_path / name) as store:
            log = itertools.islice(noted_log(), ACTIVATED_AT + 50)
            while batch := list(itertools.islice(log, size)):
                store.apply(0, batch)
            digests.add(partition_digest(store.partition(0).scan, REGISTRY, LATER_BUILD))
    assert len(digests) == 1


def test_a_build_that_does_not_support_the_version_refuses_the_store(tmp_path: Path) -> None:
    with open_noted(tmp_path) as store:
        log = noted_log()
        store.apply(0, list(itertools.islice(log, 5)))
        with StoreReader(tmp_path, REGISTRY) as older:
            store.apply(0, list(itertools.islice(log, ACTIVATED_AT)))
            for move in (older.follow, older.catch_up):
                with pytest.raises(StoreMismatch, match=LACKED):
                    move()
    with pytest.raises(StoreMismatch, match=LACKED):
        StoreReader(tmp_path, REGISTRY)
    with Store(tmp_path, log=LOG, partitions=1, registry=REGISTRY) as store:  # noqa: SIM117 - one step each
        with pytest.raises(StoreMismatch, match="tables that this build does not know: note_counts, notes"):
            store.open(0)


def test_a_build_refuses_a_store_of_a_later_version_that_brought_no_table(tmp_path: Path) -> None:
    later = RulesVersions([*RULES_VERSIONS, rule_set(LATER_VERSION)])
    with Store(tmp_path, log=LOG, partitions=1, registry=REGISTRY, versions=later) as store:
        store.apply(0, list(itertools.islice(noted_log(), ACTIVATED_AT + 1)))
    with Store(tmp_path, log=LOG, partitions=1, registry=REGISTRY) as store:  # noqa: SIM117 - one step each
        with pytest.raises(StoreMismatch, match=LACKED):
            store.open(0)


def test_a_class_that_a_later_version_brings_gets_its_table_then(tmp_path: Path) -> None:
    without = rule_set(1, classes=CLASSES_1 - {"VCPU"})
    others = map(rule_set, range(2, LATER_VERSION + 1))
    versions = RulesVersions((without, *others))
    with Store(tmp_path, log=LOG, partitions=1, registry=REGISTRY, versions=versions) as store:
        log = noted_log()
        store.apply(0, list(itertools.islice(log, ACTIVATED_AT)))
        assert "VCPU" not in existing_families(partition_path(tmp_path, 0))
        with StoreReader(tmp_path, REGISTRY, versions=versions) as reader:
            assert reader.get(REGISTRY.table("VCPU"), key(CELL, "n1")) is None
            store.apply(0, list(itertools.islice(log, 10)))
            reader.follow()
            row = reader.get(REGISTRY.table("VCPU"), key(CELL, "n1"))
            assert row is not None
            free = reader.view.classes["VCPU"].arrays["free"]
            assert free[reader.view.row_of[key(CELL, "n1")]] == row.record.total
