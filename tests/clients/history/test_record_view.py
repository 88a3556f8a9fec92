"""Records as people see them: every event, and bytes that are no event."""

from __future__ import annotations

import json

import pytest

from tests.fuzz.fuzzed_log import FuzzedLog
from tests.recorded_logs.recording import read_recording
from tests.support.logs.events_json import claim, claims, event, provider, reported
from vacancy.clients.history.record_view import (
    Names,
    content_lines,
    json_object,
    mentions,
    names_of,
    record_lines,
    short_type,
    view_record,
)
from vacancy.resources.fold.rules_versions import RULES_VERSIONS
from vacancy.resources.model.record import Record

COUNTED = {"vacancy.node.counted.v1", "vacancy.quota.counted.v1"}
"""Events of logs that were raised to version 4."""


def record(value: bytes, key: bytes = b"cell") -> Record:
    return Record(2, 4, 1_800_000_000_123, key, value)


def test_a_report_as_text() -> None:
    value = reported("gpu-1", [provider("gpu-1", VCPU=32), provider("gpu-1:a", "gpu-1")], life=7, sequence=3)
    view = view_record(record(value))
    assert view.line == (
        "2:4         2027-01-15T08:00:00.123Z  node.reported.v1        cell  gpu-1: full report, 2 providers"
    )
    assert list(record_lines(view)) == [
        "record 2:4: node.reported.v1",
        "time:     2027-01-15T08:00:00.123Z",
        "key:      cell",
        "source:   /tests, event e",
        "node:     gpu-1, incarnation 0000000000000007, sequence 3",
        "summary:  gpu-1: full report, 2 providers",
        f"size:     {len(value)} bytes",
        "content:",
        "  root: gpu-1",
        "  incarnation: 0000000000000007",
        "  sequence: 3",
        "  providers:",
        "    - id: gpu-1",
        "      parent: null",
        "      inventories:",
        '        VCPU: {"total": 32}',
        "      traits: []",
        "    - id: gpu-1:a",
        "      parent: gpu-1",
        "      inventories: {}",
        "      traits: []",
    ]


def test_long_lists_are_cut_with_a_count_unless_all_is_asked_for() -> None:
    value = {"ids": list(range(100)), "text": "x" * 1_000}
    cut, full = list(content_lines(value)), list(content_lines(value, full=True))
    assert "  … 90 more" in cut
    assert len(cut) == 13
    assert len(full) == 102
    assert f"text: {'x' * 1_000}" in full


def test_bytes_that_are_no_event_are_shown_with_the_reason() -> None:
    view = view_record(record(b"\xff\xfe\x1b[2J", b"\xff\xfe"))
    assert view.event is None
    assert view.text == "\\xff\\xfe\x1b[2J"
    assert view.key == "\\xff\\xfe"
    assert view.error.startswith("Invalid JSON")
    assert view.as_json()["value"] == view.text
    unknown = view_record(record(event("note.taken.v1", {"text": "x"})))
    assert "vacancy.note.taken.v1" in unknown.error
    assert unknown.as_json()["event"]["data"] == {"text": "x"}


def test_what_a_record_names() -> None:
    value = claims(
        claim("c-1", "vm-1", "node-1", {"VCPU": 1}, 5, request="r-1"),
        claim("c-2", "vm-2", "node-2", {"VCPU": 1}, 5),
    )
    assert names_of(json_object(value)) == Names(
        nodes=frozenset(),
        providers=frozenset({"node-1", "node-2"}),
        consumers=frozenset({"vm-1", "vm-2"}),
        claims=frozenset({"c-1", "c-2"}),
        requests=frozenset({"r-1"}),
    )
    renamed = event(
        "node.renamed.v1",
        {"root": "a", "to": "b", "providers": {"a": "b", "a:0": "b:0"}, "consumers": ["vm-3"]},
    )
    found = names_of(json_object(renamed))
    assert found.nodes == {"a", "b"}
    assert found.providers == {"a", "b", "a:0", "b:0"}
    assert found.consumers == {"vm-3"}
    assert names_of(None) == Names()


def test_the_names_of_a_transaction() -> None:
    consumer = {"consumer": "vm-1", "generation": "any", "allocations": {"n2": {"VCPU": 1}}}
    data = {"id": "t-1", "providers": [{"provider": "n1", "parent": "n0"}], "consumers": [consumer]}
    found = names_of({"type": "vacancy.transaction.requested.v1", "data": data})
    assert found.claims == {"t-1"}
    assert found.consumers == {"vm-1"}
    assert found.providers >= {"n1", "n2"}


def test_a_name_is_found_whatever_the_way_it_is_written() -> None:
    assert mentions(b'{"consumer":"vm-1"}', "vm-1")
    assert not mentions(b'{"consumer":"vm-10"}', "vm-1")
    escaped = b'{"type":"x","data":{"consumer":"vm\\u002d1"}}'
    assert mentions(escaped, "vm-1")
    assert names_of(json_object(escaped)).consumers == {"vm-1"}


@pytest.mark.parametrize(
    "name", ["every_event", "version_3", "version_4", "raised_to_4", "version_5", "version_6"]
)
def test_every_record_of_a_recorded_log_can_be_shown(name: str) -> None:
    types = set()
    for one in read_recording(name).records:
        view = view_record(one)
        lines = [*record_lines(view), *record_lines(view, full=True)]
        assert lines
        assert view.summary
        json.dumps(view.as_json())
        if not view.error:
            types.add(view.type)
            assert view.summary != short_type(view.type).rpartition(".v")[0], "it has no line for people"
            assert view.event == json.loads(one.value)
    expected = {
        "every_event": RULES_VERSIONS.of(1).event_types,
        "version_3": RULES_VERSIONS.of(3).event_types - RULES_VERSIONS.of(1).event_types,
        "version_4": RULES_VERSIONS.of(4).event_types - RULES_VERSIONS.of(3).event_types - COUNTED,
        "raised_to_4": COUNTED,
        "version_5": RULES_VERSIONS.of(5).event_types - RULES_VERSIONS.of(4).event_types,
        "version_6": RULES_VERSIONS.of(6).event_types - RULES_VERSIONS.of(5).event_types,
    }
    assert types >= expected[name], expected[name] - types


@pytest.mark.parametrize("seed", range(4))
def test_no_malformed_record_is_too_much(seed: int) -> None:
    log = FuzzedLog(seed, 400, newest=True)
    invalid = 0
    for records in log.records.values():
        for one in records:
            view = view_record(one)
            invalid += bool(view.error)
            list(record_lines(view, full=True))
            json.dumps(view.as_json())
            names_of(view.event)
    assert invalid > 10
