"""The auditor and the fold agree on which records count where nodes and operators sign, also on numbers and keys at the limits."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.logs.events_json import LOG, START_MS, event, opened, provider
from tests.support.logs.signing import node_keys, policy, signed
from tests.support.models.memory_state import MemoryState
from vacancy.clients.auditor.ledger import Ledger
from vacancy.clients.auditor.signatures import AuditedSignatures
from vacancy.resources.classes.registry import Registry
from vacancy.resources.fold.fold import fold
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import Record
from vacancy.resources.model.signatures import NUMBER_MAX
from vacancy.resources.state.tables import DEAD_LETTERS

CELL = covering_cells(1)[0]
NAMES = st.sampled_from(("alice", "bob"))
ROOTS = st.sampled_from(("n1", "n2"))


class _Noting(AuditedSignatures):
    accepted = False

    def accept(self) -> None:
        super().accept()
        self.accepted = True


class Both:
    """One partition of rules version 7, in the fold's state and in the auditor's ledger."""

    def __init__(self) -> None:
        self.registry, self.state = Registry(), MemoryState()
        self.ledger = Ledger(lambda *_args, **_more: None)
        self.signatures = self.ledger.signatures = _Noting()
        self.offset = 0
        assert self.takes(opened(classes=(), version=7))

    def takes(self, value: bytes) -> bool:
        """Whether the record is no dead letter. The auditor has to say the same."""
        record = Record(0, self.offset, START_MS, CELL.encode(), value)
        changes = fold(self.state, record, self.registry)
        self.state.commit(changes)
        self.signatures.accepted = False
        self.ledger.apply(record)
        self.offset += 1
        taken = not changes.get(DEAD_LETTERS)
        assert self.signatures.accepted is taken, value
        return taken


def pinned(number: int = 1) -> bytes:
    return signed(policy(1, ("alice",), id_="first"), "alice", number, cell=CELL)


def test_the_first_policy_needs_a_number() -> None:
    both = Both()
    assert not both.takes(pinned(0))
    assert both.takes(pinned(1))


def test_no_revoked_key_is_pinned_where_no_operator_is_left() -> None:
    both = Both()
    assert both.takes(pinned())
    assert both.takes(signed(policy(2, ()), "alice", 2, cell=CELL))
    assert not both.takes(signed(policy(3, ("alice",)), "alice", 3, cell=CELL))
    assert not both.takes(signed(policy(3, ("alice", "bob")), "bob", 4, cell=CELL))
    assert both.takes(signed(policy(3, ("bob",)), "bob", 5, cell=CELL))


def test_the_highest_number_is_the_last_one() -> None:
    both = Both()
    assert both.takes(pinned(NUMBER_MAX))
    assert not both.takes(signed(policy(2, ("alice",)), "alice", NUMBER_MAX, cell=CELL))
    assert not both.takes(signed(policy(2, ("alice",)), "alice", NUMBER_MAX + 1, cell=CELL))


@st.composite
def records(draw: st.DrawFn) -> bytes:
    what = draw(st.integers(0, 5))
    root, revision = draw(ROOTS), draw(st.integers(1, 4))
    life, sequence = f"{draw(st.integers(1, 3)):016x}", draw(st.integers(1, 3))
    if what <= 1:
        named = tuple(draw(st.lists(NAMES, max_size=2)))
        value = policy(revision, named, *draw(st.sampled_from(((), ("*:*",), (f"{CELL}:n1",)))))
        name = draw(NAMES)
    elif what == 2:
        value = node_keys(root, revision, *draw(st.lists(st.just(f"{root} key"), max_size=1)))
        name = draw(NAMES)
    elif what == 3:
        machine = draw(st.sampled_from(("A", "B")))
        tree = [provider(root, VCPU={"total": 8}), provider(f"{draw(ROOTS)}_part", root, VCPU={"total": 1})]
        value = event(
            "node.reported.v2",
            {
                "root": root,
                "incarnation": life,
                "sequence": sequence,
                "providers": tree,
                "machine": machine,
            },
        )
        name = f"{draw(ROOTS)} key"
    elif what == 4:
        data = {"root": root, "incarnation": life, "sequence": sequence}
        value, name = event("node.retired.v1", data), f"{root} key"
    else:
        value, name = event("node.adopted.v1", {"root": root, "machine": "A"}), draw(NAMES)
    if draw(st.integers(0, 5)) == 0:
        return value
    log = LOG if draw(st.integers(0, 9)) else "another"
    return signed(value, name, draw(st.integers(0, 9)), cell=CELL, log=log)


@settings(max_examples=100, deadline=None)
@given(st.lists(records(), max_size=12))
def test_they_agree(more: list[bytes]) -> None:
    both = Both()
    both.takes(pinned())
    both.takes(signed(node_keys("n1", 1, "n1 key"), "alice", 2, cell=CELL))
    for value in more:
        both.takes(value)
