"""The auditor against small logs written by hand, with right verdicts and with tampered ones."""

from __future__ import annotations

import ast
import json
import random
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from vacancy.clients import auditor as audit_module
from vacancy.clients.auditor import AuditReport, audit
from vacancy.clients.auditor.claims.candidate_trees import CandidateTrees
from vacancy.clients.auditor.classes.built_in import BUILT_IN
from vacancy.clients.auditor.event_schema import home
from vacancy.clients.auditor.ledger import Ledger
from vacancy.resources.fold.rules_versions import RULES_VERSIONS
from vacancy.resources.model.partitioner import covering_cells, partition_for
from vacancy.resources.model.record import Record

T0 = 1_000_000
DEADLINE = T0 + 60_000
JSON = dict[str, Any]


class Story:
    """A log of one partition with the verdicts of a store that judges as the test sets it."""

    def __init__(self, partition: int = 0, partitions: int = 1, version: int = 1) -> None:
        self.partition = partition
        self.cell = covering_cells(partitions)[partition]
        self.records: list[Record] = []
        self.verdicts: list[JSON] = []
        self.sequence: dict[str, int] = {}
        self.now = T0
        opened = {"log": "L", "partition": partition, "partitions": partitions}
        self.say("log.opened", {**opened, "rules": {"version": version}})

    def say(self, kind: str, data: JSON, id_: str = "") -> int:
        """Append an event (`.v1` is left out of its type); returns its offset."""
        offset = len(self.records)
        body = {
            "specversion": "1.0",
            "type": f"vacancy.{kind if kind.endswith(('.v2', '.v3')) else f'{kind}.v1'}",
            "id": id_ or f"e{offset}",
            "source": "test",
            "data": data,
        }
        self.records.append(
            Record(self.partition, offset, self.now, self.cell.encode(), json.dumps(body).encode())
        )
        return offset

    def at(self, now: int) -> Story:
        """Log time from here on, ms after the start."""
        self.now = T0 + now
        return self

    def node(self, root: str = "n", *parts: JSON, skip: int = 0, kind: str = "reported", **more: Any) -> int:
        """An event of a node. `parts` are its providers, the root's first; without, the root has 10 VCPU."""
        sequence = self.sequence[root] = self.sequence.get(root, 0) + 1 + skip
        data: JSON = {"root": root, "incarnation": "0" * 16, "sequence": sequence}
        if kind == "reported":
            data["providers"] = list(parts or (provider(root),))
        elif parts:
            data["providers"] = list(parts)
        return self.say(f"node.{kind}", {**data, **more})

    def claim(
        self, id_: str, amount: int = 4, accepted: bool | None = True, *, replaces: bool = False, **more: Any
    ) -> JSON:
        """A claim, and its verdict unless `accepted` is None."""
        claim = a_claim(id_, amount, **more)
        offset = (
            self.say("consumer.replaced.v2" if "replaces" in claim else "consumer.replaced", claim)
            if replaces
            else self.say("claims.requested", {"claims": [claim]})
        )
        if accepted is not None:
            self.verdicts.append(
                {
                    "claim": id_,
                    "cell": self.cell,
                    "partition": self.partition,
                    "offset": offset,
                    "accepted": accepted,
                    "reason": "" if accepted else "no_room",
                    "deadline_ms": claim["deadline_ms"],
                }
            )
        return claim

    def release(self, id_: str, deadline_ms: int | None = None) -> None:
        self.say(
            "consumers.released",
            {"releases": [{"consumer": f"of-{id_}", "claim": id_, "deadline_ms": deadline_ms}]},
        )

    def facts(self, id_: str, revision: int, **facts: Any) -> None:
        self.say("facts.set", {"provider": id_, "revision": revision, "facts": facts})

    def no_valid_host(
        self,
        id_: str,
        spec: JSON | None,
        as_of: int | None = None,
        in_flight: tuple[str, ...] = (),
        **more: Any,
    ) -> None:
        """A request that ended so; `as_of` is by default all that is in the log so far."""
        read_to = len(self.records) if as_of is None else as_of
        if spec is not None:
            self.say("requests.received", {"requests": [{"id": id_, "spec": spec}]})
        closed = {
            "id": id_,
            "outcome": "no_valid_host",
            "as_of": {str(self.partition): read_to},
            "in_flight": list(in_flight),
            **more,
        }
        self.say("requests.closed", {"requests": [closed]})

    def audit(self) -> AuditReport:
        return audit({self.partition: self.records}, self.verdicts)


