"""What differs between two stores."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.classes.ports_class import REGISTRY
from tests.support.logs.events_json import START_MS, Tape, claim, claims, event, provider, released, reported
from tests.support.logs.tape_log import TapeLog
from tests.support.random_logs.random_events import RandomEvents
from vacancy.clients.history.differences import Differences, Total, differences, joined
from vacancy.clients.replay_tool.replay import replay
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.model.errors import StoreMismatch
from vacancy.resources.state.tables import ALLOCATIONS, PROVIDERS, split_key

LATER = START_MS + 500_000


def store_at(tape: Tape, path: Path, until: Mapping[int, int]) -> Path:
    replay(TapeLog(tape.records), path, REGISTRY, until=until)
    return path


def compared(tape: Tape, home: Path, before: Mapping[int, int], after: Mapping[int, int]) -> Differences:
    stores = [store_at(tape, home / name, at) for name, at in (("a", before), ("b", after))]
    with (
        StoreReader(stores[0], REGISTRY, with_view=False) as one,
        StoreReader(stores[1], REGISTRY, with_view=False) as other,
    ):
        return differences(one, other)


def test_rows_of_two_sequences_are_joined_by_key() -> None:
    before = [(b"a", b"1"), (b"c", b"1"), (b"d", b"1")]
    after = [(b"b", b"2"), (b"c", b"2"), (b"e", b"2")]
    assert list(joined(before, after)) == [
        (b"a", b"1", None),
        (b"b", None, b"2"),
        (b"c", b"1", b"2"),
        (b"d", b"1", None),
        (b"e", None, b"2"),
    ]
    assert list(joined([], after)) == [(key, None, row) for key, row in after]
    assert list(joined(before, [])) == [(key, row, None) for key, row in before]


def test_nodes_consumers_and_totals(tmp_path: Path) -> None:
    tape = Tape(version=3)
    cell = tape.cells[0]
    part = provider("node-1:a", "node-1", CUSTOM_GPU_MILLI=1000)
    for value in (
        reported("node-1", [provider("node-1", VCPU=8), part]),
        reported("node-2", [provider("node-2", VCPU=4)]),
        claims(
            claim("c-1", "vm-1", "node-1", {"VCPU": 2}, LATER, project="red"),
            claim("c-2", "vm-2", "node-2", {"VCPU": 1}, LATER, project="blue"),
            claim("c-3", "vm-3", "node-1", {"VCPU": 3}, LATER, project="red"),
        ),
    ):
        tape.append(cell, value)
    before = {0: len(tape.records[0])}
    for value in (
        reported("node-1", [provider("node-1", VCPU=6), part], sequence=2),
        released("vm-1", "c-1"),
        event("node.retired.v1", {"root": "node-2", "incarnation": f"{1:016x}", "sequence": 2}),
        released("vm-2", "c-2"),
        reported("node-3", [provider("node-3", VCPU=1, traits=["CUSTOM_RED"])]),
        event("facts.set.v1", {"provider": "node-1", "revision": 1, "facts": {"status": "draining"}}),
        claims(claim("c-4", "vm-4", "node-3", {"VCPU": 1}, LATER, project="red")),
        event(
            "consumer.replaced.v2",
            {
                **claim("c-5", "vm-3", "node-1", {"VCPU": 1}, LATER, project="red"),
                "replaces": "c-3",
                "consumer_generation": 1,
            },
        ),
        event("node.heartbeat.v1", {"root": "node-1", "incarnation": f"{1:016x}", "sequence": 3}),
    ):
        tape.append(cell, value)
    found = compared(tape, tmp_path, before, {0: len(tape.records[0])})
    assert [(one.node, one.what, one.text) for one in found.nodes] == [
        ("node-1", "changed", "VCPU 8 -> 6, max_unit 8 -> 6, drained by an operator"),
        ("node-2", "gone", "gone, VCPU 4 -> none"),
        ("node-3", "came", "came, VCPU 1"),
    ]
    assert [(one.consumer, one.what, one.text) for one in found.consumers] == [
        ("vm-1", "gave back", "node-1: VCPU 2"),
        ("vm-2", "gave back", "node-2: VCPU 1"),
        ("vm-3", "changed", "node-1: VCPU 1; before: node-1: VCPU 3"),
        ("vm-4", "took", "node-3: VCPU 1"),
    ]
    assert found.totals == [
        Total("CUSTOM_GPU_MILLI", 1000, 1000),
        Total("VCPU", 12, 7, 6, 2),
    ]
    assert found.by_project == {
        "blue": [Total("VCPU", None, None, 1, 0)],
        "red": [Total("VCPU", None, None, 5, 2)],
    }
    assert found.by_cell == {cell: found.totals}


def test_a_store_does_not_differ_from_itself(tmp_path: Path) -> None:
    tape = Tape(partitions=2)
    RandomEvents(random.Random(1).choice, tape).settle()
    ends = {p: len(records) for p, records in tape.records.items()}
    found = compared(tape, tmp_path, ends, ends)
    assert (found.nodes, found.consumers) == ([], [])
    assert not [one for one in found.totals if one.changed]
    assert found.totals


def test_stores_of_different_logs_are_compared_only_if_asked(tmp_path: Path) -> None:
    tapes = [Tape(), Tape(partitions=2)]
    for tape in tapes:
        tape.append(tape.cells[0], reported("node-1", [provider("node-1", VCPU=8)]))
    record = tapes[1].records[0][0]
    for records in tapes[1].records.values():
        records[0] = records[0]._replace(value=records[0].value.replace(b'"the-log"', b'"other-log"'))
    assert tapes[1].records[0][0] != record
    stores = [
        store_at(tape, tmp_path / str(n), {p: len(them) for p, them in tape.records.items()})
        for n, tape in enumerate(tapes)
    ]
    with (
        StoreReader(stores[0], REGISTRY, with_view=False) as one,
        StoreReader(stores[1], REGISTRY, with_view=False) as other,
    ):
        with pytest.raises(StoreMismatch, match="of different logs: the-log and other-log"):
            differences(one, other)
        found = differences(one, other, across_logs=True)
        same_cell = tapes[0].cells[0] == tapes[1].cells[0]
        assert [one.what for one in found.nodes] == ([] if same_cell else ["gone", "came"])


# -- what is applied to the totals of A gives the totals of B -------------------------------------------------------


def capacities(reader: StoreReader) -> dict[tuple[str, str, str], int]:
    """(cell, provider, class) -> capacity, of all rows."""
    found = {}
    for _, place, row in reader.scan(PROVIDERS):
        cell, id_ = split_key(place)
        for name in row.classes:
            table = REGISTRY.table(name)
            held = reader.get(table, table.prefix + place, cell=cell)
            if held is not None:
                of = table.resource_class
                found[cell, id_, name] = of.row(held.record)[of.columns.index("capacity")]
    return found


def held(reader: StoreReader) -> dict[tuple[str, str, str, str], int]:
    """(cell, consumer, provider, class) -> amount, of all rows. The classes here count grants in one unit."""
    found: Counter[tuple[str, str, str, str]] = Counter()
    for _, place, row in reader.scan(ALLOCATIONS):
        cell, consumer = split_key(place)
        for part in row.parts:
            amount = REGISTRY.table(part.resource_class).resource_class.amount_of(part.grant)
            found[cell, consumer, part.provider, part.resource_class] += amount
    return dict(found)


@pytest.mark.parametrize("seed", range(4))
def test_the_differences_applied_to_one_store_give_the_other(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    tape = Tape(partitions=2, version=4 if seed % 2 else 1)
    events = RandomEvents(rng.choice, tape, wild=seed > 1)
    events.settle()
    for _ in range(150):
        events.step()
    ends = {p: len(records) for p, records in tape.records.items()}
    positions = [{p: rng.randrange(end // 4, end + 1) for p, end in ends.items()} for _ in range(2)]
    stores = [store_at(tape, tmp_path / str(n), at) for n, at in enumerate(positions)]
    with (
        StoreReader(stores[0], REGISTRY, with_view=False) as one,
        StoreReader(stores[1], REGISTRY, with_view=False) as other,
    ):
        found = differences(one, other)
        offered, offered_then = capacities(one), capacities(other)
        taken, taken_then = held(one), held(other)
    for node in found.nodes:
        for part in node.providers:
            for inventory in part.inventories:
                place = node.cell, part.provider, inventory.resource_class
                assert offered.get(place, 0) == inventory.capacity_before
                offered[place] = inventory.capacity_after
    assert {place: n for place, n in offered.items() if n} == {p: n for p, n in offered_then.items() if n}
    for consumer in found.consumers:
        for amounts, sign in ((consumer.before, -1), (consumer.after, 1)):
            for provider_, by_unit in amounts.items():
                for unit, amount in by_unit.items():
                    where = consumer.cell, consumer.consumer, provider_, unit
                    taken[where] = taken.get(where, 0) + sign * amount
    assert {where: n for where, n in taken.items() if n} == taken_then
    check_totals(found, offered_then, taken_then)


def check_totals(found: Differences, offered: dict[Any, int], taken: dict[Any, int]) -> None:
    """The totals afterwards are the sums of the rows."""
    capacity: defaultdict[str, int] = defaultdict(int)
    used: defaultdict[str, int] = defaultdict(int)
    for (*_, name), amount in offered.items():
        capacity[name] += amount
    for (*_, name), amount in taken.items():
        used[name] += amount
    assert {one.unit: one.used_after for one in found.totals if one.used_after} == dict(used)
    assert {one.unit: one.capacity_after for one in found.totals if one.capacity_after} == {
        name: amount for name, amount in capacity.items() if amount
    }
    for totals in (found.by_project, found.by_cell):
        summed: Counter[str] = Counter()
        for them in totals.values():
            summed.update({one.unit: one.used_after for one in them})
        assert +summed == Counter(used)
