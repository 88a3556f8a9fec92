"""What names cost a view: the rows that have them now. Classes, traits, aggregates and attributes that come go again."""

from __future__ import annotations

import gc
import json
import random
import time
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.projections.query.affinity.test_solver_relations import settled
from tests.support.classes.ports_class import REGISTRY
from tests.support.models.memory_fleets import Fleet
from tests.support.processes.machine_speed import slowness
from tests.support.queries import compiled
from tests.support.random_fleets.fleets import RandomFleet, a_request
from tests.support.random_fleets.relations import related
from vacancy.projections.query.budget import SearchBudget
from vacancy.projections.query.engine import find
from vacancy.projections.query.model import Candidate
from vacancy.projections.ranking.orders import SIMPLE_ORDERS
from vacancy.projections.view import fleet as fleet_module
from vacancy.projections.view import sparse_rows
from vacancy.projections.view.attribute_columns import AttributeColumns
from vacancy.projections.view.columns import BitColumns, Meter
from vacancy.projections.view.fleet import FleetView
from vacancy.projections.view.sparse_rows import SparseRows
from vacancy.resources.model.request import RequestGroup, RequestSpec, RequestSpecV2, oldest_form
from vacancy.resources.state.rows import ClassRow, NodeRow, ProviderRow
from vacancy.resources.state.tables import NODES, PROVIDERS, ClassTable

NODES_COUNT = 2_000
KINDS = ("class", "trait", "aggregate", "attribute")
MIB = 1024 * 1024


def key_of(number: int, cell: str = "c") -> bytes:
    return f"{cell}\0n{number}".encode()


def provider_row(number: int, **more: Any) -> bytes:
    return PROVIDERS.encode(
        ProviderRow(f"n{number}", None, **{"reported_traits": (), "classes": (), "changed": 0, **more})
    )


def record(total: int = 8) -> bytes:
    """An encoded row of any quantity."""
    quantity = REGISTRY.table("VCPU").resource_class
    return REGISTRY.table("VCPU").encode(ClassRow(quantity.report({"total": total}, None), -1, 0, True))


def node_row() -> bytes:
    return NODES.encode(NodeRow((("1" * 16, 1),), heard_ms=1, complete=True))


def fleet_view(count: int = NODES_COUNT) -> FleetView:
    """A view of nodes with VCPU and a common trait, loaded as a reader loads it."""
    view = FleetView(REGISTRY, lambda *_: None)
    view.load_providers([(key_of(n), provider_row(n, reported_traits=("COMMON",))) for n in range(count)])
    view.load_nodes([[(key_of(n), node_row()) for n in range(count)]])
    encoded = record()[ClassTable.HEAD_BYTES :]
    view.load_class(REGISTRY.table("VCPU"), [key_of(n) for n in range(count)], [encoded] * count)
    return view


def names_of(kind: str, count: int) -> tuple[str, ...]:
    return tuple(name_of(kind, f"{kind}_{number:05}") for number in range(count))


def name_of(kind: str, text: str) -> str:
    return f"CUSTOM_{text}".lower() if kind == "attribute" else f"CUSTOM_{text}".upper()


def say(view: FleetView, kind: str, names: Iterable[str], number: int = 0) -> None:
    """One provider has these names of a kind, in addition to what all have, and no others; as the change feed has it."""
    names = tuple(names)
    more: dict[str, Any] = {"reported_traits": ("COMMON",)}
    if kind == "trait":
        more["reported_traits"] = tuple(sorted(("COMMON", *names)))
    elif kind == "aggregate":
        more["aggregates"] = names
    elif kind == "attribute":
        more["reported_attributes"] = tuple((name, f"value of {name}") for name in names)
    view.feed(PROVIDERS.name, [key_of(number)], [provider_row(number, **more)])
    if kind == "class":
        gone = [name for name in view.classes if name not in (*names, "VCPU")]
        row = view.row_of[key_of(number)]
        for name in gone:
            if view.classes[name].arrays["capacity"][row]:
                prefix = REGISTRY.table(name).prefix
                view.feed(name, [prefix + key_of(number)], [None])
        data = record()
        for name in names:
            view.feed(name, [REGISTRY.table(name).prefix + key_of(number)], [data])