def provider(id_: str, vcpu: int = 10, parent: str | None = None, **more: Any) -> JSON:
    return {"id": id_, "parent": parent, "inventories": {"VCPU": {"total": vcpu}}, **more}


def a_claim(id_: str, amount: int = 4, at: str = "n", **more: Any) -> JSON:
    return {
        "id": id_,
        "consumer": f"of-{id_}",
        "allocations": [{"provider": at, "resources": {"VCPU": amount}}],
        "deadline_ms": DEADLINE,
        **more,
    }


def a_spec(amount: int, groups: int = 1, policy: str = "none", **more: Any) -> JSON:
    return {
        "groups": [{"name": f"g{i}", "resources": {"VCPU": amount}, **more} for i in range(groups)],
        "group_policy": policy,
    }


@pytest.fixture
def story() -> Story:
    story = Story()
    story.node()
    return story


# -- claims -----------------------------------------------------------------------------------------------


def test_a_right_story_is_ok(story: Story) -> None:
    story.claim("a", 6)
    story.claim("b", 6, accepted=False)
    story.release("a")
    story.claim("c", 8)
    story.no_valid_host("r", a_spec(3))
    report = story.audit()
    assert report.ok, report.problems
    assert (report.claims, report.accepted, report.rejected, report.released) == (3, 2, 1, 1)
    assert (report.no_valid_host, report.allocated) == (1, {"VCPU": 0.8})


def test_taking_more_than_there_is_is_overcommitted(story: Story) -> None:
    story.claim("a", 6)
    story.claim("b", 6)
    report = story.audit()
    assert (report.overcommitted, report.wrong_rejections, report.accepted) == (1, 0, 2)
    assert report.problems == ["0:3 claim b in auto-0 was accepted, but n has 4 of VCPU left, 6 asked"]
    assert report.allocated == {"VCPU": 1.2}


def test_allocations_of_one_claim_add_up(story: Story) -> None:
    part = {"provider": "n", "resources": {"VCPU": 6}}
    story.claim("a", allocations=[part, part])
    assert story.audit().overcommitted == 1


def test_a_rejection_of_what_fits_is_wrong(story: Story) -> None:
    story.claim("a", 6, accepted=False)
    report = story.audit()
    assert report.wrong_rejections == 1
    assert report.problems == ["0:2 claim a in auto-0 was rejected (no_room), but it fits"]


def test_the_books_follow_the_store_so_that_one_mistake_is_one_problem(story: Story) -> None:
    story.claim("a", 6, accepted=False)
    story.claim("b", 6)
    assert len(story.audit().problems) == 1


def test_a_claim_without_a_verdict(story: Story) -> None:
    story.claim("a", accepted=None)
    assert story.audit().missing_verdicts == 1


def test_a_verdict_may_be_gone_after_its_deadline(story: Story) -> None:
    story.claim("a", accepted=None)
    story.at(60_000).say("tick", {})
    assert story.audit().missing_verdicts == 1
    story.at(60_001).say("tick", {})
    report = story.audit()
    assert report.ok
    assert report.unverifiable == 1


def test_two_verdicts_on_one_claim(story: Story) -> None:
    story.claim("a")
    story.verdicts *= 2
    assert story.audit().extra_verdicts == 1


def test_a_verdict_on_no_claim_or_on_another_record(story: Story) -> None:
    story.claim("a")
    story.verdicts.append({**story.verdicts[0], "claim": "b"})
    assert story.audit().extra_verdicts == 1
    story.verdicts = [{**story.verdicts[0], "offset": 7}]
    report = story.audit()
    assert (report.extra_verdicts, report.missing_verdicts) == (1, 1)


def test_the_first_of_two_claims_of_one_id_stands(story: Story) -> None:
    claim = story.claim("a", 6)
    story.say("claims.requested", {"claims": [claim]})
    story.say("claims.requested", {"claims": [{**claim, "consumer": "other"}]})
    report = story.audit()
    assert report.ok, report.problems
    assert report.claims == 1


