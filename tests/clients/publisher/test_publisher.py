"""The publisher: what it says, in what order, and through which accidents."""

from __future__ import annotations

import json
import logging
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.logs.node_logs import (
    ROOT,
    Tables,
    UnreliableLog,
    as_tree,
    make_log,
    memory_log,
    node,
    node_events,
    numbers,
    records,
)
from vacancy.clients.publisher.outbox import CellChanged, Outbox, OutboxFull
from vacancy.clients.publisher.publisher import Publisher, diff
from vacancy.clients.publisher.service import PublishService
from vacancy.resources.model.errors import LogError, LogUnavailable, UsageError
from vacancy.resources.model.events import (
    NodeChanged,
    NodeHeartbeat,
    NodeReported,
    NodeRetired,
    ProviderReport,
)
from vacancy.resources.model.partitioner import covering_cells
from vacancy.streams.log import Log

CELL = "auto-0"


@pytest.fixture(params=["memory", "sqlite"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[UnreliableLog]:
    with memory_log() if request.param == "memory" else make_log(f"sqlite://{tmp_path}/log.db") as real:
        yield UnreliableLog(real)


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with Outbox(tmp_path / "outbox.db") as opened:
        yield opened


def publisher(log: Any, outbox: Outbox, **options: Any) -> Publisher:
    return Publisher(log, ROOT, options.pop("cell", CELL), outbox, **options)


def lives(*digits: str) -> Callable[[], str]:
    """Incarnations in a row, easy to tell apart."""
    given = iter(digits)
    return lambda: next(given) * 16


# -- what it says -----------------------------------------------------------------------------------------


def test_a_life_of_a_node(log: Log, outbox: Outbox) -> None:
    one = publisher(log, outbox, clock=lambda: 1_700_000_000_123, new_id=lives("a"))
    one.report(node(64, "numa0", "numa1"), ["instance-1"])
    one.changed(node(32, "numa2"), ["node-1:numa0"])
    assert one.flush() == 2
    assert one.heartbeat()
    assert one.flush() == 1
    assert Tables(log).tree(CELL) == as_tree(node(32, "numa1", "numa2"))
    one.retire()
    assert one.flush() == 1
    events = node_events(log)
    assert [type(event) for event in events] == [NodeReported, NodeChanged, NodeHeartbeat, NodeRetired]
    assert numbers(log) == [("a" * 16, n) for n in (1, 2, 3, 4)]
    assert isinstance(events[0], NodeReported)
    assert events[0].data.consumers == ("instance-1",)
    folded = Tables(log)
    assert folded.tree(CELL) == {}
    assert folded.node(CELL).retired
    assert folded.dead_letters == []


def test_its_events_are_cloudevents(log: Log, outbox: Outbox) -> None:
    one = publisher(log, outbox, clock=lambda: 1_700_000_000_123, new_id=lives("a"))
    one.report(node(64))
    one.flush()
    record = records(log)[-1]
    assert record.key == CELL.encode()
    body = json.loads(record.value)
    assert body.pop("data")["root"] == ROOT
    assert body == {
        "specversion": "1.0",
        "type": "vacancy.node.reported.v1",
        "id": "aaaaaaaaaaaaaaaa-1",
        "source": "/node/node-1",
        "time": "2023-11-14T22:13:20.123Z",
    }


def test_incarnations_are_drawn_at_random(log: Log, outbox: Outbox) -> None:
    drawn = {publisher(log, outbox).incarnation for _ in range(20)}
    assert len(drawn) == 20
    assert all(len(one) == 16 and int(one, 16) >= 0 for one in drawn)


def test_what_cannot_be_said(log: Log, outbox: Outbox) -> None:
    one = publisher(log, outbox)
    for early in (one.heartbeat, lambda: one.changed(node(1))):
        with pytest.raises(UsageError, match="give a full report first"):
            early()
    orphan = ProviderReport(id="node-1:gpu", parent="node-1:numa9")
    for wrong in ((), (orphan,), (*node(1), orphan), (*node(1), *node(2)), node(1, *map(str, range(4096)))):
        with pytest.raises(UsageError):
            one.report(wrong)
    one.report(node(1))
    with pytest.raises(UsageError):
        one.changed(node(1), [ROOT])
    with pytest.raises(UsageError):
        one.changed(node(1, "numa0"), ["node-1:numa0"])
    with pytest.raises(UsageError, match=r"data.removed.0: .*node node-1"):
        one.changed((), ["no id"])
    one.flush()
    assert [number for _, number in numbers(log)] == [1]


providers = st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 3), max_size=6).map(
    lambda parts: tuple(
        ProviderReport(id=id_, parent=ROOT, inventories={"NUMA_CORE": {"total": total}})
        for id_, total in parts.items()
    )
)


