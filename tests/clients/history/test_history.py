"""The history of a thing is what the fold did to it."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.fuzz.fuzzed_log import FuzzedLog
from tests.recorded_logs.recording import Recording, read_recording
from tests.support.classes.ports_class import REGISTRY
from tests.support.logs.events_json import START_MS, Tape, claim, claims, event, provider, released, reported
from tests.support.logs.tape_log import TapeLog
from tests.support.models.memory_state import MemoryState
from tests.support.random_logs.random_events import RandomEvents
from vacancy.clients.history.history import History, history
from vacancy.clients.history.record_view import json_object, names_of
from vacancy.clients.inspection.lookup import NotFound
from vacancy.clients.replay_tool.replay import replay
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.classes.registry import Registry
from vacancy.resources.fold.fold import fold
from vacancy.resources.model.errors import UsageError
from vacancy.resources.model.partitioner import partition_for
from vacancy.resources.model.record import Record
from vacancy.resources.state.rows import AllocationRow
from vacancy.resources.state.tables import ALLOCATIONS, VERDICTS, split_key

LATER = START_MS + 500_000


def texts(found: History) -> list[str]:
    """Offset and text of each effect."""
    return [f"{one.offset} {effect.text}" for one in found.entries for effect in one.effects]


class Story:
    """A log of one partition, written step by step."""

    def __init__(self, version: int = 1) -> None:
        self.tape = Tape(version=version)

    def write(self, *values: bytes) -> None:
        for value in values:
            self.tape.append(self.tape.cells[0], value)
            self.tape.now_ms += 1_000

    def of(self, name: str, **options: Any) -> History:
        return history(TapeLog(self.tape.records), name, REGISTRY, **options)


@pytest.fixture
def story() -> Story:
    story = Story(version=3)
    gpu = provider("gpu-1:a", "gpu-1", CUSTOM_GPU_MILLI=1000)
    story.write(
        reported("gpu-1", [provider("gpu-1", VCPU=32, MEMORY_MB=65536), gpu]),
        reported("node-2", [provider("node-2", VCPU=2)]),
        claims(
            claim(
                "c-1",
                "vm-1",
                "",
                {},
                LATER,
                allocations=[
                    {"provider": "gpu-1", "resources": {"VCPU": 4, "MEMORY_MB": 8192}},
                    {"provider": "gpu-1:a", "resources": {"CUSTOM_GPU_MILLI": 700}},
                ],
            ),
            claim("c-2", "vm-2", "node-2", {"VCPU": 3}, LATER),
        ),
        event(
            "consumer.replaced.v2",
            {
                **claim("c-3", "vm-1", "node-2", {"VCPU": 2}, LATER),
                "replaces": "c-1",
                "consumer_generation": 1,
            },
        ),
        reported("gpu-1", [provider("gpu-1", VCPU=30, MEMORY_MB=65536), gpu], sequence=2),
        event(
            "facts.set.v1",
            {"provider": "gpu-1", "revision": 1, "facts": {"status": "disabled", "reason": "a disk"}},
        ),
        released("vm-1", "c-3"),
        released("vm-1", "c-3"),
        event("node.heartbeat.v1", {"root": "gpu-1", "incarnation": f"{1:016x}", "sequence": 3}),
        claims(claim("c-4", "vm-3", "node-2", {"VCPU": 1}, LATER, hold_until_ms=START_MS + 20_000)),
    )
    story.tape.now_ms += 60_000
    story.write(event("tick.v1", {}))
    return story


def test_the_history_of_a_consumer(story: Story) -> None:
    assert texts(story.of("vm-1")) == [
        "3 placed on gpu-1: VCPU 4, MEMORY_MB 8192; gpu-1:a: CUSTOM_GPU_MILLI 700 (claim c-1)",
        "4 moved from gpu-1 to node-2: VCPU 2 (claim c-3)",
        "7 released: gave back node-2: VCPU 2 (claim c-3)",
        "8 release of claim c-3: it holds nothing by that claim",
    ]
    assert texts(story.of("vm-2")) == ["3 claim c-2 rejected: no room, VCPU on node-2: asked 3, available 2"]


def test_a_hold_ends_with_the_record_that_lets_time_pass(story: Story) -> None:
    found = story.of("vm-3")
    assert texts(found) == [
        "10 placed on node-2: VCPU 1 (claim c-4, held until 2027-01-15T08:00:20.000Z)",
        "11 hold ended at 2027-01-15T08:00:20.000Z: gave back node-2: VCPU 1 (claim c-4)",
    ]
    assert found.entries[1].type == "vacancy.tick.v1"


def test_the_history_of_a_node(story: Story) -> None:
    found = story.of("gpu-1")
    assert found.kind == "node"
    assert texts(found) == [
        "1 appeared with incarnation 0000000000000001",
        "1 report of 2 providers: MEMORY_MB 65536, VCPU 32; gpu-1:a: came, CUSTOM_GPU_MILLI 1000",
        "3 vm-1 placed on gpu-1: VCPU 4, MEMORY_MB 8192; gpu-1:a: CUSTOM_GPU_MILLI 700 (claim c-1)",
        "4 vm-1 moved to node-2: gave back gpu-1: VCPU 4, MEMORY_MB 8192; gpu-1:a: CUSTOM_GPU_MILLI 700 (claim c-3)",
        "5 report of 2 providers: VCPU 32 -> 30, max_unit 32 -> 30",
        "6 disabled by an operator (a disk)",
    ]
    assert found.left_out == 1, "the heartbeat"
    everything = story.of("gpu-1", everything=True)
    assert [one.offset for one in everything.entries] == [1, 3, 4, 5, 6, 9]


def test_the_history_of_a_part_of_a_node(story: Story) -> None:
    found = story.of("gpu-1:a")
    assert found.kind == "provider"
    assert texts(found)[-1] == "4 vm-1 moved to node-2: gave back gpu-1:a: CUSTOM_GPU_MILLI 700 (claim c-3)"


def test_a_part_of_the_log_and_the_newest_records(story: Story) -> None:
    assert [one.offset for one in story.of("gpu-1", start={0: 4}).entries] == [4, 5, 6]
    assert [one.offset for one in story.of("gpu-1", until={0: 5}).entries] == [1, 3, 4]
    found = story.of("gpu-1", limit=2)
    assert ([one.offset for one in found.entries], found.earlier) == ([5, 6], 3)


def test_amounts_and_changed_fields_are_data_too(story: Story) -> None:
    placed = story.of("vm-1").entries[0].effects[0]
    assert placed.amounts == {
        "gpu-1": {"VCPU": 4, "MEMORY_MB": 8192},
        "gpu-1:a": {"CUSTOM_GPU_MILLI": 700},
    }
    (report,) = story.of("gpu-1", start={0: 5}, until={0: 6}).entries[0].effects
    assert [(one.field, one.before, one.after) for one in report.changes] == [
        ("gpu-1 VCPU capacity", 32, 30),
        ("gpu-1 VCPU max_unit", 32, 30),
    ]


def test_names_that_mean_nothing_or_two_things(story: Story) -> None:
    with pytest.raises(NotFound, match="no record names a node, a provider or a consumer 'vm'"):
        story.of("vm")
    story.write(claims(claim("c-9", "node-2", "node-2", {"VCPU": 1}, LATER)))
    with pytest.raises(UsageError, match="choose one with --kind"):
        story.of("node-2")
    assert texts(story.of("node-2", kind="consumer")) == ["12 placed on node-2: VCPU 1 (claim c-9)"]


def test_refused_records_are_in_the_history_of_what_they_name(story: Story) -> None:
    story.write(released("vm-1", "c-3").replace(b'"claim"', b'"colour"'))
    last = story.of("vm-1").entries[-1].effects[0]
    assert (last.what, last.text[:9]) == ("refused", "refused: ")


class Unread(TapeLog):
    """A log that counts how often each partition is read."""

    def __init__(self, records: Any) -> None:
        super().__init__(records)
        self.reads: defaultdict[int, int] = defaultdict(int)

    def read(self, partition: int, offset: int, limit: int, timeout_s: float = 0.0) -> list[Record]:
        self.reads[partition] += 1
        return super().read(partition, offset, limit, timeout_s)


def test_a_partition_that_does_not_name_the_thing_is_not_folded() -> None:
    tape = Tape(partitions=2, version=3)
    tape.append(tape.cells[0], reported("node-1", [provider("node-1", VCPU=1)]))
    tape.append(tape.cells[1], reported("node-2", [provider("node-2", VCPU=1)]))
    log = Unread(tape.records)
    assert len(history(log, "node-1", REGISTRY).entries) == 1
    assert log.reads == {0: 2, 1: 1}


# -- against a fold by brute force ----------------------------------------------------------------------------------


def allocation_changes(
    records: list[Record], registry: Registry, consumer: str
) -> Iterator[tuple[int, AllocationRow | None]]:
    """The offsets at which a consumer's allocation is written or deleted, with the row after it."""
    state = MemoryState()
    for record in records:
        changes = fold(state, record, registry)
        for place, row in changes.get(ALLOCATIONS, {}).items():
            if split_key(place)[1] == consumer and row != state.get(ALLOCATIONS, place):
                yield record.offset, row
        state.commit(changes)