@pytest.mark.parametrize(
    "claim",
    [
        {"at": "unknown"},
        {"amount": 0},
        {"amount": 11},
        {"allocations": [{"provider": "n", "resources": {"DISK_GB": 1}}]},
        {"allocations": [{"provider": "n", "resources": {"NO_SUCH": 1}}]},
        {"allocations": [{"provider": "n", "resources": {"VCPU": {"exactly": 1}}}]},
        {"deadline_ms": T0 + 600_001},
        {"hold_until_ms": T0 - 1},
        {"consumer_generation": 1},
        {"predicates": [{"provider": "n", "kind": "trait", "value": "CUSTOM_A"}]},
        {"predicates": [{"provider": "n", "kind": "aggregate", "value": "rack"}]},
        {"predicates": [{"provider": "n", "kind": "generation", "value": 0}]},
        {"predicates": [{"provider": "n", "kind": "generation", "value": 1, "negate": True}]},
        {"predicates": [{"provider": "m", "kind": "trait", "value": "CUSTOM_A", "negate": True}]},
    ],
)
def test_what_is_to_be_rejected(story: Story, claim: JSON) -> None:
    story.claim("a", accepted=False, **claim)
    assert story.audit().ok
    story.verdicts[0]["accepted"] = True
    assert not story.audit().ok


@pytest.mark.parametrize(
    "claim",
    [
        {"amount": 10},
        {"deadline_ms": T0},
        {"deadline_ms": T0 + 600_000},
        {"hold_until_ms": T0},
        {"predicates": [{"provider": "n", "kind": "trait", "value": "CUSTOM_A", "negate": True}]},
        {"predicates": [{"provider": "n", "kind": "generation", "value": 1}]},
    ],
)
def test_what_is_to_be_accepted(story: Story, claim: JSON) -> None:
    story.claim("a", **claim)
    assert story.audit().ok
    story.verdicts[0]["accepted"] = False
    assert story.audit().wrong_rejections == 1


@pytest.mark.parametrize(
    ("inventory", "amount", "fits"),
    [
        ({"total": 10, "reserved": 2}, 8, True),
        ({"total": 10, "reserved": 2}, 9, False),
        ({"total": 10, "max_unit": 4}, 5, False),
        ({"total": 10, "min_unit": 4}, 3, False),
        ({"total": 10, "step_size": 3}, 6, True),
        ({"total": 10, "step_size": 3}, 5, False),
        ({"total": 3, "allocation_ratio_milli": 1500, "max_unit": 9}, 4, True),
        ({"total": 3, "allocation_ratio_milli": 1500, "max_unit": 9}, 5, False),
        ({"total": 3, "allocation_ratio_milli": 16000}, 4, False),
    ],
)
def test_the_rule_of_an_inventory(inventory: JSON, amount: int, fits: bool) -> None:
    story = Story()
    story.node("n", {"id": "n", "inventories": {"VCPU": inventory}})
    story.claim("a", amount, accepted=fits)
    assert story.audit().ok
    story.no_valid_host("r", a_spec(amount), as_of=2)
    assert story.audit().wrong_rejections == int(fits)


# -- time -------------------------------------------------------------------------------------------------


def test_a_late_claim_has_no_verdict(story: Story) -> None:
    story.at(60_001).claim("a", accepted=None)
    report = story.audit()
    assert report.ok
    assert (report.claims, report.late) == (1, 1)
    story.verdicts.append(
        {"claim": "a", "cell": story.cell, "partition": 0, "offset": 2, "accepted": False, "reason": ""}
    )
    assert story.audit().extra_verdicts == 1


def test_log_time_neither_leaps_nor_goes_back(story: Story) -> None:
    story.at(10**12).claim("a", 2, deadline_ms=T0 + 3_600_000)
    story.at(0).claim("b", 2, deadline_ms=T0 + 3_600_000)
    story.claim("c", 2, accepted=None, deadline_ms=T0 + 3_599_999)
    report = story.audit()
    assert report.ok, report.problems
    assert report.late == 1


def test_a_hold_ends_unless_it_is_confirmed(story: Story) -> None:
    story.claim("a", 6, hold_until_ms=T0 + 5)
    story.at(5).claim("b", 6, accepted=False)
    story.at(6).claim("c", 6, hold_until_ms=T0 + 9)
    story.say("consumer.confirmed", {"consumer": "of-c", "claim": "c"})
    story.claim("d", 2, hold_until_ms=T0 + 9)
    story.node("n", consumers=["of-d"])
    story.at(10).claim("e", 3, accepted=False)
    story.claim("f", 2)
    assert story.audit().ok, story.audit().problems


