"""The auditor on devices: grants that may be, and every way in which one may not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.clients.auditor.test_auditor import Story, provider
from tests.resources.classes.devices.test_device_class import ANYTHING, asks, inventories
from tests.support.logs.events_json import opened
from tests.support.models.memory_state import MemoryState
from vacancy.clients.auditor import AuditReport, ClassAuditors, audit
from vacancy.clients.auditor.classes.class_auditor import Refused
from vacancy.resources.classes.registry import Registry
from vacancy.resources.fold.fold import fold
from vacancy.resources.fold.rules_versions import RULES_VERSIONS
from vacancy.resources.model.errors import InvalidRecord
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import Record
from vacancy.resources.state.tables import ALLOCATIONS, VERDICTS

JSON = dict[str, Any]
REGISTRY = Registry()
NODE = {
    "PCI_DEVICE": {
        "devices": {
            "5:0": {"vendor": "10de", "memory_mb": 40960},
            "6:0": {},
            "6:1": {"parent": "6:0"},
            "6:2": {"parent": "6:0"},
        }
    },
    "GPU_SHARE": {"devices": {"g0": {"total": 1000, "model": "A100"}, "g1": {"total": 1000}}},
    "VGPU": {"devices": {"g2": {"types": {"q": 2, "c": 1}}, "g3": {"types": {"q": 2}}}},
    "PGPU": {"total": 2},
}
NEWEST_NODE = {
    "PGPU": {"devices": {"a0": {"d": 1}, "a1": {"d": 1}, "b0": {"d": True}, "c0": {}}},
    "VGPU": {"devices": {"v0": {"types": {"q": 1}, "d": 1}, "v1": {"types": {"q": 1}, "d": 2}}},
    "MIG": {
        "devices": {"m0": {"table": "A100-40GB"}, "m1": {"profiles": {"h": {"size": 2, "starts": [0, 1]}}}}
    },
}
"""What rules version 4 allows."""


def told(
    *claims: tuple[str, JSON, JSON], releases: str = "", node: JSON = NODE, version: int = 1
) -> AuditReport:
    """An audit of a node with devices and these claims, all accepted: (consumer, asks, grants) each."""
    story = Story(version=version)
    story.node("n", {**provider("n"), "inventories": node})
    for number, (consumer, wanted, granted) in enumerate(claims):
        allocations = [{"provider": "n", "resources": wanted}]
        story.claim(f"c{number}", consumer=consumer, allocations=allocations)
        story.verdicts[-1]["grants"] = [
            {"provider": "n", "resource_class": name, "group": "", "grant": grant}
            for name, grant in granted.items()
        ]
        if consumer == releases:
            story.say("consumers.released", {"releases": [{"consumer": consumer, "claim": f"c{number}"}]})
    return audit({0: story.records}, story.verdicts)


PCI = "PCI_DEVICE"


def test_grants_that_may_be() -> None:
    report = told(
        (
            "i1",
            {PCI: 1, "GPU_SHARE": 600, "VGPU": 1},
            {PCI: ["5:0"], "GPU_SHARE": {"g0": 600}, "VGPU": {"g2": {"c": 1}}},
        ),
        ("i2", {PCI: {"count": 2}}, {PCI: ["6:1", "6:2"]}),
        ("i3", {"GPU_SHARE": {"share": 400, "count": 2}}, {"GPU_SHARE": {"g0": 400, "g1": 400}}),
        ("i4", {"VGPU": {"type": "q", "count": 2}}, {"VGPU": {"g3": {"q": 2}}}),
        ("i5", {"PGPU": {"count": 2}}, {}),
    )
    assert report.ok, report.problems
    again = told(("i1", {PCI: 1}, {PCI: ["5:0"]}), ("i2", {PCI: 1}, {PCI: ["5:0"]}), releases="i1")
    assert again.ok, again.problems
    where = {
        "vendor": {"in": ["10de", "1002"]},
        "memory_mb": {">=": 40000},
        "dev_type": "type-PCI",
        "address": "5:0",
    }
    assert told(("i1", {PCI: {"where": where}}, {PCI: ["5:0"]})).ok


@pytest.mark.parametrize(
    ("wanted", "granted", "says"),
    [
        ({PCI: 1}, {PCI: ["7:0"]}, "7:0 is not reported"),
        ({PCI: 1}, {PCI: ["5:0"]}, "5:0 is not free"),
        ({PCI: 1}, {PCI: ["6:0"]}, "6:0 is not free"),
        ({PCI: 2}, {PCI: ["6:2"]}, "not the number of devices"),
        ({PCI: 2}, {PCI: ["6:2", "6:2"]}, "not the number of devices"),
        ({PCI: 1}, {}, "no PCI_DEVICE is named"),
        ({PCI: {"where": {"vendor": "10de"}}}, {PCI: ["6:2"]}, "6:2 is not what was asked for"),
        ({PCI: {"where": {"dev_type": "type-PF"}}}, {PCI: ["6:2"]}, "6:2 is not what was asked for"),
        ({PCI: {"where": {"vendor": {"!=": "10de"}}}}, {PCI: ["6:2"]}, "6:2 is not what was asked for"),
        ({"GPU_SHARE": 500}, {"GPU_SHARE": {"g0": 500}}, "g0 has 400 left, 500 granted"),
        ({"GPU_SHARE": 500}, {"GPU_SHARE": {"g1": 400}}, "not the shares"),
        ({"GPU_SHARE": 500}, {"GPU_SHARE": {"g1": 250, "g0": 250}}, "not the shares"),
        (
            {"GPU_SHARE": {"share": 5, "where": {"model": "A100"}}},
            {"GPU_SHARE": {"g1": 5}},
            "not what was asked for",
        ),
        ({"VGPU": 1}, {"VGPU": {"g2": {"q": 1}}}, "g2 cannot run"),
        ({"VGPU": {"type": "q"}}, {"VGPU": {"g3": {"c": 1}}}, "not of the one type"),
        ({"VGPU": 3}, {"VGPU": {"g3": {"q": 3}}}, "g3 cannot run"),
        ({"VGPU": 1}, {"VGPU": {"g3": {"q": 2}}}, "not the number"),
        ({"PGPU": {"count": 3}}, {}, "has 2 of PGPU left, 3 asked"),
    ],
)
def test_a_grant_that_may_not_be_is_found(wanted: JSON, granted: JSON, says: str) -> None:
    first = {PCI: {"count": 2}, "GPU_SHARE": 600, "VGPU": 1}
    first_granted = {PCI: ["5:0", "6:1"], "GPU_SHARE": {"g0": 600}, "VGPU": {"g2": {"c": 1}}}
    report = told(("i1", first, first_granted), ("i2", wanted, granted))
    assert len(report.problems) == 1
    assert says in report.problems[0]
    assert report.overcommitted == 1


def test_grants_that_match_and_mig_instances_that_may_be() -> None:
    report = told(
        ("i1", {"PGPU": {"count": 2, "match": ["d"]}}, {"PGPU": ["a0", "a1"]}),
        ("i2", {"MIG": {"profile": "3g.20gb"}}, {"MIG": {"m0": {"3g.20gb@4": 4}}}),
        ("i3", {"MIG": {"profile": "1g.5gb", "start": 3}}, {"MIG": {"m0": {"1g.5gb@3": 1}}}),
        ("i4", {"MIG": {"profile": "1g.5gb", "count": 2}}, {"MIG": {"m0": {"1g.5gb@0": 1, "1g.5gb@2": 1}}}),
        ("i5", {"MIG": {"profile": "h"}}, {"MIG": {"m1": {"h@1": 2}}}),
        node=NEWEST_NODE,
        version=RULES_VERSIONS.newest.version,
    )
    assert report.ok, report.problems


def test_older_rules_have_no_mig() -> None:
    node = {"MIG": NEWEST_NODE["MIG"]}
    report = told(("i1", {"MIG": {"profile": "h"}}, {"MIG": {"m1": {"h@1": 2}}}), node=node)
    assert len(report.problems) == 1


@pytest.mark.parametrize(
    ("wanted", "granted", "says"),
    [
        ({"PGPU": {"count": 2, "match": ["d"]}}, {"PGPU": ["a0", "b0"]}, "do not have the same"),
        ({"PGPU": {"count": 2, "match": ["d"]}}, {"PGPU": ["a0", "c0"]}, "lack what was asked for"),
        (
            {"VGPU": {"count": 2, "match": ["d"]}},
            {"VGPU": {"v0": {"q": 1}, "v1": {"q": 1}}},
            "do not have the same",
        ),
        ({"MIG": {"profile": "1g.5gb"}}, {"MIG": {"m0": {"1g.5gb@5": 1}}}, "gives a slot twice"),
        ({"MIG": {"profile": "1g.5gb+me"}}, {"MIG": {"m0": {"1g.5gb+me@1": 1}}}, "gives a slot twice"),
        ({"MIG": {"profile": "2g.10gb"}}, {"MIG": {"m0": {"2g.10gb@1": 2}}}, "no placement 2g.10gb@1"),
        ({"MIG": {"profile": "2g.10gb"}}, {"MIG": {"m0": {"2g.10gb@2": 1}}}, "no placement 2g.10gb@2 of 1"),
        ({"MIG": {"profile": "2g.10gb"}}, {"MIG": {"m0": {"1g.10gb@2": 2}}}, "not the profile"),
        (
            {"MIG": {"profile": "1g.5gb", "start": 1}},
            {"MIG": {"m0": {"1g.5gb@2": 1}}},
            "not the profile or the start",
        ),
        ({"MIG": {"profile": "1g.5gb", "count": 2}}, {"MIG": {"m0": {"1g.5gb@2": 1}}}, "not the number"),
        ({"MIG": {"profile": "h", "where": {"a": 1}}}, {"MIG": {"m1": {"h@0": 2}}}, "not what was asked for"),
    ],
)
def test_what_does_not_match_and_mig_instances_that_overlap_are_found(
    wanted: JSON, granted: JSON, says: str
) -> None:
    report = told(
        ("i1", {"MIG": {"profile": "3g.20gb"}}, {"MIG": {"m0": {"3g.20gb@4": 4}}}),
        ("i2", {"MIG": {"profile": "1g.5gb+me"}}, {"MIG": {"m0": {"1g.5gb+me@0": 1}}}),
        ("i3", wanted, granted),
        node=NEWEST_NODE,
        version=RULES_VERSIONS.newest.version,
    )
    assert len(report.problems) == 1
    assert says in report.problems[0]


def test_unhealthy_devices_are_granted_to_nobody() -> None:
    functions = {"5:0": {}, "5:1": {"parent": "5:0"}, "6:0": {}}
    node = {PCI: {"devices": functions, "unhealthy": {"5:1": "link lost"}}}
    version = RULES_VERSIONS.newest.version
    assert told(("i1", {PCI: 1}, {PCI: ["6:0"]}), node=node, version=version).ok
    for granted in ("5:1", "5:0"):
        report = told(("i1", {PCI: {}}, {PCI: [granted]}), node=node, version=version)
        assert len(report.problems) == 1
        assert f"{granted} is not reported" in report.problems[0]


@pytest.mark.parametrize("unhealthy", [{"7:0": "?"}, {"5:0": 1}, {"5:0": "x" * 1001}, ["5:0"], None])
def test_reports_with_invalid_health_are_refused(unhealthy: Any) -> None:
    node = {PCI: {"devices": {"5:0": {}}, "unhealthy": unhealthy}}
    report = told(("i1", {PCI: 1}, {PCI: ["5:0"]}), node=node, version=RULES_VERSIONS.newest.version)
    assert len(report.problems) == 1, "the report is a dead letter, so there is no device to grant"


def test_older_rules_have_no_health() -> None:
    node: JSON = {PCI: {"devices": {"5:0": {}}, "unhealthy": {}}}
    assert len(told(("i1", {PCI: 1}, {PCI: ["5:0"]}), node=node).problems) == 1


NAMED: JSON = {"devices": {"a": {}, "b": {}}}


@pytest.mark.parametrize(
    ("first", "grants", "then", "ask", "may", "if_not"),
    [
        (NAMED, ["a"], {"total": 0}, 1, False, "has 0 of PGPU left, 1 asked"),
        ({"total": 1}, None, {"total": 0}, 1, True, "but it fits"),
        ({"total": 1}, None, {"total": 0}, {"count": 1, "where": {}}, True, "but it fits"),
        ({"total": 1}, None, {"total": 0}, {"where": {"model": "A"}}, False, "is not an amount of PGPU"),
        ({"total": 1}, None, {"total": 0}, 2, False, "has 0 of PGPU left, 2 asked"),
        ({"total": 1}, None, {"devices": {}}, 1, True, "but it fits"),
        ({"total": 1}, None, {"devices": {}}, 2, False, "no PGPU is named"),
        (NAMED, ["a"], {"devices": {}}, 1, False, "no PGPU is named"),
        (NAMED, ["a"], {"devices": {"b": {}}}, 2, False, "no PGPU is named"),
    ],
)
def test_a_move_keeps_as_many_as_were_held_by_count(
    first: JSON, grants: list[str] | None, then: JSON, ask: Any, may: bool, if_not: str
) -> None:
    """A consumer of one device asks for `ask` when the node says something else of its devices; accepted, it is
    granted a number."""

    def story(accepted: bool) -> AuditReport:
        story = Story()
        story.node("n", {**provider("n"), "inventories": {"PGPU": first}})
        story.claim("c0", consumer="i", allocations=[{"provider": "n", "resources": {"PGPU": 1}}])
        story.verdicts[-1]["grants"] = [
            {"provider": "n", "resource_class": "PGPU", "group": "", "grant": grant}
            for grant in ([grants] if grants else [])
        ]
        story.node("n", {**provider("n"), "inventories": {"PGPU": then}})
        moved = [{"provider": "n", "resources": {"PGPU": ask}}]
        story.claim(
            "c1", accepted=accepted, replaces=True, consumer="i", consumer_generation=1, allocations=moved
        )
        return story.audit()

    right, wrong = story(may), story(not may)
    assert right.ok, right.problems
    assert len(wrong.problems) == 1
    assert if_not in wrong.problems[0]


@settings(max_examples=300, deadline=None)
@given(
    name=st.sampled_from(["PCI_DEVICE", "SRIOV_NET_VF", "PGPU", "FPGA", "VGPU", "GPU_SHARE", "MIG"]),
    inventory=st.dictionaries(st.sampled_from(["devices", "total", "y"]), ANYTHING),
)
def test_the_auditor_refuses_the_inventories_that_the_rules_refuse(name: str, inventory: JSON) -> None:
    inventory = json.loads(json.dumps(inventory))
    refused = audited = False
    try:
        REGISTRY.table(name).resource_class.report(inventory, None)
    except InvalidRecord:
        refused = True
    try:
        ClassAuditors().of(name).read_inventory(inventory)
    except Refused:
        audited = True
    assert refused == audited


PLAIN: dict[str, JSON] = {"PCI_DEVICE": {}, "GPU_SHARE": {"share": 2}, "VGPU": {"type": ""}}
"""What says nothing of which devices are meant."""
WANTED = {
    name: asks(name)
    | st.builds(lambda count, more: {"count": count, **more}, st.integers(1, 3), st.sampled_from([{}, plain]))
    for name, plain in PLAIN.items()
}
REPORTED = {
    name: inventories(name)
    if name == "GPU_SHARE"
    else inventories(name) | st.fixed_dictionaries({"total": st.integers(0, 4)})
    for name in PLAIN
}


@pytest.mark.parametrize("version", [1, RULES_VERSIONS.newest.version])
@settings(max_examples=100, deadline=None)
@given(data=st.data(), name=st.sampled_from([*PLAIN]))
def test_the_auditor_agrees_with_the_fold_on_whatever_happens(
    version: int, data: st.DataObject, name: str
) -> None:
    """Reports, operator settings, claims, moves and releases of devices, folded; the auditor objects to no verdict."""
    cell = covering_cells(1)[0]
    state = MemoryState()
    records: list[Record] = []
    verdicts: list[JSON] = []
    held: dict[str, str] = {}
    revision = 0

    def say(value: bytes) -> None:
        record = Record(0, len(records), 1_000_000 + len(records), cell.encode(), value)
        state.commit(fold(state, record, REGISTRY))
        records.append(record)

    def event(kind: str, body: JSON) -> bytes:
        id_ = f"e{len(records)}"
        whole = {"specversion": "1.0", "type": f"vacancy.{kind}", "id": id_, "source": "t", "data": body}
        return json.dumps(whole).encode()

    say(opened(0, 1, (), version))
    for step in range(data.draw(st.integers(1, 12))):
        what = (
            data.draw(
                st.sampled_from(["report", "facts", "claim", "claim", "claim", "move", "move", "release"])
            )
            if step
            else "report"
        )
        if what == "report":
            inventory = data.draw(REPORTED[name])
            report = {"id": "n", "inventories": {name: inventory}}
            say(
                event(
                    "node.reported.v1",
                    {"root": "n", "incarnation": "0" * 16, "sequence": step + 1, "providers": [report]},
                )
            )
        elif what == "facts":
            revision += 1
            facts = {"status": data.draw(st.sampled_from(["enabled", "enabled", "disabled"]))}
            say(event("facts.set.v1", {"provider": "n", "revision": revision, "facts": facts}))
        elif what == "release" and held:
            consumer = data.draw(st.sampled_from(sorted(held)))
            say(
                event(
                    "consumers.released.v1",
                    {"releases": [{"consumer": consumer, "claim": held.pop(consumer)}]},
                )
            )
        elif what == "claim" or (what == "move" and held):
            moves = what == "move"
            consumer = data.draw(st.sampled_from(sorted(held))) if moves else f"i{step}"
            row = state.get(ALLOCATIONS, f"{cell}\0{consumer}".encode())
            wanted = data.draw(st.lists(WANTED[name], min_size=1, max_size=2))
            claim = {
                "id": f"c{step}",
                "consumer": consumer,
                "consumer_generation": row.generation if row else None,
                "deadline_ms": 1_060_000,
                "allocations": [{"provider": "n", "resources": {name: one}} for one in wanted],
            }
            if moves and version > 1:
                claim["replaces"] = held[consumer]
            say(
                event("consumer.replaced.v1" if version == 1 else "consumer.replaced.v3", claim)
                if moves
                else event("claims.requested.v1", {"claims": [claim]})
            )
            verdict = state.get(VERDICTS, f"{cell}\0c{step}".encode())
            assert verdict is not None
            grants = [part._asdict() for part in verdict.grants]
            place = {"claim": f"c{step}", "cell": cell, "partition": 0, "offset": len(records) - 1}
            verdicts.append(
                {**place, "accepted": verdict.accepted, "reason": verdict.reason, "grants": grants}
            )
            if verdict.accepted:
                held[consumer] = f"c{step}"
    found = audit({0: records}, verdicts)
    assert found.problems == []
    assert found.claims == len(verdicts)
