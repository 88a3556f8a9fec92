"""Quotas of a log that was raised from rules without them: what was not counted is not subtracted, and is counted later."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.classes.ports_class import REGISTRY
from tests.support.logs.raised_log import CELL, RaisedLog
from tests.support.models.quota_counts import counted, recounted
from vacancy.resources.model.limits import LIMITS_4
from vacancy.resources.state.tables import PARTITION, QUOTA_AMOUNTS, QUOTAS, quota_key

P = {"project": "p", "unit": "VCPU"}


def used(log: RaisedLog, project: str = "p", user: str | None = None) -> dict[tuple[str, str], int]:
    """What a project or a user is counted to hold."""
    row = log.state.get(QUOTAS, quota_key(project, user))
    return {} if row is None else {(kind, unit): amount for kind, unit, amount in row.used}


def vcpus(log: RaisedLog, project: str = "p", user: str | None = None) -> int:
    """The VCPUs of them, of all types."""
    return sum(amount for (_, unit), amount in used(log, project, user).items() if unit == "VCPU")


def marked(log: RaisedLog) -> dict[str, Any]:
    """The consumers that were counted later, and what they count."""
    return {key.decode().partition("\0")[2]: row for key, row in log.state.rows(QUOTA_AMOUNTS)}


def limit(log: RaisedLog, amount: int, number: int = 1) -> None:
    """Set what the project may hold here."""
    log.say("quota.share.set.v1", {**P, "number": number, "amount": amount})


@pytest.fixture(params=[1, 2, 3])
def log(request: pytest.FixtureRequest) -> Iterator[RaisedLog]:
    """A node with 10 VCPU. Before the rules were raised, project p got 4 of them, for two consumers. The auditor agrees with all
    that a test makes of it."""
    log = RaisedLog(request.param)
    log.report()
    assert log.claim("a", 1, project="p", user="u").accepted
    assert log.claim("b", 3, project="p").accepted
    log.raise_rules()
    yield log
    # No ledger gave the shares and parents of these tests.
    assert [one for one in log.audit().problems if not one.startswith("quotas partition")] == []


def test_the_partition_says_since_when_it_counts(log: RaisedLog) -> None:
    raised = log.position - 1
    assert log.partition.quotas_from == raised
    log.report("n2")
    assert log.partition.quotas_from == raised


def test_rows_of_partitions_that_always_counted_say_nothing() -> None:
    for version in (1, 2, 3, 4):
        row = RaisedLog(version).partition
        assert row.quotas_from == 0
        assert PARTITION.encode(row)[0] == 0x90 + 7  # a list of seven, as in every version


def test_what_was_not_counted_is_not_subtracted_where_it_ends(log: RaisedLog) -> None:
    log.claim("c", 2, project="p")
    assert vcpus(log) == 2
    log.release("a", "b")
    assert vcpus(log) == 2
    log.release("c")
    assert counted(log.state) == {}


def test_what_is_counted_is_subtracted_where_it_ends(log: RaisedLog) -> None:
    log.count("a", "b")
    assert (vcpus(log), vcpus(log, "p", "u")) == (4, 1)
    assert marked(log) == {"a": {"VCPU": 1}, "b": {"VCPU": 3}}
    log.release("b")
    assert (vcpus(log), marked(log)) == (1, {"a": {"VCPU": 1}})
    log.release("a")
    assert (counted(log.state), marked(log)) == ({}, {})


def test_counting_again_changes_nothing(log: RaisedLog) -> None:
    log.claim("c", 2, project="p")
    for _ in range(2):
        log.count("a", "c", "nobody")
        assert vcpus(log) == 3
    assert list(marked(log)) == ["a"]
    assert log.letters() == []


def test_a_hold_that_ends_is_not_subtracted() -> None:
    log = RaisedLog()
    log.report()
    ends_ms = log.tape.now_ms + 5_000
    log.claim("a", 1, project="p", hold_until_ms=ends_ms)
    log.claim("b", 1, project="p", hold_until_ms=ends_ms)
    log.raise_rules()
    log.count("b")
    log.tape.now_ms += 10_000
    log.say("tick.v1", {})
    assert (log.held("a"), log.held("b"), counted(log.state), marked(log)) == (None, None, {}, {})


def test_a_confirmed_hold_is_still_not_counted(log: RaisedLog) -> None:
    hold = RaisedLog()
    hold.report()
    hold.claim("a", 1, project="p", hold_until_ms=hold.tape.now_ms + 5_000)
    hold.raise_rules()
    hold.say("consumer.confirmed.v1", {"consumer": "a", "claim": "c-a"})
    hold.release("a")
    assert counted(hold.state) == {}


def test_a_moved_consumer_counts_as_new(log: RaisedLog) -> None:
    log.report("n2")
    assert log.move("b", 2, on="n2", project="p").accepted
    assert (vcpus(log), marked(log)) == (2, {})
    log.count("b")
    assert vcpus(log) == 2
    log.release("b")
    assert counted(log.state) == {}


def test_a_moved_consumer_that_was_counted_later_counts_once(log: RaisedLog) -> None:
    log.count("b")
    assert log.move("b", 2, project="p").accepted
    assert (vcpus(log), marked(log)) == (2, {})
    log.release("b")
    assert counted(log.state) == {}


def test_an_updated_consumer_is_not_counted_and_is_later_counted_for_its_account(log: RaisedLog) -> None:
    log.update("b", project="q", consumer_type="MIGRATION")
    assert counted(log.state) == {}
    log.count("b")
    assert (used(log, "p"), used(log, "q")) == ({}, {("MIGRATION", "VCPU"): 3})
    log.update("b", project="p")
    assert (used(log, "p"), used(log, "q")) == ({("MIGRATION", "VCPU"): 3}, {})
    log.release("b")
    assert (counted(log.state), marked(log)) == ({}, {})


def test_a_renamed_node_changes_nothing_of_what_is_counted(log: RaisedLog) -> None:
    log.count("a")
    names = {"root": "n1", "to": "n9", "providers": {"n1": "n9"}, "consumers": ["a", "b"]}
    log.say("node.renamed.v1", names)
    assert log.letters() == []
    assert vcpus(log) == 1
    log.count("b")
    log.release("a", "b")
    assert (counted(log.state), marked(log)) == ({}, {})


def test_counting_is_not_refused_for_a_quota_and_new_claims_are(log: RaisedLog) -> None:
    limit(log, 2)
    assert log.claim("c", 2, project="p").accepted
    log.count("a", "b")
    assert log.letters() == []
    assert vcpus(log) == 6
    refused = log.claim("d", 1, project="p")
    assert (refused.reason, refused.available, refused.other) == ("over_quota", -4, "6/2")


def test_a_move_for_no_more_than_before_passes_above_a_quota(log: RaisedLog) -> None:
    """As for a consumer that is counted."""
    limit(log, 2)
    log.report("n2")
    assert log.move("b", 3, on="n2", project="p").accepted
    assert log.claim("c", 1, project="p").reason == "over_quota"
    assert log.move("a", 2, project="p", user="u").reason == "over_quota"
    assert log.move("a", 1, on="n2", project="p", user="u").accepted
    assert vcpus(log) == 4


def test_a_move_into_another_project_is_judged_by_its_quota(log: RaisedLog) -> None:
    log.say("quota.share.set.v1", {"project": "q", "unit": "VCPU", "number": 1, "amount": 2})
    assert log.move("b", 3, project="q").reason == "over_quota"
    assert log.move("a", 1, project="q").accepted
    assert (vcpus(log, "p"), vcpus(log, "q")) == (0, 1)


def test_parents_count_what_is_counted_later(log: RaisedLog) -> None:
    log.count("a")
    log.say("quota.parent.set.v1", {"project": "p", "parent": "domain", "revision": 1})
    assert vcpus(log, "domain") == 1
    log.count("b")
    assert vcpus(log, "domain") == 4
    log.say("quota.parent.set.v1", {"project": "p", "parent": "", "revision": 2})
    assert (vcpus(log, "domain"), vcpus(log, "p")) == (0, 4)


def test_devices_count_as_their_provider_says_when_they_are_counted() -> None:
    log = RaisedLog()
    devices = {"pf": {}, "vf1": {"parent_device": "pf"}, "vf2": {"parent_device": "pf"}}
    log.report(PCI_DEVICE={"devices": devices})
    assert log.claim("a", {"PCI_DEVICE": 1}, project="p").accepted
    log.raise_rules()
    log.count("a")
    held = log.held("a")
    assert held is not None
    table = REGISTRY.table("PCI_DEVICE")
    row = log.state.get(table, table.prefix + f"{CELL}\0n1".encode())
    assert row is not None
    amount = table.resource_class.amounts_of(held.parts[0].grant, row.record)[""]
    assert used(log) == {("INSTANCE", "PCI_DEVICE"): amount}
    log.release("a")
    assert (counted(log.state), marked(log)) == ({}, {})


def test_a_consumer_that_holds_nothing_of_a_unit_is_marked_too() -> None:
    log = RaisedLog()
    log.report(VCPU=4, CUSTOM_X=1)
    log.claim("a", {"VCPU": 1, "CUSTOM_X": 1}, project="p")
    log.raise_rules()
    log.count("a")
    assert marked(log) == {"a": {"CUSTOM_X": 1, "VCPU": 1}}


def test_too_many_entries_keep_a_consumer_uncounted(log: RaisedLog) -> None:
    most = LIMITS_4.quota_entries
    log.report("n2", **{f"CUSTOM_C{n}": 1 for n in range(64)})
    for number in range(most // 8):
        for at in range(8):
            unit = f"CUSTOM_C{number}_{at}"
            log.say("quota.share.set.v1", {"project": "p", "unit": unit, "number": 1, "amount": 1})
    log.count("a", "b")
    assert [letter.split(":")[0] for letter in log.letters()] == [
        f"consumer {name} is not counted" for name in ("a", "b")
    ]
    assert "quota_full" in log.letters()[0]
    log.release("a", "b")
    assert vcpus(log) == 0


def test_who_stays_uncounted_counts_for_no_limit() -> None:
    log = RaisedLog()
    log.report()
    log.claim("b", 3, project="p", consumer_type="MIGRATION")
    log.raise_rules()
    limit(log, 5)
    assert log.claim("c", 1, project="p").accepted
    for number in range(LIMITS_4.quota_entries - 2):
        share = {"project": "p", "unit": f"CUSTOM_C{number}", "number": 1, "amount": 1}
        log.say("quota.share.set.v1", share)
    log.count("b")
    assert len(log.letters()) == 1
    assert log.claim("d", 2, project="p").accepted
    assert log.claim("e", 3, project="p").reason == "over_quota"
    assert [one for one in log.audit().problems if not one.startswith("quotas partition")] == []


def test_a_record_counts_a_bounded_number_of_parts() -> None:
    log = RaisedLog()
    log.report(PCI_DEVICE={"devices": {f"d{n:03}": {} for n in range(64)}})
    names = [f"i{n:02}" for n in range(34)]
    for name in names:
        assert log.claim(name, {"PCI_DEVICE": 1}, project="p").accepted
    log.raise_rules()
    log.count(*names)
    most = LIMITS_4.counted_parts // 64
    assert (len(marked(log)), len(log.letters())) == (most, len(names) - most)
    assert "allows 2,048 a record: count it with another record" in log.letters()[0]
    log.count(*names)
    assert len(marked(log)) == len(names)
    assert counted(log.state) == recounted(log.state, REGISTRY)


def test_more_classes_do_not_begin_again() -> None:
    log = RaisedLog(4, classes=())
    log.report()
    log.claim("a", 2, project="p")
    log.raise_rules()
    assert (log.partition.classes, log.partition.quotas_from) == (("PORTS",), 0)
    log.release("a")
    assert counted(log.state) == {}