def test_a_release_that_comes_first_cancels(story: Story) -> None:
    story.release("a", DEADLINE)
    story.release("b")
    story.release("c", T0 + 5)
    story.claim("a", 2, accepted=False)
    story.claim("b", 2)
    story.at(6).claim("c", 2)
    assert story.audit().ok, story.audit().problems
    story.verdicts[0]["accepted"] = True
    assert story.audit().problems == ["0:5 claim a in auto-0 was accepted, but it was cancelled"]


def test_a_cancellation_that_waits_may_have_a_verdict(story: Story) -> None:
    story.release("a", DEADLINE)
    story.verdicts.append(
        {"claim": "a", "cell": story.cell, "partition": 0, "offset": -1, "accepted": False, "reason": ""}
    )
    assert story.audit().ok


def test_a_release_frees_only_what_its_claim_took(story: Story) -> None:
    story.claim("a", 6)
    story.say("consumers.released", {"releases": [{"consumer": "of-a", "claim": "other"}]})
    story.claim("b", 6, accepted=False)
    report = story.audit()
    assert report.ok
    assert report.released == 0


# -- nodes and operators ----------------------------------------------------------------------------------


def test_a_gap_closes_a_node_until_its_next_full_report(story: Story) -> None:
    story.node(kind="heartbeat", skip=1)
    story.claim("a", accepted=False)
    story.node(kind="changed", removed=[])
    story.claim("b", accepted=False)
    story.no_valid_host("r", a_spec(1))
    story.node()
    story.claim("c")
    assert story.audit().ok, story.audit().problems


def test_a_change_after_a_gap_is_not_applied(story: Story) -> None:
    story.node("n", provider("n", 100), kind="changed", skip=1)
    story.sequence["n"] -= 1
    story.node("n", provider("n", 5))  # seen already
    story.node("n", provider("n", 20))
    story.claim("a", 20)
    story.claim("b", 1, accepted=False)
    assert story.audit().ok, story.audit().problems


def test_stragglers_of_an_earlier_incarnation_are_dropped(story: Story) -> None:
    story.say(
        "node.reported",
        {"root": "n", "incarnation": "f" * 16, "sequence": 1, "providers": [provider("n", 3)]},
    )
    story.node("n", provider("n", 50))
    story.claim("a", 4, accepted=False)
    assert story.audit().ok


def test_what_is_no_longer_reported_keeps_no_room(story: Story) -> None:
    story.node("n", provider("n"), provider("n:g", 4, "n"))
    story.claim("a", 2, at="n:g")
    story.node("n", kind="changed", removed=["n:g"])
    story.claim("b", 1, accepted=False, at="n:g")
    story.release("a")
    story.claim("c", 1, accepted=False, at="n:g")
    story.node("n", provider("n:g", 4, "n"), kind="changed")
    story.claim("d", 4, at="n:g")
    story.node("n", kind="retired")
    story.claim("e", 1, accepted=False)
    assert story.audit().ok, story.audit().problems
    assert story.audit().allocated == {}


def test_a_report_of_no_tree_or_of_an_unknown_class_changes_nothing(story: Story) -> None:
    story.node("n", provider("n", 99), provider("n:g", 99, "nowhere"))
    story.node("n", {"id": "n", "inventories": {"NO_SUCH": {"total": 1}}})
    story.node("n", {"id": "n", "inventories": {"VCPU": {"total": -1}}})
    story.claim("a", 11, accepted=False)
    story.claim("b", 10)
    assert story.audit().ok, story.audit().problems


def test_facts_close_and_override_and_survive_reports() -> None:
    story = Story()
    story.facts("n", 1, aggregates=["rack"], traits=["CUSTOM_A"], overrides={"VCPU": {"reserved": 4}})
    story.node()
    predicates = [
        {"provider": "n", "kind": "aggregate", "value": "rack"},
        {"provider": "n", "kind": "trait", "value": "CUSTOM_A"},
    ]
    story.claim("a", 7, accepted=False)
    story.claim("b", 6, predicates=predicates)
    story.facts("n", 1, status="disabled")  # somebody else was first
    story.facts("n", 2, overrides={"VCPU": {"allocation_ratio_milli": 2000}})
    story.claim("c", 10)
    story.facts("n", 3, status="draining", overrides={"VCPU": {"allocation_ratio_milli": 9000}})
    story.node()
    story.claim("d", 1, accepted=False)
    story.no_valid_host("r", a_spec(1))
    assert story.audit().ok, story.audit().problems