@given(providers, providers)
def test_a_difference_makes_one_into_the_other(
    before: tuple[ProviderReport, ...], after: tuple[ProviderReport, ...]
) -> None:
    change = diff(before, after)
    made = {provider.id: provider for provider in before if provider.id not in change.removed}
    made.update({provider.id: provider for provider in change.changed})
    assert made == {provider.id: provider for provider in after}
    assert bool(change) is (sorted(before, key=str) != sorted(after, key=str))
    assert all(provider not in before for provider in change.changed)


# -- outages and crashes ----------------------------------------------------------------------------------


def test_what_the_log_does_not_take_stays(log: UnreliableLog, outbox: Outbox) -> None:
    one = publisher(log, outbox)
    log.down = True
    one.report(node(64))
    one.changed(node(32))
    assert not one.heartbeat()
    for _ in range(2):
        with pytest.raises(LogUnavailable):
            one.flush()
    assert len(outbox) == 2
    log.down = False
    assert one.flush() == 2
    assert Tables(log).tree(CELL) == as_tree(node(32))
    assert Tables(log).node(CELL).open


@pytest.mark.parametrize("taken", [0, 1, 2, 3])
def test_what_may_have_landed_is_said_again_as_it_was(log: UnreliableLog, outbox: Outbox, taken: int) -> None:
    one = publisher(log, outbox, new_id=lives("a"))
    one.report(node(64))
    one.changed(node(32))
    one.changed(node(16))
    log.take = taken
    with pytest.raises(LogUnavailable):
        one.flush()
    one.flush()
    assert numbers(log) == [("a" * 16, n) for n in (*range(1, taken + 1), 1, 2, 3)]
    values = [record.value for record in records(log)[1:]]
    assert len(set(values)) == 3
    folded = Tables(log)
    assert folded.tree(CELL) == as_tree(node(16))
    assert folded.node(CELL).open


def test_after_a_crash_the_leftovers_go_first(log: UnreliableLog, tmp_path: Path) -> None:
    with Outbox(tmp_path / "outbox") as outbox:
        one = publisher(log, outbox, new_id=lives("a"))
        one.report(node(64))
        one.changed(node(32))
        log.lose_answers = True
        with pytest.raises(LogUnavailable):
            one.flush()
    log.lose_answers = False
    with Outbox(tmp_path / "outbox") as outbox:
        two = publisher(log, outbox, new_id=lives("b"))
        two.flush()
        two.report(node(8))
        two.flush()
    a, b = "a" * 16, "b" * 16
    assert numbers(log) == [(a, 1), (a, 2), (a, 1), (a, 2), (b, 1)]
    folded = Tables(log)
    assert folded.tree(CELL) == as_tree(node(8))
    assert folded.node(CELL).open
    assert folded.dead_letters == []


def test_a_long_outage_comes_down_to_one_full_report(log: UnreliableLog, tmp_path: Path) -> None:
    log.down = True
    for life in range(5):
        with Outbox(tmp_path / "outbox", entries_max=10) as outbox:
            one = publisher(log, outbox, new_id=lives(str(life)))
            for step in range(20):
                one.report(node(100 * life + step + 1))
                one.changed(node(1))
    log.down = False
    with Outbox(tmp_path / "outbox") as outbox:
        one = publisher(log, outbox)
        one.report(node(7))
        assert one.flush() == 1
    assert Tables(log).tree(CELL) == as_tree(node(7))


def test_a_refused_change_is_a_gap_until_all_is_reported(log: UnreliableLog, tmp_path: Path) -> None:
    with Outbox(tmp_path / "outbox", entries_max=2) as outbox:
        one = publisher(log, outbox)
        one.report(node(64))
        one.changed(node(32))
        with pytest.raises(OutboxFull):
            one.changed(node(16))
        one.flush()
        one.heartbeat()
        one.flush()
        assert not Tables(log).node(CELL).open
        one.report(node(16))
        one.flush()
    assert Tables(log).node(CELL).open
    assert Tables(log).tree(CELL) == as_tree(node(16))


