"""The columnar view: fed commit by commit or loaded at once, it is the same view."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.support.classes.ports_class import REGISTRY
from tests.support.logs.events_json import START_MS, Tape, claim, claims, event, provider, released, reported
from tests.support.models.memory_fleets import fleet_of
from tests.support.random_logs.strategies import batches, logs
from tests.support.sites.temporary_stores import opened_store
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.projections.store.store import Store
from vacancy.projections.view.fleet import FleetView
from vacancy.resources.state.tables import GROUPS, NODES, PROVIDERS, key, split_key

PHASES = (Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink)
SOME = settings(max_examples=60, deadline=None, phases=PHASES)


def told(view: FleetView, reader: StoreReader) -> dict[str, Any]:
    """All that a view says, by name and not by row."""
    rows = view.row_of
    nodes = {data for _, data, _ in reader.scan(NODES)}
    found: dict[str, Any] = {
        "providers": set(rows),
        "open": {k for k, row in rows.items() if view.open[row]},
        "root": {k: view.keys[view.root[row]] for k, row in rows.items()},
        "parent": {k: view.keys[view.parent[row]] for k, row in rows.items()},
        "heard": {
            k: int(view.heard_ms[row]) for k, row in rows.items() if k in nodes and view.root[row] == row
        },
        "members": {view.keys[row]: [view.keys[r] for r in tree] for row, tree in view.members.items()},
        "clashes": {root: {view.keys[r] for r in them} for root, them in view.clashes.items()},
        "cells": {split_key(k)[0] for k in rows},
        "groups": {k: view.groups.row(k) for _, k, _ in reader.scan(GROUPS)},
    }
    for kind, bits in (("trait", view.traits), ("aggregate", view.aggregates)):
        for name, array in bits.arrays.items():
            found[f"{kind} {name}"] = {k for k, row in rows.items() if array[row]}
            assert found[f"{kind} {name}"] == {k for k, row in rows.items() if name in bits.of(row)}
    for name in view.attributes.columns:
        found[f"attribute {name}"] = {
            k: repr(value)
            for k, row in rows.items()
            if (value := view.attributes.of(row).get(name)) is not None
        }
    for name, columns in view.classes.items():
        for column, values in columns.arrays.items():
            found[f"{name}.{column}"] = {k: int(values[row]) for k, row in rows.items() if values[row]}
    return {name: value for name, value in found.items() if value}


def free_rows_say_nothing(view: FleetView) -> None:
    """Rows that no provider has are closed and empty: a query looks at all rows up to `size`."""
    used = set(view.row_of.values())
    left = np.array([row for row in range(len(view.root)) if row not in used], dtype=np.int64)
    assert not view.open[left].any()
    for bits in (view.traits, view.aggregates):
        assert not any(bit[left].any() for bit in bits.arrays.values())
    assert not any(column.codes[left].any() for column in view.attributes.columns.values())
    for columns in view.classes.values():
        assert not any(column[left].any() for column in columns.arrays.values())


def rows_agree(view: FleetView, reader: StoreReader) -> None:
    """A row for each provider of the store, and the columns are what the store's rows say, one by one."""
    assert set(view.row_of) == {k for _, k, _ in reader.scan(PROVIDERS)}
    for name, columns in view.classes.items():
        table = REGISTRY.table(name)
        for _, k, row in reader.scan(table):
            at = view.row_of[k[len(table.prefix) :]]
            found = tuple(int(array[at]) for array in columns.arrays.values())
            assert found == table.resource_class.row(row.record)
    for _, k, one in reader.scan(PROVIDERS):
        assert set(view.traits.of(view.row_of[k])) == one.traits
        assert view.aggregates.of(view.row_of[k]) == one.aggregates
        assert repr(sorted(view.attributes.of(view.row_of[k]).items())) == repr(
            sorted(one.attributes.items())
        )


@SOME
@given(st.data())
def test_a_view_that_was_fed_is_one_that_was_loaded(data: st.DataObject) -> None:
    tape: Tape = data.draw(logs(partitions=2))
    with opened_store(2) as store, following(store) as fed:
        for partition, records in tape.records.items():
            for first, end in data.draw(st.composite(batches)(len(records))):
                store.apply(partition, records[first:end])
                if data.draw(st.booleans()):
                    fed.catch_up()
        fed.catch_up()
        assert fed.position == store.position()
        with StoreReader(store.path, REGISTRY) as loaded:
            assert told(fed.view, fed) == told(loaded.view, loaded)
            rows_agree(loaded.view, loaded)
        free_rows_say_nothing(fed.view)


@contextmanager
def following(store: Store) -> Iterator[StoreReader]:
    """A reader of a store that has all its partitions, and nothing in them."""
    store.position()
    with StoreReader(store.path, REGISTRY) as reader:
        reader.catch_up()
        yield reader


