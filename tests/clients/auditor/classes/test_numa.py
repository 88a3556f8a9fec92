"""The auditor on NUMA cells: it agrees with the fold on whatever happens, and finds every grant that may not be."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.clients.auditor.test_auditor import Story, provider
from tests.resources.classes.numa.test_numa_cell import asks, inventories
from tests.support.logs.events_json import opened
from tests.support.models.memory_state import MemoryState
from vacancy.clients.auditor import AuditReport, audit
from vacancy.clients.auditor.classes.class_auditor import Refused
from vacancy.clients.auditor.classes.numa import NumaCellAuditor, is_ask
from vacancy.resources.classes.numa.numa_cell import NumaCell
from vacancy.resources.classes.registry import Registry
from vacancy.resources.fold.fold import fold
from vacancy.resources.model.errors import InvalidRecord, UsageError
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import Record
from vacancy.resources.state.tables import ALLOCATIONS, VERDICTS

JSON = dict[str, Any]
REGISTRY = Registry()
NUMA_CELL = "NUMA_CELL"
CELL: JSON = {
    "cell": 0,
    "cores": [[0, 4], [1, 5], [2, 6], [3, 7], [8]],
    "shared_cpus": [3, 7],
    "reserved_cpus": [6],
    "cpu_ratio_milli": 1500,
    "memory_mb": 100,
    "hugepages": {"2048": 10, "1048576": 1},
}


def story(*claims: tuple[str, JSON, JSON | None], releases: str = "") -> Story:
    """A node with one cell and these claims: (consumer, ask, grant) each; without a grant it was rejected."""
    told = Story()
    told.node("n", {**provider("n"), "inventories": {NUMA_CELL: CELL}})
    for number, (consumer, ask, grant) in enumerate(claims):
        allocations = [{"provider": "n", "resources": {NUMA_CELL: ask}}]
        told.claim(f"c{number}", accepted=grant is not None, consumer=consumer, allocations=allocations)
        if grant is not None:
            part = {"provider": "n", "resource_class": NUMA_CELL, "group": "", "grant": {"cell": 0, **grant}}
            told.verdicts[-1]["grants"] = [part]
        if consumer == releases:
            told.say("consumers.released", {"releases": [{"consumer": consumer, "claim": f"c{number}"}]})
    return told


def audited(*claims: tuple[str, JSON, JSON | None], releases: str = "") -> AuditReport:
    return story(*claims, releases=releases).audit()


HELD = ("i0", {"pinned": 1, "threads": "isolate"}, {"cpus": [0], "threads": "isolate"})


def test_grants_that_may_be() -> None:
    report = audited(
        HELD,
        ("i1", {"pinned": 2, "threads": "require"}, {"cpus": [1, 5], "threads": "require"}),
        ("i2", {"pinned": 2, "shared": 2}, {"cpus": [2, 8], "shared": 2}),
        ("i3", {"memory_mb": 20, "page_kib": "large"}, {"memory_mb": 20, "page_kib": 2048, "pages": 10}),
        ("i4", {"memory_mb": 100}, {"memory_mb": 100, "page_kib": 4}),
        ("i5", {"pinned": 1}, None),
        ("i6", {"memory_mb": 2, "page_kib": 2048}, None),
        ("i7", {"shared": 2}, None),
    )
    assert report.ok, report.problems
    assert (report.accepted, report.rejected, report.unverifiable) == (5, 3, 0)
    again = audited(HELD, ("i1", {"pinned": 1}, {"cpus": [4]}), releases="i0")
    assert again.ok, again.problems


@pytest.mark.parametrize(
    ("ask", "grant", "says"),
    [
        ({"pinned": 1}, {"cpus": [0]}, "CPU 0 is not free"),
        ({"pinned": 1}, {"cpus": [4]}, "CPU 4 is not free"),  # the sibling of one that is isolated
        ({"pinned": 1}, {"cpus": [3]}, "CPU 3 is not free"),  # shared
        ({"pinned": 1}, {"cpus": [6]}, "CPU 6 is not free"),  # the host's own
        ({"pinned": 1}, {"cpus": [9]}, "CPU 9 is not free"),
        ({"pinned": 1}, {"cpus": [1, 5]}, "not the number that was asked for"),
        ({"pinned": 2}, {"cpus": [1, 1]}, "not the number that was asked for"),
        ({"pinned": 1}, {}, "not the number that was asked for"),
        ({"pinned": 2, "threads": "isolate"}, {"cpus": [1, 5]}, "violate threads=isolate"),
        ({"pinned": 1, "threads": "isolate"}, {"cpus": [2]}, "violate threads=isolate"),
        ({"pinned": 2, "threads": "require"}, {"cpus": [1, 2]}, "violate threads=require"),
        ({"pinned": 1, "threads": "require"}, {"cpus": [8]}, "violate threads=require"),
        ({"pinned": 1}, {"cpus": [1], "cell": 1}, "cell 1 is not 0"),
        ({"shared": 1}, {"shared": 2}, "2 of shared is not what was asked for"),
        ({"memory_mb": 2}, {"memory_mb": 1, "page_kib": 4}, "1 of memory_mb is not what was asked for"),
        ({"memory_mb": 2}, {"memory_mb": 2, "page_kib": 2048, "pages": 1}, "no 2 MiB in pages of 2048"),
        (
            {"memory_mb": 2, "page_kib": 2048},
            {"memory_mb": 2, "page_kib": 2048, "pages": 2},
            "2 pages are not the memory",
        ),
    ],
)
def test_a_grant_that_may_not_be_is_found(ask: JSON, grant: JSON, says: str) -> None:
    report = audited(HELD, ("i1", ask, grant))
    assert len(report.problems) == 1
    assert says in report.problems[0]
    assert report.overcommitted == 1


def test_what_is_not_told_or_does_not_fit_is_found() -> None:
    silent = story(HELD)
    silent.verdicts[-1]["grants"] = []
    assert "no grant of NUMA_CELL is named" in silent.audit().problems[0]
    wrong = audited(HELD, ("i1", {"pinned": 1}, None))
    assert wrong.wrong_rejections == 1
    too_much = audited(("i1", {"shared": 3}, {"shared": 3}))
    assert too_much.overcommitted == 1
    nonsense = audited(("i1", {"pinned": 0}, {}))
    assert "is not an ask of NUMA_CELL" in nonsense.problems[0]


def test_a_cell_may_be_left_with_less_than_is_held_of_it() -> None:
    """Its shared CPUs went while vCPUs were held on them: who asks for none of them is served as before."""
    told = story(("i0", {"shared": 2, "memory_mb": 90}, {"shared": 2, "memory_mb": 90, "page_kib": 4}))
    told.node("n", {**provider("n"), "inventories": {NUMA_CELL: {"cell": 0, "cores": [[0], [1]]}}})
    for name, ask, grant in (("c1", {"pinned": 1}, {"cell": 0, "cpus": [0]}), ("c2", {"shared": 1}, None)):
        allocations = [{"provider": "n", "resources": {NUMA_CELL: ask}}]
        told.claim(name, accepted=grant is not None, consumer=name, allocations=allocations)
        if grant is not None:
            part = {"provider": "n", "resource_class": NUMA_CELL, "group": "", "grant": grant}
            told.verdicts[-1]["grants"] = [part]
    report = told.audit()
    assert (report.problems, report.accepted, report.rejected) == ([], 2, 1)


def test_several_asks_to_one_cell_are_judged_by_what_they_got() -> None:
    told = story()
    ask = {"pinned": 1, "threads": "isolate"}
    allocations = [{"provider": "n", "resources": {NUMA_CELL: ask}, "group": name} for name in "ab"]
    told.claim("c0", accepted=False, allocations=allocations)
    assert told.audit().unverifiable == 1
    told = story()
    told.claim("c0", allocations=allocations)
    told.verdicts[-1]["grants"] = [
        {"provider": "n", "resource_class": NUMA_CELL, "group": name, "grant": {"cell": 0, "cpus": [0]}}
        for name in "ab"
    ]
    assert "CPU 0 is not free" in told.audit().problems[0]


SOME = st.none() | st.booleans() | st.sampled_from((-1, 0, 1, 4, 2, 64, 2048, 3072, 2**43, 1.5, "small", "any", "x", "isolate"))  # fmt: skip
CPUS = st.lists(st.sampled_from((-1, 0, 1, 2, 2, 3, 65_535, 65_536, True, "1")), max_size=4)


@settings(max_examples=400, deadline=None)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "cores": SOME | st.lists(CPUS | SOME, max_size=3),
            "shared_cpus": SOME | CPUS,
            "reserved_cpus": CPUS,
            "cpu_ratio_milli": SOME,
            "memory_mb": SOME,
            "page_kib": SOME,
            "hugepages": SOME
            | st.dictionaries(st.sampled_from(("2048", "64", "4", "02048", "2M", "3072", "2048\n")), SOME),
            "cell": SOME,
            "total": st.just(1),
        },
    )
)
def test_the_auditor_refuses_the_inventories_that_the_rules_refuse(inventory: JSON) -> None:
    refused = audited = False
    try:
        NumaCell().report(inventory, None)
    except InvalidRecord:
        refused = True
    try:
        NumaCellAuditor(NUMA_CELL).read_inventory(inventory)
    except Refused:
        audited = True
    assert refused == audited


@settings(max_examples=400, deadline=None)
@given(
    SOME
    | st.dictionaries(st.sampled_from(("pinned", "threads", "shared", "memory_mb", "page_kib", "x")), SOME)
)
def test_the_auditor_takes_for_an_ask_what_the_rules_take(ask: Any) -> None:
    try:
        NumaCell().check_ask(ask)
    except UsageError:
        assert not is_ask(ask)
    else:
        assert is_ask(ask)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_the_auditor_agrees_with_the_fold_on_whatever_happens(data: st.DataObject) -> None:
    """Reports, operator settings, claims, moves and releases, folded; the auditor objects to no verdict."""
    cell = covering_cells(1)[0]
    state, records = MemoryState(), list[Record]()
    verdicts: list[JSON] = []
    held: dict[str, str] = {}
    revisions = {"n": 0, "m": 0}

    def say(value: bytes) -> None:
        record = Record(0, len(records), 1_000_000 + len(records), cell.encode(), value)
        state.commit(fold(state, record, REGISTRY))
        records.append(record)

    def event(kind: str, body: JSON) -> None:
        whole = {"specversion": "1.0", "type": f"vacancy.{kind}.v1", "id": f"e{len(records)}", "source": "t"}
        say(json.dumps({**whole, "data": body}).encode())

    def report(step: int) -> None:
        cells = {
            id_: {NUMA_CELL: data.draw(inventories())} if data.draw(st.integers(0, 5)) else {} for id_ in "nm"
        }
        parts = [
            {"id": "n", "inventories": cells["n"]},
            {"id": "m", "parent": "n", "inventories": cells["m"]},
        ]
        event(
            "node.reported",
            {"root": "n", "incarnation": "0" * 16, "sequence": step + 1, "providers": parts},
        )

    def claim(step: int, consumer: str) -> None:
        row = state.get(ALLOCATIONS, f"{cell}\0{consumer}".encode())
        wanted = data.draw(st.lists(st.tuples(st.sampled_from("nnm"), asks()), min_size=1, max_size=2))
        said = {
            "id": f"c{step}",
            "consumer": consumer,
            "consumer_generation": row.generation if row else None,
            "deadline_ms": 1_060_000,
            "allocations": [{"provider": id_, "resources": {NUMA_CELL: ask}} for id_, ask in wanted],
        }
        if data.draw(st.integers(0, 6)) == 0:
            value = data.draw(st.integers(1, len(records)))
            said["predicates"] = [{"provider": "m", "kind": "generation", "value": value}]
        if row:
            event("consumer.replaced", said)
        else:
            event("claims.requested", {"claims": [said]})
        verdict = state.get(VERDICTS, f"{cell}\0c{step}".encode())
        assert verdict is not None
        grants = json.loads(json.dumps([part._asdict() for part in verdict.grants]))
        place = {"claim": f"c{step}", "cell": cell, "partition": 0, "offset": len(records) - 1}
        verdicts.append({**place, "accepted": verdict.accepted, "reason": verdict.reason, "grants": grants})
        if verdict.accepted:
            held[consumer] = f"c{step}"

    say(opened(0, 1, ()))
    report(0)
    for step in range(1, data.draw(st.integers(2, 14))):
        what = data.draw(st.sampled_from(("report", "facts", "claim", "claim", "claim", "move", "release")))
        if what == "report":
            report(step)
        elif what == "facts":
            id_ = data.draw(st.sampled_from("nm"))
            revisions[id_] += 1
            status = data.draw(st.sampled_from(("enabled", "enabled", "disabled")))
            event("facts.set", {"provider": id_, "revision": revisions[id_], "facts": {"status": status}})
        elif what == "claim" or not held:
            claim(step, f"i{step}")
        elif what == "move":
            claim(step, data.draw(st.sampled_from(sorted(held))))
        else:
            consumer = data.draw(st.sampled_from(sorted(held)))
            releases = [{"consumer": consumer, "claim": held.pop(consumer)}]
            event("consumers.released", {"releases": releases})
    found = audit({0: records}, verdicts)
    assert found.problems == []
    assert found.claims == len(verdicts)