def test_a_log_that_refuses_loses_nothing(log: UnreliableLog, outbox: Outbox) -> None:
    log.close()
    one = publisher(log, outbox)
    one.report(node(64))
    with pytest.raises(LogError):
        one.flush()
    assert len(outbox) == 1


def test_only_one_thread_sends(log: UnreliableLog, outbox: Outbox) -> None:
    one = publisher(log, outbox)
    one.report(node(64))
    within, go_on = threading.Event(), threading.Event()
    append = log.append

    def slow(*args: Any) -> Any:
        within.set()
        assert go_on.wait(90)
        return append(*args)

    log.append = slow  # type: ignore[method-assign, assignment]
    thread = threading.Thread(target=one.flush)
    thread.start()
    assert within.wait(90)
    one.report(node(32))  # what happens is written down while the log is slow
    with pytest.raises(LogUnavailable, match="still sending"):
        one.flush(timeout_s=0.01)
    go_on.set()
    thread.join()
    assert Tables(log).tree(CELL) == as_tree(node(32))
    assert len(outbox) == 0


class Node:
    """A node under any sequence of accidents, and what its tree is."""

    def __init__(self, directory: Path) -> None:
        self.log = UnreliableLog(memory_log())
        self.path = directory / "outbox"
        self.tree = node(1)
        self.outbox = Outbox(self.path, entries_max=3)
        self.start()

    def start(self) -> None:
        self.publisher = publisher(self.log, self.outbox)
        self.publisher.report(self.tree)

    def crash(self, _: int) -> None:
        self.outbox.close()
        self.outbox = Outbox(self.path, entries_max=3)
        self.start()

    def report(self, memory: int) -> None:
        self.tree = node(memory)
        self.publisher.report(self.tree, ["i-1"] if memory % 2 else None)

    def change(self, memory: int) -> None:
        before, self.tree = self.tree, node(memory, *(f"numa{n}" for n in range(memory % 3)))
        try:
            self.publisher.changed(*diff(before, self.tree))
        except OutboxFull:
            self.publisher.report(self.tree)

    def heartbeat(self, _: int) -> None:
        self.publisher.heartbeat()

    def flush(self, _: int) -> None:
        self.publisher.flush()

    def flush_in_vain(self, taken: int) -> None:
        self.log.take = taken % 4
        with suppress(LogUnavailable):
            self.publisher.flush()
        self.log.take = None


