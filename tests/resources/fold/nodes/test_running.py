"""What nodes say that they run: the newest list counts, and a node that is gone runs nothing."""

from __future__ import annotations

from typing import Any

from tests.support.classes.ports_class import REGISTRY
from tests.support.logs.events_json import Tape, event, opened, provider
from tests.support.models.memory_state import MemoryState
from vacancy.resources.fold.fold import fold
from vacancy.resources.fold.nodes.running import INCARNATIONS_KEPT, LEFT_KEPT
from vacancy.resources.state.rows import NodeRunningRow
from vacancy.resources.state.tables import DEAD_LETTERS, NODE_RUNNING

CELL = "auto-0"


class Log:
    def __init__(self, version: int = 5) -> None:
        self.tape, self.state = Tape(version=version), MemoryState()
        records = self.tape.records[0]
        records[0] = records[0]._replace(value=opened(version=version))
        self.state.commit(fold(self.state, records[0], REGISTRY))

    def say(self, kind: str, **data: Any) -> bool:
        """Whether it was accepted."""
        self.tape.append(CELL, event(kind, data))
        self.tape.now_ms += 10
        changes = fold(self.state, self.tape.records[0][-1], REGISTRY)
        self.state.commit(changes)
        return DEAD_LETTERS not in changes

    def report(self, root: str = "n1") -> None:
        assert self.say("node.reported.v2", providers=[provider(root, VCPU=8)], **life(root, 1, 1))

    def runs(self, *consumers: str, reporter: int = 1, sequence: int, root: str = "n1") -> bool:
        return self.say("node.running.v1", consumers=list(consumers), **life(root, reporter, sequence))

    def row(self, root: str = "n1") -> NodeRunningRow | None:
        return self.state.get(NODE_RUNNING, f"{CELL}\0{root}".encode())

    def names(self) -> list[str]:
        row = self.row()
        assert row is not None
        return [name for name, _ in row.consumers]


def life(root: str, number: int, sequence: int) -> dict[str, Any]:
    return {"root": root, "incarnation": f"{number:016x}", "sequence": sequence}


def test_the_row_has_since_when_and_what_has_left() -> None:
    log = Log()
    log.report()
    assert log.runs("b", "a", "a", sequence=1)
    first = log.tape.now_ms - 10
    assert log.runs("b", "c", sequence=2)
    second = log.tape.now_ms - 10
    row = log.row()
    assert row is not None
    assert row.consumers == (("b", first), ("c", second))
    assert row.left == (("a", second),)
    assert (row.heard_ms, row.offset) == (second, 3)
    assert log.runs("a", "b", "c", sequence=3)
    row = log.row()
    assert row is not None
    assert dict(row.consumers)["a"] == log.tape.now_ms - 10
    assert row.left == ()


def test_a_list_that_is_not_newer_changes_nothing() -> None:
    log = Log()
    log.report()
    log.runs("a", sequence=5)
    for sequence in (5, 4):
        assert log.runs("b", sequence=sequence)
        assert log.names() == ["a"]
    assert log.runs("b", reporter=2, sequence=1)
    assert log.names() == ["b"]
    assert log.runs("a", sequence=6)  # of the reporter before
    assert log.names() == ["b"]


def test_what_is_kept_is_bounded() -> None:
    log = Log()
    log.report()
    for number in range(1, 2 * INCARNATIONS_KEPT):
        names = [f"{number}-{n}" for n in range(LEFT_KEPT)]
        assert log.runs(*names, reporter=number, sequence=1)
    row = log.row()
    assert row is not None
    assert len(row.incarnations) == INCARNATIONS_KEPT
    assert len(row.left) == LEFT_KEPT
    assert not log.runs(*(f"vm-{n}" for n in range(4097)), sequence=9)


def test_nodes_that_are_gone_run_nothing() -> None:
    log = Log()
    assert not log.runs("a", sequence=1)
    log.report()
    assert log.runs("a", sequence=1)
    assert log.say("node.renamed.v1", root="n1", to="n2", providers={"n1": "n2"}, consumers=[])
    assert log.row() is None
    assert not log.runs("a", sequence=2)
    log.report("n3")
    assert log.runs("a", sequence=1, root="n3")
    assert log.say("node.retired.v2", **life("n3", 1, 2))
    assert log.row("n3") is None
    assert not log.runs("a", sequence=2, root="n3")


def test_earlier_rules_have_no_such_events() -> None:
    log = Log(version=4)
    log.report()
    assert not log.runs("a", sequence=1)
    said = {"store": "s", "position": 0, "digest": "0" * 32}
    assert not log.say("state.digested.v1", **said)
    assert not log.say("state.marked.v1", store="s")
    later = Log()
    assert later.say("state.digested.v1", **said)
    assert later.say("state.marked.v1", store="s")
    assert not later.say("state.marked.v1", store="s", more=1)
    for wrong in ({"position": -1}, {"digest": "0" * 33}, {"store": ""}, {"more": 1}):
        assert not later.say("state.digested.v1", **{**said, **wrong})
