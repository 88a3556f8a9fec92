"""Two hosts compare their states through the log, and `verify` names what differs: the record, or the row."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from vacancy.clients.inspection.status import status
from vacancy.clients.replay_tool.verify import verify
from vacancy.clients.runtime.bootstrap import live_parts, open_store, opening_records
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.projections.store import store as store_module
from vacancy.projections.store.digest import partition_digest
from vacancy.projections.store.store import Store
from vacancy.resources.classes.registry import Registry
from vacancy.resources.fold.fold import fold
from vacancy.resources.fold.rules_versions import RULES_VERSION
from vacancy.resources.model import events
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import NewRecord, Record
from vacancy.resources.state.tables import NODES
from vacancy.streams.log import Log, create_log
from vacancy.streams.worker.embedded_worker import EmbeddedWorker
from vacancy.streams.worker.state_digests import DigestInterval

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
        self.store.on_boundary = self._digest
        self.worker = EmbeddedWorker(
            log,
            self.store,
            digest_entries=parts.digest_entries,
            digest_interval=DigestInterval(60.0, 1_000_000),
            clock=clock,
            rng=random.Random(1),
        )

    def _digest(self, partition: int, position: int) -> None:
        """As a worker does beside the fold, at once."""
        self.store.add_digest(partition, position, self.digest())

    def digest(self) -> str:
        return partition_digest(self.store.partition(0).scan, REGISTRY)

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


def found_in(log: Log, kind: type[Any]) -> list[Any]:
    found = (events.parse(record.value) for record in log.read(0, 0, 10_000))
    return [event.data for event in found if isinstance(event, kind)]


def pass_time(hosts: Sequence[Host], clock: Clock, seconds: int) -> None:
    """Workers look at random moments whether a mark is due."""
    for _ in range(seconds // 5):
        clock.now_ms += 5_000
        for host in hosts:
            host.catch_up()


def test_hosts_say_their_digests_of_one_mark_and_stay_silent_when_nothing_changes(
    log: Log, tmp_path: Path
) -> None:
    clock = Clock()
    hosts = [Host(log, tmp_path / name, clock) for name in ("a", "b")]
    for marks in (1, 2):
        report(log, *(f"node-{marks}-{n}" for n in range(20)))
        pass_time(hosts, clock, 200)
        assert len(found_in(log, events.StateMarked)) == marks
        said = found_in(log, events.StateDigested)
        assert len(said) == 2 * marks
        assert {one.store for one in said} == {host.store.id for host in hosts}
        assert len({(one.position, one.digest) for one in said}) == marks
    rows = [host.store.partition(0).digests.row for host in hosts]
    assert [row.compared for row in rows] == [4, 4]
    assert all(row.said == row.marked for row in rows)
    assert [host.differences() for host in hosts] == [{}, {}]
    found = verify(log, hosts[0].path, REGISTRY)
    assert (found.hosts, found.compared) == ({}, 4)


def test_a_store_compares_what_was_said_while_it_computed(log: Log, tmp_path: Path) -> None:
    clock = Clock()
    quick, slow, wrong = (Host(log, tmp_path / name, clock) for name in ("a", "b", "c"))
    computed: list[tuple[int, str]] = []
    slow.store.on_boundary = lambda _, position: computed.append((position, slow.digest()))
    wrong.store.on_boundary = lambda _, position: wrong.store.add_digest(0, position, "0" * 32)
    report(log, "node-1")
    pass_time((quick, slow, wrong), clock, 200)
    assert slow.store.partition(0).digests.row.compared == 0
    slow.store.add_digest(0, *computed.pop())
    assert slow.store.partition(0).digests.row.compared == 2
    assert list(slow.differences()) == [wrong.store.id]


def parted_at(log: Log, tmp_path: Path, wrong: int) -> tuple[Host, Host]:
    """Two hosts, the second of which folded the record at this offset in another way."""
    clock = Clock()
    right, other = Host(log, tmp_path / "a", clock), Host(log, tmp_path / "b", clock, wrong=wrong)
    for n in range(40):
        report(log, f"node-{n}")
        pass_time((right, other), clock, 20)
    pass_time((right, other), clock, 200)
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
            assert one.digested == host.store.partition(0).digests.row.marked
    found = verify(log, other.path, REGISTRY)
    (parted,) = found.parted
    assert not found.ok
    assert not parted.altered
    assert parted.first == wrong
    assert 0 < parted.equal <= wrong < parted.differs
    assert [row.table for row in parted.rows] == [NODES.name]
    said = {(one.store, one.position): one.digest for one in found_in(log, events.StateDigested)}
    assert said[other.store.id, parted.equal] == said[right.store.id, parted.equal] == parted.digest_equal
    assert said[other.store.id, parted.differs] == parted.digest_differs
    assert said[right.store.id, parted.differs] == parted.digest_differs_log
    (theirs,) = verify(log, right.path, REGISTRY).hosts[0]
    assert (theirs.store, theirs.equal, theirs.differs) == (other.store.id, parted.equal, parted.differs)


def alter(host: Host, name: str) -> None:
    """Change a row of the store, as a disk may."""
    key = f"{CELL}\0{name}".encode()
    tables = host.store.partition(0)
    row = tables.get(NODES, key)
    assert row is not None
    tables._dbs[NODES.family][key] = NODES.encode(replace(row, heard_ms=7))


def test_a_row_that_was_altered_at_rest_is_named_with_the_digests_around_it(log: Log, tmp_path: Path) -> None:
    clock = Clock()
    host, other = hosts = [Host(log, tmp_path / name, clock) for name in ("a", "b")]
    report(log, "node-1", "node-2")
    pass_time(hosts, clock, 200)
    alter(host, "node-2")
    (parted,) = verify(log, host.path, REGISTRY).parted
    (first,) = {one.position for one in found_in(log, events.StateDigested)}
    assert (parted.altered, parted.equal, parted.differs) == (True, first, -1)
    assert parted.digest != parted.digest_log
    report(log, "node-3")
    pass_time(hosts, clock, 200)
    assert list(other.differences()) == [host.store.id]  # the next digest shows it
    (parted,) = verify(log, host.path, REGISTRY).parted
    assert (parted.altered, parted.equal) == (True, first)
    said = {(one.store, one.position): one.digest for one in found_in(log, events.StateDigested)}
    assert parted.digest_equal == said[host.store.id, first]
    assert parted.digest_differs == said[host.store.id, parted.differs]
    assert parted.digest_differs_log == said[other.store.id, parted.differs]
    (named,) = parted.rows
    assert (named.table, named.key) == (NODES.name, f"{CELL} node-2")
    assert named.here == {**named.log, "heard_ms": 7} != named.log


def test_a_row_that_is_altered_before_any_digest_and_written_by_a_record_has_two_causes(
    log: Log, tmp_path: Path
) -> None:
    host = Host(log, tmp_path / "a", Clock())
    report(log, "node-1")
    host.catch_up()
    alter(host, "node-1")
    (parted,) = verify(log, host.path, REGISTRY).parted
    assert (parted.altered, parted.first, parted.equal) == (False, 1, -1)


def test_boundaries_depend_only_on_the_log(tmp_path: Path) -> None:
    """A commit ends after each mark that the fold has accepted, whatever the batches."""
    rules = events.Rules(version=RULES_VERSION)
    data = events.LogOpenedData(log="log", partition=0, partitions=1, rules=rules)
    opening = events.LogOpened(id="e", source="/test", data=data)
    tick = events.encode(events.Tick(id="e", source="/test"))
    mark = events.encode(events.StateMarked(id="e", source="/test", data=events.StateMarkedData(store="s")))
    refused = mark.replace(b'"store"', b'"stores"')
    values = [events.encode(opening)]
    values += [{3: mark, 50: mark, 51: mark, 60: refused}.get(offset, tick) for offset in range(1, 100)]
    records = [Record(0, offset, offset, CELL.encode(), value) for offset, value in enumerate(values)]
    for size in (1, 33, 100):
        taken: list[tuple[int, int]] = []
        with Store(tmp_path / str(size), log="log", partitions=1, registry=REGISTRY) as store:

            def take(partition: int, position: int, store: Store = store) -> None:
                taken.append((position, store.partition(partition).local.position))  # noqa: B023

            store.on_boundary = take
            for first in range(0, len(records), size):
                store.apply(0, records[first : first + size])
            assert store.marked(0) == (52, 48)
        assert taken == [(4, 4), (51, 51), (52, 52)]
