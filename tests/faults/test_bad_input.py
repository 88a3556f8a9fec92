"""Bad records in the log: invalid ones become dead letters, unsatisfiable claims are rejected with a reason, and
everything else continues.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pytest

from tests.faults.site_on_disk import Site, catch_up_with, check_error_text, wait_for
from tests.support.logs.events_json import claim, claims, event, opened, provider, reported, rules_in_steps
from tests.support.models.memory_state import MemoryState
from vacancy.clients.admin.rules import open_proposals
from vacancy.clients.auditor import AuditReport
from vacancy.clients.inspection.answers import DeadLetterAnswer
from vacancy.clients.inspection.lookup import show_provider
from vacancy.clients.inspection.status import dead_letters
from vacancy.clients.runtime.bootstrap import installed_registry
from vacancy.projections.store.digest import as_scan, partition_digest
from vacancy.resources.fold.rules_versions import RULES_VERSION
from vacancy.resources.model.errors import Halt
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import Record
from vacancy.resources.model.request import RequestGroup, RequestSpec
from vacancy.resources.state.rows import DeadLetterRow, VerdictRow
from vacancy.resources.state.tables import DEAD_LETTER_BYTES, DEAD_LETTERS, dead_letter_key
from vacancy.streams.log import Log
from vacancy.streams.sqlite.schema import checksums

CELL, OTHER_CELL = covering_cells(2)
ONE = RequestSpec(groups=(RequestGroup(resources={"VCPU": 1}),))
INT53, HUGE = 2**53, 10**40


# -- what is in the log -----------------------------------------------------------------------------------------


def with_number(value: bytes, number: str) -> bytes:
    """A record with a number in the place of "N" that no JSON writer of ours would write."""
    return value.replace(b'"N"', number.encode())


def node(inventories: Any, **more: Any) -> bytes:
    """A full report of node-1 that would open a new incarnation."""
    return reported("node-1", [{"id": "node-1", "inventories": inventories, **more}], life=2)


def tree_of(parents: Mapping[str, str | None]) -> bytes:
    return reported("node-1", [provider(id_, parent) for id_, parent in parents.items()], life=2)


def changed(*providers: Any, life: int = 1, sequence: int = 1_000_000, **more: Any) -> bytes:
    data = {"root": "node-1", "incarnation": f"{life:016x}", "sequence": sequence, "providers": providers}
    return event("node.changed.v1", {**data, **more})


def facts(revision: int = 1, **said: Any) -> bytes:
    return event("facts.set.v1", {"provider": "node-1", "revision": revision, "facts": said})


SOON_MS = 2_000_000_000_000
"""Stands for a deadline that is not far: when the records are sent is known then only (`timely`)."""


def bid(id_: str, resources: Mapping[str, Any], **more: Any) -> bytes:
    return claims(claim(id_, f"of-{id_}", "node-1", resources, more.pop("deadline_ms", SOON_MS), **more))


REFUSED: Mapping[str, tuple[bytes, str]] = {
    # malformed
    "empty": (b"", "Invalid JSON"),
    "cut off": (b'{"specversion": "1.0", "ty', "Invalid JSON"),
    "not JSON": (b"\x00\xff\xfe binary", "Invalid JSON"),
    "not UTF-8": (event("tick.v1", {}).replace(b"/tests", b"/\xff"), "Invalid JSON"),
    "a byte order mark": (b"\xef\xbb\xbf" + bid("bom", {"VCPU": 1}), "Invalid JSON"),
    "UTF-16": (bid("utf-16", {"VCPU": 1}).decode().encode("utf-16"), "Invalid JSON"),
    "half a character": (bid("half", {"VCPU": {"\ud800": 1}}), "Invalid JSON"),
    "two objects": (event("tick.v1", {}) * 2, "trailing characters"),
    "too deep": (node({"VCPU": "N"}).replace(b'"N"', b"[" * 9999 + b"]" * 9999), "recursion limit"),
    "too many marks": (event("tick.v1", {}).replace(b"/tests", b"," * 300_000), "262,144"),
    # no event, or none that is known
    "no object": (b"[1, 2]", "object"),
    "no type": (b"{}", "type"),
    "unknown event": (event("node.exploded.v1", {}), "'vacancy.node.exploded.v1'"),
    "unknown version": (event("node.reported.v9", {}), "'vacancy.node.reported.v9'"),
    "another CloudEvents": (event("tick.v1", {}).replace(b'"1.0"', b'"0.3"'), "specversion"),
    "unknown field": (event("tick.v1", {"surprise": 1}), "data.surprise"),
    # wrong types
    "number as text": (node({"VCPU": {"total": "4"}}), "VCPU: Expected `int`, got `str`"),
    "number as fraction": (node({"VCPU": {"total": 4.0}}), "VCPU: Expected `int`, got `float`"),
    "number as truth": (node({"VCPU": {"total": True}}), "VCPU: Expected `int`, got `bool`"),
    "not a number": (node({"VCPU": {"total": float("nan")}}), "VCPU: Expected `int`"),
    "inventory as number": (node({"VCPU": 4}), "data.providers.0.inventories.VCPU"),
    "sequence as text": (changed(sequence="7"), "data.sequence"),  # type: ignore[arg-type]
    "claims as object": (event("claims.requested.v1", {"claims": {}}), "data.claims"),
    "amount as text": (bid("text", {"VCPU": "1"}), "data.claims.0.allocations.0.resources.VCPU"),
    # negative and enormous
    "negative total": (node({"VCPU": {"total": -1}}), "VCPU: Expected `int` >= 0"),
    "enormous total": (node({"VCPU": {"total": INT53}}), "VCPU: Expected `int` <="),
    "absurd total": (with_number(node({"VCPU": {"total": "N"}}), "9" * 4000), "VCPU: Expected `int` <="),
    "beyond any number": (with_number(changed(sequence="N"), "9" * 5000), "out of range"),  # type: ignore[arg-type]
    "infinite": (with_number(changed(sequence="N"), "1e999"), "data.sequence"),  # type: ignore[arg-type]
    "more reserved than there is": (node({"VCPU": {"total": 1, "reserved": 2}}), "reserved 2 is more than"),
    "ratio of nothing": (node({"VCPU": {"total": 1, "allocation_ratio_milli": 0}}), "allocation_ratio_milli"),
    "step of nothing": (node({"VCPU": {"total": 1, "step_size": 0}}), "step_size"),
    "negative deadline": (bid("past", {"VCPU": 1}, deadline_ms=-1), "data.claims.0.deadline_ms"),
    "negative override": (facts(overrides={"VCPU": {"reserved": -1}}), "override of VCPU"),
    "too many claims": (
        claims(*(claim(f"m{n}", "m", "node-1", {"VCPU": 1}, SOON_MS) for n in range(65))),
        "64",
    ),
    # unknown names
    "unknown class": (node({"NONSENSE": {"total": 1}}), "unknown resource class NONSENSE"),
    "no class": (node({"CUSTOM_": {"total": 1}}), "unknown resource class CUSTOM_"),
    "class of a plugin": (node({"PORTS": {"ports": [1]}}), "PORTS"),
    "unknown field of a class": (node({"VCPU": {"total": 1, "turbo": 1}}), "unknown field `turbo`"),
    "no trait": (node({}, traits=["fast"]), "data.providers.0.traits.0"),
    "no provider": (reported("node 1", [provider("node 1")]), "data.root"),
    "unknown class of facts": (facts(overrides={"NONSENSE": {}}), "unknown resource class NONSENSE"),
    "facts nobody saw": (facts(revision=7), "revision 7 does not follow 0"),
    "unknown incarnation": (changed(life=9), "no full report opened incarnation 0000000000000009"),
    # trees
    "parents in a circle": (
        tree_of({"node-1": None, "a": "c", "b": "a", "c": "b"}),
        "provider a is its own ancestor (a -> c -> b -> a)",
    ),
    "its own parent": (tree_of({"node-1": None, "a": "a"}), "provider a is its own ancestor (a -> a)"),
    "a root in the circle": (tree_of({"node-1": "a", "a": "node-1"}), "root node-1 is not a root"),
    "unknown parent": (tree_of({"node-1": None, "a": "z"}), "provider a has parent z, which is not in"),
    "two roots": (tree_of({"node-1": None, "a": None}), "provider a has no parent"),
    "no root": (tree_of({"a": None}), "root node-1 is not among its providers"),
    "twice the same": (
        reported("node-1", [provider("node-1"), provider("node-1")], life=2),
        "a provider is reported twice",
    ),
    "another node's part": (
        reported("node-2", [provider("node-2"), provider("node-1:gpu0", "node-2")]),
        "provider node-1:gpu0 of node-2 is already a part of node-1",
    ),
    # claims and rules that contradict
    "another claim of that id": (bid("good", {"VCPU": 4}), "claim good was made before with other content"),
    "opened again": (opened(0, 2).replace(b"the-log", b"another"), "the log was opened before"),
    "rules of nothing": (event("rules.activated.v1", {"version": 0}), "data.version"),
}

CIRCLE_BY_CHANGE = changed(provider("node-1:gpu0", "node-1:gpu0"), sequence=2)
"""It is refused, and its sequence with it: a gap, until the node's next full report."""


