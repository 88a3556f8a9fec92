"""What the fold promises whatever the record: how a partition starts, and what a bad record may do (nothing)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.classes.ports_class import REGISTRY
from tests.support.logs.events_json import START_MS, Tape, claim, claims, event, opened, provider, reported
from tests.support.models.memory_state import MemoryState
from tests.support.random_logs.strategies import logs
from vacancy.resources.classes.registry import Registry
from vacancy.resources.fold.fold import fold
from vacancy.resources.fold.rules_versions import RULES_VERSION
from vacancy.resources.model import events
from vacancy.resources.model.errors import Halt, InvalidRecord, VacancyError
from vacancy.resources.model.limits import LIMITS_1
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import Record
from vacancy.resources.state.tables import DEAD_LETTER_BYTES, DEAD_LETTERS, PARTITION, PARTITION_KEY
from vacancy.resources.state.transaction import Changes

CELL = covering_cells(1)[0].encode()


def record(value: bytes, offset: int = 0, timestamp_ms: int = START_MS, key: bytes = CELL) -> Record:
    return Record(0, offset, timestamp_ms, key, value)


def state_after(*values: bytes) -> MemoryState:
    state = MemoryState()
    for offset, value in enumerate((opened(), *values)):
        state.commit(fold(state, record(value, offset), REGISTRY))
    return state


def letter(changes: Changes) -> Any:
    """The one dead letter among these changes."""
    (found,) = changes[DEAD_LETTERS].values()
    return found


# -- how a partition starts -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (b"", "does not start with its own log.opened record: Invalid JSON"),
        (event("tick.v1", {}), "it is a vacancy.tick.v1"),
        (opened(partition=1, partitions=2), "it is a vacancy.log.opened.v1"),
        (opened(classes=["SPONGES"]), "allow resource class SPONGES, which this build does not have"),
        (
            opened(classes=[]).replace(b'"version": 1', b'"version": 99'),
            f"rules are version 99, this build supports up to {RULES_VERSION}",
        ),
    ],
)
def test_a_partition_that_starts_with_anything_else_halts(value: bytes, told: str) -> None:
    with pytest.raises(Halt) as halt:
        fold(MemoryState(), record(value), REGISTRY)
    assert told in str(halt.value)
    assert "partition 0, offset 0" in str(halt.value)
    assert halt.value.do


def test_a_build_that_lacks_a_class_in_use_halts_at_its_next_record() -> None:
    state = state_after(reported("n1", [provider("n1", PORTS={"ports": [80]})]))
    with pytest.raises(Halt, match="PORTS, which this build does not have"):
        fold(state, record(claims(claim("c1", "i1", "n1", {"PORTS": 1}, START_MS)), 2), Registry())


@pytest.mark.parametrize("timestamp_ms", [-1, 0, 2**53])
def test_any_timestamp_can_start_a_log(timestamp_ms: int) -> None:
    state = MemoryState()
    state.commit(fold(state, record(opened(), 0, timestamp_ms), REGISTRY))
    request = {"requests": [{"id": "r1", "spec": {"groups": [{"resources": {"VCPU": 1}}]}}]}
    state.commit(fold(state, record(event("requests.received.v1", request), 1, timestamp_ms), REGISTRY))
    partition = state.get(PARTITION, PARTITION_KEY)
    assert partition is not None
    assert partition.time_ms == max(timestamp_ms, 0)


# -- what a bad record may do -----------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(logs(length=25))
def test_a_dead_letter_changes_what_a_tick_would_and_nothing_else(tape: Tape) -> None:
    state = MemoryState()
    for one in tape.records[0]:
        changes = fold(state, one, REGISTRY)
        if DEAD_LETTERS in changes and b"vacancy.claims" not in one.value and b".replaced" not in one.value:
            tick = fold(state, one._replace(value=event("tick.v1", {}), key=CELL), REGISTRY)
            before, after = tick.pop(PARTITION)[PARTITION_KEY], changes[PARTITION][PARTITION_KEY]
            rest = {t: rows for t, rows in changes.items() if t not in (PARTITION, DEAD_LETTERS)}
            assert rest == tick
            assert (after.time_ms, after.dead_letters) == (before.time_ms, before.dead_letters + 1)
            found = letter(changes)
            assert (found.offset, found.key) == (one.offset, one.key)
            assert found.value == one.value[:DEAD_LETTER_BYTES]
            assert found.reason
        state.commit(changes)


@settings(max_examples=150, deadline=None)
@given(logs(length=12))
def test_judging_writes_nothing(tape: Tape) -> None:
    state = MemoryState()
    for one in tape.records[0]:
        before = list(state.items())
        first, second = fold(state, one, REGISTRY), fold(state, one, REGISTRY)
        assert first == second
        assert list(state.items()) == before
        state.commit(first)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
SOUND = (
    reported(
        "n1",
        [provider("n1", VCPU=8, PORTS={"ports": [80]}), provider("n1-a", "n1", CUSTOM_GPU=1)],
        sequence=2,
    ),
    event("node.changed.v1", {"root": "n1", "incarnation": f"{1:016x}", "sequence": 2, "removed": ["n1-a"]}),
    event(
        "facts.set.v1", {"provider": "n1", "revision": 1, "facts": {"overrides": {"VCPU": {"reserved": 1}}}}
    ),
    claims(
        claim("c1", "i1", "n1", {"VCPU": 1, "PORTS": {"ports": [80]}}, START_MS, hold_until_ms=START_MS + 9)
    ),
    event(
        "requests.received.v1", {"requests": [{"id": "r1", "spec": {"groups": [{"resources": {"VCPU": 1}}]}}]}
    ),
    event(
        "consumers.released.v1", {"releases": [{"consumer": "i1", "claim": "c1", "deadline_ms": START_MS}]}
    ),
    event("rules.activated.v1", {"version": 1, "classes": ["PORTS"]}),
)


@st.composite
def bent(draw: st.DrawFn) -> bytes:
    """A sound event in which one value, anywhere, is another one."""
    whole: Any = json.loads(draw(st.sampled_from(SOUND)))
    at: Any = {"": whole}
    key: Any = ""
    while isinstance(at[key], dict | list) and at[key] and draw(st.integers(0, 5)):
        at = at[key]
        key = draw(st.sampled_from(list(at) if isinstance(at, dict) else range(len(at))))
    at[key] = draw(JSON | st.sampled_from((-1, 2**53, 10**30, "", "n1", "0" * 16, [], {}, [1])))
    return json.dumps(whole).encode()


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=40) | bent())
def test_no_record_can_do_more_than_become_a_dead_letter_or_halt(value: bytes) -> None:
    state = state_after(reported("n1", [provider("n1", VCPU=8)]))
    try:
        state.commit(fold(state, record(value, 2), REGISTRY))
    except Halt:
        return
    assert list(state.items())  # every row that was made can be written down


def test_a_deep_nest_is_a_dead_letter() -> None:
    nest = b'{"specversion":"1.0","id":"e","source":"/t","type":"vacancy.tick.v1","data":' + b"[" * 100_000
    assert "recursion" in letter(fold(state_after(), record(nest, 1), REGISTRY)).reason


def test_a_huge_record_is_a_dead_letter_and_only_its_beginning_is_kept() -> None:
    changes = fold(state_after(), record(b" " * (LIMITS_1.record_bytes + 1), 1), REGISTRY)
    found = letter(changes)
    assert f"larger than {LIMITS_1.record_bytes} bytes" in found.reason
    assert (found.size, len(found.value)) == (LIMITS_1.record_bytes + 1, DEAD_LETTER_BYTES)


# -- events -----------------------------------------------------------------------------------------------


def test_what_is_encoded_is_parsed_again() -> None:
    for value in SOUND:
        one = events.parse(value)
        assert events.parse(events.encode(one)) == one


def test_a_problem_is_reported_by_its_path_and_value() -> None:
    wrong = reported("n1", [provider("n1"), provider("n 2", "n1")])
    with pytest.raises(InvalidRecord, match=r"data.providers.1.id: .* got 'n 2'"):
        events.parse(wrong)


def test_errors_are_one_line_of_what_where_and_what_to_do() -> None:
    error = VacancyError("the sky fell", where="partition 3", do="look up")
    assert str(error) == "the sky fell (partition 3); look up"
    assert (error.what, error.where, error.do) == ("the sky fell", "partition 3", "look up")