def rejections(records: list[Record], registry: Registry, consumer: str) -> list[tuple[int, str]]:
    """The offsets of the rejections of a consumer's claims, with the claim."""
    state, found = MemoryState(), []
    for record in records:
        changes = fold(state, record, registry)
        for place, row in changes.get(VERDICTS, {}).items():
            if row is not None and row.consumer == consumer and not row.accepted:
                found.append((record.offset, split_key(place)[1]))
        state.commit(changes)
    return found


HELD = {"placed", "moved", "resized", "renamed", "released", "hold_ended", "confirmed", "updated"}
ENDED = {"released", "hold_ended"}


def check_consumer(records: list[Record], registry: Registry, consumer: str) -> int:
    """Compare the history of a consumer with the fold. Returns how many changes of its allocation there were."""
    log = TapeLog({0: records})
    found = history(log, consumer, registry, kind="consumer").entries
    held = {
        (one.offset, effect.what, effect.claim, str(effect.amounts))
        for one in found
        for effect in one.effects
        if effect.what in HELD
    }
    expected = list(allocation_changes(records, registry, consumer))
    assert {offset for offset, *_ in held} == {offset for offset, _ in expected}
    for offset, row in expected:
        here = [one for one in held if one[0] == offset]
        assert row is None or any(claim == row.claim for _, _, claim, _ in here), (offset, here)
        assert (row is None) <= any(what in ENDED for _, what, _, _ in here), (offset, here)
    rejected = [
        (one.offset, effect.claim) for one in found for effect in one.effects if effect.what == "rejected"
    ]
    assert sorted(rejected) == sorted(rejections(records, registry, consumer))
    return len(expected)


