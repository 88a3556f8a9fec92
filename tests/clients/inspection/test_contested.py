"""A node whose name two publishers use is named, with what was dropped, wherever operators look."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.support.logs.events_json import event, provider, reported
from vacancy.clients.inspection import lookup
from vacancy.clients.inspection.contested import own_node_warning
from vacancy.clients.inspection.status import status
from vacancy.clients.inspection.why_not import why_not
from vacancy.clients.runtime.bootstrap import installed_registry, new_log, open_store
from vacancy.clients.runtime.contested_log import ContestedLog
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.projections.store.store import Store
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import NewRecord
from vacancy.resources.model.request import RequestGroup, RequestSpec
from vacancy.resources.state.rows import ContestedRow
from vacancy.resources.state.tables import CONTESTED, NODES, key
from vacancy.streams.log import AppendedAt, open_log

CELL = covering_cells(1)[0]
NAME = key(CELL, "node-1")
NOW = 1_800_000_000_000
ROW = ContestedRow(NOW + 900_000, NOW, 12, 3, 41, NOW + 1000, "late event", f"{2:016x}", f"{1:016x}")
OPEN = ContestedRow(0, NOW, 12, 3, 41, NOW + 1000, "late event", f"{2:016x}", f"{1:016x}")
SPEC = RequestSpec(groups=(RequestGroup(resources={"VCPU": 1}),))


def write(store: Store, row: ContestedRow) -> None:
    """Commit a row as the fold writes it."""
    tables = store.partition(0)
    node = tables.get(NODES, NAME)
    assert node is not None
    closed = type(node)(
        **{name: getattr(node, name) for name in node.__struct_fields__} | {"complete": row.until_ms == 0}
    )
    tables.stage({CONTESTED: {NAME: row}, NODES: {NAME: closed}})
    tables.commit(tables.local.position, 0, tables.local.checksum)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A node that reported its incarnation 2."""
    registry = installed_registry()
    with (
        new_log(f"sqlite://{tmp_path}/log.db", 1, registry) as log,
        open_store(tmp_path / "store", log, registry) as store,
    ):
        log.append([NewRecord(CELL, reported("node-1", [provider("node-1", VCPU=8)], life=2))])
        store.apply(0, log.read(0, 0, 10))
        yield store


def own(store: Store, incarnation: int, offset: int = 1) -> str | None:
    return own_node_warning(
        store.path,
        store.registry,
        store.manifest.log,
        CELL,
        "node-1",
        f"{incarnation:016x}",
        AppendedAt(0, offset, NOW),
    )


def test_a_closed_node_is_named_with_its_counts_and_the_reason(store: Store) -> None:
    write(store, ROW)
    with StoreReader(store.path, store.registry) as reader:
        found = status(reader)
        (one,) = found.contested
        assert (one.root, one.closed, one.dropped, one.dropped_reports) == ("node-1", True, 12, 3)
        assert found.node_states == {"contested": 1}
        assert (found.partitions[0].contested, found.partitions[0].dropped_reports) == (1, 3)
        node = lookup.show_provider(reader, "node-1").node
        assert node is not None
        assert node.contested == one
        (group,) = why_not(reader, SPEC, "node-1").groups
        why = group.providers[0].lacks[0].why
    assert "events of incarnation 0000000000000001 come although incarnation 0000000000000002 is open" in why
    assert "12 events were dropped (3 are full reports)" in why
    assert "0:41 (late event)" in why
    assert store.contested(0) == {"closed": 1, "dropped": 12, "dropped_reports": 3}


def test_what_was_dropped_stays_visible_when_the_node_is_open_again(store: Store) -> None:
    write(store, OPEN)
    with StoreReader(store.path, store.registry) as reader:
        found = status(reader)
        assert found.node_states == {"open": 1}
        assert [(one.closed, one.dropped_reports) for one in found.contested] == [(False, 3)]
        assert found.partitions[0].contested == 0
        assert why_not(reader, SPEC, "node-1").fits


def test_a_publisher_learns_that_another_one_uses_its_name(store: Store) -> None:
    assert own(store, 2) == ""
    text = own(store, 3)
    assert text is not None
    assert "another publisher has opened incarnation 0000000000000002" in text
    write(store, ROW)
    text = own(store, 2)
    assert text is not None
    assert text.startswith("node node-1 is closed to new claims: events of incarnation 0000000000000001 come")
    assert text.endswith("stop the other publisher, or give one of the two another --root")
    write(store, OPEN)
    assert own(store, 2) == ""


def test_a_publisher_learns_why_its_report_is_refused(store: Store, tmp_path: Path) -> None:
    """It is not another publisher that opened the incarnation before; nor is the heartbeat after the report the reason."""
    bad = provider("node-1", VCPU={"total": 4, "reserved": 8})
    beat = {"root": "node-1", "incarnation": f"{3:016x}", "sequence": 2}
    with open_log(f"sqlite://{tmp_path}/log.db") as log:
        log.append([NewRecord(CELL, reported("node-1", [bad], life=3))])
        log.append([NewRecord(CELL, event("node.heartbeat.v1", beat))])
        store.apply(0, log.read(0, 2, 10))
    for offset in (2, 3):
        told = own(store, 3, offset)
        assert told is not None
        assert "the events of this publisher of node node-1 are refused: provider node-1: VCPU" in told
    assert own(store, 2) == ""


def test_a_publisher_learns_nothing_from_a_store_that_cannot_know(store: Store, tmp_path: Path) -> None:
    there = (store.registry, store.manifest.log, CELL, "node-1", f"{2:016x}")
    at = AppendedAt(0, 1, NOW)
    assert own(store, 2, offset=2) is None, "the event is not folded yet"
    assert own_node_warning(store.path, *there, None) is None
    assert own_node_warning(tmp_path / "none", *there, at) is None
    assert own_node_warning(store.path, store.registry, "other", CELL, "node-1", f"{2:016x}", at) is None
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/store.json").write_text("{")
    assert own_node_warning(tmp_path / "broken", *there, at) is None


def test_a_worker_logs_each_change_once() -> None:
    changes = ContestedLog(lambda: NOW)
    with capture_logs() as lines:
        for row in (ROW, ROW, OPEN, OPEN, ROW):
            changes(0, NAME, row)
    closed = "node closed: two publishers use its name"
    assert [line["event"] for line in lines] == [closed, "node open again", closed]
    assert lines[0]["node"] == "node-1"
    assert lines[0]["dropped_reports"] == 3
    with capture_logs() as lines:
        ContestedLog(lambda: NOW + 4_000_000)(0, NAME, ROW)
    assert lines == [], "a rebuild folds old conflicts again"