@contextmanager
def traced() -> Iterator[Callable[[], int]]:
    """Bytes of all objects that were made since and are still there."""
    gc.collect()
    tracemalloc.start()
    try:
        start = tracemalloc.get_traced_memory()[0]

        def used() -> int:
            gc.collect()
            return tracemalloc.get_traced_memory()[0] - start

        yield used
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", KINDS)
def test_names_that_one_provider_has_cost_little_and_are_given_back(kind: str) -> None:
    """5,000 names in one report: with arrays over all rows they took 8 MB (traits) to 400 MB (classes)."""
    view = fleet_view()
    say(view, kind, ("CUSTOM_WARM",))
    say(view, kind, ())
    before = view.meter.bytes
    with traced() as used:
        say(view, kind, names_of(kind, 5_000))
        assert used() < 9 * MIB
        assert 5_000 * 100 < view.meter.bytes - before < 9 * MIB
        say(view, kind, ())
        assert used() < 1.5 * MIB  # what the registry keeps of class names, and free lists
    assert view.meter.bytes == before


@pytest.mark.parametrize("kind", KINDS)
def test_other_names_each_time_do_not_add_up(kind: str) -> None:
    view = fleet_view(200)
    say(view, kind, names_of(kind, 50))
    with traced() as used:
        for turn in range(60):
            say(view, kind, [f"CUSTOM_{turn}_{number}" for number in range(50)])
        assert used() < MIB
    say(view, kind, ())
    assert "CUSTOM_59_1" not in {
        *view.classes,
        *view.traits.arrays,
        *view.aggregates.arrays,
        *view.attributes.columns,
    }


def test_texts_that_change_with_each_report_do_not_add_up() -> None:
    view = fleet_view(200)
    with traced() as used:
        for turn in range(1_000):
            attributes = tuple((f"a{number}", f"{turn} " + "x" * 200) for number in range(20))
            view.feed(PROVIDERS.name, [key_of(0)], [provider_row(0, reported_attributes=attributes)])
        assert used() < MIB


@pytest.mark.parametrize(("kind", "count"), [("class", 20_000), ("attribute", 51_200)])
def test_nodes_arrive_and_leave_fast_where_one_node_has_many_names(kind: str, count: int) -> None:
    """CPU time of 2,200 arrivals, which was 1.6 to 2.2 s when each name had an array over all rows, and is 0.03 s."""
    names, view = names_of(kind, count), fleet_view()
    say(view, kind, names)
    arriving = range(NODES_COUNT, NODES_COUNT + 2_200)
    started = time.process_time()
    view.feed(PROVIDERS.name, [key_of(n) for n in arriving], [provider_row(n) for n in arriving])
    say(view, "trait", ("ANOTHER",), 1)  # another provider's update does not walk all names
    spent_s = time.process_time() - started
    assert view.size == NODES_COUNT + 2_200
    assert spent_s / slowness() < 0.3
    say(view, kind, ())
    assert not any(name in view.classes for name in names)


def test_a_dropped_provider_takes_its_names_with_it() -> None:
    view, new = fleet_view(100), 200
    bytes_after = []
    for _ in range(2):
        view.feed(PROVIDERS.name, [key_of(new, "other")], [provider_row(new)])
        for name in names_of("class", 30):
            view.feed(name, [REGISTRY.table(name).prefix + key_of(new, "other")], [record()])
        assert len(view.classes) == 31
        assert view.cells.keys() == {b"c", b"other"}
        view.feed(PROVIDERS.name, [key_of(new, "other")], [None])
        assert set(view.classes) == {"VCPU"}
        assert view.cells.keys() == {b"c"}
        bytes_after.append(view.meter.bytes)
    assert bytes_after[0] == bytes_after[1]


def test_a_cell_that_comes_after_it_was_asked_for_is_searched() -> None:
    """A filter for a cell that nobody knew was kept as one that matches nothing."""
    view = fleet_view(3)
    spec = compiled(RequestSpec(groups=(RequestGroup(resources={"VCPU": 1}),)))

    def asked() -> list[Candidate]:
        return find(
            view, spec, limit=9, order=SIMPLE_ORDERS["random"], rng=np.random.default_rng(1), cell="late"
        )

    assert asked() == []
    view.feed(PROVIDERS.name, [key_of(9, "late")], [provider_row(9)])
    view.feed(NODES.name, [key_of(9, "late")], [node_row()])
    view.feed("VCPU", [key_of(9, "late")], [record()])
    assert [one.root for one in asked()] == ["n9"]


