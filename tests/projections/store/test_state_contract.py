"""What the fold relies on in a state, whichever it is: rows come back as they were put, deadlines in order."""

from __future__ import annotations

import tempfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.support.classes.ports_class import REGISTRY, PortsRecord
from tests.support.models.memory_state import MemoryState
from tests.support.sites.temporary_stores import FAST
from vacancy.projections.store.partition_store import PartitionStore
from vacancy.resources.classes.quantity import QuantityRecord
from vacancy.resources.state.rows import (
    AllocationPart,
    AllocationRow,
    ClassRow,
    DeadLetterRow,
    NodeRow,
    OperatorSettingsRow,
    PartitionRow,
    ProviderRow,
    RequestRow,
    ServerGroupMember,
    ServerGroupRow,
    VerdictRow,
)
from vacancy.resources.state.tables import (
    ALLOCATIONS,
    DEAD_LETTERS,
    DEADLINES,
    FACTS,
    GROUPS,
    NODES,
    PARTITION,
    PROVIDERS,
    REQUESTS,
    TABLES_1,
    VERDICTS,
    Table,
    deadline_key,
)
from vacancy.resources.state.transaction import Changes

QUANTITY = QuantityRecord(2**53, 1, 1, 2**53 - 1, 1, 16_000, 7, -1, 1500)
PARTS = (AllocationPart("n1", "VCPU", "", 4), AllocationPart("n1", "PORTS", "a", [80, 81]))
ROWS: list[tuple[Table[Any], Any]] = [
    (PARTITION, PartitionRow("log", 1, 4, 1, ("PORTS",), 1_800_000_000_000, 3)),
    (NODES, NodeRow((("0" * 16, 3), ("1" * 16, 2**53 - 1)), 12, False, True)),
    (
        PROVIDERS,
        ProviderRow("n1", None, ("A",), ("VCPU",), -1, False, ("B",), ("rack",), True, ("n1", "n1-a")),
    ),
    (
        FACTS,
        OperatorSettingsRow(
            2, ("e2", "e1"), "draining", "maintenance — ü", ("rack",), ("B",), {"VCPU": {"reserved": 1}}
        ),
    ),
    (ALLOCATIONS, AllocationRow("c1", 2, "INSTANCE", "-", "-", None, PARTS, 7, 99, ("web", "db"))),
    (
        GROUPS,
        ServerGroupRow(
            "anti-affinity", True, 2, "rack-", (ServerGroupMember("i1", 7, (("n1", "n1-a"), ("n2",))),)
        ),
    ),
    (VERDICTS, VerdictRow(False, "no_room", 7, 99, b"\0\xff", "i1", "n1", "VCPU", -(2**53), 2**53, -1)),
    (REQUESTS, RequestRow(b"{}", 5, "placed", "c1", "cell", {"0": 7}, ("c2",), "why")),
    (DEADLINES, b""),
    (DEAD_LETTERS, DeadLetterRow(7, -1, "reason", b"\xff", b"\0" * 100, 100)),
    (REGISTRY.table("VCPU"), ClassRow(QUANTITY, -1, 7, False)),
    (REGISTRY.table("CUSTOM_A"), ClassRow(QUANTITY, 3, 7)),
    (REGISTRY.table("PORTS"), ClassRow(PortsRecord((80, 81), (81,)), 3, 7)),
]


class Subject:
    """A state under test; how what is written gets there differs."""

    def __init__(self, kind: str, directory: Path) -> None:
        self.kind, self.directory, self.position = kind, directory, 0
        self.state: Any = MemoryState() if kind == "memory" else self._store()

    def _store(self) -> PartitionStore:
        return PartitionStore(self.directory / "p00000", "store", REGISTRY)

    def write(self, changes: Changes) -> None:
        if self.kind == "memory":
            self.state.commit(changes)
            return
        self.state.stage(changes)
        if self.kind != "staged":
            self.commit()
        if self.kind == "reopened":
            self.state.close()
            self.state = self._store()

    def commit(self) -> None:
        if self.kind != "memory":
            self.position += 1
            self.state.commit(self.position, 0, 0)

    def close(self) -> None:
        if self.kind != "memory":
            self.state.close()


KINDS = ("memory", "staged", "committed", "reopened")


