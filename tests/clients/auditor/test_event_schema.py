"""The auditor and the fold read the same records as events, and the same ones as dead letters.

Both check with models of their own, so this test changes valid events at random places and compares.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.logs.events_json import Tape, claims, event
from tests.support.random_logs.strategies import logs
from vacancy.clients.auditor.event_schema import mentions, read
from vacancy.resources.model.errors import InvalidRecord
from vacancy.resources.model.events import parse
from vacancy.resources.model.record import Record

JSON = dict[str, Any]
SPEC: JSON = {
    "groups": [
        {
            "name": "a",
            "resources": {"VCPU": 1, "PCI_DEVICE": {"where": {"vendor": ["10de"]}}},
            "required": ["CUSTOM_A"],
            "forbidden": ["CUSTOM_B"],
            "any_traits": [["CUSTOM_A"], ["CUSTOM_B", "CUSTOM_C"]],
            "member_of": [["rack-1"]],
            "not_member_of": ["rack-2"],
            "in_tree": "n",
            "where": "cores == 1",
        },
        {"name": "b", "same_provider": False, "resources": {"VCPU": 2, "MEMORY_MB": 1}},
    ],
    "group_policy": "isolate",
    "memberships": [
        {"group": "c/g", "policy": "affinity", "hard": True, "scope": "rack-"},
        {"group": "c/h", "policy": "anti-affinity", "max_per_node": 2},
    ],
    "copies": 2,
    "copies_on": "distinct",
    "root_required": ["CUSTOM_A"],
    "root_forbidden": ["CUSTOM_B"],
    "same_subtree": [["a"]],
}
CLAIM: JSON = {
    "id": "c",
    "consumer": "i",
    "consumer_generation": 1,
    "consumer_type": "INSTANCE",
    "project": "p",
    "user": "u",
    "request": "r",
    "spec": SPEC,
    "allocations": [{"provider": "n", "resources": {"VCPU": 1}, "group": "a#2"}],
    "predicates": [
        {"provider": "n", "kind": "trait", "value": "CUSTOM_A", "negate": True},
        {"provider": "n", "kind": "generation", "value": 3},
        {"provider": "n", "kind": "attribute", "name": "cores", "operator": "<", "value": 1, "version": True},
    ],
    "memberships": SPEC["memberships"],
    "deadline_ms": 1,
    "hold_until_ms": 2,
    "decided": {"as_of": {"0": 1}, "seed": -3, "policy": "spread"},
}
SPEC_2: JSON = {
    "groups": [{"name": "a", "resources": {"VCPU": 1}}, {"name": "b", "resources": {"VCPU": 1}}],
    "prefer_same_subtree": [["a", "b"]],
    "alternatives": [{"groups": [{"name": "b", "resources": {"VCPU": 1}}]}],
}
CLOSED: JSON = {
    "id": "r",
    "outcome": "placed",
    "claim": "c",
    "cell": "x",
    "as_of": {"0": 1},
    "in_flight": ["c"],
    "heard_since_ms": 4,
    "reason": "why",
}
FACTS: JSON = {
    "status": "disabled",
    "reason": "why",
    "aggregates": ["rack-1"],
    "traits": ["CUSTOM_A"],
    "overrides": {"VCPU": {"reserved": 1}},
    "attributes": {"a": True, "b": 1, "c": "text"},
}
RULES: JSON = {"version": 1, "classes": ["PORTS"]}
EVENTS = [
    json.loads(value)
    for value in (
        claims(CLAIM),
        event("consumer.replaced.v1", CLAIM),
        event("requests.received.v1", {"requests": [{"id": "r", "spec": SPEC}]}),
        event("requests.received.v2", {"specs": [SPEC_2], "requests": [{"id": "r", "spec_at": 0}]}),
        event(
            "claims.requested.v2",
            {"claims": [{**CLAIM, "spec_at": 0}], "specs": [SPEC], "decided": {"seed": 1}},
        ),
        event("requests.closed.v1", {"requests": [CLOSED]}),
        event("facts.set.v1", {"provider": "n", "revision": 1, "facts": FACTS}),
        event("log.opened.v1", {"log": "l", "partition": 0, "partitions": 1, "rules": RULES}),
        event("rules.activated.v1", RULES),
        b'{"id": "x", "source": "s", "type": "vacancy.tick.v1", "time": "t", "traceparent": [1, {"a": 2.5}]}',
    )
]
VALUES: st.SearchStrategy[Any] = st.sampled_from(
    [
        None,
        True,
        False,
        0,
        1,
        -1,
        2**53 - 1,
        2**53,
        2**64,
        -(2**53),
        10**30,
        1.0,
        -0.0,
        1.5,
        float("nan"),
        "",
        "a",
        "A",
        "A\n",
        "a" * 64,
        "a" * 65,
        "A" * 255,
        "A" * 256,
        "a" * 200,
        "a" * 201,
        "ä",
        "😀" * 64,
        "\x00",
        "\ud800",
        "x/y",
        "0" * 16,
        "none",
        "affinity",
        "anti-affinity",
        "trait",
        "attribute",
        "==",
        "has",
        "placed",
        "1.0",
        [],
        {},
        [[]],
        ["a"],
        ["A"],
        {"A": 1},
        {"a": 1},
        {"A": {}},
    ]
).map(copy.deepcopy)
KEYS = st.sampled_from(
    [
        "specversion",
        "id",
        "source",
        "type",
        "time",
        "data",
        "extra",
        "providers",
        "value",
        "kind",
        "name",
        "consumer",
        "A",
        "a",
        "0",
        "hard",
        "max_per_node",
        "scope",
        "copies",
        "memberships",
        "spec",
        "",
    ]
)
RAW = st.sampled_from(
    [
        (b'"id"', b'"i\\u0064"'),
        (b'"id"', b'"id": "twice", "id"'),
        (b'"type"', b'"type": "vacancy.tick.v1", "type"'),
        (b'"e"', b'"\\ud800"'),
        (b'"e"', b'"\\ud83d\\ude00"'),
        (b'"e"', b'"\xff"'),
        *((b" 1", number) for number in (b" 1.0", b" 1e0", b" 01", b" -0", b" NaN", b" 1E400")),
        (b" 1", b" " + b"9" * 4400),
        (b"{", b"\xef\xbb\xbf{"),
        (b"{", b"\n {"),
        (b"}", b"} x"),
    ]
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths to all parts of a JSON value, its own first."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in items:
        yield from places(part, (*path, key))


def change(draw: st.DrawFn, value: Any) -> None:
    """Change one part of an event: another value, one more, one less, many more."""
    *path, last = draw(st.sampled_from(list(places(value))[1:]))
    owner = value
    for key in path:
        owner = owner[key]
    part = owner[last]
    how = draw(st.sampled_from(["set", "set", "remove", "add"]))
    if how == "set":
        owner[last] = draw(VALUES)
    elif how == "remove":
        del owner[last]
    elif isinstance(part, dict):
        part[draw(KEYS)] = draw(VALUES)
    elif isinstance(part, list):
        part.extend(part * draw(st.sampled_from([1, 2, 16, 64])) or [draw(VALUES)])
    elif isinstance(part, str):
        owner[last] = part + draw(st.sampled_from(["\n", " ", "x", "/", "#"]))


@st.composite
def values(draw: st.DrawFn) -> bytes:
    """A record's value: a valid event, changed in up to three places, and sometimes written in another way."""
    if draw(st.booleans()):
        whole = copy.deepcopy(draw(st.sampled_from(EVENTS)))
    else:
        tape: Tape = draw(logs(wild=False, length=8))
        whole = json.loads(draw(st.sampled_from(tape.records[0])).value)
    for _ in range(draw(st.integers(0, 3))):
        change(draw, whole)
    value = json.dumps(whole, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    if draw(st.booleans()):
        old, new = draw(RAW)
        value = value.replace(old, new, 1)
    return value


def is_event(value: bytes) -> bool:
    try:
        parse(value)
    except InvalidRecord:
        return False
    return True


@settings(max_examples=400, deadline=None)
@given(value=values())
def test_the_auditor_reads_what_the_fold_reads(value: bytes) -> None:
    assert (read(Record(0, 0, 0, b"auto-0", value)) is not None) == is_event(value)


@pytest.mark.parametrize("whole", EVENTS, ids=lambda whole: whole["type"])
def test_each_of_these_events_is_read(whole: JSON) -> None:
    """So the test above starts from valid events."""
    found = read(Record(0, 0, 0, b"auto-0", json.dumps(whole).encode()))
    assert found is not None
    type_ = f"vacancy.{found.kind}" + ("" if found.kind.endswith(".v2") else ".v1")
    assert type_ == whole["type"]
    expected = json.loads(json.dumps(whole.get("data", {})))
    for one in (*expected.get("claims", ()), *expected.get("requests", ())):
        if "spec_at" in one:  # the auditor gives each its own spec
            one["spec"] = expected["specs"][one["spec_at"]]
    assert found.data == expected


def test_no_event_of_these_words_is_filtered_out() -> None:
    plain = Record(0, 0, 0, b"k", event("tick.v1", {}, "an-id"))
    escaped = plain._replace(value=plain.value.replace(b"an-id", b"\\u0061n-id"))
    for words in ({b"an-id"}, {b"vacancy.tick.v1"}, {b"other", b"/tests"}):
        assert mentions(plain, words)
        assert mentions(escaped, words)
    assert not mentions(plain, {b"other"})