# -- one thing at a time ----------------------------------------------------------------------------------


class Site:
    """A store of one partition, a reader that follows it, and a tape to write to."""

    def __init__(self, store: Store) -> None:
        self.store, self.tape = store, Tape()
        self.cell = self.tape.cells[0]
        store.apply(0, self.tape.records[0])
        self.reader = StoreReader(store.path, REGISTRY)

    def write(self, *values: bytes, cell: str | None = None) -> None:
        """Fold these in one commit, and catch up."""
        self.store.apply(0, [self.tape.append(cell or self.cell, value) for value in values])
        self.reader.catch_up()
        with StoreReader(self.store.path, REGISTRY) as loaded:
            assert told(self.reader.view, self.reader) == told(loaded.view, loaded)

    @property
    def open(self) -> set[str]:
        view = self.reader.view
        return {"/".join(view.name(row)) for row in view.row_of.values() if view.open[row]}

    def column(self, provider_: str, name: str, column: str) -> int:
        view = self.reader.view
        return int(view.classes[name].arrays[column][view.row_of[key(self.cell, provider_)]])


@pytest.fixture
def site() -> Any:
    with opened_store() as store:
        made = Site(store)
        yield made
        made.reader.close()


def heartbeat(root: str, sequence: int) -> bytes:
    return event("node.heartbeat.v1", {"root": root, "incarnation": f"{1:016x}", "sequence": sequence})


def retired(root: str, sequence: int) -> bytes:
    return event("node.retired.v1", {"root": root, "incarnation": f"{1:016x}", "sequence": sequence})


def test_a_node_that_comes_in_a_commit_after_another_ones_heartbeat_is_open(site: Site) -> None:
    site.write(reported("n1", [provider("n1", VCPU=8)]))
    site.write(heartbeat("n1", 2), reported("n2", [provider("n2", VCPU=8)]))
    assert site.open == {f"{site.cell}/n1", f"{site.cell}/n2"}


def test_a_node_that_went_in_a_commit_after_another_one_came_may_come_again(site: Site) -> None:
    site.write(reported("n1", [provider("n1", VCPU=8)]))
    site.write(reported("n2", [provider("n2", VCPU=8)]), retired("n1", 2))
    site.write(reported("n3", [provider("n3", VCPU=8)]), reported("n4", [provider("n4", VCPU=8)]))
    site.write(reported("n1", [provider("n1", VCPU=8)], life=2))
    assert site.reader.view.clashes == {}
    assert site.open == {f"{site.cell}/{root}" for root in ("n1", "n2", "n3", "n4")}


def test_a_root_that_is_live_in_two_cells_is_open_in_neither(site: Site) -> None:
    tree = [provider("n1", VCPU=8), provider("n1-a", "n1", CUSTOM_GPU=1)]
    site.write(reported("n1", tree))
    site.write(reported("n1", tree), cell="other")
    assert site.open == set()
    assert set(site.reader.view.clashes) == {"n1"}
    site.write(retired("n1", 2))
    assert site.open == {"other/n1", "other/n1-a"}
    assert site.reader.view.clashes == {}
    site.write(reported("n1", tree, life=2))
    assert site.open == set()
    site.write(retired("n1", 2), cell="other")
    assert site.open == {f"{site.cell}/n1", f"{site.cell}/n1-a"}


def test_a_root_that_is_live_in_three_cells_is_open_in_none_until_two_are_gone(site: Site) -> None:
    for cell in ("one", "two", "three"):
        site.write(reported("n1", [provider("n1", VCPU=8)]), cell=cell)
    assert site.open == set()
    site.write(retired("n1", 2), cell="two")
    assert site.open == set()
    site.write(retired("n1", 2), cell="one")
    assert site.open == {"three/n1"}


def test_what_is_disabled_incomplete_or_gone_is_closed_with_its_tree(site: Site) -> None:
    tree = [
        provider("n1", VCPU=8),
        provider("n1-a", "n1", CUSTOM_GPU=1),
        provider("n1-b", "n1", CUSTOM_GPU=1),
    ]
    site.write(reported("n1", tree))
    everything = {f"{site.cell}/{id_}" for id_ in ("n1", "n1-a", "n1-b")}
    assert site.open == everything
    site.write(event("facts.set.v1", {"provider": "n1-a", "revision": 1, "facts": {"status": "disabled"}}))
    assert site.open == everything - {f"{site.cell}/n1-a"}
    site.write(event("facts.set.v1", {"provider": "n1", "revision": 1, "facts": {"status": "draining"}}))
    assert site.open == set()
    site.write(event("facts.set.v1", {"provider": "n1", "revision": 2, "facts": {}}))
    assert site.open == everything - {f"{site.cell}/n1-a"}
    site.write(heartbeat("n1", 3))
    assert site.open == set()
    site.write(reported("n1", tree[:2], sequence=4))
    assert site.open == {f"{site.cell}/n1"}


