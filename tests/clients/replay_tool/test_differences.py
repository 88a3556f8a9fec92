"""Two hosts compare their states through the log, and `verify` names what differs: the record, or the row."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from vacancy.clients.inspection.status import status
from vacancy.clients.replay_tool.verify import verify
from vacancy.clients.runtime.bootstrap import live_parts, open_store, opening_records
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.projections.store import store as store_module
from vacancy.projections.store.state_digests import APART, STRIDE
from vacancy.projections.store.store import Store
from vacancy.resources.classes.registry import Registry
from vacancy.resources.fold.fold import fold
from vacancy.resources.fold.rules_versions import RULES_VERSION
from vacancy.resources.model import events
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import NewRecord, Record
from vacancy.resources.state.tables import NODES
from vacancy.streams.embedded_worker import EmbeddedWorker
from vacancy.streams.log import Log, create_log
from vacancy.streams.state_digests import DigestInterval

REGISTRY = Registry()
(CELL,) = covering_cells(1)


class Clock:
    now_ms = 0

    def __call__(self) -> int:
        return self.now_ms


class Host:
    """A store of the log and its worker. `wrong` is the offset from which on its fold says something else of nodes."""

    def __init__(self, log: Log, path: Path, clock: Clock, *, wrong: int | None = None) -> None:
        self.path, self.log, self.wrong = path, log, wrong
        self.store = open_store(path, log, REGISTRY)
        parts = live_parts(self.store)
        self.worker = EmbeddedWorker(
            log,
            self.store,
            digest_entry=parts.digest_entry,
            digest_interval=DigestInterval(60.0, 1_000_000),
            clock=clock,
            rng=random.Random(1),
        )

    def catch_up(self) -> None:
        with pytest.MonkeyPatch.context() as patch:
            if self.wrong is not None:
                patch.setattr(store_module, "fold", self._fold)
            while self.worker.step():
                pass

    def _fold(self, state: Any, record: Record, *more: Any) -> Any:
        changes = fold(state, record, *more)
        if self.wrong is not None and record.offset == self.wrong:
            rows = changes[NODES]
            for key, row in rows.items():
                rows[key] = replace(row, heard_ms=row.heard_ms + 1)
        return changes

    def differences(self) -> dict[str, str]:
        return dict(self.store.differences(0))


@pytest.fixture
def log() -> Iterator[Log]:
    opening = opening_records(1, events.Rules(version=RULES_VERSION))
    with create_log(f"memory://{uuid.uuid4()}", 1, opening) as log:
        yield log


def report(log: Log, *names: str) -> None:
    for name in names:
        data = events.NodeReportedData(
            root=name,
            incarnation=f"{1:016x}",
            sequence=1,
            providers=(events.ProviderReport(id=name, inventories={"VCPU": {"total": 8}}),),
        )
        event = events.NodeReported(id=uuid.uuid4().hex, source="/test", data=data)
        log.append([NewRecord(CELL, events.encode(event))])


def digests(log: Log) -> list[events.StateDigestedData]:
    found = (events.parse(record.value) for record in log.read(0, 0, 10_000))
    return [event.data for event in found if isinstance(event, events.StateDigested)]


def test_hosts_that_are_equal_say_so_and_stay_silent_when_nothing_changes(log: Log, tmp_path: Path) -> None:
    clock = Clock()
    hosts = [Host(log, tmp_path / name, clock) for name in ("a", "b")]
    report(log, *(f"node-{n}" for n in range(20)))
    for _ in range(8):
        clock.now_ms += 80_000
        for _ in range(2):
            for host in hosts:
                host.catch_up()
    said = digests(log)
    assert {one.store for one in said if one.position} == {host.store.id for host in hosts}
    assert len(said) <= 8
    compared = [host.store.partition(0).digests.row.compared for host in hosts]
    assert all(compared)
    assert [host.differences() for host in hosts] == [{}, {}]
    row = hosts[0].store.partition(0).digests.row
    assert row.events == len(said)
    assert verify(log, hosts[0].path, REGISTRY).hosts == {}


def parted_at(log: Log, tmp_path: Path, wrong: int) -> tuple[Host, Host]:
    """Two hosts, the second of which folded the record at this offset in another way."""
    clock = Clock()
    right, other = Host(log, tmp_path / "a", clock), Host(log, tmp_path / "b", clock, wrong=wrong)
    for n in range(40):
        report(log, f"node-{n}")
        if not n % APART:
            clock.now_ms += 80_000
        for host in (right, other):
            host.catch_up()
    clock.now_ms += 80_000
    for _ in range(2):
        for host in (right, other):
            host.catch_up()
    return right, other


def test_hosts_that_part_notice_it_and_verify_names_the_record(log: Log, tmp_path: Path) -> None:
    wrong = 27
    assert events.parse(log.read(0, 0, 1)[0].value).type == "vacancy.log.opened.v1"
    right, other = parted_at(log, tmp_path, wrong)
    assert type(events.parse(log.read(0, wrong, 1)[0].value)) is events.NodeReported
    assert list(right.differences()) == [other.store.id]
    assert list(other.differences()) == [right.store.id]
    for host in (right, other):
        with StoreReader(host.path, REGISTRY) as reader:
            (one,) = status(reader).partitions
            assert one.differs == host.differences()
    found = verify(log, other.path, REGISTRY)
    (parted,) = found.parted
    assert not found.ok
    assert not parted.altered
    assert parted.first == wrong
    assert 0 < parted.equal <= wrong < parted.differs
    assert [row.table for row in parted.rows] == [NODES.name]
    (theirs,) = verify(log, right.path, REGISTRY).hosts[0]
    assert (theirs.store, theirs.equal, theirs.differs) == (other.store.id, parted.equal, parted.differs)


def test_a_row_that_was_altered_at_rest_is_named(log: Log, tmp_path: Path) -> None:
    host = Host(log, tmp_path / "a", Clock())
    report(log, "node-1", "node-2")
    host.catch_up()
    key = f"{CELL}\0node-2".encode()
    tables = host.store.partition(0)
    row = tables.get(NODES, key)
    assert row is not None
    tables._dbs[NODES.family][key] = NODES.encode(replace(row, heard_ms=7))
    found = verify(log, host.path, REGISTRY)
    (parted,) = found.parted
    assert parted.altered
    assert parted.checksum_kept == parted.checksum_log != parted.checksum_rows
    (named,) = parted.rows
    assert (named.table, named.key) == (NODES.name, f"{CELL} node-2")
    assert named.here != named.log
    assert named.here == {**named.log, "heard_ms": 7}


def test_boundaries_depend_only_on_the_log(tmp_path: Path) -> None:
    """They are before records at multiples of a number, and before digests that are apart."""
    opening = events.LogOpened(
        id="e",
        source="/test",
        data=events.LogOpenedData(
            log="log", partition=0, partitions=1, rules=events.Rules(version=RULES_VERSION)
        ),
    )
    tick = events.encode(events.Tick(id="e", source="/test"))
    said = events.StateDigestedData(store="s", position=0, checksum="0" * 16)
    digest = events.encode(events.StateDigested(id="e", source="/test", data=said))
    digested = {APART - 1, APART, APART + 2, STRIDE - 1, STRIDE + 1, STRIDE + 1 + APART}
    values = [events.encode(opening)]
    values += [digest if offset in digested else tick for offset in range(1, STRIDE + 20)]
    records = [Record(0, offset, offset, CELL.encode(), value) for offset, value in enumerate(values)]
    kept = []
    for size in (1000, 4096, 333):
        with Store(tmp_path / str(size), log="log", partitions=1, registry=REGISTRY) as store:
            for first in range(0, len(records), size):
                store.apply(0, records[first : first + size])
            kept.append(store.partition(0).digests.row.boundaries)
    assert [one.position for one in kept[0]] == [APART, STRIDE - 1, STRIDE, STRIDE + 1 + APART]
    assert kept[0] == kept[1] == kept[2]