def rejection(reason: str, name: str = "VCPU", asked: int = 0, available: int = 0) -> dict[str, Any]:
    return {"reason": reason, "resource_class": name, "asked": asked, "available": available}


BIDS: Mapping[str, tuple[bytes, dict[str, Any]]] = {
    "negative": (bid("negative", {"VCPU": -1}), rejection("bad_amount", asked=-1)),
    "none": (bid("none", {"VCPU": 0}), rejection("bad_amount")),
    "enormous": (bid("enormous", {"VCPU": INT53}), rejection("bad_amount", asked=INT53 - 1)),
    "absurd": (
        with_number(bid("absurd", {"VCPU": "N"}), "9" * 4000),
        rejection("bad_amount", asked=INT53 - 1),
    ),
    "no-amount": (bid("no-amount", {"VCPU": {"some": 1}}), rejection("bad_amount")),
    "all-there-is": (
        bid("all-there-is", {"VCPU": INT53 - 1}),
        rejection("no_room", asked=INT53 - 1, available=63),
    ),
    "above": (bid("above", {"VCPU": 18}), rejection("above_max_unit", asked=18, available=16)),
    "below": (bid("below", {"VCPU": 1}), rejection("below_min_unit", asked=1, available=2)),
    "off-step": (bid("off-step", {"VCPU": 3}), rejection("off_step", asked=3, available=2)),
    "class": (bid("class", {"NONSENSE": 1}), rejection("class_unknown", "NONSENSE")),
    "inventory": (bid("inventory", {"CUSTOM_X": 1}), rejection("no_inventory", "CUSTOM_X", 1)),
    "provider": (
        bid("provider", {}, allocations=[{"provider": "node-7", "resources": {"VCPU": 2}}]),
        rejection("provider_unknown", ""),
    ),
    "trait": (
        bid(
            "trait",
            {"VCPU": 2},
            predicates=[{"provider": "node-1", "kind": "trait", "value": "HW_CPU_X86_AVX2"}],
        ),
        rejection("trait_changed", ""),
    ),
    "deadline": (
        bid("deadline", {"VCPU": 2}, deadline_ms=SOON_MS + 10**9),
        {"reason": "deadline_too_far", "resource_class": "", "available": 600_000},
    ),
    "hold": (bid("hold", {"VCPU": 2}, hold_until_ms=1), rejection("hold_is_past", "")),
    "consumer": (bid("consumer", {"VCPU": 2}, consumer_generation=1), rejection("consumer_unknown", "", 1)),
}


