"""Logs that were recorded still give the digests of that time, however they are folded: three of rules version 1, one
that activates version 2 midway, one that reaches the limits of version 3, one of version 4, and one that is raised to it, and the same two of version 5.

`record.py` tells how they were made. One is that of `vacancy demo`, one a race for a full fleet of all kinds of
hardware, one has every event, every rejection and every kind of dead letter.
"""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from tests.recorded_logs.activation import AGAIN
from tests.recorded_logs.every_event import KINDS
from tests.recorded_logs.folding import Folded, fold_in_memory
from tests.recorded_logs.recording import (
    Recording,
    dead_letters_of,
    digest_of,
    path_of,
    read_recording,
    restore,
    verdicts_of,
)
from tests.support.models.memory_state import MemoryState
from tests.support.sites.temporary_stores import FAST
from vacancy.clients.replay_tool.replay import digest, read_all, replay, store_digests
from vacancy.clients.runtime.bootstrap import open_store
from vacancy.resources.fold.fold import fold
from vacancy.resources.fold.rules_versions import RULES_VERSIONS
from vacancy.resources.model.encoding.canonical_bytes import read_spec
from vacancy.resources.state.tables import REQUESTS
from vacancy.streams.worker.embedded_worker import EmbeddedWorker

NAMES = (
    "demo",
    "race",
    "every_event",
    "activation",
    "version_3",
    "version_4",
    "raised_to_4",
    "version_5",
    "raised_to_5",
    "version_6",
    "raised_to_6",
    "version_7",
    "raised_to_7",
)
WIDE = {"every_event", "version_3", "version_4"}
"""Logs of 24 to 51 partitions. Each partition is opened three times by a replay, which costs more than folding them."""

REPLAYED = [pytest.param(name, marks=pytest.mark.long) if name in WIDE else name for name in NAMES]
BYTES_MAX = 2_000_000

REASONS = {
    *("no_room", "below_min_unit", "above_max_unit", "off_step", "bad_amount", "bad_ask"),
    *("no_inventory", "class_unknown", "provider_unknown"),
    *("provider_retired", "node_incomplete", "provider_disabled"),
    *("trait_changed", "aggregate_changed", "attribute_changed", "subtree_changed", "provider_changed"),
    *("consumer_exists", "consumer_unknown", "consumer_changed"),
    *("affinity_broken", "anti_affinity_broken"),
    *("group_in_other_cell", "group_policy_differs", "group_twice", "group_full"),
    *("cancelled", "deadline_too_far", "hold_is_past"),
    "ports_taken",  # from the plugin that tests have
}
"""Every reason for a rejection that the fold of rules version 1 can give: none is out of reach."""


TRANSACTION_REASONS = {
    *("provider_exists", "provider_unknown", "provider_changed", "provider_reported"),
    *("name_taken", "name_exists", "name_unknown", "name_in_use", "class_unknown", "trait_unknown"),
    *("parent_unknown", "parent_below", "provider_has_children", "inventory_in_use", "invalid"),
    *("consumer_exists", "consumer_unknown", "consumer_changed", "no_room", "no_inventory"),
}
"""Reasons that rules version 6 adds, and those that transactions have in common with claims."""


SIGNATURE_REASONS = (
    "it is not signed: a key of node",
    "it is signed by key",
    "which has none, must sign",
    "an operator's key must sign vacancy.signing",
    "an operator's key must sign vacancy.facts.set",
    "one of the keys that a first policy pins",
    "no operator has a key in this partition",
    "it was presented before",
    "is not of this event",
    "was revoked: make a new one",
    "does not follow",
)


@cache
def folded(name: str) -> Folded:
    return fold_in_memory(read_recording(name))


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="vacancy-recorded-", dir=FAST) as made:
        yield Path(made)


# -- the digests ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_folded_in_memory_it_gives_the_recorded_digests(name: str) -> None:
    assert folded(name).digest == digest_of(name)


@pytest.mark.parametrize("name", NAMES)
def test_every_verdict_is_the_recorded_one(name: str) -> None:
    """Those too that were deleted again before the log's end."""
    assert folded(name).verdicts == verdicts_of(name)


@pytest.mark.parametrize("name", REPLAYED)  # a worker follows all of them, below
def test_replayed_into_a_store_it_gives_the_recorded_digests(name: str, directory: Path) -> None:
    recording = read_recording(name)
    with restore(recording, directory / "log.db") as log:
        assert log.identity() == (recording.log, recording.partitions)
        assert replay(log, directory / "store", recording.registry) == digest_of(name)
    assert digest(directory / "store", recording.registry) == digest_of(name)