def test_a_node_that_became_a_part_of_another_is_open_with_it(site: Site) -> None:
    site.write(reported("n1", [provider("n1", VCPU=8), provider("n1-a", "n1", CUSTOM_GPU=1)]))
    site.write(
        claims(
            claim("c1", "i1", "n1", {"VCPU": 1}, START_MS),
            claim("c2", "i2", "n1-a", {"CUSTOM_GPU": 1}, START_MS),
        )
    )
    part = [provider("n2", VCPU=8), provider("n1", "n2", VCPU=8)]
    site.write(retired("n1", 2), reported("n2", part))
    assert site.open == {f"{site.cell}/n2", f"{site.cell}/n1"}
    site.write(released("i2", "c2"))
    site.write(released("i1", "c1"), heartbeat("n2", 2))
    assert site.open == {f"{site.cell}/n2", f"{site.cell}/n1"}


# -- claims under way -------------------------------------------------------------------------------------


def test_a_claim_under_way_counts_as_taken_until_it_is_decided(site: Site) -> None:
    site.write(reported("n1", [provider("n1", VCPU=8, PORTS={"ports": [80, 81, 82]})]))
    view = site.reader.view
    row = view.row_of[key(site.cell, "n1")]
    three, two = view.reserve(row, "VCPU", 3), view.reserve(row, "PORTS", 2)
    assert (site.column("n1", "VCPU", "free"), site.column("n1", "PORTS", "free")) == (5, 1)
    quantity, ports = view.record(row, "VCPU"), view.record(row, "PORTS")
    assert quantity is not None
    assert ports is not None
    assert (quantity.used, ports.taken) == (3, (80, 81))
    # The store's news come on top of it: somebody else took two.
    site.store.apply(
        0, [site.tape.append(site.cell, claims(claim("c1", "i1", "n1", {"VCPU": 2, "PORTS": 1}, START_MS)))]
    )
    site.reader.catch_up()
    assert (site.column("n1", "VCPU", "free"), site.column("n1", "PORTS", "free")) == (3, 0)
    others = view.reserve(row, "VCPU", 3)
    view.unreserve(three)
    view.unreserve(two)
    assert (site.column("n1", "VCPU", "free"), site.column("n1", "PORTS", "free")) == (3, 2)
    view.unreserve(others)
    assert not list(view.reservations)
    with StoreReader(site.store.path, REGISTRY) as loaded:
        assert told(view, site.reader) == told(loaded.view, loaded)


def test_claims_for_any_device_and_for_a_certain_one_leave_no_trace(site: Site) -> None:
    """A column that was read of a record with a claim in it must not keep what that claim took."""

    def told_anew(number: int) -> bytes:
        devices = {"01": {"vendor": "a"}, "02": {"vendor": "b"}, "03": {"number": number}}
        return reported("n1", [provider("n1", PCI_DEVICE={"devices": devices})], sequence=number)

    site.write(told_anew(1))
    view = site.reader.view
    row = view.row_of[key(site.cell, "n1")]
    certain = {"where": {"vendor": "b"}}
    for number, (first, last) in enumerate([(certain, 1), (1, certain)], 2):
        ours = [view.reserve(row, "PCI_DEVICE", first), view.reserve(row, "PCI_DEVICE", last)]
        site.store.apply(0, [site.tape.append(site.cell, told_anew(number))])
        site.reader.catch_up()
        assert site.column("n1", "PCI_DEVICE", "free") == 1
        for one in sorted(ours, key=lambda one: one.ask == 1):
            view.unreserve(one)
        with StoreReader(site.store.path, REGISTRY) as loaded:
            assert told(view, site.reader) == told(loaded.view, loaded)


def test_claims_under_way_outlive_a_reload(site: Site) -> None:
    site.write(reported("n1", [provider("n1", VCPU=8)]))
    ours = site.reader.view.reserve(site.reader.view.row_of[key(site.cell, "n1")], "VCPU", 3)
    site.reader._load()
    assert site.column("n1", "VCPU", "free") == 5
    site.reader.view.unreserve(ours)
    assert site.column("n1", "VCPU", "free") == 8


@pytest.mark.parametrize("name", ["VCPU", "PORTS"])
def test_an_inventory_that_goes_under_a_claim_leaves_nothing_behind(site: Site, name: str) -> None:
    whole: dict[str, Any] = {"VCPU": 8, "PORTS": {"ports": [80, 81, 82]}, "MEMORY_MB": 10}
    site.write(reported("n1", [provider("n1", **whole)]))
    view = site.reader.view
    row = view.row_of[key(site.cell, "n1")]
    ours = view.reserve(row, name, 2)
    rest = {other: inventory for other, inventory in whole.items() if other != name}
    site.store.apply(0, [site.tape.append(site.cell, reported("n1", [provider("n1", **rest)], sequence=2))])
    site.reader.catch_up()
    view.unreserve(ours)
    with StoreReader(site.store.path, REGISTRY) as loaded:
        assert told(view, site.reader) == told(loaded.view, loaded)