def test_a_generation_moves_with_what_is_said_and_not_with_use(story: Story) -> None:
    def claim(id_: str, generation: int, accepted: bool) -> None:
        predicate = {"provider": "n", "kind": "generation", "value": generation}
        story.claim(id_, 1, accepted, predicates=[predicate])

    claim("a", 1, True)
    story.node()
    claim("b", 1, True)
    offset = story.node("n", provider("n", traits=["CUSTOM_A"]))
    claim("c", 1, False)
    claim("d", offset, True)
    assert story.audit().ok, story.audit().problems


# -- moves ------------------------------------------------------------------------------------------------


def test_a_replacement_is_atomic(story: Story) -> None:
    story.node("m", provider("m", 4))
    story.claim("a", 6)
    story.claim("b", 10, consumer="of-a", consumer_generation=1, replaces=True)
    story.claim("c", 5, accepted=False, at="m", consumer="of-a", consumer_generation=2, replaces=True)
    story.claim("d", 4, accepted=False, at="m", consumer="of-a", consumer_generation=1, replaces=True)
    story.claim("e", 4, at="m", consumer="of-a", consumer_generation=2, replaces=True)
    story.claim("f", 10)
    story.claim("g", 1, accepted=False, consumer="nobody", replaces=True)
    assert story.audit().ok, story.audit().problems


def test_what_makes_nothing_worse_is_allowed_on_a_closed_node(story: Story) -> None:
    story.claim("a", 8)
    story.node("n", provider("n", 4))
    story.facts("n", 1, status="disabled")
    story.claim("b", 9, accepted=False, consumer="of-a", consumer_generation=1, replaces=True)
    story.claim("c", 6, consumer="of-a", consumer_generation=1, replaces=True)
    assert story.audit().ok, story.audit().problems


def test_who_asks_for_what_is_not_counted_cannot_be_judged() -> None:
    story = Story()
    story.say("rules.activated", {"classes": ["SPECIAL"]})
    inventories = {"VCPU": {"total": 10}, "SPECIAL": {"devices": ["a"]}}
    story.node("n", {"id": "n", "inventories": inventories})
    for id_, vcpu in (("a", 6), ("b", 6)):
        parts = [{"provider": "n", "resources": {"VCPU": vcpu, "SPECIAL": {"any": 1}}}]
        story.claim(id_, accepted=id_ == "a", allocations=parts)
    story.no_valid_host("r", {"groups": [{"resources": {"SPECIAL": 1}}]})
    report = story.audit()
    assert report.ok, report.problems
    assert report.unverifiable == 1
    story.verdicts[0]["accepted"] = False
    assert story.audit().unverifiable == 3
    story.verdicts = [{**verdict, "accepted": True} for verdict in story.verdicts]
    assert story.audit().overcommitted == 1


# -- no valid host ----------------------------------------------------------------------------------------


def test_a_no_valid_host_that_could_be_served_is_wrong(story: Story) -> None:
    story.no_valid_host("r", a_spec(10))
    report = story.audit()
    assert (report.wrong_rejections, report.no_valid_host) == (1, 1)
    assert "request r ended with no valid host, but n in auto-0 could serve it" in report.problems[0]


def test_a_no_valid_host_is_judged_where_it_was_decided(story: Story) -> None:
    story.claim("a", 8)
    story.release("a")
    story.no_valid_host("early", a_spec(1), as_of=0)
    story.no_valid_host("full", a_spec(3), as_of=3)
    assert story.audit().ok
    story.no_valid_host("free", a_spec(3), as_of=4)
    assert story.audit().wrong_rejections == 1


def test_what_is_in_flight_is_taken_away_until_it_is_decided(story: Story) -> None:
    story.no_valid_host("r", a_spec(5), as_of=2, in_flight=("a",))
    story.claim("a", 6)
    assert story.audit().ok
    story.release("a")
    story.no_valid_host("s", a_spec(5), as_of=6, in_flight=("a",))
    assert story.audit().wrong_rejections == 1


def test_a_no_valid_host_that_cannot_be_checked(story: Story) -> None:
    story.no_valid_host("unheard-of", None)
    story.no_valid_host("beyond", a_spec(50), as_of=99)
    story.no_valid_host("silent-left-out", a_spec(1), heard_since_ms=1)
    report = story.audit()
    assert report.ok
    assert (report.no_valid_host, report.unverifiable) == (3, 3)