@pytest.mark.parametrize("name", NAMES)
def test_followed_by_a_worker_it_gives_the_recorded_digests(name: str, directory: Path) -> None:
    recording = read_recording(name)
    registry = recording.registry
    with (
        restore(recording, directory / "log.db") as log,
        open_store(directory / "store", log, registry) as store,
    ):
        worker = EmbeddedWorker(log, store, batch_max=37)
        while worker.step():
            pass
        assert worker.errors == {}
        assert store_digests(store, registry) == digest_of(name)


# -- what is in them --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_restored_log_has_the_records_that_were_recorded(name: str, directory: Path) -> None:
    recording = read_recording(name)
    with restore(recording, directory / "log.db") as log:
        found = chain.from_iterable(records for _, records in sorted(read_all(log).items()))
        assert tuple(found) == recording.records


def test_together_they_are_small() -> None:
    assert sum(path_of(name).stat().st_size for name in NAMES) < BYTES_MAX


def test_every_type_of_event_was_folded() -> None:
    """Every type of rules version 1. It was recorded with that version."""
    types = RULES_VERSIONS.of(1).event_types
    assert len(types) == 14
    assert types <= folded("every_event").events.keys()


def test_every_type_of_event_of_version_3_was_folded() -> None:
    types = RULES_VERSIONS.of(3).event_types - RULES_VERSIONS.of(1).event_types
    assert types <= folded("version_3").events.keys()


def test_every_type_of_event_of_each_version_was_folded() -> None:
    found = {type_ for name in NAMES for type_ in folded(name).events}
    assert {type_ for rules in RULES_VERSIONS for type_ in rules.event_types} <= found


def test_every_field_that_version_4_added_was_folded() -> None:
    """Of each event and of all that is in it. What has a name of its own in inventories and asks comes after them."""
    models = {model.model_fields["type"].default: model for model in RULES_VERSIONS.of(4).event_models}
    found: set[tuple[str, str]] = set()
    text = b""
    for name in ("version_4", "raised_to_4"):
        refused = {(one.partition, one.offset) for one in folded(name).dead_letters}
        for record in read_recording(name).records:
            if (record.partition, record.offset) not in refused:
                model = models[json.loads(record.value)["type"]]
                found.update(set_fields(model.model_validate_json(record.value)))
                text += record.value
    known = {one for model in RULES_VERSIONS.of(3).event_models for one in all_fields(model)}
    added = {one for model in models.values() for one in all_fields(model) if one[1] != "time"} - known
    assert added - found == set()
    for word in ("excluded", "unhealthy", "MIG", "profiles", "PORT", "tcp", "udp", "ports", "match", "start"):
        assert f'"{word}"'.encode() in text


def test_every_field_that_version_5_added_was_folded() -> None:
    models = {model.model_fields["type"].default: model for model in RULES_VERSIONS.of(5).event_models}
    added = {one for model in models.values() for one in all_fields(model) if one[1] != "time"} - {
        one for model in RULES_VERSIONS.of(4).event_models for one in all_fields(model)
    }
    found: set[tuple[str, str]] = set()
    for name in ("version_5", "raised_to_5"):
        refused = {(one.partition, one.offset) for one in folded(name).dead_letters}
        assert any(one.partition == 1 for one in folded(name).dead_letters)
        for record in read_recording(name).records:
            if (record.partition, record.offset) not in refused:
                model = models[json.loads(record.value)["type"]]
                found.update(set_fields(model.model_validate_json(record.value)))
    assert added - found == set()


def test_every_field_that_version_6_added_was_folded() -> None:
    models = {model.model_fields["type"].default: model for model in RULES_VERSIONS.of(6).event_models}
    added = {one for model in models.values() for one in all_fields(model) if one[1] != "time"} - {
        one for model in RULES_VERSIONS.of(5).event_models for one in all_fields(model)
    }
    found: set[tuple[str, str]] = set()
    for name in ("version_6", "raised_to_6"):
        refused = {(one.partition, one.offset) for one in folded(name).dead_letters}
        for record in read_recording(name).records:
            if (record.partition, record.offset) not in refused:
                model = models[json.loads(record.value)["type"]]
                found.update(set_fields(model.model_validate_json(record.value)))
    assert added - found == set()


def test_every_field_that_version_7_added_was_folded() -> None:
    models = {model.model_fields["type"].default: model for model in RULES_VERSIONS.of(7).event_models}
    added = {one for model in models.values() for one in all_fields(model) if one[1] != "time"} - {
        one for model in RULES_VERSIONS.of(6).event_models for one in all_fields(model)
    }
    found: set[tuple[str, str]] = set()
    for name in ("version_7", "raised_to_7"):
        refused = {(one.partition, one.offset) for one in folded(name).dead_letters}
        for record in read_recording(name).records:
            if (record.partition, record.offset) not in refused:
                model = models[json.loads(record.value)["type"]]
                found.update(set_fields(model.model_validate_json(record.value)))
    assert added - found == set()


