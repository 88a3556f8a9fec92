"""The outbox: order, bounds, whose it is, and what a broken disk does to it."""

from __future__ import annotations

import logging
import resource
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vacancy.clients.publisher.outbox import (
    CellChanged,
    Outbox,
    OutboxCorrupt,
    OutboxError,
    OutboxFull,
    OutboxInUse,
    OutboxKind,
    Outgoing,
)
from vacancy.resources.model.errors import UsageError

FULL, CHANGED, HEARTBEAT, RETIRED = (
    OutboxKind.FULL,
    OutboxKind.CHANGED,
    OutboxKind.HEARTBEAT,
    OutboxKind.RETIRED,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "outbox.db"


def event(
    kind: OutboxKind,
    sequence: int,
    *,
    cell: str = "a",
    confirms: bool = False,
    size: int = 8,
    life: str = "1",
) -> Outgoing:
    return Outgoing(cell, kind, life * 16, sequence, b"x" * size, confirms)


def put(outbox: Outbox, *events: Outgoing) -> None:
    for one in events:
        assert outbox.put("node-1", one)


def waiting(outbox: Outbox) -> list[int]:
    return [pending.event.sequence for pending in outbox.pending()]


def on_disk(outbox: Outbox) -> bool:
    return outbox.durable


def asks_for_all(outbox: Outbox) -> bool:
    return outbox.needs_full_report


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """Writes beyond `size` bytes of any file fail, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# -- order and meaning ------------------------------------------------------------------------------------


def test_events_come_out_as_they_went_in_and_survive_a_restart(path: Path) -> None:
    said = [event(FULL, 1), event(CHANGED, 2), event(CHANGED, 3, size=0), event(RETIRED, 4)]
    with Outbox(path) as outbox:
        put(outbox, *said)
    with Outbox(path) as outbox:
        assert [pending.event for pending in outbox.pending()] == said
        assert [pending.event for pending in outbox.pending(2)] == said[:2]
        outbox.acknowledge(outbox.pending(2)[-1].number)
        assert waiting(outbox) == [3, 4]
    with Outbox(path) as outbox:
        assert waiting(outbox) == [3, 4]
        assert len(outbox) == 2


def test_a_full_report_takes_the_place_of_what_was_pending(path: Path) -> None:
    with Outbox(path) as outbox:
        put(outbox, event(FULL, 1), event(CHANGED, 2), event(RETIRED, 3), event(FULL, 1, life="2"))
        assert waiting(outbox) == [1]
        assert outbox.pending()[0].event.incarnation == "2" * 16


def test_a_full_report_leaves_another_cell_alone(path: Path) -> None:
    with Outbox(path) as outbox:
        put(outbox, event(FULL, 1), event(RETIRED, 2), event(FULL, 3, cell="b"), event(FULL, 4, cell="b"))
        assert [(one.event.cell, one.event.sequence) for one in outbox.pending()] == [
            ("a", 1),
            ("a", 2),
            ("b", 4),
        ]


def test_what_confirms_consumers_is_superseded_only_by_what_does(path: Path) -> None:
    with Outbox(path) as outbox:
        put(outbox, event(FULL, 1, confirms=True), event(CHANGED, 2), event(FULL, 3), event(FULL, 4))
        assert waiting(outbox) == [1, 4]
        put(outbox, event(FULL, 5, confirms=True))
        assert waiting(outbox) == [5]


def test_a_heartbeat_is_kept_only_where_nothing_else_speaks(path: Path) -> None:
    with Outbox(path) as outbox:
        put(outbox, event(HEARTBEAT, 1))
        assert not outbox.put("node-1", event(HEARTBEAT, 2))
        put(outbox, event(CHANGED, 2))
        assert not outbox.put("node-1", event(HEARTBEAT, 3))
        assert waiting(outbox) == [1, 2]


def test_an_acknowledgement_never_hits_what_came_after(path: Path) -> None:
    with Outbox(path) as outbox:
        put(outbox, event(FULL, 1))
        sent = outbox.pending()[-1].number
        put(outbox, event(FULL, 2))
        outbox.acknowledge(sent)
        assert waiting(outbox) == [2]
        outbox.acknowledge(outbox.pending()[-1].number)
    with Outbox(path) as outbox:
        put(outbox, event(FULL, 3))
        assert outbox.pending()[0].number > sent + 1


def test_changes_pending(path: Path) -> None:
    with Outbox(path) as outbox:
        put(outbox, event(FULL, 1))
        before = outbox.changes_pending
        put(outbox, event(CHANGED, 2))
        assert (before, outbox.changes_pending) == (False, True)


# -- bounds -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bounds", [{"entries_max": 3}, {"bytes_max": 30}])
def test_beyond_its_bounds_it_asks_for_a_full_report(path: Path, bounds: dict[str, int]) -> None:
    with Outbox(path, **bounds) as outbox:
        put(outbox, event(FULL, 1), event(CHANGED, 2), event(CHANGED, 3))
        assert not asks_for_all(outbox)
        with pytest.raises(OutboxFull, match="give a full report"):
            outbox.put("node-1", event(CHANGED, 4))
        assert asks_for_all(outbox)
        outbox.acknowledge(outbox.pending()[-1].number)
        with pytest.raises(OutboxFull):  # there is room again, but what this one builds on is missing
            outbox.put("node-1", event(CHANGED, 5))
        put(outbox, event(FULL, 6, size=100))
        assert not asks_for_all(outbox)
        assert waiting(outbox) == [6]


def test_what_must_be_said_is_never_refused(path: Path) -> None:
    with Outbox(path, entries_max=1, bytes_max=1) as outbox:
        put(outbox, event(FULL, 1), event(RETIRED, 2))
        assert waiting(outbox) == [1, 2]


def test_invalid_bounds(path: Path) -> None:
    with pytest.raises(UsageError):
        Outbox(path, entries_max=0)


steps = st.lists(
    st.one_of(
        st.tuples(st.sampled_from([FULL, CHANGED, HEARTBEAT]), st.integers(0, 40)),
        st.tuples(st.just("sent"), st.integers(1, 4)),
    ),
    max_size=30,
)


@settings(max_examples=40, deadline=None)
@given(steps)
def test_any_interleaving_keeps_order_and_bounds(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[Any, int]]
) -> None:
    """What leaves is in order, and no change stands behind a gap that no full report closed."""
    sent: list[tuple[int, OutboxKind]] = []
    sequence = 0
    with Outbox(tmp_path_factory.mktemp("outbox") / "db", entries_max=4, bytes_max=100) as outbox:
        put(outbox, event(FULL, sequence := sequence + 1))
        for step, size in steps:
            if step == "sent":
                batch = outbox.pending(size)
                sent += [(one.event.sequence, one.event.kind) for one in batch]
                if batch:
                    outbox.acknowledge(batch[-1].number)
                continue
            try:
                sequence += outbox.put("node-1", event(step, sequence + 1, size=size))
            except OutboxFull:
                sequence += 1
            assert len(outbox) <= 4
        sent += [(one.event.sequence, one.event.kind) for one in outbox.pending(100)]
    assert [number for number, _ in sent] == sorted({number for number, _ in sent})
    whole, expected = False, 1
    for number, kind in sent:
        whole = kind is FULL or (whole and number == expected)
        expected = number + 1
        assert whole or kind is HEARTBEAT, "a change is built on something that is missing"


# -- whose it is ------------------------------------------------------------------------------------------


def test_the_cell_is_remembered(path: Path) -> None:
    with Outbox(path) as outbox:
        assert outbox.cell is None
        outbox.check_home("node-1", "anything goes")
        put(outbox, event(FULL, 1))
    with Outbox(path) as outbox:
        assert outbox.cell == "a"
        outbox.check_home("node-1", "a")
        with pytest.raises(
            CellChanged, match=r"known in cell a and was now given cell b .*retire it in a first.*--move-cell"
        ):
            outbox.check_home("node-1", "b")
        with pytest.raises(CellChanged):
            outbox.put("node-1", event(FULL, 2, cell="b"))
        with pytest.raises(UsageError, match="an outbox of its own"):
            outbox.put("node-2", event(FULL, 2))
        assert waiting(outbox) == [1]


def test_a_retired_node_may_come_back_elsewhere(path: Path) -> None:
    with Outbox(path) as outbox:
        put(outbox, event(FULL, 1), event(RETIRED, 2))
        assert outbox.cell is None
        put(outbox, event(FULL, 3, cell="b"))
        assert outbox.cell == "b"


def test_one_publisher_at_a_time(path: Path) -> None:
    with Outbox(path), pytest.raises(OutboxInUse, match="another publisher holds the outbox"):
        Outbox(path)
    Outbox(path).close()


# -- when the file or the disk is bad ---------------------------------------------------------------------


@pytest.mark.parametrize("where", ["start", "middle", "short"])
def test_a_damaged_file_may_simply_be_deleted(path: Path, where: str) -> None:
    with Outbox(path) as outbox:
        put(outbox, event(FULL, 1, size=20_000), *(event(CHANGED, n, size=3000) for n in range(2, 9)))
    raw = bytearray(path.read_bytes())
    if where == "start":
        raw[:100] = b"\xff" * 100
    elif where == "middle":
        raw[4096:] = b"\x7f" * (len(raw) - 4096)
    else:
        del raw[5000:]
    path.write_bytes(raw)
    with pytest.raises(OutboxCorrupt, match="delete the file and start again: the node's next full report"):
        Outbox(path)
    path.unlink()
    with Outbox(path) as outbox:
        assert waiting(outbox) == []


def test_what_is_left_beside_a_deleted_file_is_ignored(path: Path) -> None:
    outbox = Outbox(path)
    put(outbox, event(FULL, 1))
    aside = {file: file.read_bytes() for file in path.parent.iterdir() if file != path}
    outbox.close()
    path.unlink()
    assert aside
    for file, raw in aside.items():
        file.write_bytes(raw)
    with Outbox(path) as outbox:
        assert waiting(outbox) == []


def test_a_file_that_is_something_else(path: Path) -> None:
    path.parent.mkdir()
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE records (number)")
    db.close()
    with pytest.raises(OutboxError, match="no outbox of this version"):
        Outbox(path)
    path.write_text("This is a diary." * 100)
    with pytest.raises(OutboxCorrupt):
        Outbox(path)


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutboxError, match="check that its directory can be written"):
        Outbox(tmp_path / "file" / "outbox.db")
    with pytest.raises(OutboxError, match="cannot be opened"):
        Outbox(tmp_path)


def test_after_close_it_says_so(path: Path) -> None:
    outbox = Outbox(path)
    outbox.close()
    with pytest.raises(OutboxError, match="the outbox is closed"):
        outbox.pending()


def test_a_full_disk_is_reported_and_does_not_silence_the_node(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Outbox(path) as outbox:
        put(outbox, event(FULL, 1), event(CHANGED, 2))
        first = outbox.pending()[0].number
        with files_no_larger_than(20_000):
            put(outbox, event(CHANGED, 3, size=50_000))
            assert not on_disk(outbox)
            assert [(one.levelno, "goes on in memory" in one.message) for one in caplog.records] == [
                (logging.ERROR, True)
            ]
            outbox.acknowledge(first)
            put(outbox, event(CHANGED, 4))
            assert waiting(outbox) == [2, 3, 4]
            put(outbox, event(FULL, 5, size=50_000))  # still no room for it
            assert not on_disk(outbox)
            with pytest.raises(CellChanged):
                outbox.check_home("node-1", "b")
        put(outbox, event(CHANGED, 6))
        assert not on_disk(outbox)
        put(outbox, event(FULL, 7, size=50_000))
        assert on_disk(outbox)
        last = outbox.pending()[-1].number
    with Outbox(path) as outbox:
        assert waiting(outbox) == [7]
        outbox.acknowledge(last)
        put(outbox, event(CHANGED, 8))
        assert outbox.pending()[0].number > last


def test_a_new_outbox_on_a_full_disk_is_a_clear_error(path: Path) -> None:
    path.parent.mkdir()
    with files_no_larger_than(2000), pytest.raises(OutboxError, match=r"free some space"):
        Outbox(path)
