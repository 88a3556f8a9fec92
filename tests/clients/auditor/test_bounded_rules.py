"""The auditor under rules with limits: what it refuses, what ends when, who speaks for a node, which rules are in force."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.clients.auditor.test_auditor import DEADLINE, JSON, T0, Story, a_claim, provider
from vacancy.clients.auditor.auditor import audit
from vacancy.clients.auditor.deadlines import Deadline, Deadlines
from vacancy.clients.auditor.ledger import CONTESTED_MS, Ledger
from vacancy.clients.auditor.rules_in_force import BOUNDED as LIMITS


@pytest.fixture
def story() -> Story:
    story = Story(version=3)
    story.node()
    return story


def claims(story: Story, *them: JSON, accepted: bool | None) -> None:
    """A record of several claims. None: no verdict, because the record is refused."""
    offset = story.say("claims.requested", {"claims": list(them)})
    if accepted is None:
        return
    story.verdicts += [
        {
            "claim": one["id"],
            "cell": story.cell,
            "partition": story.partition,
            "offset": offset,
            "accepted": accepted,
            "reason": "" if accepted else "no_room",
        }
        for one in them
    ]


def is_right(story: Story) -> bool:
    report = story.audit()
    return not report.problems and report.unverifiable == 0


# -- limits of a record -----------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize(
    ("field", "value", "limit"),
    [
        (
            "predicates",
            {"provider": "n", "kind": "trait", "value": "CUSTOM_A", "negate": True},
            LIMITS.predicates,
        ),
        ("allocations", {"provider": "n", "resources": {"VCPU": 1}}, LIMITS.asks),
    ],
)
def test_a_record_with_too_much_in_its_claims_is_refused(
    version: int, field: str, value: JSON, limit: int
) -> None:
    for over in (0, 1):
        story = Story(version=version)
        story.node("n", provider("n", 10_000))
        shares = [limit // 10 if n else limit - limit // 10 * 9 + over for n in range(10)]
        them = [{**a_claim(f"c{n}", 1), field: [value] * share} for n, share in enumerate(shares)]
        claims(story, *them, accepted=None if over and version == 3 else True)
        assert is_right(story)


def test_a_record_with_too_many_memberships_is_refused(story: Story) -> None:
    groups = [
        {"group": f"{story.cell}/g{n}", "policy": "anti-affinity", "max_per_node": 64} for n in range(16)
    ]
    story.node("n", provider("n", 100))
    claims(story, *(a_claim(f"c{n}", 1, memberships=groups) for n in range(8)), accepted=True)
    claims(story, *(a_claim(f"d{n}", 1, memberships=groups[n // 8 :]) for n in range(9)), accepted=None)
    assert is_right(story)


@pytest.mark.parametrize("more", [0, 1])
def test_marks_are_counted_before_parsing(story: Story, more: int) -> None:
    story.claim("a", accepted=None)
    record = story.records.pop()
    marks = sum(map(record.value.count, (b",", b":", b"[", b"{")))
    padding = b'"pad":[' + b",".join([b"0"] * (LIMITS.record_marks - marks - 2 + more)) + b"],"
    story.records.append(record._replace(value=b"{" + padding + record.value[1:]))
    assert story.audit().missing_verdicts == 1 - more


@pytest.mark.parametrize("more", [0, 1])
@pytest.mark.parametrize(
    "report",
    [
        lambda more: {"inventories": {f"CUSTOM_{n}": {"total": 4} for n in range(64 + more)}},
        lambda more: {"attributes": {f"a{n}": n for n in range(64 + more)}},
        lambda more: {"traits": [f"CUSTOM_{n}" for n in range(512 + more)]},
    ],
)
def test_a_provider_with_too_many_names_is_refused(story: Story, report: Any, more: int) -> None:
    old = story.node("n", {"id": "n", **report(more)}) - 1
    story.facts(
        "n",
        1,
        **{k: v for k, v in report(more).items() if k != "inventories"},
        aggregates=["r"] * (256 + more),
    )
    ledger = Ledger(lambda *_: None)
    for record in story.records:
        ledger.apply(record)
    changed = ledger.providers[story.cell, "n"].changed
    assert (changed > old) == (not more)
    assert len(ledger.settings) == 1 - more


@pytest.mark.parametrize("more", [0, 1])
def test_a_report_that_confirms_too_many_consumers_is_refused(story: Story, more: int) -> None:
    story.claim("a", 6, hold_until_ms=T0 + 5)
    story.node(consumers=["of-a", *(f"i{n}" for n in range(4095 + more))])
    story.at(6).claim("b", 5, accepted=bool(more))
    assert is_right(story)


# -- claims -----------------------------------------------------------------------------------------------


def test_a_group_that_names_too_many_providers_is_full(story: Story) -> None:
    story.node("n", provider("n", 100), *(provider(f"n:{i}", 100, "n") for i in range(256)))
    joins = [{"group": f"{story.cell}/g", "policy": "anti-affinity", "max_per_node": 1024, "hard": False}]
    wide = [{"provider": f"n:{i}", "resources": {"VCPU": 1}} for i in range(256)]
    for n in range(16):
        story.claim(f"c{n}", allocations=wide, memberships=joins)
    story.claim("d", 1, memberships=joins, accepted=False)
    story.release("c0")
    story.claim("e", 1, memberships=joins)
    assert is_right(story)


def test_a_replacement_names_the_claim_that_it_replaces(story: Story) -> None:
    story.claim("a", 4)
    move = {"consumer": "of-a", "consumer_generation": 1, "replaces": True}
    story.claim("b", 5, accepted=None, **{k: v for k, v in move.items() if k != "replaces"}, replaces=True)
    del story
    for named, accepted in (("a", True), ("x", False)):
        log = Story(version=3)
        log.node()
        log.claim("a", 4)
        claim = a_claim("b", 5, consumer="of-a", consumer_generation=1)
        log.say("consumer.replaced", claim)  # has no meaning any more
        offset = log.say("consumer.replaced.v2", {**claim, "replaces": named})
        verdict = {"claim": "b", "cell": log.cell, "partition": 0, "offset": offset, "accepted": accepted}
        log.verdicts.append(verdict)
        assert is_right(log)
        verdict["accepted"] = not accepted
        assert not is_right(log)


def test_a_record_that_reads_little_is_not_full(story: Story) -> None:
    story.claim("a", accepted=False)
    story.verdicts[0]["reason"] = "record_full"
    report = story.audit()
    assert (report.wrong_rejections, report.unverifiable) == (1, 0)
    old = Story(version=2)
    old.node()
    old.claim("a", accepted=False)
    old.verdicts[0]["reason"] = "record_full"
    assert old.audit().wrong_rejections == 1


# -- releases and deadlines -------------------------------------------------------------------------------


def _wide(story: Story, count: int, **more: Any) -> list[JSON]:
    """Consumers that hold 256 parts each."""
    story.node("n", provider("n", 0), *(provider(f"n:{i}", count, "n") for i in range(256)))
    parts = [{"provider": f"n:{i}", "resources": {"VCPU": 1}} for i in range(256)]
    return [story.claim(f"w{n}", allocations=parts, deadline_ms=T0 + 600_000, **more) for n in range(count)]


def test_releases_of_one_record_give_back_a_limited_number_of_parts(story: Story) -> None:
    wide = _wide(story, 10)
    releases = [{"consumer": one["consumer"], "claim": one["id"]} for one in wide[:9]]
    story.say("consumers.released", {"releases": releases})
    story.claim("a", 8, at="n:0")  # eight of nine were released
    story.claim("b", 1, at="n:0", accepted=False)
    assert is_right(story)
    assert story.audit().released == 8


def test_the_first_release_of_a_record_has_no_limit(story: Story) -> None:
    ledger = Ledger(lambda *_: None)
    for record in story.records:
        ledger.apply(record)
    parts = [{"provider": "n", "resources": {"VCPU": 1}}] * 256
    assert ledger.rules.limits.released_parts == 8 * len(parts)


def test_holds_that_end_at_once_end_at_several_records(story: Story) -> None:
    """257 units each: four reach the limit of one record."""
    _wide(story, 10, hold_until_ms=T0 + 5)
    story.at(6).claim("a", 5, at="n:0", accepted=False)  # four have ended
    story.claim("b", 8, at="n:0")
    story.claim("c", 3, at="n:0", accepted=False)  # ten have ended, and eight are taken
    assert is_right(story)


def test_a_verdict_that_waits_for_its_end_still_stands(story: Story) -> None:
    """1,024 of 1,088 verdicts end at the first record after their deadline, in the order of their ids."""
    story.node("n", provider("n", 10_000))
    for at in range(0, 1088, 64):
        claims(story, *(a_claim(f"c{at + n:04}", 1, deadline_ms=T0 + 5) for n in range(64)), accepted=True)
    again = [{**a_claim(f"c{number}", 1), "consumer": f"again-{number}"} for number in (1023, 1024)]
    claims(story.at(6), *again, accepted=True)
    story.verdicts.pop()  # c1024 was judged before, and that still stands
    assert is_right(story)


def test_deadlines_come_in_order_and_once() -> None:
    deadlines = Deadlines()
    for one in (
        (5, b"V", b"b"),
        (5, b"H", b"z"),
        (4, b"V", b"y"),
        (5, b"V", b"a"),
        (5, b"V", b"a"),
        (9, b"H", b""),
    ):
        deadlines.set(*one)
    deadlines.clear(4, b"V", b"y")
    deadlines.set(4, b"V", b"y")
    deadlines.clear(5, b"V", b"b")
    assert list(deadlines.take_past(5)) == [Deadline(4, b"V", b"y")]
    assert list(deadlines.take_past(6)) == [Deadline(5, b"H", b"z"), Deadline(5, b"V", b"a")]
    assert list(deadlines.take_past(9)) == []


# -- nodes ------------------------------------------------------------------------------------------------


def _event(story: Story, life: int, sequence: int, kind: str = "heartbeat") -> None:
    data: JSON = {"root": "n", "incarnation": f"{life:016x}", "sequence": sequence}
    story.say(f"node.{kind}", {**data, "providers": [provider("n")]} if kind == "reported" else data)


@pytest.mark.parametrize(
    ("events", "open_"),
    [
        ([(0, 1, "heartbeat")], True),  # a repetition
        ([(7, 1, "reported")], True),  # another writer starts
        ([(7, 1, "reported"), (0, 1, "heartbeat")], True),  # a late event of before, that was read before
        ([(7, 1, "reported"), (0, 2, "heartbeat")], False),  # the node goes on
        ([(7, 1, "reported"), (0, 2, "heartbeat"), (7, 2, "reported")], False),  # a report does not reopen it
        ([(0, 9, "reported")], True),
        ([(0, 9, "reported"), (0, 2, "heartbeat")], False),  # in the gap
        ([(0, 9, "reported"), (7, 1, "reported"), (0, 2, "heartbeat")], False),  # in a gap of the life before
        ([(7, 3, "reported"), (7, 2, "heartbeat")], False),  # in the gap before the first event of a life
        ([(0, 9, "reported"), (0, 9, "reported")], True),
        ([(0, 2, "heartbeat"), (0, 9, "reported"), (0, 2, "heartbeat")], True),
    ],
)
def test_a_node_that_two_writers_speak_for_takes_no_claims(
    story: Story, events: list[tuple[int, int, str]], open_: bool
) -> None:
    for life, sequence, kind in events:
        _event(story, life, sequence, kind)
    story.claim("a", accepted=open_, deadline_ms=DEADLINE)
    story.verdicts[0]["accepted"] = open_
    report = story.audit()
    assert report.problems == []


def test_a_contested_node_is_open_again_after_a_while(story: Story) -> None:
    _event(story, 7, 1, "reported")
    _event(story, 0, 2)
    story.at(60_000)
    _event(story, 0, 3)
    story.at(60_000 + CONTESTED_MS).claim("a", accepted=False, deadline_ms=T0 + 60_000 + CONTESTED_MS)
    story.at(60_001 + CONTESTED_MS).claim("b", deadline_ms=T0 + 60_001 + CONTESTED_MS)
    report = story.audit()
    assert report.problems == []


# -- trees and names --------------------------------------------------------------------------------------


def _parts(numbers: range, **more: Any) -> list[JSON]:
    return [{**provider(f"n:{i}", 1, "n"), **more} for i in numbers]


@pytest.mark.parametrize(
    "parts",
    [
        _parts(range(1000)),
        _parts(range(100), attributes={f"a{n}": n for n in range(60)}, traits=["T1"] * 12 + ["T2"]),
    ],
)
def test_a_large_withdrawal_closes_its_node_until_it_is_done(story: Story, parts: list[JSON]) -> None:
    """1,700 to 2,000 units: 512 with the report, and as many before each of the records after it."""
    story.node("n", provider("n"), *parts)
    story.node("n", provider("n"))
    story.claim("a", accepted=False)
    story.node("n", provider("n", 20))  # refused, because part of the tree waits
    story.claim("b", accepted=True)
    story.claim("c", 7, accepted=False)
    assert is_right(story)


def test_a_small_withdrawal_closes_nothing(story: Story) -> None:
    story.node("n", provider("n"), *_parts(range(256)))
    story.node("n", provider("n"))
    story.claim("a")
    assert is_right(story)


def test_withdrawn_members_that_are_in_use_count_in_the_size_of_a_tree(story: Story) -> None:
    story.node("n", provider("n"), *_parts(range(100)))
    claims(story, *(a_claim(f"c{n}", 1, at=f"n:{n}") for n in range(50)), accepted=True)
    story.node("n", provider("n", 11))  # fifty stay
    story.node("n", provider("n", 12), *_parts(range(100, 100 + 4096 - 50)))
    story.claim("a", 12, accepted=False)
    story.node("n", provider("n", 13), *_parts(range(100, 100 + 4096 - 51)))
    story.claim("b", 13)
    assert is_right(story)


@pytest.mark.parametrize(
    ("kind", "most", "each"), [("inventories", 1024, 64), ("attributes", 4096, 64), ("traits", 8192, 512)]
)
def test_a_cell_has_a_limited_number_of_names(kind: str, most: int, each: int) -> None:
    def named(number: int, count: int, first: int) -> JSON:
        names = [f"CUSTOM_{n}" for n in range(first, first + count)]
        values: Any = {
            "inventories": {name: {"total": 1} for name in names},
            "attributes": {name.lower(): 1 for name in names},
            "traits": names,
        }
        return {"id": f"n:{number}", "parent": "n", kind: values[kind]}

    story = Story(version=3)
    full = most // each - 1
    left = each - (kind == "inventories")  # the root has VCPU
    parts = [named(n, each, n * each) for n in range(full)]
    story.node("n", provider("n", 1), *parts, named(full, left, most))
    story.claim("a", 1)
    story.node("n", provider("n", 2), *parts, named(full, left, most), named(full + 1, 1, 0))
    story.claim("b", 1)
    story.node("n", provider("n", 3), *parts, named(full, left, most), named(full + 1, 1, 2 * most))
    story.claim("c", 1, accepted=False)
    story.node("n", provider("n", 3), *parts, named(full + 1, 1, 2 * most))
    story.claim("d", 1)
    assert is_right(story)


# -- rules ------------------------------------------------------------------------------------------------


def _rules(story: Story) -> tuple[int, set[str]]:
    ledger = Ledger(lambda *_: None)
    for record in story.records:
        ledger.apply(record)
    return ledger.rules.now.version, set(ledger.rules.now.classes)


PORTS: JSON = {"version": 3, "classes": ["PORTS"]}


def test_an_activation_needs_a_proposal_that_a_store_supports(story: Story) -> None:
    story.say("rules.activated", PORTS)
    story.say("rules.proposed", PORTS, "p")
    story.say("rules.activated", PORTS)
    story.say("rules.supported", {"proposal": "p", "store": "s", "missing": ["a class"]})
    story.say("rules.activated", PORTS)
    assert _rules(story) == (3, set())
    story.say("rules.supported", {"proposal": "p", "store": "s"})
    story.say("rules.activated", {**PORTS, "version": 4})
    assert _rules(story) == (3, set())
    story.say("rules.activated", PORTS)
    assert _rules(story) == (3, {"PORTS"})


@pytest.mark.parametrize(
    "ended",
    [
        lambda story: story.say("rules.withdrawn", {"proposal": "p"}),
        lambda story: story.say("rules.supported", {"proposal": "p", "store": "s", "missing": ["x"]}),
        lambda story: [story.at(3_600_000 * hour + 1).say("tick", {}) for hour in range(1, 25)],
    ],
)
def test_a_proposal_that_has_ended_is_not_activated(story: Story, ended: Any) -> None:
    story.say("rules.proposed", PORTS, "p")
    story.say("rules.supported", {"proposal": "p", "store": "s"})
    ended(story)
    story.say("rules.activated", PORTS)
    assert _rules(story) == (3, set())


def test_an_older_log_is_raised_in_one_step() -> None:
    story = Story(version=1)
    story.say("rules.proposed", PORTS, "p")
    assert _rules(story) == (1, set())
    story.say("rules.activated", PORTS)
    assert _rules(story) == (3, {"PORTS"})
    story.say("rules.activated", {"version": 2, "classes": ["PORTS"]})
    assert _rules(story) == (3, {"PORTS"})


def test_proposals_are_few() -> None:
    story = Story(version=3)
    for number in range(9):
        story.say("rules.proposed", {"version": 3, "classes": [f"C{number}"]}, f"p{number}")
    story.say("rules.supported", {"proposal": "p8", "store": "s"})
    story.say("rules.activated", {"version": 3, "classes": ["C8"]})
    assert _rules(story) == (3, set())
    story.say("rules.supported", {"proposal": "p7", "store": "s"})
    story.say("rules.activated", {"version": 3, "classes": ["C7"]})
    assert _rules(story) == (3, {"C7"})


# -- no valid host ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [2, 3])
def test_a_report_that_is_refused_does_not_excuse_a_no_valid_host(version: int) -> None:
    """A root that two cells report may be left out by a query. A refused report does not make a root known."""
    stories = [Story(partition, 2, version=version) for partition in range(2)]
    classes = {f"CUSTOM_C{number}": {"total": 1} for number in range(LIMITS.provider_classes + 1)}
    report = {"root": "n", "incarnation": f"{1:016x}", "sequence": 1}
    stories[0].node()
    stories[1].say("node.reported", {**report, "providers": [{"id": "n", "inventories": classes}]})
    stories[0].no_valid_host("r", {"groups": [{"resources": {"VCPU": 1}}]})
    found = audit({story.partition: story.records for story in stories}, [])
    assert (found.wrong_rejections, found.unverifiable) == ((0, 1) if version == 2 else (1, 0))


def test_rules_that_were_activated_count_for_a_no_valid_host() -> None:
    story = Story(version=2)
    story.node()
    story.say("rules.activated", {"version": 3})
    story.no_valid_host("r", {"groups": [{"resources": {"VCPU": 1}}]})
    story.no_valid_host("s", {"groups": [{"resources": {"VCPU": 1}}]})
    refused = json.loads(story.records[-1].value) | {"note": [0] * LIMITS.record_marks}
    story.records[-1] = story.records[-1]._replace(value=json.dumps(refused).encode())
    found = story.audit()
    assert (found.no_valid_host, found.wrong_rejections) == (1, 1)