def test_every_reason_for_which_a_signature_is_refused_was_given() -> None:
    reasons = [one.reason for name in ("version_7", "raised_to_7") for one in folded(name).dead_letters]
    for part in SIGNATURE_REASONS:
        assert any(part in reason for reason in reasons), part


def test_every_reason_for_which_a_transaction_is_refused_was_given() -> None:
    reasons = folded("version_6").reasons.keys() | folded("raised_to_6").reasons.keys()
    assert reasons >= TRANSACTION_REASONS, TRANSACTION_REASONS - reasons


def all_fields(model: Any) -> Iterator[tuple[str, str]]:
    """(model, field) of all fields of a model, and of the models in them."""
    if isinstance(model, type) and issubclass(model, BaseModel):
        for name, field in model.model_fields.items():
            yield model.__name__, name
            yield from all_fields(field.annotation)
    for inner in get_args(model):
        yield from all_fields(inner)


def set_fields(value: Any) -> Iterator[tuple[str, str]]:
    """(model, field) of the fields that are given in an event."""
    if isinstance(value, BaseModel):
        for name in value.model_fields_set:
            yield type(value).__name__, name
            yield from set_fields(getattr(value, name))
    for one in value.values() if isinstance(value, dict) else value if isinstance(value, tuple) else ():
        yield from set_fields(one)


def test_every_reason_for_a_rejection_was_given() -> None:
    assert folded("every_event").reasons.keys() - {"accepted"} == REASONS


def test_every_kind_of_dead_letter_was_left() -> None:
    """By place, and not by the words of the reason: those may change."""
    noted = dead_letters_of("every_event")
    assert noted.keys() == KINDS.keys()
    places = sorted(tuple(place) for places in noted.values() for place in places)
    assert sorted(letter[:2] for letter in folded("every_event").dead_letters) == places


def test_the_race_had_losers_on_every_kind_of_hardware() -> None:
    race = read_recording("race")
    reasons = folded("race").reasons
    assert reasons["accepted"] > 1_000
    assert reasons["no_room"] > 100
    assert folded("race").dead_letters == []
    claims = b"".join(one.value for one in race.records if b"vacancy.claims.requested.v1" in one.value)
    for name in (
        "PCI_DEVICE",
        "SRIOV_NET_VF",
        "FPGA",
        "PGPU",
        "GPU_SHARE",
        "VGPU",
        "NUMA_CELL",
        "memberships",
    ):
        assert claims.count(f'"{name}"'.encode()) > 10, name


def test_the_demo_had_losers_and_no_dead_letters() -> None:
    reasons = folded("demo").reasons
    assert reasons["accepted"] > 1_000
    assert reasons["no_room"] > 100
    assert folded("demo").dead_letters == []


def test_an_activation_keeps_what_version_1_decided() -> None:
    """Claims that came again after it are recognised by what version 1 kept of them."""
    recording, letters = read_recording("activation"), folded("activation").dead_letters
    known = {(one.partition, one.offset): one.value for one in recording.records}
    for partition in recording.ends:
        (at,) = (o for (p, o), value in known.items() if p == partition and b"rules.activated" in value)
        changed = json.loads(known[partition, at + AGAIN + 1])["data"]["claims"]
        reasons = [letter.reason for letter in letters if letter[:2] == (partition, at + AGAIN + 1)]
        assert len(reasons) == len(changed)
        assert all("was made before with other content" in reason for reason in reasons)
        offsets = {letter.offset for letter in letters if letter.partition == partition}
        assert offsets == {at + AGAIN + 1, at + AGAIN + 2}


def test_an_activation_leaves_rows_of_both_forms() -> None:
    recording = read_recording("activation")
    states: defaultdict[int, MemoryState] = defaultdict(MemoryState)
    for record in recording.records:
        states[record.partition].commit(fold(states[record.partition], record, recording.registry))
    rows = [(table, data) for state in states.values() for table, _, data in state.items()]
    specs = [REQUESTS.decode(data).spec for table, data in rows if table == REQUESTS.name]
    assert {spec[:1] == b"{" for spec in specs} == {True, False}
    assert all(read_spec(spec).groups for spec in specs)


def test_recordings_keep_what_is_no_text() -> None:
    recording: Recording = read_recording("every_event")
    assert any(record.key == b"\xff\xfe" for record in recording.records)
    assert any(record.value.startswith(b"\xff\xfe") for record in recording.records)
    assert any(record.timestamp_ms == -1 for record in recording.records)
