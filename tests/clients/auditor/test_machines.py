"""The auditor and the fold agree on machines, adoptions, retirements and new names; and publishers never take turns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.logs.events_json import (
    START_MS,
    claim,
    claims,
    event,
    opened,
    provider,
    released,
    reported,
)
from tests.support.models.memory_state import MemoryState
from vacancy.clients.auditor.claims.claim_rules import enter, objections
from vacancy.clients.auditor.ledger import Ledger
from vacancy.resources.classes.registry import Registry
from vacancy.resources.fold.fold import fold
from vacancy.resources.fold.rules_versions import RULES_VERSIONS
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import Record
from vacancy.resources.state.rows import ClassRow, why_closed
from vacancy.resources.state.tables import ALLOCATIONS, NODES, PROVIDERS, VERDICTS, key, split_key

CELL = covering_cells(1)[0]
ROOTS = ("n1", "n2", "n3")
MACHINES = ("A", "B", None)
VERSION = RULES_VERSIONS.newest.version


class Both:
    """One partition, in the fold's state and in the auditor's ledger."""

    def __init__(self) -> None:
        self.registry = Registry()
        self.vcpu = self.registry.table("VCPU")
        self.state = MemoryState()
        self.ledger = Ledger(self._judge)
        self.now_ms, self.offset = START_MS, 0
        self.append(opened(classes=(), version=VERSION))

    def append(self, value: bytes) -> None:
        record = Record(0, self.offset, self.now_ms, CELL.encode(), value)
        self.state.commit(fold(self.state, record, self.registry))
        self.ledger.apply(record)
        self.offset += 1

    def _judge(self, cell: str, asked: Mapping[str, Any], replaces: bool) -> None:
        verdict = self.state.get(VERDICTS, key(cell, asked["id"]))
        if verdict is None or verdict.offset != self.offset:
            return
        against = objections(self.ledger, cell, asked, replaces=replaces, rejected=not verdict.accepted)
        assert verdict.accepted == (not against), (verdict, against)
        self.ledger.set_judged((cell, asked["id"]), asked["deadline_ms"])
        if verdict.accepted:
            enter(self.ledger, cell, asked, (), replaces=replaces)

    def total(self, root: str) -> int:
        row: ClassRow | None = self.state.get(self.vcpu, key(CELL, root))
        assert row is not None
        return int(row.record.total)

    def check(self) -> None:
        """What each provider has, what is used of it, and whether it takes claims."""
        found = {}
        for table, name, data in self.state.items():
            if table != PROVIDERS.name:
                continue
            row = PROVIDERS.decode(data)
            root = self.state.get(PROVIDERS, key(CELL, row.root))
            closed = why_closed(self.state.get(NODES, key(CELL, row.root)), row, root)
            inventory = self.state.get(self.vcpu, name)
            amounts = None if inventory is None else (inventory.record.total, inventory.record.used)
            found[split_key(name)[1]] = (row.root, row.parent, closed is None, amounts)
        mine = {}
        for (cell, id_), one in self.ledger.providers.items():
            stock = one.stock.get("VCPU")
            total = (
                None
                if stock is None
                else (self.ledger.capacity((cell, id_), "VCPU"), one.used.get("VCPU", 0))
            )
            mine[id_] = (one.root, one.parent, not self.ledger.closed((cell, id_)), total)
        assert mine == found
        held = {
            split_key(name)[1]: sorted((part.provider, part.grant) for part in ALLOCATIONS.decode(data).parts)
            for table, name, data in self.state.items()
            if table == ALLOCATIONS.name
        }
        assert {
            consumer: sorted((id_, amount) for id_, _, amount in one.parts)
            for (_, consumer), one in self.ledger.consumers.items()
        } == held


class Story:
    """Draws events, most of which make sense."""

    def __init__(self, pick: Callable[[Any], Any]) -> None:
        self.pick = pick
        self.both = Both()
        self.sequences: dict[tuple[str, int], int] = {}
        self.consumers: dict[str, str] = {}
        self.claims = 0

    def step(self) -> None:
        value = self.pick(
            (self.report, self.report, self.report, self.heartbeat, self.adopt, self.rename, self.retire)
            + (self.claim,) * 3
            + (self.release, self.wait, self.change)
        )()
        self.both.append(value)
        self.both.check()

    def _said(self, root: str) -> dict[str, Any]:
        life = self.pick((1, 2, 3, 4))
        sequence = self.sequences.get((root, life), 0) + self.pick((1, 1, 1, 2, 0))
        self.sequences[root, life] = max(sequence, 1)
        return {"life": life, "sequence": max(sequence, 1)}

    def _node(self, root: str) -> dict[str, Any]:
        said = self._said(root)
        return {"root": root, "incarnation": f"{said['life']:016x}", "sequence": said["sequence"]}

    def report(self) -> bytes:
        root, machine = self.pick(ROOTS), self.pick(MACHINES)
        parts = [provider(root, VCPU=self.pick((4, 8)))]
        if self.pick((True, False)):
            parts.append(provider(f"{root}:x", root, VCPU=4))
        if machine is None:
            return reported(root, parts, **self._said(root))
        return event("node.reported.v2", {**self._node(root), "providers": parts, "machine": machine})

    def change(self) -> bytes:
        root = self.pick(ROOTS)
        return event(
            "node.changed.v1", {**self._node(root), "providers": [provider(f"{root}:x", root, VCPU=2)]}
        )

    def heartbeat(self) -> bytes:
        return event("node.heartbeat.v1", self._node(self.pick(ROOTS)))

    def retire(self) -> bytes:
        node = self._node(self.pick(ROOTS))
        if self.pick((True, False)):
            return event("node.retired.v1", node)
        return event("node.retired.v2", {"root": node["root"], "incarnation": node["incarnation"]})

    def adopt(self) -> bytes:
        data = {"root": self.pick(ROOTS), "machine": self.pick(("A", "B", "C"))}
        if self.pick((False, False, True)):
            data["cell"] = "elsewhere"
        return event("node.adopted.v1", data)

    def rename(self) -> bytes:
        root, to = self.pick(ROOTS), self.pick(ROOTS)
        row = self.both.state.get(PROVIDERS, key(CELL, root))
        members = (row.members or (root,)) if row is not None else (root,)
        names = {id_: id_.replace(root, to) for id_ in members}
        who = sorted(self.consumers)
        return event(
            "node.renamed.v1",
            {
                "root": root,
                "to": to,
                "providers": names,
                "consumers": who if self.pick((True, True, False)) else who[1:],
            },
        )

    def claim(self) -> bytes:
        self.claims += 1
        consumer, id_ = self.pick(("i1", "i2", "i3", "i4")), f"c{self.claims}"
        self.consumers.setdefault(consumer, id_)
        place = self.pick((*ROOTS, *(f"{root}:x" for root in ROOTS)))
        return claims(claim(id_, consumer, place, {"VCPU": 1}, self.both.now_ms + 60_000))

    def release(self) -> bytes:
        consumer = self.pick(("i1", "i2", "i3", "i4"))
        row = self.both.state.get(ALLOCATIONS, key(CELL, consumer))
        return released(consumer, row.claim if row is not None else "c0")

    def wait(self) -> bytes:
        self.both.now_ms += self.pick((60_000, 16 * 60_000))
        return event("tick.v1", {})


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_auditor_and_the_fold_agree(data: st.DataObject) -> None:
    story = Story(lambda options: data.draw(st.sampled_from(options)))
    for _ in range(data.draw(st.integers(5, 40))):
        story.step()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ABC"), st.sampled_from("rrhcw"), st.integers(0, 2)), max_size=30))
def test_publishers_of_one_name_never_take_turns(steps: list[tuple[str, str, int]]) -> None:
    """A reports 64 first. B reports 8, and C nothing of its machine. They start again, send late and send twice."""
    totals = {"A": 64, "B": 8, "C": 16}
    both = Both()

    def say(who: str, kind: str, restart: int) -> None:
        if kind == "w":
            both.now_ms += 20 * 60_000
            both.append(event("tick.v1", {}))
            return
        if restart == 2:
            lives[who] += 3
            sequences[who] = 0
        sequences[who] += restart > 0 or kind == "r"
        node = {"root": "n1", "incarnation": f"{lives[who]:016x}", "sequence": max(1, sequences[who])}
        parts = [provider("n1", VCPU=totals[who])]
        if kind == "h":
            both.append(event("node.heartbeat.v1", node))
        elif kind == "c":
            both.append(event("node.changed.v1", {**node, "providers": parts}))
        elif who == "C":
            both.append(event("node.reported.v1", {**node, "providers": parts}))
        else:
            both.append(event("node.reported.v2", {**node, "providers": parts, "machine": who}))

    lives, sequences = {"A": 1, "B": 2, "C": 3}, dict.fromkeys("ABC", 0)
    say("A", "r", 0)
    others = False
    for who, kind, restart in steps:
        say(who, kind, restart)
        others = others or (who != "A" and kind == "r")
        assert both.total("n1") == 64
        both.check()
        node = both.state.get(NODES, key(CELL, "n1"))
        assert node is not None
        assert not (others and node.complete), "a decision is pending"


@settings(max_examples=80)
@given(
    st.lists(
        st.tuples(
            st.sampled_from("ABC"), st.sampled_from(("report", "change", "heartbeat", "restart", "adopt"))
        ),
        max_size=30,
    )
)
def test_a_node_changes_its_machine_only_by_a_decision(steps: list[tuple[str, str]]) -> None:
    """Three machines report one name, and an operator decides for one or another. What is offered is what the machine of the
    last decision said last, or what was offered before it; what is held stays."""
    both = Both()
    totals, lives, sequences = {"A": 10, "B": 20, "C": 30}, {"A": 1, "B": 2, "C": 3}, dict.fromkeys("ABC", 0)
    count, decided, before = 0, "A", ""

    def say(who: str, deed: str) -> None:
        if deed == "restart":
            lives[who] += 3
            sequences[who] = 0
        sequences[who] += 1
        node = {"root": "n1", "incarnation": f"{lives[who]:016x}", "sequence": sequences[who]}
        parts = [provider("n1", VCPU=totals[who] + count)]
        if deed == "heartbeat":
            both.append(event("node.heartbeat.v1", node))
        elif deed == "change":
            both.append(event("node.changed.v1", {**node, "providers": parts}))
        else:
            both.append(event("node.reported.v2", {**node, "providers": parts, "machine": who}))

    def machine_offered() -> str:
        return "ABC"[both.total("n1") // 10 - 1]

    say("A", "report")
    both.append(claims(claim("c1", "i1", "n1", {"VCPU": 4}, both.now_ms + 60_000)))
    for who, deed in steps:
        count = (count + 1) % 5
        if deed == "adopt":
            both.append(event("node.adopted.v1", {"root": "n1", "machine": who}))
            if who != decided:
                before, decided = machine_offered(), who
        else:
            say(who, deed)
        both.check()
        assert machine_offered() in (decided, before)
        if machine_offered() == decided:
            before = ""  # from now on only another decision changes it
        row = both.state.get(ALLOCATIONS, key(CELL, "i1"))
        assert row is not None
        assert [(part.provider, part.grant) for part in row.parts] == [("n1", 4)]
    node = both.state.get(NODES, key(CELL, "n1"))
    assert node is not None
    if machine_offered() != decided:
        assert not node.complete, "the machine of the decision has not reported yet"