accidents = st.lists(
    st.tuples(
        st.sampled_from(["crash", "report", "change", "change", "heartbeat", "flush", "flush_in_vain"]),
        st.integers(1, 9),
    ),
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(accidents)
def test_whatever_happens_the_log_says_what_the_node_is(
    tmp_path_factory: pytest.TempPathFactory, accidents: list[tuple[str, int]]
) -> None:
    life = Node(tmp_path_factory.mktemp("node"))
    for name, argument in accidents:
        getattr(life, name)(argument)
    life.publisher.flush()
    life.outbox.close()
    folded = Tables(life.log)
    assert folded.tree(CELL) == as_tree(life.tree)
    assert folded.node(CELL).open
    assert folded.dead_letters == []
    assert_first_said_in_order(numbers(life.log))


def assert_first_said_in_order(said: list[tuple[str, int]]) -> None:
    """Nothing is overtaken: what is said for the first time has a higher number than all before it."""
    last: dict[str, int] = {}
    seen = set()
    for incarnation, sequence in said:
        if (incarnation, sequence) not in seen:
            assert sequence > last.get(incarnation, 0)
            last[incarnation] = sequence
            seen.add((incarnation, sequence))


# -- cells ------------------------------------------------------------------------------------------------


def test_a_node_changes_its_cell_only_when_told_to(tmp_path: Path) -> None:
    first, second = covering_cells(4)[2], covering_cells(4)[0]
    with memory_log(4) as log:
        with Outbox(tmp_path / "outbox") as outbox:
            one = publisher(log, outbox, cell=first)
            one.report(node(64))
            one.flush()
            one.changed(node(32))
        with Outbox(tmp_path / "outbox") as outbox:
            with pytest.raises(CellChanged):
                publisher(log, outbox, cell=second)
            with pytest.raises(UsageError, match="belongs to node node-1"):
                Publisher(log, "node-2", second, outbox, move_cell=True)
            two = publisher(log, outbox, cell=second, move_cell=True)
            two.report(node(32))
            two.flush()
            assert outbox.cell == second
        folded = Tables(log)
        assert folded.node(first).retired
        assert folded.tree(first) == {}
        assert folded.tree(second) == as_tree(node(32))
        assert folded.dead_letters == []


def test_a_moving_node_is_gone_before_it_arrives(tmp_path: Path) -> None:
    first, second = covering_cells(4)[2], covering_cells(4)[0]
    with memory_log(4) as real, Outbox(tmp_path / "outbox") as outbox:
        log = UnreliableLog(real)
        publisher(log, outbox, cell=first).report(node(64))
        two = publisher(log, outbox, cell=second, move_cell=True)
        two.report(node(64))
        log.lose_answers = True
        with pytest.raises(LogUnavailable):
            two.flush()
        folded = Tables(log)
        assert folded.node(first).retired
        assert folded.node(second) is None


def test_a_node_that_lost_its_disk_can_still_be_retired(log: Log, tmp_path: Path) -> None:
    with Outbox(tmp_path / "lost") as outbox:
        one = publisher(log, outbox)
        one.report(node(64, "numa0"))
        one.flush()
    with Outbox(tmp_path / "new") as outbox:
        publisher(log, outbox).retire()
        publisher(log, outbox).flush()
    folded = Tables(log)
    assert folded.node(CELL).retired
    assert folded.tree(CELL) == {}
    assert folded.dead_letters == []


def test_a_retired_node_says_nothing_until_it_reports(log: Log, outbox: Outbox) -> None:
    one = publisher(log, outbox)
    one.report(node(64))
    one.retire()
    with pytest.raises(UsageError):
        one.heartbeat()
    one.report(node(32))
    one.flush()
    folded = Tables(log)
    assert folded.tree(CELL) == as_tree(node(32))
    assert folded.node(CELL).open


# -- the service ------------------------------------------------------------------------------------------


class Host:
    """A host whose tree, time and health the test sets, and the service that watches it."""

    def __init__(self, log: Any, outbox: Outbox, **options: Any) -> None:
        self.log, self.now, self.tree, self.ill = log, 0.0, node(64), False
        self.service = PublishService(
            publisher(log, outbox),
            self.collect,
            10.0,
            jitter=0.0,
            flush_timeout_s=1.0,
            monotonic=lambda: self.now,
            choose=random.Random(1),
            **options,
        )

    def collect(self) -> tuple[ProviderReport, ...]:
        if self.ill:
            raise RuntimeError("the host does not answer")
        return self.tree

    def after(self, seconds: float, tree: tuple[ProviderReport, ...] | None = None) -> list[str]:
        """What is said when the service looks again, `seconds` later."""
        self.now += seconds
        self.tree = tree or self.tree
        before = len(node_events(self.log))
        self.service.run_once()
        return [event.type.split(".")[2] for event in node_events(self.log)[before:]]


def test_the_service_says_only_what_changed(log: UnreliableLog, outbox: Outbox) -> None:
    host = Host(log, outbox, heartbeat_s=30.0, full_every_s=600.0)
    assert host.after(0) == ["reported"]
    assert host.after(10) == []
    assert host.after(10, node(64, "numa0")) == ["changed"]
    changed = node_events(log)[-1]
    assert isinstance(changed, NodeChanged)
    assert [provider.id for provider in changed.data.providers] == ["node-1:numa0"]
    assert host.after(20) == []
    assert host.after(10) == ["heartbeat"]
    assert host.after(29) == []
    assert host.after(600) == ["reported"]
    assert host.after(10, node(64)) == ["changed"]
    assert Tables(log).tree(CELL) == as_tree(node(64))


def test_the_service_survives_an_outage(
    log: UnreliableLog, outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    host = Host(log, outbox)
    host.after(0)
    log.down = True
    for memory in range(100, 150):
        assert host.after(10, node(memory)) == []
        assert len(outbox) <= 2
    log.down = False
    assert host.after(10) == ["reported"]
    assert Tables(log).tree(CELL) == as_tree(node(149))
    assert Tables(log).node(CELL).open
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_the_service_starts_in_an_outage(log: UnreliableLog, outbox: Outbox) -> None:
    log.down = True
    host = Host(log, outbox)
    assert host.after(0) == host.after(10, node(32)) == []
    log.down = False
    assert host.after(1) == ["reported"]
    assert Tables(log).tree(CELL) == as_tree(node(32))


def test_a_change_that_may_have_landed_is_followed_by_a_full_report(
    log: UnreliableLog, outbox: Outbox
) -> None:
    host = Host(log, outbox)
    host.after(0)
    log.lose_answers = True
    assert host.after(10, node(32)) == ["changed"]
    log.lose_answers = False
    assert host.after(10) == ["reported"]


def test_a_log_that_takes_the_second_and_not_the_first_is_set_right(
    log: UnreliableLog, outbox: Outbox
) -> None:
    host = Host(log, outbox)
    host.after(0)
    log.down = True
    host.after(10, node(32))
    host.after(10)
    log.down, log.take_last = False, True
    assert host.after(10, node(16)) == ["changed"]
    assert not Tables(log).node(CELL).open
    assert host.after(10) == ["reported"]
    assert Tables(log).node(CELL).open
    assert Tables(log).tree(CELL) == as_tree(node(16))


def test_a_host_that_cannot_be_looked_at_is_still_there(
    log: UnreliableLog, outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    host = Host(log, outbox)
    host.ill = True
    assert host.after(0) == []
    host.ill = False
    assert host.after(10) == ["reported"]
    host.ill = True
    assert host.after(700) == ["heartbeat"]
    host.ill = False
    assert host.after(1) == ["reported"]
    assert "could not be collected" in caplog.text


def test_a_host_that_makes_no_sense_is_reported_and_watched_on(
    log: UnreliableLog, outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    host = Host(log, outbox)
    assert host.after(0, (ProviderReport(id="another"),)) == []
    assert "root node-1 is not among its providers" in caplog.text
    assert host.after(10, node(64)) == ["reported"]


def test_beyond_the_bounds_the_service_tells_all(log: UnreliableLog, tmp_path: Path) -> None:
    with Outbox(tmp_path / "outbox", bytes_max=1) as outbox:
        host = Host(log, outbox)
        host.after(0)
        assert host.after(10, node(32)) == ["reported"]


def test_the_service_sends_leftovers_first(log: UnreliableLog, outbox: Outbox) -> None:
    publisher(log, outbox, new_id=lives("a")).report(node(1))
    assert Host(log, outbox).after(0) == ["reported", "reported"]
    assert numbers(log)[0] == ("a" * 16, 1)
    assert Tables(log).tree(CELL) == as_tree(node(64))


def test_the_service_warns_of_another_publisher_of_its_name(
    log: UnreliableLog, outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    known: list[str | None] = [None]
    asked: list[float] = []

    def warning() -> str | None:
        asked.append(host.now)
        return known[0]

    host = Host(log, outbox, heartbeat_s=30.0, full_every_s=600.0, name_warning=warning)
    for answer, seconds in (
        (None, 10),
        ("", 0),
        ("another one", 60),
        ("another one", 60),
        (None, 60),
        ("", 60),
    ):
        host.after(seconds)
        known[0] = answer
    host.after(60)
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        "another one",
        "node node-1: no other publisher uses its name any more",
    ]
    assert asked == sorted(set(asked)), "once a minute, and after each full report"
    assert asked[0] > 0, "a worker cannot have folded the report at once"


def test_the_service_runs_until_it_is_stopped(log: UnreliableLog, outbox: Outbox) -> None:
    looked = threading.Semaphore(0)
    memory = iter(range(1, 1000))

    def collect() -> tuple[ProviderReport, ...]:
        looked.release()
        return node(next(memory))

    stop = threading.Event()
    service = PublishService(publisher(log, outbox), collect, 0.001)
    thread = threading.Thread(target=service.run, args=(stop,))
    thread.start()
    for _ in range(5):
        assert looked.acquire(timeout=90)
    stop.set()
    thread.join(90)
    assert not thread.is_alive()
    assert [event.type.split(".")[2] for event in node_events(log)][:4] == ["reported", *["changed"] * 3]
