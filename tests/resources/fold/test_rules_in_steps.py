"""Rules are raised in three steps: no sequence of records stops a build unless a store had answered that it supports the
rules that were activated."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.classes.ports_class import REGISTRY
from tests.support.logs.events_json import START_MS, event, opened, rules_in_steps
from tests.support.logs.rules_versions import LATER_BUILD, LATER_VERSION, NOTES
from tests.support.models.memory_state import MemoryState
from vacancy.projections.store.digest import as_scan, partition_digest
from vacancy.resources.classes.registry import Registry
from vacancy.resources.fold.fold import fold
from vacancy.resources.fold.log_rules import unanswered
from vacancy.resources.fold.rules_versions import RULES_VERSION, RULES_VERSIONS
from vacancy.resources.model.errors import Halt
from vacancy.resources.model.limits import LIMITS_3
from vacancy.resources.model.record import Record
from vacancy.resources.model.rules_answer import RulesAnswer
from vacancy.resources.state.rows import DeadLetterRow, PartitionRow, Proposal
from vacancy.resources.state.rule_set import RulesVersions
from vacancy.resources.state.tables import (
    DEAD_LETTERS,
    DEADLINES,
    PARTITION,
    PARTITION_KEY,
    PROPOSAL_ANSWERS,
    PROPOSALS,
    dead_letter_key,
)

HOUR = 3_600_000


class Replica:
    """A partition in memory that opens with the newest rules of this build, as a build folds it."""

    def __init__(self, versions: RulesVersions = RULES_VERSIONS, registry: Registry = REGISTRY) -> None:
        self.versions, self.registry = versions, registry
        self.state = MemoryState()
        self.offset = 0
        self.add(opened(version=RULES_VERSION))

    def add(self, value: bytes, at_ms: int = 0) -> None:
        """Fold a record."""
        record = Record(0, self.offset, START_MS + at_ms, b"b1", value)
        self.state.commit(fold(self.state, record, self.registry, self.versions))
        self.offset += 1

    @property
    def row(self) -> PartitionRow:
        row = self.state.get(PARTITION, PARTITION_KEY)
        assert row is not None
        return row

    @property
    def last_letter(self) -> str:
        letter: DeadLetterRow | None = self.state.get(
            DEAD_LETTERS, dead_letter_key(self.row.dead_letters - 1)
        )
        return "" if letter is None or letter.offset != self.offset - 1 else letter.reason

    @property
    def proposals(self) -> tuple[Proposal, ...]:
        row = self.state.get(PROPOSALS, PARTITION_KEY)
        return () if row is None else row.open

    @property
    def digest(self) -> str:
        return partition_digest(as_scan(self.state.items), REGISTRY)


def proposed(id_: str, version: int, classes: Any = ("PORTS",)) -> bytes:
    return event("rules.proposed.v1", {"version": version, "classes": list(classes)}, id_)


def supported(proposal: str, store: str, missing: Any = ()) -> bytes:
    return event(
        "rules.supported.v1",
        {"proposal": proposal, "store": store, "host": f"on-{store}", "missing": list(missing)},
    )


def activated(version: int, classes: Any = ("PORTS",)) -> bytes:
    return event("rules.activated.v1", {"version": version, "classes": list(classes)})


# -- a later version ------------------------------------------------------------------------------------------


def test_a_later_version_is_activated_in_three_steps_and_a_build_that_lacks_it_stops_there() -> None:
    this, later = Replica(), Replica(LATER_BUILD)
    for replica in (this, later):
        replica.add(activated(LATER_VERSION))
        assert replica.last_letter == "no open proposal has this version and these classes"
        replica.add(proposed("p", LATER_VERSION))
        answers = unanswered(replica.state, "a", replica.versions, replica.registry)
        missing = () if replica is later else (f"rules version {LATER_VERSION}",)
        assert answers == (RulesAnswer("p", missing),)
    for value in (supported("p", "a"), supported("p", "b", [f"rules version {LATER_VERSION}"])):
        for replica in (this, later):
            replica.add(value)
    assert this.digest == later.digest
    later.add(activated(LATER_VERSION))
    later.add(event("note.taken.v1", {"text": "heard"}))
    assert later.state.get(NOTES, b"b1") == b"heard"
    assert later.row.rules_version == LATER_VERSION
    before = this.digest
    with pytest.raises(Halt, match=f"rules are version {LATER_VERSION}, this build supports up to"):
        this.add(activated(LATER_VERSION))
    assert this.digest == before
    this.versions = LATER_BUILD  # an upgrade
    this.add(activated(LATER_VERSION))
    this.add(event("note.taken.v1", {"text": "heard"}))
    assert this.digest == later.digest


def test_what_a_store_answers_follows_its_build() -> None:
    without = Registry()
    replica = Replica()
    replica.add(proposed("p", LATER_VERSION, ("PORTS", "MORE")))
    lacks = RulesAnswer("p", (f"rules version {LATER_VERSION}", "resource class MORE"))
    assert unanswered(replica.state, "a", RULES_VERSIONS, REGISTRY) == (lacks,)
    replica.add(supported("p", "a", lacks.missing))
    assert unanswered(replica.state, "a", RULES_VERSIONS, REGISTRY) == ()
    assert unanswered(replica.state, "b", RULES_VERSIONS, REGISTRY) == (lacks,)
    upgraded = RulesAnswer("p", ("resource class MORE",))
    assert unanswered(replica.state, "a", LATER_BUILD, REGISTRY) == (upgraded,)
    (other,) = unanswered(replica.state, "a", LATER_BUILD, without)
    assert other.missing == ("resource class MORE", "resource class PORTS")


def test_an_answer_names_at_most_sixteen_things() -> None:
    replica = Replica()
    names = [f"CLASS_{n:02}" for n in range(LIMITS_3.proposal_classes - 1)]
    replica.add(proposed("p", RULES_VERSION, ["PORTS", *names]))
    (answer,) = unanswered(replica.state, "a", RULES_VERSIONS, REGISTRY)
    assert len(answer.missing) == 16
    assert answer.missing[-1] == "48 more resource classes"
    replica.add(supported("p", "a", answer.missing))
    assert replica.last_letter == ""
    assert unanswered(replica.state, "a", RULES_VERSIONS, REGISTRY) == ()


def test_a_log_of_the_first_rules_has_no_proposals_to_answer() -> None:
    state = MemoryState()
    assert unanswered(state, "a", RULES_VERSIONS, REGISTRY) == ()
    state.commit(fold(state, Record(0, 0, START_MS, b"b1", opened()), REGISTRY))
    assert unanswered(state, "a", RULES_VERSIONS, REGISTRY) == ()


# -- limits ---------------------------------------------------------------------------------------------------


def test_the_limits_are_named_by_the_dead_letter() -> None:
    replica = Replica()
    classes = ["PORTS", *(f"CLASS_{n}" for n in range(LIMITS_3.proposal_classes))]
    replica.add(proposed("many", RULES_VERSION, classes))
    assert (
        replica.last_letter
        == f"the proposal has 65 classes, and rules version {RULES_VERSION} allows 64 a proposal"
    )
    for n in range(LIMITS_3.proposals):
        replica.add(proposed(f"p{n}", RULES_VERSION + 1 + n))
    replica.add(proposed("more", RULES_VERSION + 100))
    assert replica.last_letter == f"8 proposals are open, and rules version {RULES_VERSION} allows 8"
    for n in range(LIMITS_3.proposal_answers):
        replica.add(supported("p0", f"s{n}", ["it"]))
    assert replica.row.dead_letters == 2
    assert unanswered(replica.state, "another", RULES_VERSIONS, REGISTRY)[0].proposal == "p1"
    replica.add(supported("p0", "another"))
    assert replica.last_letter == (
        f"proposal p0 has 1,024 answers, and rules version {RULES_VERSION} allows no more"
    )
    replica.add(supported("p0", "s7"))
    assert replica.row.dead_letters == 3
    assert (replica.proposals[0].supporting, replica.proposals[0].lacking) == (1, 1023)


def test_proposals_and_answers_leave_nothing() -> None:
    replica = Replica()
    before = replica.digest
    for n in range(LIMITS_3.proposals):
        replica.add(proposed(f"p{n}", RULES_VERSION + 1 + n))
        replica.add(supported(f"p{n}", "a", ["it"]))
        if n % 2:
            replica.add(event("rules.withdrawn.v1", {"proposal": f"p{n}"}))
    for hour in range(1, 30):
        replica.add(event("tick.v1", {}), hour * HOUR)
    for table in (PROPOSALS, PROPOSAL_ANSWERS, DEADLINES):
        assert not [row for row in replica.state.items() if row[0] == table.family]
    assert replica.digest != before  # of its log time alone
    assert replica.row.dead_letters == 0


# -- any records ----------------------------------------------------------------------------------------------

VERSIONS = st.integers(1, RULES_VERSION + 2)
CLASSES = st.lists(st.sampled_from(("PORTS", "VCPU", "MORE", "CUSTOM_X")), max_size=3)
IDS = st.sampled_from(("p", "q", "r"))
STORES = st.sampled_from(("a", "b"))
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
RULES_EVENTS = st.one_of(
    st.builds(proposed, IDS, VERSIONS, CLASSES),
    st.builds(supported, IDS, STORES, st.lists(st.just("it"), min_size=1, max_size=2)),
    st.builds(activated, VERSIONS, CLASSES),
    st.builds(lambda p: event("rules.withdrawn.v1", {"proposal": p}), IDS),
    st.builds(
        lambda kind, data: event(f"rules.{kind}.v1", {"data": data} if not isinstance(data, dict) else data),
        st.sampled_from(("proposed", "supported", "withdrawn", "activated")),
        ANYTHING,
    ),
)


@settings(max_examples=150)
@given(st.lists(st.tuples(RULES_EVENTS, st.sampled_from((0, 1, HOUR))), max_size=25))
def test_no_records_stop_a_build_if_no_store_supports_the_rules(records: list[tuple[bytes, int]]) -> None:
    replica, now_ms = Replica(), 0
    for value, pause_ms in records:
        now_ms += pause_ms
        replica.add(value, now_ms)
    assert (replica.row.rules_version, replica.row.classes) == (RULES_VERSION, ("PORTS",))


@settings(max_examples=150)
@given(st.lists(st.one_of(RULES_EVENTS, st.builds(supported, IDS, STORES)), max_size=25))
def test_a_build_stops_only_at_rules_that_a_store_supports(records: list[bytes]) -> None:
    """And until it stops, it folds as a later build does, which supports more."""
    this, later = Replica(), Replica(LATER_BUILD)
    for value in records:
        before = {(one.version, one.classes): one.supporting for one in this.proposals}
        try:
            this.add(value)
        except Halt:
            data = json.loads(value)["data"]
            wanted = (data.get("version", 1), tuple(sorted(set(data.get("classes", ())))))
            assert before[wanted]
            return
        try:
            later.add(value)
        except Halt:
            pytest.fail("the later build stops, and this build does not")
        assert this.digest == later.digest


def test_three_records_raise_the_rules() -> None:
    replica = Replica(LATER_BUILD)
    for value in rules_in_steps(LATER_VERSION, ["PORTS"]):
        replica.add(value)
    assert (replica.row.rules_version, replica.proposals) == (LATER_VERSION, ())
