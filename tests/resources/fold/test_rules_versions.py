"""Versions of the rules: what a log follows decides what an event does, on every build that supports the version."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import pytest
from hypothesis import given, settings

from tests.support.classes.ports_class import REGISTRY
from tests.support.logs.events_json import (
    START_MS,
    Tape,
    claim,
    claims,
    event,
    opened,
    provider,
    released,
    reported,
)
from tests.support.logs.rules_versions import LATER_BUILD, LATER_VERSION, NOTES, rule_set
from tests.support.models.memory_state import MemoryState
from tests.support.random_logs.strategies import logs
from vacancy.projections.store.digest import as_scan, partition_digest
from vacancy.resources.classes.registry import CLASSES_1
from vacancy.resources.fold.fold import fold
from vacancy.resources.fold.rules_versions import RULES_VERSION, RULES_VERSIONS
from vacancy.resources.model import events
from vacancy.resources.model.encoding.canonical_bytes import FORM_1, FORM_2
from vacancy.resources.model.errors import Halt
from vacancy.resources.model.record import Record
from vacancy.resources.model.request import RequestModel, RequestSpec
from vacancy.resources.state.rule_set import RulesVersions, Upcaster
from vacancy.resources.state.tables import (
    DEAD_LETTERS,
    PARTITION,
    PARTITION_KEY,
    REQUESTS,
    VERDICTS,
    key,
)

SPEC = {"groups": [{"resources": {"VCPU": 2}}]}


def activated(version: int) -> bytes:
    return event("rules.activated.v1", {"version": version, "classes": ["PORTS"]})


def noted(text: str) -> bytes:
    return event("note.taken.v1", {"text": text})


class Replica:
    """A partition in memory, as a build that supports these versions folds it."""

    def __init__(self, versions: RulesVersions = RULES_VERSIONS, version: int = 1) -> None:
        self.versions = versions
        self.state = MemoryState()
        self.offset = 0
        self.add(opened().replace(b'"version": 1', b'"version": %d' % version))

    def add(self, value: bytes, at_ms: int = 0) -> int:
        """Fold a record; returns its offset."""
        record = Record(0, self.offset, START_MS + at_ms, b"b1", value)
        self.state.commit(fold(self.state, record, REGISTRY, self.versions))
        self.offset += 1
        return self.offset - 1

    @property
    def letters(self) -> list[int]:
        """The offsets of the records that were refused."""
        return [
            DEAD_LETTERS.decode(data).offset
            for table, _, data in self.state.items()
            if table == "dead_letters"
        ]

    @property
    def digest(self) -> str:
        return partition_digest(as_scan(self.state.items), REGISTRY, self.versions)


# -- dispatch -------------------------------------------------------------------------------------------------


def test_an_event_that_only_a_later_version_has_is_a_dead_letter_on_every_build() -> None:
    digests = set()
    for versions in (RULES_VERSIONS, LATER_BUILD):
        replica = Replica(versions)
        replica.add(noted("too early"))
        replica.add(activated(2))
        replica.add(noted("too early again"))
        assert replica.letters == [1, 3]
        digests.add(replica.digest)
    assert len(digests) == 1


def test_it_does_something_from_the_record_on_that_follows_its_activation() -> None:
    replica = Replica(LATER_BUILD)
    replica.add(noted("too early"))
    replica.add(activated(LATER_VERSION))
    replica.add(noted("heard"))
    assert replica.letters == [1]
    assert replica.state.get(NOTES, b"b1") == b"heard"


def test_a_build_that_does_not_support_the_version_stops_there_and_goes_on_after_an_upgrade() -> None:
    replica = Replica()
    replica.add(reported("n1", [provider("n1", VCPU=8)]))
    before = replica.digest
    with pytest.raises(
        Halt, match=f"rules are version {LATER_VERSION}, this build supports up to {RULES_VERSION}"
    ) as halt:
        replica.add(activated(LATER_VERSION))
    assert "upgrade vacancy" in halt.value.do
    assert replica.digest == before
    replica.versions = LATER_BUILD
    replica.add(activated(LATER_VERSION))
    replica.add(noted("heard"))
    assert replica.letters == []


def test_a_state_of_a_version_that_the_build_does_not_support_is_not_folded_on() -> None:
    replica = Replica(LATER_BUILD, version=LATER_VERSION)
    replica.versions = RULES_VERSIONS
    with pytest.raises(Halt, match=f"rules are version {LATER_VERSION}"):
        replica.add(reported("n1", [provider("n1", VCPU=8)]))


def test_a_version_is_never_lowered() -> None:
    replica = Replica(version=2)
    replica.add(activated(1))
    assert replica.letters == [1]
    row = replica.state.get(PARTITION, PARTITION_KEY)
    assert row is not None
    assert row.rules_version == 2


def test_a_class_that_a_later_version_brings_is_unknown_before() -> None:
    without = frozenset(CLASSES_1 - {"PCPU"})
    versions = RulesVersions((rule_set(1, classes=without), rule_set(2)))
    replica = Replica(versions)
    node = reported("n1", [provider("n1", VCPU=8, PCPU=4)])
    replica.add(node)
    assert replica.letters == [1]
    replica.add(activated(2))
    replica.add(node)
    assert replica.letters == [1]
    assert replica.state.get(REGISTRY.table("PCPU"), key("b1", "n1")) is not None


class TickV2Data(RequestModel):
    text: str


class TickV2(events.Envelope):
    type: Literal["vacancy.tick.v2"] = "vacancy.tick.v2"
    data: TickV2Data


def _tick_2(transaction: Any, found: TickV2) -> None:
    transaction.put(NOTES, b"tick", found.data.text.encode())


def test_an_older_form_of_an_event_is_upcast_to_the_one_that_has_a_handler() -> None:
    def convert(old: events.Tick) -> TickV2:
        return TickV2(id=old.id, source=old.source, data=TickV2Data(text=f"was {old.type}"))

    newer = rule_set(
        2,
        handlers={events.Tick: None, TickV2: _tick_2},
        upcasters={events.Tick: Upcaster(TickV2, convert)},
        tables=(*rule_set(1).tables, NOTES),
    )
    replica = Replica(RulesVersions((rule_set(1), newer)), version=2)
    replica.add(event("tick.v1", {}))
    assert replica.state.get(NOTES, b"tick") == b"was vacancy.tick.v1"
    replica.add(event("tick.v2", {"text": "new"}))
    assert replica.state.get(NOTES, b"tick") == b"new"
    assert replica.letters == []


# -- the list of versions -------------------------------------------------------------------------------------


Upcasters = dict[type[Any], Upcaster]


def lost_event() -> RulesVersions:
    return RulesVersions((rule_set(1), rule_set(2, handlers={events.NodeRetired: None})))


def lost_table() -> RulesVersions:
    return RulesVersions((rule_set(1), rule_set(2, tables=rule_set(1).tables[1:])))


def lost_class() -> RulesVersions:
    return RulesVersions((rule_set(1), rule_set(2, classes=CLASSES_1 - {"FPGA"})))


def chain_without_end() -> RulesVersions:
    upcasters: Upcasters = {
        events.Tick: Upcaster(TickV2, lambda old: old),
        TickV2: Upcaster(events.Tick, lambda old: old),
    }
    return RulesVersions((rule_set(1, handlers={events.Tick: None}, upcasters=upcasters),))


def chain_to_nothing() -> RulesVersions:
    return RulesVersions(
        (
            rule_set(
                1, handlers={events.Tick: None}, upcasters={events.Tick: Upcaster(TickV2, lambda old: old)}
            ),
        )
    )


def two_ways() -> RulesVersions:
    upcasters: Upcasters = {
        TickV2: Upcaster(events.Tick, lambda old: old),
        events.Tick: Upcaster(TickV2, lambda old: old),
    }
    return RulesVersions((rule_set(1, upcasters=upcasters),))


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (lambda: RulesVersions(()), "not 1, 2, 3"),
        (lambda: RulesVersions((rule_set(2),)), "not 1, 2, 3"),
        (lambda: RulesVersions((rule_set(1), rule_set(3))), "not 1, 2, 3"),
        (lambda: RulesVersions((rule_set(1), rule_set(1))), "not 1, 2, 3"),
        (lost_event, "version 2 lacks what version 1 has: vacancy.node.retired.v1"),
        (lost_table, "version 2 lacks what version 1 has: its tables"),
        (lost_class, "version 2 lacks what version 1 has: FPGA"),
        (chain_without_end, "Tick has no handler, and no upcaster leads to one"),
        (chain_to_nothing, "Tick has no handler, and no upcaster leads to one"),
        (two_ways, "Tick has a handler and an upcaster"),
    ],
)
def test_a_list_that_does_not_hold_together_is_refused(made: Callable[[], object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        made()


def test_the_versions_of_this_build_are_listed() -> None:
    assert [one.version for one in RULES_VERSIONS] == [1, 2, 3, 4, 5, 6, 7]
    assert all(one.summary for one in RULES_VERSIONS)
    assert [one.canonical for one in RULES_VERSIONS] == [FORM_1, *(FORM_2,) * 6]
    assert [len(one.event_types) for one in RULES_VERSIONS] == [14, 14, 18, 39, 42, 43, 45]


# -- version 2 ------------------------------------------------------------------------------------------------


@settings(max_examples=30)
@given(logs())
def test_version_2_judges_like_version_1(tape: Tape) -> None:
    """All rows are the same, but for fingerprints, stored specs, and the version itself."""
    one, two = MemoryState(), MemoryState()
    for record in tape.records[0]:
        one.commit(fold(one, record, REGISTRY))
        second = record._replace(value=record.value.replace(b'"version": 1', b'"version": 2'))
        two.commit(fold(two, second, REGISTRY))
    assert [row[:2] for row in one.items()] == [row[:2] for row in two.items()]
    differ = {table for (table, _, a), (_, _, b) in zip(one.items(), two.items(), strict=True) if a != b}
    assert differ <= {"partition", "verdicts", "requests", "dead_letters"}
    for (table, _, a), (_, _, b) in zip(one.items(), two.items(), strict=True):
        if table == VERDICTS.name:
            first, second_row = VERDICTS.decode(a), VERDICTS.decode(b)
            assert [f for f in first.__struct_fields__ if getattr(first, f) != getattr(second_row, f)] in (
                [],
                ["fingerprint"],
            )


@pytest.mark.parametrize("how", ["claims.requested.v1", "consumer.replaced.v1"])
def test_a_claim_that_version_1_judged_is_recognised_after_the_activation_of_version_2(how: str) -> None:
    replica = Replica()
    replica.add(reported("n1", [provider("n1", VCPU=8)]))
    first = claim("c1", "i1", "n1", {"VCPU": 2}, START_MS + 60_000, spec=SPEC)
    replica.add(claims(first))
    again = claims(first)
    if how == "consumer.replaced.v1":
        first = {
            **first,
            "id": "c2",
            "consumer_generation": 1,
            "allocations": [{"provider": "n1", "resources": {"VCPU": 3}}],
        }
        replica.add(event(how, first))
        again = event(how, first)
    row = replica.state.get(VERDICTS, key("b1", first["id"]))
    assert row is not None
    assert (row.accepted, len(row.fingerprint)) == (True, 8)
    replica.add(activated(2))
    before = replica.digest
    replica.add(again)
    assert replica.digest == before
    other = {**first, "allocations": [{"provider": "n1", "resources": {"VCPU": 1}}]}
    at = replica.add(claims(other) if how == "claims.requested.v1" else event(how, other))
    assert replica.letters == [at]
    assert replica.state.get(VERDICTS, key("b1", first["id"])) == row


def test_a_claim_that_version_2_judged_is_recognised_and_one_that_was_cancelled_stays_so() -> None:
    replica = Replica()
    replica.add(reported("n1", [provider("n1", VCPU=8)]))
    late = claim("c0", "i0", "n1", {"VCPU": 2}, START_MS + 60_000)
    replica.add(released("i0", "c0", START_MS + 60_000))
    replica.add(activated(2))
    replica.add(claims(late))
    row = replica.state.get(VERDICTS, key("b1", "c0"))
    assert row is not None
    assert (row.reason, row.fingerprint[0], len(row.fingerprint)) == ("cancelled", 2, 9)
    before = replica.digest
    replica.add(claims(late))
    assert replica.digest == before
    assert replica.letters == []


def test_a_request_that_version_1_stored_stays_as_it_is_and_can_be_closed() -> None:
    replica = Replica()
    for id_, version in (("q1", 1), ("q2", 2)):
        if version == 2:
            replica.add(activated(2))
        replica.add(event("requests.received.v1", {"requests": [{"id": id_, "spec": SPEC}]}))
    replica.add(event("requests.received.v1", {"requests": [{"id": "q1", "spec": SPEC}]}))
    replica.add(
        event("requests.closed.v1", {"requests": [{"id": i, "outcome": "failed"} for i in ("q1", "q2")]})
    )
    old, new = replica.state.get(REQUESTS, b"q1"), replica.state.get(REQUESTS, b"q2")
    assert old is not None
    assert new is not None
    spec = RequestSpec.model_validate_json('{"groups":[{"resources":{"VCPU":2}}]}')
    assert (old.spec, old.outcome) == (FORM_1.spec(spec), "failed")
    assert (new.spec, new.outcome) == (FORM_2.spec(spec), "failed")