@pytest.fixture(params=KINDS)
def subject(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Subject]:
    made = Subject(request.param, tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize(("table", "row"), ROWS, ids=lambda one: getattr(one, "name", ""))
def test_rows_come_back_equal_to_those_put(subject: Subject, table: Table[Any], row: Any) -> None:
    key = deadline_key(5, b"V", b"cell\0c1") if table is DEADLINES else table.prefix + b"cell\0n1"
    assert subject.state.get(table, key) is None
    subject.write({table: {key: row}})
    assert subject.state.get(table, key) == row
    assert type(subject.state.get(table, key)) is type(row)
    subject.write({table: {key: None}})
    assert subject.state.get(table, key) is None


def test_all_kinds_of_rows_are_tried() -> None:
    assert {table.name for table, _ in ROWS} >= {table.name for table in TABLES_1}


def test_tables_and_keys_are_apart(subject: Subject) -> None:
    vcpu, one, two = (REGISTRY.table(name) for name in ("VCPU", "CUSTOM_A", "CUSTOM_AB"))
    rows = {table: ClassRow(QUANTITY, number, 0) for number, table in enumerate((vcpu, one, two))}
    subject.write({table: {table.prefix + b"cell\0n1": row} for table, row in rows.items()})
    subject.write({one: {one.prefix + b"cell\0n11": rows[one]}, NODES: {b"cell\0n1": NodeRow((), 0)}})
    for table, row in rows.items():
        assert subject.state.get(table, table.prefix + b"cell\0n1") == row
    subject.write({one: {one.prefix + b"cell\0n1": None}})
    assert subject.state.get(one, one.prefix + b"cell\0n1") is None
    assert subject.state.get(one, one.prefix + b"cell\0n11") == rows[one]
    assert subject.state.get(two, two.prefix + b"cell\0n1") == rows[two]


def mark(at_ms: int, subject: bytes = b"cell\0c1", kind: bytes = b"V") -> bytes:
    return deadline_key(at_ms, kind, subject)


def test_deadlines_come_in_order_up_to_and_including_the_time(subject: Subject) -> None:
    marks = [mark(30), mark(10, b"b"), mark(10, b"a"), mark(20), mark(10, b"a", b"H"), mark(2**53 - 1)]
    for one in marks:
        subject.write({DEADLINES: {one: b""}})
    assert list(subject.state.due(9)) == []
    assert list(subject.state.due(20)) == sorted(marks)[:4]
    subject.write({DEADLINES: dict.fromkeys(sorted(marks)[:4])})
    assert list(subject.state.due(20)) == []
    subject.write({DEADLINES: {mark(21): b"", mark(25): b""}})
    subject.write({DEADLINES: {mark(25): None}})
    assert list(subject.state.due(30)) == [mark(21), mark(30)]


def test_the_first_deadlines_are_ended_and_the_others_stay(subject: Subject) -> None:
    marks = [mark(at_ms, b"%d" % at_ms) for at_ms in range(1, 9)]
    subject.write({DEADLINES: dict.fromkeys(marks, b"")})
    assert list(subject.state.due(6, 4)) == marks[:4]
    subject.write({DEADLINES: dict.fromkeys(marks[:3])})
    assert list(subject.state.due(6, 4)) == marks[3:6]
    subject.write({DEADLINES: {marks[3]: None, marks[5]: None}})
    assert list(subject.state.due(6, 1)) == [marks[4]]
    subject.write({DEADLINES: {marks[4]: None, mark(9): b""}})
    assert list(subject.state.due(6, 4)) == []
    assert list(subject.state.due(9, 9)) == [*marks[6:], mark(9)]


def test_the_first_time_of_all_and_the_last_are_times_like_any_other(subject: Subject) -> None:
    subject.write({DEADLINES: {mark(0): b"", mark(2**62): b""}})
    assert list(subject.state.due(-1)) == []
    assert list(subject.state.due(0)) == [mark(0)]
    subject.write({DEADLINES: {mark(0): None}})
    assert list(subject.state.due(2**62 - 1)) == []
    assert list(subject.state.due(2**62)) == [mark(2**62)]


STEPS = st.lists(
    st.tuples(
        st.sampled_from(("put", "put", "delete", "due", "due", "due some", "commit", "abandon")),
        st.integers(0, 30),
    ),
    max_size=40,
)


@settings(max_examples=120, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink))
@given(STEPS)
def test_deadlines_staged_and_written_are_one_queue(steps: list[tuple[str, int]]) -> None:
    """Against a set: put and taken away, due and done with, committed and abandoned, in any order."""
    with tempfile.TemporaryDirectory(dir=FAST) as directory:
        subject = Subject("staged", Path(directory))
        there: set[bytes] = set()
        committed, now, committed_now = set(there), 0, 0
        for number, (step, amount) in enumerate(steps):
            if step == "put":
                key = mark(now + amount, b"%d" % number)
                there.add(key)
                subject.write({DEADLINES: {key: b""}})
            elif step == "delete" and there:
                key = sorted(there)[amount % len(there)]
                there.remove(key)
                subject.write({DEADLINES: {key: None}})
            elif step == "due":
                now += amount
                passed = sorted(key for key in there if key < mark(now, b"", b""))
                assert list(subject.state.due(now - 1)) == passed
                there -= set(passed)
                subject.write({DEADLINES: dict.fromkeys(passed)} if passed else {})
            elif step == "due some":
                passed = sorted(key for key in there if key < mark(now, b"", b""))
                assert list(subject.state.due(now - 1, amount + 1)) == passed[: amount + 1]
                ended = passed[: number % (amount + 2)][: amount + 1]
                there -= set(ended)
                subject.write({DEADLINES: dict.fromkeys(ended)} if ended else {})
            elif step == "commit":
                committed, committed_now = set(there), now
                subject.commit()
            elif step == "abandon":
                there, now = set(committed), committed_now
                subject.state.abandon()
            first = subject.state.next_deadline_ms()
            assert not there or (first is not None and first <= int.from_bytes(min(there)[:8], "big"))
        subject.close()