def test_a_provider_that_goes_under_a_claim_leaves_no_debt_to_the_next(site: Site) -> None:
    site.write(reported("n1", [provider("n1", VCPU=8)]))
    view = site.reader.view
    row = view.row_of[key(site.cell, "n1")]
    ours = view.reserve(row, "VCPU", 2)
    for value in (retired("n1", 2), reported("n2", [provider("n2", VCPU=8)])):
        site.store.apply(0, [site.tape.append(site.cell, value)])
        site.reader.catch_up()
    view.unreserve(ours)
    assert site.column("n2", "VCPU", "free") == 8
    assert not list(view.reservations)


def test_a_claim_on_a_provider_that_went_gives_nothing_back_of_another_on_one_that_came(site: Site) -> None:
    site.write(reported("n1", [provider("n1", VCPU=8)]))
    view, name = site.reader.view, key(site.cell, "n1")
    first = view.reserve(view.row_of[name], "VCPU", 4)
    for value in (retired("n1", 2), reported("n1", [provider("n1", VCPU=8)], life=2)):
        site.store.apply(0, [site.tape.append(site.cell, value)])
        site.reader.catch_up()
    second = view.reserve(view.row_of[name], "VCPU", 4)
    view.unreserve(first)
    assert site.column("n1", "VCPU", "free") == 4
    assert list(view.reservations) == [second]


# -- many rows --------------------------------------------------------------------------------------------


def many(count: int, amounts: Sequence[int], *, sequence: int = 1) -> list[bytes]:
    return [
        reported(f"n{n}", [provider(f"n{n}", VCPU=amounts[n % len(amounts)], CUSTOM_X=1)], sequence=sequence)
        for n in range(count)
    ]


def test_a_view_grows_and_its_rows_are_used_again(site: Site) -> None:
    site.write(*many(1500, [4, 8]))
    assert len(site.open) == 1500
    assert (site.column("n1", "VCPU", "free"), site.column("n1499", "CUSTOM_X", "free")) == (8, 1)
    site.write(*(retired(f"n{n}", 2) for n in range(0, 1500, 2)))
    assert len(site.open) == 750
    assert site.reader.view.size == 1500
    site.write(*(reported(f"m{n}", [provider(f"m{n}", MEMORY_MB=7)]) for n in range(750)))
    assert site.reader.view.size == 1500
    free_rows_say_nothing(site.reader.view)


def test_many_rows_in_one_commit_are_set_like_one(site: Site) -> None:
    site.write(*many(40, [4, 8]))
    site.write(*(claims(claim(f"c{n}", f"i{n}", f"n{n}", {"VCPU": 3}, START_MS)) for n in range(40)))
    view = site.reader.view
    free = [site.column(f"n{n}", "VCPU", "free") for n in range(40)]
    assert free == [1, 5] * 20
    site.write(*(released(f"i{n}", f"c{n}") for n in range(40)), *many(40, [6], sequence=2))
    assert np.count_nonzero(view.classes["VCPU"].arrays["free"] == 6) == 40


@settings(max_examples=50, deadline=None)
@given(logs(partitions=1, length=25), st.integers(1, 5), st.randoms(use_true_random=False))
def test_providers_are_loaded_in_any_number_of_calls(tape: Tape, size: int, rng: random.Random) -> None:
    """A provider may name others of its tree that are loaded later."""
    (state,) = fleet_of(tape).states
    providers = [(key, data) for family, key, data in state.items() if family == PROVIDERS.family]
    nodes = [[(key, data)] for family, key, data in state.items() if family == NODES.family]
    rng.shuffle(providers)
    once, often = (FleetView(REGISTRY, lambda *_: None) for _ in range(2))
    once.load_providers(providers)
    once.load_nodes(nodes)
    for at in range(0, len(providers), size):
        often.load_providers(providers[at : at + size])
    often.load_nodes(nodes)
    assert [described(once, key) for key, _ in providers] == [described(often, key) for key, _ in providers]


def described(view: FleetView, key: bytes) -> Any:
    row = view.row_of[key]
    relatives = (view.root[row], view.parent[row], *view.tree(row))
    return (
        [view.keys[one] for one in relatives],
        bool(view.open[row]),
        view.traits.of(row),
        view.aggregates.of(row),
        view.attributes.of(row),
        int(view.cell[row]),
    )
