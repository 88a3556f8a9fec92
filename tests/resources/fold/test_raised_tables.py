"""What rules version 4 makes of the rows of a log that was raised to it, table by table. The auditor agrees with each story."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.classes.ports_class import REGISTRY
from tests.support.logs.events_json import claim, event, provider, reported
from tests.support.logs.raised_log import CELL, RaisedLog
from vacancy.resources.fold.nodes.nodes import TOMBSTONE_MS
from vacancy.resources.state.rows import NodeRow
from vacancy.resources.state.tables import (
    ALLOCATION_ASKS,
    CELL_COUNTS,
    CELL_MOVES,
    FACTS,
    GROUPS,
    MACHINES,
    NODES,
    PROVIDERS,
    REQUESTS,
    VERDICTS,
    WITHDRAWALS,
    Table,
    key,
)

HOUR_MS = 3_600_000
DEVICES: dict[str, Any] = {"devices": {f"d{n}": {} for n in range(4)}}


@pytest.fixture
def log() -> Iterator[RaisedLog]:
    """A log of version 3; the auditor agrees with all that a test makes of it."""
    log = RaisedLog()
    yield log
    assert log.audit().problems == []


def node(log: RaisedLog, root: str = "n1") -> NodeRow:
    found = log.state.get(NODES, key(CELL, root))
    assert found is not None
    return found


def has(log: RaisedLog, table: Table[Any], id_: str) -> bool:
    return log.state.get(table, key(CELL, id_)) is not None


def pass_time(log: RaisedLog, ms: int) -> None:
    """Log time moves an hour a record at most."""
    while ms > 0:
        log.tape.now_ms += min(ms, HOUR_MS)
        log.say("tick.v1", {})
        ms -= HOUR_MS


# -- domains and server groups ----------------------------------------------------------------------------------


def spread(log: RaisedLog, consumer: str, on: str) -> str:
    """The outcome for a member of a group that is spread over zones."""
    group = {"group": f"{CELL}/even", "policy": "spread", "scope": "zone-", "max_skew": 1}
    bid = claim(f"c-{consumer}", consumer, on, {"VCPU": 1}, log.tape.now_ms + 60_000, memberships=[group])
    log.say("claims.requested.v2", {"claims": [bid]})
    return log.verdict(f"c-{consumer}").reason


def zones(log: RaisedLog) -> None:
    """Three nodes in zones a, b and c."""
    for number, zone in enumerate("abc"):
        log.report(f"n{number}")
        facts = {"provider": f"n{number}", "revision": 1, "facts": {"aggregates": [f"zone-{zone}"]}}
        log.say("facts.set.v1", facts)


def test_silent_nodes_are_no_domains_until_they_are_counted(log: RaisedLog) -> None:
    zones(log)
    log.raise_rules()
    log.report("n0", 2)
    assert [spread(log, f"early-{n}", "n0") for n in range(2)] == ["", ""]  # zone-a is the only domain
    for root in ("n1", "n2", "nobody"):
        log.say("node.counted.v1", {"root": root})
    assert log.letters() == []
    assert spread(log, "late", "n0") == "spread_broken"
    assert spread(log, "other", "n1") == ""


def test_a_node_is_counted_once(log: RaisedLog) -> None:
    zones(log)
    log.raise_rules()
    for _ in range(2):
        log.report("n0", 1)  # a repetition
        for root in ("n0", "n1", "n2"):
            log.say("node.counted.v1", {"root": root})
    assert log.state.get(CELL_COUNTS, key(CELL, "domains zone-")) == 3
    log.say("facts.set.v1", {"provider": "n1", "revision": 2, "facts": {}})
    assert log.state.get(CELL_COUNTS, key(CELL, "domains zone-")) == 2


def test_closed_and_retired_nodes_are_counted_as_no_domains(log: RaisedLog) -> None:
    zones(log)
    disabled = {"aggregates": ["zone-a"], "status": "disabled"}
    log.say("facts.set.v1", {"provider": "n0", "revision": 2, "facts": disabled})
    log.say("node.retired.v1", {"root": "n1", "incarnation": f"{1:016x}", "sequence": 2})
    log.raise_rules()
    for root in ("n0", "n1", "n2"):
        log.say("node.counted.v1", {"root": root})
    assert log.state.get(CELL_COUNTS, key(CELL, "domains zone-")) == 1


def test_members_of_version_3_stay_members_and_keep_their_rule(log: RaisedLog) -> None:
    log.report()
    log.report("n2")
    apart = {"group": f"{CELL}/g", "policy": "anti-affinity"}
    assert log.claim("a", memberships=[apart]).accepted
    log.raise_rules()
    assert log.claim("b", memberships=[apart]).reason == "anti_affinity_broken"
    assert log.move("a", 2).accepted  # the group is not named: it stays
    assert log.claim("c", memberships=[apart]).reason == "anti_affinity_broken"
    assert log.move("a", 2, leaves=[f"{CELL}/g"]).accepted
    assert not has(log, GROUPS, "g")


def test_a_group_of_version_3_is_not_spread(log: RaisedLog) -> None:
    zones(log)
    assert log.claim("a", on="n0", memberships=[{"group": f"{CELL}/even", "policy": "affinity"}]).accepted
    log.raise_rules()
    assert spread(log, "b", "n1") == "group_policy_differs"


# -- what consumers hold ------------------------------------------------------------------------------------------


def test_a_move_keeps_devices_of_which_the_asks_are_not_known(log: RaisedLog) -> None:
    log.report(PCI_DEVICE=DEVICES, VCPU=4)
    assert log.claim("other", {"PCI_DEVICE": 1}).accepted
    assert log.claim("a", {"PCI_DEVICE": {"count": 2}}).accepted
    log.release("other")
    log.raise_rules()
    before = log.held("a")
    assert before is not None
    assert not has(log, ALLOCATION_ASKS, "a")
    log.say("facts.set.v1", {"provider": "n1", "revision": 1, "facts": {"status": "disabled"}})
    assert log.move("a", {"PCI_DEVICE": {"count": 2}}).accepted
    after = log.held("a")
    assert after is not None
    assert [part.grant for part in after.parts] == [part.grant for part in before.parts]
    assert has(log, ALLOCATION_ASKS, "a")
    log.release("a")
    assert not has(log, ALLOCATION_ASKS, "a")


def test_a_hold_of_version_3_is_confirmed_or_ends(log: RaisedLog) -> None:
    log.report()
    until_ms = log.tape.now_ms + 5_000
    for name in ("a", "b"):
        assert log.claim(name, 5, hold_until_ms=until_ms).accepted
    log.raise_rules()
    log.report(sequence=2)
    log.put(reported("n1", [provider("n1", VCPU=10)], sequence=3, consumers=["a"]))
    pass_time(log, 10_000)
    assert (log.held("a") is None, log.held("b") is None) == (False, True)
    assert log.claim("c", 5).accepted


def test_a_move_between_cells_takes_what_version_3_gave(log: RaisedLog) -> None:
    log.report()
    assert log.claim("vm", 5).accepted
    log.raise_rules()
    move = {
        "move": "m-1",
        "consumer": "vm",
        "source": {"cell": CELL, "claim": "c-vm"},
        "destination": "auto-1",
    }
    ends_ms = log.tape.now_ms + 60_000
    log.tape.append(
        "m-1", event("cell.move.begun.v1", {**move, "deadline_ms": ends_ms, "hold_until_ms": ends_ms})
    )
    log.release("vm")
    log.tape.append("m-1", event("cell.move.ended.v1", {"move": "m-1", "outcome": "released"}))
    log.say("tick.v1", {})
    assert log.letters() == []
    row = log.state.get(CELL_MOVES, b"m-1")
    assert row is not None
    assert row.outcome == "released"
    assert log.claim("next", 10).accepted


def test_claims_and_cancellations_of_version_3_are_known(log: RaisedLog) -> None:
    log.report()
    first = claim("c-a", "a", "n1", {"VCPU": 1}, log.tape.now_ms + 60_000)
    log.say("claims.requested.v1", {"claims": [first]})
    log.say(
        "consumers.released.v1",
        {"releases": [{"consumer": "b", "claim": "c-b", "deadline_ms": log.tape.now_ms + 60_000}]},
    )
    log.raise_rules()
    verdict = log.verdict("c-a")
    log.say("claims.requested.v1", {"claims": [first]})
    log.say("claims.requested.v2", {"claims": [first]})
    assert log.letters() == []
    assert log.verdict("c-a") == verdict
    assert log.claim("b").reason == "cancelled"
    other = claim("c-z", "z", "n1", {"VCPU": 1}, log.tape.now_ms + 60_000)
    log.say("gang.requested.v1", {"claims": [first, other]})
    assert "claim c-z is new, and others of its gang were made before" in log.letters()[-1]
    pass_time(log, 120_000)
    assert not has(log, VERDICTS, "c-a")


def test_requests_of_version_3_are_closed_and_end(log: RaisedLog) -> None:
    spec = {"groups": [{"resources": {"VCPU": 1}}]}
    log.say("requests.received.v1", {"requests": [{"id": "r-1", "spec": spec}, {"id": "r-2", "spec": spec}]})
    log.raise_rules()
    log.say("requests.closed.v1", {"requests": [{"id": "r-1", "outcome": "failed"}]})
    row = log.state.get(REQUESTS, b"r-1")
    assert row is not None
    assert (row.outcome, log.letters()) == ("failed", [])
    pass_time(log, 25 * HOUR_MS)
    assert dict(log.state.rows(REQUESTS)) == {}


# -- nodes --------------------------------------------------------------------------------------------------------


def machine_report(log: RaisedLog, sequence: int, machine: str, life: int = 1) -> None:
    data = {"root": "n1", "incarnation": f"{life:016x}", "sequence": sequence, "machine": machine}
    log.say("node.reported.v2", {**data, "providers": [provider("n1", VCPU=10)]})


def test_the_first_machine_that_reports_a_node_of_version_3_is_the_node(log: RaisedLog) -> None:
    log.report()
    log.raise_rules()
    assert not has(log, MACHINES, "n1")
    machine_report(log, 2, "m-1")
    row = log.state.get(MACHINES, key(CELL, "n1"))
    assert row is not None
    assert (row.machine, node(log).open) == ("m-1", True)
    machine_report(log, 1, "m-2", life=2)
    assert not node(log).open
    assert log.claim("a").reason == "node_incomplete"


def test_a_contested_node_of_version_3_opens_after_its_time(log: RaisedLog) -> None:
    log.report()
    for sequence, life in ((2, 1), (1, 2), (3, 1), (2, 2)):
        log.put(reported("n1", [provider("n1", VCPU=10)], life=life, sequence=sequence))
    assert not node(log).open
    log.raise_rules()
    assert log.claim("a").reason == "node_incomplete"
    pass_time(log, 2 * HOUR_MS)
    assert node(log).open
    assert log.claim("b").accepted


def test_a_node_that_was_retired_under_version_3_comes_back_as_another_incarnation(log: RaisedLog) -> None:
    log.report()
    log.say("node.retired.v1", {"root": "n1", "incarnation": f"{1:016x}", "sequence": 2})
    log.raise_rules()
    log.report(sequence=3)
    assert node(log).retired
    log.put(reported("n1", [provider("n1", VCPU=10)], life=2))
    assert log.claim("a").accepted


def test_tombstones_of_version_3_end(log: RaisedLog) -> None:
    log.report()
    log.say("node.retired.v1", {"root": "n1", "incarnation": f"{1:016x}", "sequence": 2})
    log.raise_rules()
    pass_time(log, TOMBSTONE_MS + HOUR_MS)
    assert not has(log, NODES, "n1")


def test_a_node_of_version_3_is_retired_under_version_4(log: RaisedLog) -> None:
    log.report()
    log.report("n2")
    log.raise_rules()
    log.say("node.retired.v1", {"root": "n1", "incarnation": f"{1:016x}", "sequence": 2})
    log.say("node.retired.v2", {"root": "n2", "incarnation": f"{1:016x}"})
    assert (node(log).retired, node(log, "n2").retired) == (True, True)


def test_a_withdrawal_that_began_under_version_3_goes_on(log: RaisedLog) -> None:
    parts = [provider(f"p{n}", "n1", VCPU=1) for n in range(700)]
    log.put(reported("n1", [provider("n1", VCPU=10), *parts]))
    assert log.claim("a", on="p650").accepted
    log.put(reported("n1", [provider("n1", VCPU=10)], sequence=2))
    assert has(log, WITHDRAWALS, "n1")
    log.raise_rules()  # in three records, which withdraw, too
    pass_time(log, 1_000)
    assert not has(log, WITHDRAWALS, "n1")
    assert [name for name in ("p1", "p650", "p699") if has(log, PROVIDERS, name)] == ["p650"]
    log.release("a")
    assert not has(log, PROVIDERS, "p650")
    assert log.claim("b").accepted


def test_settings_of_version_3_get_taints_and_excluded_devices(log: RaisedLog) -> None:
    log.report(PCI_DEVICE=DEVICES)
    log.say("facts.set.v1", {"provider": "n1", "revision": 1, "facts": {"traits": ["CUSTOM_T"]}})
    excluded = {"overrides": {"PCI_DEVICE": {"excluded": {"d0": "broken"}}}}
    log.say("facts.set.v1", {"provider": "n1", "revision": 2, "facts": excluded})
    assert len(log.letters()) == 1  # not under version 3
    log.raise_rules()
    taint = {"key": "gpu", "value": "only", "effect": "no_schedule"}
    log.say("facts.set.v2", {"provider": "n1", "revision": 2, "facts": {**excluded, "taints": [taint]}})
    assert len(log.letters()) == 1, log.letters()
    row = log.state.get(FACTS, key(CELL, "n1"))
    assert row is not None
    assert (row.revision, len(row.taints), row.traits) == (2, 1, ())


def test_classes_of_version_4_are_new(log: RaisedLog) -> None:
    inventory = {"tcp": [[80, 90]]}
    log.report()
    log.put(reported("n1", [provider("n1", VCPU=10, PORT=inventory)], sequence=2))
    assert "PORT" in log.letters()[-1]
    assert log.claim("a", {"PORT": 1}).reason == "class_unknown"
    log.raise_rules()
    log.put(reported("n1", [provider("n1", VCPU=10, PORT=inventory)], sequence=2))
    assert log.claim("b", {"PORT": 1}).accepted
    assert log.state.get(REGISTRY.table("PORT"), key(CELL, "n1")) is not None