def test_what_is_abandoned_is_gone_and_what_was_committed_is_not(tmp_path: Path) -> None:
    store = PartitionStore(tmp_path / "p00000", "store", REGISTRY)
    one, two = NodeRow((), 1), NodeRow((), 2)
    store.stage({NODES: {b"a": one, b"b": one}})
    store.commit(1, 5, 0)
    store.stage({NODES: {b"a": two, b"b": None, b"c": two}})
    assert (store.get(NODES, b"a"), store.get(NODES, b"b"), store.get(NODES, b"c")) == (two, None, two)
    store.abandon()
    assert (store.get(NODES, b"a"), store.get(NODES, b"b"), store.get(NODES, b"c")) == (one, one, None)
    store.commit(2, 6, 0)
    assert [key for key, _ in store.scan(NODES.family)] == [b"a", b"b"]
    store.close()


def test_the_lock_is_let_go_with_the_store(tmp_path: Path) -> None:
    """While the closed store is still referred to: a worker that gives up a partition keeps its objects a while."""
    first = PartitionStore(tmp_path / "p00000", "store", REGISTRY)
    first.close()
    second = PartitionStore(tmp_path / "p00000", "store", REGISTRY)
    second.close()
    assert first is not second


def test_rows_beyond_the_cache_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vacancy.projections.store.partition_store.ROWS_CACHED", 10)
    store = PartitionStore(tmp_path / "p00000", "store", REGISTRY)
    for batch in range(20):
        store.stage({NODES: {b"%d" % n: NodeRow((), batch) for n in range(batch, batch + 7)}})
        store.commit(batch + 1, 0, 0)
        for n in range(batch + 7):
            row = store.get(NODES, b"%d" % n)
            assert row is not None
            assert row.heard_ms == min(n, batch)
    store.close()


def test_of_rows_that_come_and_go_few_are_kept_in_memory(tmp_path: Path) -> None:
    """However many requests there were: they are kept for a day, and nobody asks for them again."""
    store = PartitionStore(tmp_path / "p00000", "store", REGISTRY)
    request = RequestRow(b"{}", 1)

    def come(first: int) -> None:
        for batch in range(first, first + 20_000, 500):
            store.stage({REQUESTS: {b"%d" % n: request for n in range(batch, batch + 500)}})
            store.commit(batch + 500, 0, 0)

    come(0)
    tracemalloc.start()
    try:
        come(20_000)
        before, _ = tracemalloc.get_traced_memory()
        come(40_000)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 200_000  # the keys alone of 20,000 more would be 800,000
    assert store.get(REQUESTS, b"7") == store.get(REQUESTS, b"59999") == request
    store.close()
