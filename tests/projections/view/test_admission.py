"""The bound of a view's columns: what is left out when it is reached, and how that is said."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest

from tests.projections.view.test_names_come_and_go import (
    fleet_view,
    key_of,
    name_of,
    names_of,
    provider_row,
    record,
    say,
)
from tests.support.classes.ports_class import REGISTRY
from tests.support.logs.events_json import Tape, event, provider, reported
from tests.support.queries import compiled
from tests.support.sites.temporary_stores import opened_store
from vacancy.clients.inspection.status import status
from vacancy.clients.request_language.expressions.weigher_syntax import compile_weigher
from vacancy.projections.diagnostics.summary import explain
from vacancy.projections.query.engine import find
from vacancy.projections.query.model import Candidate
from vacancy.projections.ranking.node_weights import weights
from vacancy.projections.ranking.orders import RANDOM
from vacancy.projections.reader import store_reader
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.projections.view import admission
from vacancy.projections.view.fleet import FleetView
from vacancy.resources.model.errors import NamesLeftOut
from vacancy.resources.model.request import RequestGroup, RequestSpec
from vacancy.resources.state.tables import PROVIDERS

KINDS = ("class", "trait", "attribute")


def asked(view: FleetView, **group: Any) -> list[Candidate]:
    spec = RequestSpec(groups=(RequestGroup(**{"resources": {"VCPU": 1}, **group}),))
    return find(view, compiled(spec), limit=5, order=RANDOM, rng=np.random.default_rng(1))


def request_for(kind: str, name: str) -> dict[str, Any]:
    requests: dict[str, dict[str, Any]] = {
        "class": {"resources": {name: 1}},
        "trait": {"required": (name,)},
        "attribute": {"where": f"has(attributes.{name})"},
    }
    return requests[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_the_rarest_names_are_left_out_and_asking_for_them_is_refused(kind: str) -> None:
    view = fleet_view(100)
    view.loaded()
    for number in range(50):
        say(view, kind, (name_of(kind, "used"),), number)
    view._memory_mb = 1
    for number in range(60, 70):
        say(view, kind, names_of(kind, 2_000), number)
        assert view.meter.bytes <= 2**20
    assert view.left_out > 0
    assert view.memory.left_out == view.left_out
    assert all(one.startswith(kind) for one in view.memory.examples)
    left_out = next(
        n
        for n in names_of(kind, 2_000)
        if n not in {*view.classes, *view.traits.arrays, *view.attributes.columns}
    )
    assert asked(view)
    assert asked(view, **request_for(kind, name_of(kind, "used")))
    nobody = name_of(kind, "nobody_has")
    for name in (left_out, nobody):
        with pytest.raises(
            NamesLeftOut, match=f"{kind} {name}: .* were left out of memory, because a bound of 1 MiB"
        ):
            asked(view, **request_for(kind, name))
        with pytest.raises(NamesLeftOut):
            explain(
                view,
                compiled(
                    RequestSpec(
                        groups=(RequestGroup(**{"resources": {"VCPU": 1}, **request_for(kind, name)}),)
                    )
                ),
            )
    if kind == "trait":
        with pytest.raises(NamesLeftOut):
            asked(view, forbidden=(left_out,))
    for number in range(60, 70):
        say(view, kind, (), number)
    assert view.meter.bytes < 2**19
    with pytest.raises(NamesLeftOut):
        asked(view, **request_for(kind, nobody))


@pytest.mark.parametrize("kind", ["class", "trait", "aggregate"])
def test_rare_names_that_queries_ask_for_are_expanded_within_a_share_of_the_bound(kind: str) -> None:
    view = fleet_view(1_000)
    view.loaded()
    view._memory_mb = 1
    names = names_of(kind, 100)
    for number in (3, 5):
        say(view, kind, names, number)
    before = view.memory.bytes
    requests: dict[str, Any] = {
        name: {"class": {"resources": {name: 1}}, "trait": {"required": (name,)}}.get(
            kind, {"member_of": ((name,),)}
        )
        for name in names
    }
    for request in requests.values():
        assert {one.root for one in asked(view, **request)} == {"n3", "n5"}
        assert 0 < view.meter.expanded_bytes <= 2**20 // admission.EXPANDED_SHARE
        assert view.memory.bytes == before + view.meter.expanded_bytes
    say(view, kind, names[-1:], 7)  # what was expanded is no longer right
    say(view, kind, (), 5)
    assert {one.root for one in asked(view, **requests[names[-1]])} == {"n3", "n7"}
    assert view.meter.expanded_bytes > 0
    view._memory_mb = 0  # the columns need all the room
    view.feed(PROVIDERS.name, [], [])
    assert view.meter.expanded_bytes == 0


def test_names_that_come_while_others_are_left_out_add_nothing() -> None:
    """The names that were left out are not kept either."""
    view = fleet_view(100)
    view.loaded()
    view._memory_mb = 0
    say(view, "trait", ("CUSTOM_FIRST",))
    assert view.left_out
    before = view.meter.bytes
    for turn in range(20):
        for kind in KINDS:
            say(view, kind, [f"CUSTOM_{turn}_{number}" for number in range(100)], turn)
    assert view.meter.bytes == before
    assert view.left_out < 10


def test_aggregates_and_the_trait_of_sharing_providers_are_never_left_out() -> None:
    view = fleet_view(100)
    view.loaded()
    shares = "MISC_SHARES_VIA_AGGREGATE"
    view.feed(
        PROVIDERS.name, [key_of(0)], [provider_row(0, reported_traits=(shares,), aggregates=("one", "two"))]
    )
    view._memory_mb = 0
    say(view, "trait", ("CUSTOM_A",), 1)
    assert set(view.traits.arrays) == {shares}
    assert set(view.aggregates.arrays) == {"one", "two"}
    say(view, "aggregate", ("three",), 2)
    assert set(view.aggregates.arrays) == {"one", "two", "three"}


def test_reservations_of_a_class_that_is_left_out_are_kept_apart() -> None:
    view = fleet_view(100)
    view.loaded()
    say(view, "class", ("CUSTOM_A",))
    reserved = view.reserve(0, "CUSTOM_A", 1)
    view._memory_mb = 0
    say(view, "trait", ("CUSTOM_B",), 1)
    assert "CUSTOM_A" not in view.classes
    view.unreserve(reserved)
    view.feed("CUSTOM_A", [REGISTRY.table("CUSTOM_A").prefix + key_of(0)], [record()])
    view.feed("CUSTOM_A", [REGISTRY.table("CUSTOM_A").prefix + key_of(0)], [None])
    assert "CUSTOM_A" not in view.classes


def test_the_bound_is_in_proportion_to_the_fleet_unless_it_is_set() -> None:
    assert admission.bytes_max(0, None) == 256 * 2**20
    assert admission.bytes_max(100_000, None) == 256 * 2**20 + 100_000 * 4096
    assert admission.bytes_max(100_000, 7) == 7 * 2**20


def test_a_reader_says_that_the_bound_is_reached_and_loads_again_later(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    tape = Tape()
    cell = tape.cells[0]

    def report(number: int, names: tuple[str, ...], sequence: int) -> Any:
        attributes = dict.fromkeys(names, 1)
        node = {**provider(f"n{number}", VCPU=8), "attributes": attributes}
        return tape.append(cell, reported(f"n{number}", [node], sequence=sequence))

    with opened_store() as store, caplog.at_level(logging.WARNING):
        store.apply(0, [tape.records[0][0], report(1, ("usual",), 1), report(2, ("usual",), 1)])
        with StoreReader(store.path, REGISTRY, view_memory_mb=1) as reader:
            assert status(reader).columns.left_out == 0
            names = names_of("attribute", 3_000)
            store.apply(0, [report(at, names[60 * at : 60 * at + 60], 1) for at in range(3, 50)])
            reader.catch_up()
            assert "reached their bound of 1 MiB" in caplog.text
            assert "attribute custom_attribute_" in caplog.text
            found = status(reader).columns
            assert found.bytes <= found.bytes_max == 2**20
            assert found.left_out > 500
            with pytest.raises(NamesLeftOut):
                asked(reader.view, where="attributes.nobody == 1")
            assert "usual" in reader.view.attributes.columns
            store.apply(0, [report(at, (), 2) for at in range(3, 50)])
            reader.catch_up()
            assert reader.view.left_out
            monkeypatch.setattr(store_reader, "LEFT_OUT_S", -1.0)
            reader.catch_up()
            assert not reader.view.left_out
            assert "have all names again" in caplog.text
            assert asked(reader.view, where="attributes.nobody == 1") == []
        with StoreReader(store.path, REGISTRY, view_memory_mb=0) as reader:
            assert reader.view.left_out
            assert reader.view.traits.arrays == {}


def test_a_weigher_that_reads_what_is_left_out_is_refused() -> None:
    view = fleet_view(100)
    view.loaded()
    view._memory_mb = 0
    say(view, "trait", ("CUSTOM_B",), 1)
    weigher = compile_weigher("attributes.rank", REGISTRY)
    with pytest.raises(NamesLeftOut):
        weights(view, np.arange(3), weigher)


def test_a_fleet_that_shrinks_gives_its_rows_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vacancy.projections.view.fleet._WASTE_MIN", 16)
    tape = Tape()
    cell = tape.cells[0]
    nodes = [tape.append(cell, reported(f"n{n}", [provider(f"n{n}", VCPU=8)])) for n in range(100)]
    with opened_store() as store:
        store.apply(0, [tape.records[0][0], *nodes])
        with StoreReader(store.path, REGISTRY) as reader:
            assert reader.view.size == 100
            retired = {"incarnation": f"{1:016x}", "sequence": 2}
            store.apply(
                0,
                [
                    tape.append(cell, event("node.retired.v1", {"root": f"n{n}", **retired}))
                    for n in range(90)
                ],
            )
            reader.catch_up()
            assert len(reader.view.row_of) == 10
            assert reader.view.size == 10
            assert len(reader.view.root) < 100
            assert len(asked(reader.view)) == 5