# -- one form or the other: the same answers ------------------------------------------------------------------


@pytest.fixture(params=["sparse", "dense", "often"])
def shares(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """All names sparse, all with arrays, or a change of form whenever a count changes by little."""
    dense, sparse = {"sparse": (0, 0), "dense": (2**40, 2**40), "often": (3, 3)}[request.param]
    monkeypatch.setattr(sparse_rows, "DENSE_SHARE", dense)
    monkeypatch.setattr(sparse_rows, "SPARSE_SHARE", sparse)


def answers(make: Callable[[], FleetView], specs: list[RequestSpec], seed: int) -> list[Any]:
    view, found = make(), []
    for number, spec in enumerate(specs):
        for order in SIMPLE_ORDERS.values():
            draw, budget = np.random.default_rng(seed + number), SearchBudget()
            found.append(find(view, compiled(spec), limit=5, order=order, rng=draw, budget=budget))
    return found


@pytest.mark.parametrize("seed", range(40))
def test_both_forms_of_columns_give_the_same_candidates_in_the_same_order(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(seed)
    if seed % 2:
        random_fleet, fleet, _ = settled(rng)
        asked = [related(rng, random_fleet) for _ in range(4)]
    else:
        random_fleet = RandomFleet(rng)
        fleet = Fleet(random_fleet.tape.records.values())
        random_fleet.learn(fleet.states[0])
        asked = [a_request(rng, list(random_fleet.known), random_fleet.kinds) for _ in range(4)]
    specs = [oldest_form(RequestSpecV2.model_validate_json(json.dumps(one))) for one in asked]
    found = []
    for dense, sparse in ((2**40, 2**40), (0, 0), (3, 3)):
        monkeypatch.setattr(sparse_rows, "DENSE_SHARE", dense)
        monkeypatch.setattr(sparse_rows, "SPARSE_SHARE", sparse)
        for expanded_share in (1, 2**40):
            monkeypatch.setattr(fleet_module, "EXPANDED_SHARE", expanded_share)
            found.append(answers(fleet.view, specs, seed))
    assert all(one == found[0] for one in found)


NAMES = ("A", "B", "C")
CHANGES = st.lists(
    st.tuples(st.integers(0, 12), st.lists(st.sampled_from(NAMES), unique=True).map(tuple)), max_size=40
)


@pytest.mark.usefixtures("shares")
@settings(max_examples=60, deadline=None)
@given(CHANGES, st.integers(13, 40), st.sampled_from((0, 50, 1_000)))
def test_bits_are_what_was_set_last(
    changes: list[tuple[int, tuple[str, ...]]], slots: int, room: int
) -> None:
    meter = Meter()
    meter.set_room(room)
    columns = BitColumns(meter)
    expected: dict[int, tuple[str, ...]] = dict.fromkeys(range(13), ())
    for at, (row, names) in enumerate(changes):
        columns.set(row, names, slots)
        expected[row] = names
        if at == 20:
            columns.grow(slots := 2 * slots)
        for name in NAMES:
            having = [row for row, has in expected.items() if name in has]
            assert (name in columns.arrays) == bool(having)
            assert columns.known((name,)) == ([columns.arrays[name]] if having else [])
            assert meter.expanded_bytes <= room
            if having:
                bits = columns.arrays[name]
                assert np.flatnonzero(bits[:slots]).tolist() == having
                assert bits[np.arange(slots)].tolist() == bits[0:slots].tolist()
                assert columns.counts[name] == len(having)
        assert all(columns.of(row) == names for row, names in expected.items())
    for row in range(13):
        columns.set(row, (), slots)
    assert meter.bytes == 0


ROW_SETS = st.lists(st.integers(0, 12), unique=True, max_size=5)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(ROW_SETS, st.sampled_from(("set", "set_many", "remove"))), max_size=20))
def test_rows_are_what_was_set_last_also_where_they_were_expanded(
    changes: list[tuple[list[int], str]],
) -> None:
    table, expected = SparseRows(("a", "b")), dict[int, tuple[int, int]]()
    for number, (rows, what) in enumerate(changes, 1):
        values = {row: (number, -row) for row in rows}
        table.expand(13)
        if what == "set_many" and rows:
            table.set_many(np.array(rows), np.array(list(values.values())).T)
        elif what == "set":
            for row, of_row in values.items():
                table.set(row, of_row)
        elif what == "remove":
            assert [table.remove(row) for row in rows] == [row in expected for row in rows]
            values = {}
            expected = {row: of_row for row, of_row in expected.items() if row not in rows}
        expected |= values
        for at, name in enumerate(("a", "b")):
            column = [expected.get(row, (0, 0))[at] for row in range(13)]
            for found in (table[name], table.copy()[name]):
                assert found[np.arange(13)].tolist() == found[0:13].tolist() == column
                assert [int(found[row]) for row in range(13)] == column