@pytest.mark.parametrize(
    ("resources", "could"),
    [
        ({"VCPU": {"cores": 1}}, False),
        ({"PGPU": 1}, True),
        ({"PGPU": 2}, False),
        ({"PGPU": {"where": {"model": "B"}}}, True),
        ({"PGPU": {"where": {"model": "A"}}}, False),
        ({"PGPU": {"where": {"model": {"no": 1}}}}, False),
        ({"VCPU": 11, "PGPU": 1}, False),
        ({"NUMA_CELL": {"pinned": 2}}, True),
        ({"NUMA_CELL": {"pinned": 3}}, False),
        ({"PORT": {"ports": [[80, 80]]}}, True),
        ({"PORT": {"ports": [[81, 81]]}}, False),
    ],
)
def test_a_no_valid_host_for_what_is_granted_by_name(resources: JSON, could: bool) -> None:
    """Of three GPUs one is held, and one is out of service."""
    story = Story(version=RULES_VERSIONS.newest.version)
    inventories = {
        "VCPU": {"total": 10},
        "PGPU": {
            "devices": {"1:0": {"model": "A"}, "2:0": {"model": "B"}, "3:0": {"model": "A"}},
            "unhealthy": {"3:0": "link lost"},
        },
        "NUMA_CELL": {"cores": [[0], [1]]},
        "PORT": {"tcp": [[80, 80]]},
    }
    story.node("n", {"id": "n", "inventories": inventories})
    story.claim("a", allocations=[{"provider": "n", "resources": {"PGPU": 1}}])
    story.verdicts[-1]["grants"] = [
        {"provider": "n", "resource_class": "PGPU", "group": "", "grant": ["1:0"]}
    ]
    story.no_valid_host("r", {"groups": [{"resources": resources}]})
    report = story.audit()
    assert (report.wrong_rejections, report.unverifiable) == (int(could), 0), report


def test_groups_for_one_class_by_name_need_providers_of_their_own() -> None:
    """Whether two fit on one provider depends on which devices the first gets, so nothing is said of it."""
    story = Story()
    story.node("n", {"id": "n", "inventories": {"PGPU": {"devices": {"1:0": {}, "2:0": {}}}}})
    two = {"groups": [{"name": str(number), "resources": {"PGPU": 1}} for number in range(2)]}
    story.no_valid_host("r", two)
    assert story.audit().wrong_rejections == 0
    part = {"id": "n:1", "parent": "n", "inventories": {"PGPU": {"devices": {"3:0": {}}}}}
    story.node(
        "m",
        {"id": "m", "inventories": {"PGPU": {"devices": {"1:0": {}}}}},
        {**part, "id": "m:1", "parent": "m"},
    )
    story.no_valid_host("s", two)
    assert story.audit().wrong_rejections == 1


def test_a_claim_in_flight_may_take_any_of_the_devices() -> None:
    story = Story()
    story.node("n", {"id": "n", "inventories": {"PGPU": {"devices": {"1:0": {}, "2:0": {}}}}})
    story.no_valid_host("r", {"groups": [{"resources": {"PGPU": 1}}]}, as_of=2, in_flight=("a",))
    story.claim("a", allocations=[{"provider": "n", "resources": {"PGPU": 1}}], accepted=False)
    story.no_valid_host("s", {"groups": [{"resources": {"PGPU": 1}}]}, as_of=2)
    report = story.audit()
    assert [problem for problem in report.problems if "request r" in problem] == []
    assert [problem for problem in report.problems if "request s" in problem] != []


def test_the_spec_may_stand_on_a_claim(story: Story) -> None:
    story.claim("a", 8, request="r", spec=a_spec(2))
    story.no_valid_host("r", None)
    assert story.audit().wrong_rejections == 1