@dataclass(frozen=True)
class Aftermath:
    """What was sent to a site, and the result."""

    sent: dict[str, tuple[bytes, bytes, int]]
    """Case -> the key and value that were appended, and their offset (in partition 0)."""
    rows: dict[int, DeadLetterRow]
    shown: dict[int, DeadLetterAnswer]
    verdicts: dict[str, VerdictRow]
    audit: AuditReport
    beats: int
    """How many heartbeats the node sent, one after each bad record."""
    sequence: int
    """The last sequence that the tables have of it."""
    vcpus: int
    state: str


@pytest.fixture(scope="module")
def aftermath(tmp_path_factory: pytest.TempPathFactory) -> Aftermath:
    """All bad records in a real log, each followed by a valid one, while a real worker folds."""
    site = Site.made(tmp_path_factory.mktemp("bad"), 2)
    vcpu = {"total": 65, "min_unit": 2, "max_unit": 16, "step_size": 2}
    whole = [provider("node-1", VCPU=vcpu), provider("node-1:gpu0", "node-1", CUSTOM_GPU=1)]
    sent: dict[str, tuple[bytes, bytes, int]] = {}
    with site.with_worker(), site.log() as log:
        site.append(CELL, reported("node-1", whole), timely(bid("good", {"VCPU": 2})))
        sequence = 1
        for name, (written, _) in [*REFUSED.items(), *BIDS.items()]:
            value = timely(written)
            (landed,) = site.append(CELL, value)
            sent[name] = (CELL.encode(), value, landed.offset)
            sequence += 1
            beat = {"root": "node-1", "incarnation": f"{1:016x}", "sequence": sequence}
            site.append(CELL, event("node.heartbeat.v1", beat))
        sent |= misplaced(site, log)
        site.settle()
        with site.reader() as reader:
            shown = {letter.offset: letter for letter in dead_letters(reader, partition=0)}
            rows = {row.offset: row for at, _, row in reader.scan(DEAD_LETTERS) if at == 0}
        site.append(CELL, changed(provider("node-1", VCPU={**vcpu, "total": 99}), sequence=sequence + 1))
        site.settle()
    with site.reader() as reader:
        tree = show_provider(reader, "node-1")
    assert tree.node is not None
    return Aftermath(
        sent,
        rows,
        shown,
        site.verdicts(),
        site.check_whole(),
        len(REFUSED) + len(BIDS),
        tree.node.sequence,
        tree.providers[0].inventories[0].record["total"],
        tree.node.state,
    )