VALUES = st.one_of(st.booleans(), st.integers(-3, 3), st.sampled_from(("", "a", "b", "1")))


@pytest.mark.usefixtures("shares")
@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 12), st.dictionaries(st.sampled_from(NAMES), VALUES)), max_size=40),
    st.integers(13, 40),
)
def test_attributes_are_what_was_set_last(changes: list[tuple[int, dict[str, Any]]], slots: int) -> None:
    meter = Meter()
    columns, expected = AttributeColumns(meter), {row: dict[str, Any]() for row in range(13)}
    for at, (row, values) in enumerate(changes):
        columns.set(row, values, slots)
        expected[row] = values
        if at == 20:
            columns.grow(slots := 2 * slots)
        assert set(columns.columns) == {name for values in expected.values() for name in values}
        for row_, of_row in expected.items():
            assert repr(sorted(columns.of(row_).items())) == repr(sorted(of_row.items()))
        for name, column in columns.columns.items():
            assert column.count == sum(name in values for values in expected.values())
            assert column.rows.tolist() == [row_ for row_, values in expected.items() if name in values]
    for row in range(13):
        columns.set(row, {}, slots)
    assert meter.bytes == 0


@pytest.mark.usefixtures("shares")
@pytest.mark.parametrize("seed", range(8))
def test_classes_are_what_was_set_last(seed: int) -> None:
    """Also under reservations, and with rows that come and go."""
    rng, view = random.Random(seed), fleet_view(30)
    names = ("CUSTOM_A", "CUSTOM_B", "VCPU")
    expected: dict[tuple[str, int], int] = {("VCPU", n): 8 for n in range(30)}
    reserved: list[Any] = []
    for _ in range(300):
        name, number = rng.choice(names), rng.randrange(40)
        table = REGISTRY.table(name)
        if rng.random() < 0.1 and key_of(number) in view.row_of:
            view.feed(PROVIDERS.name, [key_of(number)], [None])
            for each in names:
                expected.pop((each, number), None)
        elif rng.random() < 0.35:
            view.feed(name, [table.prefix + key_of(number)], [None])
            expected.pop((name, number), None)
        elif rng.random() < 0.3 and (name, number) in expected:
            reserved.append(view.reserve(view.row_of[key_of(number)], name, 2))
        elif rng.random() < 0.5 or not reserved:
            several = {number, *rng.sample(range(40), rng.choice((0, 0, 20)))}
            view.feed(PROVIDERS.name, [key_of(n) for n in several], [provider_row(n) for n in several])
            total = rng.randint(1, 9)
            view.feed(name, [table.prefix + key_of(n) for n in several], [record(total)] * len(several))
            expected |= {(name, n): total for n in several}
        else:
            view.unreserve(reserved.pop())
        assert set(view.classes) == {name for name, _ in expected}
        for name in view.classes:
            free, having = view.classes[name].arrays["free"], {n for each, n in expected if each == name}
            assert {view.keys[row] for row in view.classes[name].rows.tolist()} == {key_of(n) for n in having}
            assert view.classes[name].count == len(having)
            for n in having:
                left = sum(r.ask for r in view.reservations if (r.name, r.key) == (name, key_of(n)))
                assert free[view.row_of[key_of(n)]] == expected[name, n] - left