def test_a_root_in_two_cells_may_be_left_out() -> None:
    stories = [Story(partition, 2) for partition in range(2)]
    for story in stories:
        story.node()
    as_of = {"0": 2, "1": 2}
    closed = {"id": "r", "outcome": "no_valid_host", "as_of": as_of}
    stories[0].say("requests.received", {"requests": [{"id": "r", "spec": a_spec(1)}]})
    stories[0].say("requests.closed", {"requests": [closed]})
    logs = {story.partition: story.records for story in stories}
    report = audit(logs, [])
    assert report.ok
    assert report.unverifiable == 1
    stories[1].node("only-here")
    as_of["1"] = 3
    stories[0].records.pop()
    stories[0].say("requests.closed", {"requests": [closed]})
    assert audit(logs, []).wrong_rejections == 1


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, True),
        ({"required": ["CUSTOM_A"]}, True),
        ({"required": ["CUSTOM_A", "CUSTOM_C"]}, False),
        ({"forbidden": ["CUSTOM_B"]}, False),
        ({"any_traits": [["CUSTOM_C", "CUSTOM_A"], ["CUSTOM_B"]]}, True),
        ({"any_traits": [["CUSTOM_C"], ["CUSTOM_B"]]}, False),
        ({"member_of": [["rack", "room"]]}, True),
        ({"member_of": [["rack"], ["room"]]}, False),
        ({"not_member_of": ["rack"]}, False),
        ({"in_tree": "n"}, True),
        ({"in_tree": "m"}, False),
    ],
)
def test_what_a_group_wants(wanted: JSON, found: bool) -> None:
    story = Story()
    story.node("n", provider("n", traits=["CUSTOM_A"]))
    story.facts("n", 1, traits=["CUSTOM_B"], aggregates=["rack"])
    story.no_valid_host("r", a_spec(1, **wanted))
    assert story.audit().wrong_rejections == int(found)


def test_trees_are_searched_like_by_trying_everything() -> None:
    rng = random.Random(7)
    for _ in range(150):
        story = Story()
        sizes = [rng.randint(0, 4) for _ in range(rng.randint(1, 4))]
        story.node("n", provider("n", 0), *(provider(f"n:{i}", size, "n") for i, size in enumerate(sizes)))
        amounts = [rng.randint(1, 3) for _ in range(rng.randint(1, 4))]
        policy = rng.choice(["none", "isolate"])
        spec = {
            "groups": [{"name": f"g{i}", "resources": {"VCPU": a}} for i, a in enumerate(amounts)],
            "group_policy": policy,
        }
        books = Ledger(lambda *_: None)
        for record in story.records:
            books.apply(record)
        assert bool(CandidateTrees(books).serving(spec, {})) == any(
            _holds_out(sizes, amounts, picks, policy)
            for picks in product(range(len(sizes)), repeat=len(amounts))
        )


def _holds_out(sizes: list[int], amounts: list[int], picks: tuple[int, ...], policy: str) -> bool:
    if policy == "isolate" and len(set(picks)) < len(picks):
        return False
    return all(
        sum(amount for amount, pick in zip(amounts, picks, strict=True) if pick == at) <= size
        for at, size in enumerate(sizes)
    )


# -- reading ----------------------------------------------------------------------------------------------


def test_dead_letters_change_nothing(story: Story) -> None:
    wrong: tuple[JSON, ...] = (
        {"claims": []},
        {"claims": [{**a_claim("a"), "more": 1}]},
        {"claims": [{"id": "a"}]},
        {},
    )
    for data in wrong:
        story.say("claims.requested", data)
    story.say("claims.imagined", {"claims": [a_claim("a")]})
    for value in (b"", b"[]", b"{", b"\xff", b'{"type": 1}'):
        story.records.append(Record(0, len(story.records), T0, b"auto-0", value))
    record = story.records[1]
    story.records.append(record._replace(offset=len(story.records), key=b"no cell"))
    report = story.audit()
    assert report.ok
    assert report.claims == 0


def test_a_record_in_another_partition_than_its_own_is_dead() -> None:
    story = Story(0, 2)
    story.node()
    story.cell = covering_cells(2)[1]
    story.claim("a", accepted=None)
    assert story.audit().claims == 0


def test_the_auditor_and_the_product_partition_alike() -> None:
    rng = random.Random(1)
    for _ in range(500):
        key = rng.randbytes(rng.randint(0, 20))
        assert home(key, 7) == partition_for(key, 7)


def test_a_log_that_can_be_read_once(story: Story) -> None:
    story.claim("a")
    story.no_valid_host("r", a_spec(7))

    def once() -> Iterator[Record]:
        yield from story.records

    assert audit({0: once()}, iter(story.verdicts)).ok