def timely(value: bytes) -> bytes:
    """The record with a deadline in five minutes."""
    return value.replace(str(SOON_MS).encode(), str(int(time.time() * 1000) + 300_000).encode())


MISPLACED: Mapping[str, tuple[bytes, str]] = {
    "another partition's": (OTHER_CELL.encode(), "belongs to partition 1 (murmur2), not to 0"),
    "no cell": (b"\xff\x00", "is not the name of a cell"),
    "no key": (b"", "is not the name of a cell"),
}


def misplaced(site: Site, log: Log) -> dict[str, tuple[bytes, bytes, int]]:
    """Records in the wrong partition for their key, as only a broken producer of another kind can send."""
    value = bid("misplaced", {"VCPU": 2})
    found = {}
    for name, (key, _) in MISPLACED.items():
        offset = log.end()[0]
        with closing(sqlite3.connect(site.file)) as db, db:
            record = Record(0, offset, int(time.time() * 1000), key, value)
            db.execute("INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, 0)", (*record, *checksums([record])))
        found[name] = (key, value, offset)
    return found


@pytest.mark.parametrize("name", [*REFUSED, *MISPLACED])
def test_invalid_records_are_kept_unchanged_as_dead_letters(name: str, aftermath: Aftermath) -> None:
    reason = REFUSED[name][1] if name in REFUSED else MISPLACED[name][1]
    key, value, offset = aftermath.sent[name]
    row = aftermath.rows[offset]
    assert reason in row.reason
    assert len(row.reason) <= 1024
    assert (row.key, row.value, row.size) == (key, value[:DEAD_LETTER_BYTES], len(value))
    shown = aftermath.shown[offset]
    assert (shown.partition, shown.offset, shown.reason, shown.size) == (0, offset, row.reason, len(value))
    assert shown.value == row.value.decode(errors="replace")


def test_nothing_else_is_a_dead_letter(aftermath: Aftermath) -> None:
    assert len(aftermath.rows) == len(REFUSED) + len(MISPLACED)


def test_valid_records_between_invalid_ones_are_folded(aftermath: Aftermath) -> None:
    assert aftermath.sequence == 1 + aftermath.beats + 1
    assert (aftermath.vcpus, aftermath.state) == (99, "open")


@pytest.mark.parametrize("name", BIDS)
def test_a_claim_that_cannot_be_granted_is_rejected_with_a_reason(name: str, aftermath: Aftermath) -> None:
    verdict = aftermath.verdicts[name]
    wanted = BIDS[name][1]
    assert not verdict.accepted
    assert {field: getattr(verdict, field) for field in wanted} == wanted
    assert verdict.offset == aftermath.sent[name][2]
    if wanted["resource_class"]:
        assert verdict.provider == "node-1"


def test_the_auditor_agrees_about_every_record(aftermath: Aftermath) -> None:
    assert aftermath.audit.claims == 1 + len(BIDS)
    assert aftermath.audit.accepted == 1


def test_a_change_that_makes_a_cycle_closes_the_node_until_its_next_report(tmp_path_factory: Any) -> None:
    site = Site.made(tmp_path_factory.mktemp("circle"), 1)
    whole = [provider("node-1", VCPU=4), provider("node-1:gpu0", "node-1", CUSTOM_GPU=1)]
    cell = site.cell("node-1")
    site.append(cell, reported("node-1", whole), CIRCLE_BY_CHANGE, changed(sequence=3))
    with site.with_worker(), site.reader() as reader:
        (letter,) = dead_letters(reader)
        assert "provider node-1:gpu0 is its own ancestor" in letter.reason
        shown = show_provider(reader, "node-1")
        assert shown.node is not None
        assert shown.node.state == "incomplete"
        assert [one.id for one in shown.providers] == ["node-1", "node-1:gpu0"]
        site.append(cell, reported("node-1", whole, sequence=4))
        site.settle()
        shown = show_provider(reader, "node-1")
        assert shown.node is not None
        assert shown.node.state == "open"
    site.check_whole()