@pytest.mark.parametrize("seed", range(6))
def test_the_history_of_consumers_is_what_the_fold_did(seed: int) -> None:
    tape = Tape(version=4 if seed % 2 else 1)
    events = RandomEvents(random.Random(seed).choice, tape, wild=seed > 2)
    events.settle()
    for _ in range(300):
        events.step()
    assert sum(check_consumer(tape.records[0], REGISTRY, consumer) for consumer in ("i0", "i1")) >= 3


@pytest.mark.parametrize("seed", range(3))
def test_a_history_that_begins_with_a_store_is_the_end_of_the_whole_one(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    tape = Tape(partitions=2, version=4)
    events = RandomEvents(rng.choice, tape, wild=seed == 2)
    events.settle()
    for _ in range(250):
        events.step()
    log = TapeLog(tape.records)
    start = {p: rng.randrange(end // 3, end) for p, end in log.end().items()}
    replay(log, tmp_path / "store", REGISTRY, until=start)
    found = 0
    with StoreReader(tmp_path / "store", REGISTRY, with_view=False) as base:
        roots = sorted(node.root for node in events.nodes.values())
        parts = sorted(part for node in events.nodes.values() for part in node.parts)
        for kind, names in (("node", roots), ("provider", parts), ("consumer", ["i0", "i1"])):
            of: Any = kind
            for name in rng.sample(names, min(2, len(names))):
                whole = history(log, name, REGISTRY, kind=of, start=start)
                later = history(log, name, REGISTRY, kind=of, start=start, tables_before=lambda _: base)
                assert later == whole
                found += len(later.entries)
    assert found > 20


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_missed_if_folding_begins_with_the_first_record_that_names_the_thing(
    seed: int, tmp_path: Path
) -> None:
    rng = random.Random(seed)
    tape = Tape(partitions=2, version=4)
    events = RandomEvents(rng.choice, tape, wild=seed == 2)
    events.settle()
    for _ in range(120):
        events.step()
    log = TapeLog(tape.records)
    roots = sorted(node.root for node in events.nodes.values())
    parts = sorted(part for node in events.nodes.values() for part in node.parts)
    skipped = 0
    with ExitStack() as opened:

        def tables_before(position: Mapping[int, int]) -> StoreReader:
            nonlocal skipped
            skipped += sum(position.values())
            store = tmp_path / str(skipped)
            replay(log, store, REGISTRY, until=position)
            return opened.enter_context(StoreReader(store, REGISTRY, with_view=False))

        for kind, names in (("node", roots), ("provider", parts), ("consumer", ["i0", "i1"])):
            of: Any = kind
            for name in rng.sample(names, min(2, len(names))):
                whole = history(log, name, REGISTRY, kind=of)
                assert history(log, name, REGISTRY, kind=of, tables_before=tables_before) == whole
                assert whole.entries
    assert skipped > 100


def test_the_end_of_a_move_is_in_the_history_of_its_consumer() -> None:
    """The record that ends a move between cells names the move, not the consumer."""
    tape = Tape(version=4)
    cell = tape.cells[0]
    move = next(f"m{n}" for n in range(1000) if partition_for(f"m{n}", 1) == 0)
    begun = {
        "move": move,
        "consumer": "vm-1",
        "source": {"cell": cell, "claim": "c-1"},
        "destination": "other",
        "deadline_ms": LATER,
        "hold_until_ms": LATER,
    }
    tape.append(cell, claims(claim("c-1", "vm-1", "node-1", {"VCPU": 1}, LATER)))
    tape.append(move, event("cell.move.begun.v1", begun))
    tape.append(move, event("cell.move.ended.v1", {"move": move, "outcome": "undone"}))
    found = history(TapeLog(tape.records), "vm-1", REGISTRY)
    assert texts(found)[1:] == [
        f"2 move from cell {cell} to cell other begun (move {move})",
        f"3 move to cell other ended: undone (move {move})",
    ]


@cache
def recording(name: str) -> Recording:
    return read_recording(name)


@pytest.mark.parametrize("name", ["version_4", "every_event", "activation"])
def test_every_record_is_in_the_history_of_what_it_names(name: str) -> None:
    by_partition = defaultdict(list)
    for record in recording(name).records:
        by_partition[record.partition].append(record)
    rng = random.Random(3)
    for records in rng.sample(sorted(by_partition.values()), min(8, len(by_partition))):
        named: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
        for record in records:
            names = names_of(json_object(record.value))
            for kind, ids in (("provider", names.providers), ("consumer", names.consumers)):
                for id_ in ids:
                    named[kind, id_].add(record.offset)
        log = TapeLog({0: records})
        for (kind, id_), offsets in rng.sample(sorted(named.items()), min(4, len(named))):
            of: Any = kind
            found = history(log, id_, recording(name).registry, kind=of, everything=True)
            missing = offsets - {one.offset for one in found.entries}
            assert not missing, (kind, id_, sorted(missing)[:5])


@pytest.mark.parametrize("seed", [1, 2])
def test_no_record_of_a_fuzzed_log_is_too_much(seed: int) -> None:
    fuzzed = FuzzedLog(seed, 400, newest=True)
    log = TapeLog(fuzzed.records)
    for name, kind in (("n1", "node"), ("i0", "consumer"), ("i1", "consumer")):
        of: Any = kind
        found = history(log, name, REGISTRY, kind=of)
        assert all(effect.text for one in found.entries for effect in one.effects)