def gpu_story() -> tuple[Story, JSON]:
    """A node with three GPUs, one of another model; and a request for a share, and one for two of the first."""
    story = Story()
    gpus = [provider(f"n-{g}", 10, "n", traits=["CUSTOM_T4" if g != "c" else "CUSTOM_P100"]) for g in "abc"]
    story.node("n", provider("n"), *gpus)
    models = {"any_traits": [["CUSTOM_T4", "CUSTOM_A10"]]}
    share = {"groups": [{"resources": {"VCPU": 1}}, {"name": "gpu", "resources": {"VCPU": 6}, **models}]}
    return story, share


def gives(*parts: tuple[str, str, int]) -> JSON:
    return {
        "allocations": [{"provider": at, "group": group, "resources": {"VCPU": n}} for at, group, n in parts]
    }


@pytest.mark.parametrize(
    ("parts", "what"),
    [
        ((("n", "", 1), ("n-a", "gpu", 6)), ""),
        ((("n", "", 1), ("n-c", "gpu", 6)), "group 'gpu': n-c has none of CUSTOM_T4, CUSTOM_A10"),
        ((("n", "", 1), ("n-a", "gpu", 3), ("n-b", "gpu", 3)), "group 'gpu': it is split over n-a, n-b"),
        ((("n", "", 1), ("n-a", "gpu", 5)), "group 'gpu': 6 of VCPU asked, 5 given"),
        ((("n-a", "gpu", 6),), "group '': 1 of VCPU asked, 0 given"),
    ],
    ids=["right", "wrong model", "split share", "too little", "nothing"],
)
def test_a_claim_that_is_accepted_gives_what_was_asked(parts: Any, what: str) -> None:
    """The store accepts all of these: there is room, and no predicate says otherwise."""
    story, spec = gpu_story()
    story.claim("a", spec=spec, **gives(*parts))
    report = story.audit()
    assert report.accepted == 1
    assert [problem.split("request: ")[1] for problem in report.problems] == ([what] if what else [])
    assert report.misplaced == len(report.problems)


def test_groups_that_must_not_share_a_provider_do_not(story: Story) -> None:
    spec = {
        "groups": [{"name": str(n), "resources": {"VCPU": 2}, "forbidden": ["CUSTOM_X"]} for n in range(2)],
        "group_policy": "isolate",
    }
    story.claim("a", spec=spec, **gives(("n", "0", 2), ("n", "1", 2)))
    (problem,) = story.audit().problems
    assert "n serves 2 groups that must not share a provider" in problem
    story.verdicts[0]["accepted"] = False
    assert story.audit().misplaced == 0, "what was rejected gives nothing"


def test_copies_are_looked_at_one_by_one(story: Story) -> None:
    spec = {"groups": [{"name": "g", "resources": {"VCPU": 2}}], "copies": 2}
    story.claim("a", spec=spec, **gives(("n", "g", 2), ("n", "g#2", 1)))
    (problem,) = story.audit().problems
    assert "copy 2, group 'g': 2 of VCPU asked, 1 given" in problem


AUDITOR = Path(audit_module.__file__).parent
MODULES = sorted(AUDITOR.rglob("*.py"))


def test_the_auditor_shares_no_code_with_the_fold() -> None:
    assert len(MODULES) > 10
    allowed = {"vacancy.resources.model.record", "vacancy.resources.model.errors"}
    standard = {
        "__future__",
        "abc",
        "base64",
        "binascii",
        "collections",
        "collections.abc",
        "contextlib",
        "dataclasses",
        "functools",
        "hashlib",
        "math",
        "heapq",
        "itertools",
        "json",
        "operator",
        "re",
        "typing",
        "msgspec",
        # Ed25519 itself: what is signed, and by whose key, each works out for itself.
        "cryptography.exceptions",
        "cryptography.hazmat.primitives.asymmetric.ed25519",
    }
    for module in MODULES:
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.Import):
                assert {name.name for name in node.names} <= standard, module.name
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0
                own = (node.module or "").startswith("vacancy.clients.auditor.")
                assert own or node.module in allowed | standard, module.name


@pytest.mark.parametrize(
    "path", [path for path in MODULES if path.parent.name != "classes"], ids=lambda p: p.name
)
def test_the_core_of_the_auditor_knows_no_resource_class(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            assert node.value not in BUILT_IN, f"line {node.lineno}: leave this to the class auditor"
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
            f"{audit_module.__name__}.classes"
        ):
            assert (node.module or "").rpartition(".")[2] in ("class_auditor", "built_in"), path.name