def test_the_text_of_a_dead_letter_is_not_part_of_the_digest() -> None:
    """The words are those of the libraries that read JSON: another version of them may choose others."""
    digests = set()
    for reason in ("expected value at line 1", "EOF while parsing a value"):
        state = MemoryState()
        state.commit({DEAD_LETTERS: {dead_letter_key(0): DeadLetterRow(3, 4, reason, b"k", b"v", 1)}})
        digests.add(partition_digest(as_scan(state.items), installed_registry()))
    assert len(digests) == 1
    state.commit({DEAD_LETTERS: {dead_letter_key(0): DeadLetterRow(3, 4, reason, b"k", b"w", 1)}})
    assert partition_digest(as_scan(state.items), installed_registry()) not in digests


# -- rules that this build does not have --------------------------------------------------------------------------

HALTS: Mapping[str, tuple[Mapping[str, Any], tuple[str, ...]]] = {
    "rules version": (
        {"version": 99},
        (
            f"the log's rules are version 99, this build supports up to {RULES_VERSION}",
            "upgrade vacancy on this host",
        ),
    ),
    "plugin": (
        {"version": RULES_VERSION, "classes": ["LICENSES"]},
        ("resource class LICENSES, which this build does not have", "install the package that provides it"),
    ),
}


@pytest.mark.parametrize("name", HALTS)
def test_one_record_with_rules_that_no_build_has_stops_nothing(name: str, tmp_path_factory: Any) -> None:
    """Rules are raised in three steps: a worker answers that its build lacks them, and the activation is a dead letter."""
    rules, _ = HALTS[name]
    site = Site.made(tmp_path_factory.mktemp("one"), 2)
    with site.worker() as worker:
        worker.wait_ready()
        proposal, refused = site.append(
            CELL, event("rules.proposed.v1", rules, "p"), event("rules.activated.v1", rules)
        )
        site.append(CELL, reported("node-1", [provider("node-1", VCPU=4)]))
        with site.reader() as reader:

            def answered() -> bool:
                reader.catch_up()
                return any(one.answers for one in open_proposals(reader))

            wait_for(answered)
            (again,) = site.append(CELL, event("rules.activated.v1", rules))
            catch_up_with(reader, {0: again.offset + 1})
            assert [(one.partition, one.offset) for one in open_proposals(reader)] == [(0, proposal.offset)]
            assert [one.offset for one in dead_letters(reader)] == [refused.offset, again.offset]
            assert show_provider(reader, "node-1").providers
        worker.check()
    site.check_whole()


@pytest.mark.parametrize("name", HALTS)
def test_rules_that_this_build_does_not_have_stop_that_partition_there(
    name: str, tmp_path_factory: Any
) -> None:
    rules, fragments = HALTS[name]
    site = Site.made(tmp_path_factory.mktemp("halt"), 2)
    site.append(CELL, reported("node-1", [provider("node-1", VCPU=4)]))
    worker, again = site.worker(), site.worker()
    worker.start()
    worker.wait_ready()
    with site.log() as log:
        *_, there = site.append(CELL, *rules_in_steps(rules["version"], rules.get("classes", ())))
        site.append(CELL, reported("node-2", [provider("node-2", VCPU=4)]))
        site.append(OTHER_CELL, reported("node-3", [provider("node-3", VCPU=4)]))
        end = log.end()[1]
        with site.reader() as reader:

            def other_went_on() -> bool:
                reader.catch_up()
                return reader.position[1] == end

            wait_for(other_went_on)
            assert show_provider(reader, "node-3").providers
            assert reader.position[0] <= there.offset
    with pytest.raises(Halt) as stopped:
        worker.stop()
    check_error_text(stopped.value, *fragments, f"partition 0, offset {there.offset}")
    again.start()
    with pytest.raises(Halt) as caught:
        again.wait_ready()
    check_error_text(caught.value, *fragments, f"partition 0, offset {there.offset}")
    with pytest.raises(Halt):
        again.stop()
    with site.reader() as reader:
        assert reader.position == {0: there.offset, 1: end}
        assert dead_letters(reader) == []
        assert show_provider(reader, "node-1").providers
    site.check_whole()
    assert json.loads(site.records()[0][there.offset].value)["data"] == {
        "classes": [],
        **rules,
    }  # it waits for a newer build
