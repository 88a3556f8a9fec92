"""Least fragmentation: the measure against loops, and the choice against trying everything."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.support.classes.ports_class import REGISTRY
from tests.support.logs.events_json import Tape, event, provider, reported
from tests.support.models.memory_fleets import fleet_of, spec_of
from tests.support.queries import find
from vacancy.projections.query.model import Candidate
from vacancy.projections.ranking.fragmentation import LeastFragmentation
from vacancy.projections.ranking.fragmentation_index import FragmentationIndex
from vacancy.projections.ranking.workload import TYPICAL_MAX, TypicalRequest, Workload, tally
from vacancy.projections.view.columns import Ints
from vacancy.projections.view.fleet import FleetView
from vacancy.projections.view.reservations import Reservation
from vacancy.resources.model.request import RequestSpec
from vacancy.resources.state.tables import CUSTOM_FAMILY, NODES, PROVIDERS, key

GPU = "CUSTOM_GPU_MILLI"
MODELS = ("CUSTOM_T4", "CUSTOM_P100")
Node = tuple[int, int, str, list[int]]
"""Cores, memory, model, and what each GPU has."""

nodes = st.tuples(
    st.integers(1, 6), st.integers(1, 6), st.sampled_from(MODELS), st.lists(st.integers(1, 10), max_size=4)
)


@st.composite
def requests(draw: st.DrawFn, *, of_gpus: bool = False) -> RequestSpec:
    """Cores and memory; one share, or several GPUs of their own, or several like shares wherever they fit."""
    host = {"VCPU": draw(st.integers(1, 4)), "MEMORY_MB": draw(st.integers(1, 4))}
    isolate = draw(st.booleans())
    count = draw(st.integers(1 if of_gpus else 0, 3))
    amounts = draw(st.lists(st.integers(1, 10), min_size=count, max_size=count))
    traits = (
        {"any_traits": [draw(st.sampled_from((MODELS, MODELS[:1], MODELS[1:])))]}
        if draw(st.booleans())
        else {}
    )
    gpus = [{"resources": {GPU: amount if isolate else amounts[0]}, **traits} for amount in amounts]
    return spec_of(host, *gpus, policy="isolate" if isolate else "none")


typical_lists = st.lists(st.tuples(requests(), st.integers(1, 5)), max_size=5)


def typical(some: Sequence[tuple[RequestSpec, int]]) -> Workload:
    share = spec_of({"VCPU": 1}, {GPU: 3})
    return Workload(
        device=GPU, typical=tuple(TypicalRequest(request=r, weight=w) for r, w in [*some, (share, 1)])
    )


def view_of(fleet: Sequence[Node]) -> FleetView:
    tape = Tape()
    for n, (cores, memory, model, gpus) in enumerate(fleet):
        parts = [provider(f"n{n}-g{g}", f"n{n}", [model], **{GPU: total}) for g, total in enumerate(gpus)]
        tape.append(
            tape.cells[0], reported(f"n{n}", [provider(f"n{n}", VCPU=cores, MEMORY_MB=memory), *parts])
        )
    return fleet_of(tape).view()


# -- the measure, in loops ------------------------------------------------------------------------------------


def free(view: FleetView, row: int, name: str) -> int:
    columns = view.classes.get(name)
    return 0 if columns is None or not view.open[row] else max(0, int(columns.arrays["free"][row]))


def unusable(view: FleetView, root: int, request: RequestSpec) -> int:
    """How much of what is free on a tree's GPUs one request cannot use."""
    tree = view.tree(root)
    gpus = [row for row in tree if free(view, row, GPU)]
    everything = sum(free(view, row, GPU) for row in gpus)
    host, asked = request.groups[0].resources, request.groups[1:]
    fits = all(sum(free(view, row, name) for row in tree) >= amount(ask) for name, ask in host.items())
    if not asked or not fits:
        return everything
    allowed = [
        row for row in gpus if all(set(some) & set(view.traits.of(row)) for some in asked[0].any_traits)
    ]
    amounts = sorted((amount(group.resources[GPU]) for group in asked), reverse=True)
    if not served(amounts, [free(view, row, GPU) for row in allowed], request.group_policy == "isolate"):
        return everything
    return everything - sum(free(view, row, GPU) for row in allowed if free(view, row, GPU) >= amounts[-1])


def amount(ask: Any) -> int:
    assert isinstance(ask, int)
    return ask


def served(amounts: Sequence[int], left: Sequence[int], isolate: bool) -> bool:
    if not amounts:
        return True
    return any(
        served(amounts[1:], [*left[:at], *([] if isolate else [room - amounts[0]]), *left[at + 1 :]], isolate)
        for at, room in enumerate(left)
        if room >= amounts[0]
    )


def weighed(view: FleetView, root: int, settings: Workload) -> int:
    """F_n, times the sum of weights."""
    return sum(one.weight * unusable(view, root, one.request) for one in settings.typical)


def roots_of(view: FleetView) -> Ints:
    size = view.size
    return np.flatnonzero(view.root[:size] == np.arange(size))


def take(view: FleetView, candidate: Candidate) -> list[Reservation]:
    return [
        view.reserve(view.row_of[key(candidate.cell, served_.provider)], name, ask)
        for served_ in candidate.allocations
        for name, ask in served_.resources.items()
    ]


def unreserve(view: FleetView, taken: list[Reservation]) -> None:
    for one in taken:
        view.unreserve(one)


@settings(max_examples=150, deadline=None)
@given(st.lists(nodes, min_size=1, max_size=5), typical_lists, st.lists(requests(), max_size=8))
def test_the_measure_is_what_loops_make_of_it_however_the_fleet_came_to_be(
    fleet: list[Node], some: list[tuple[RequestSpec, int]], placed: list[RequestSpec]
) -> None:
    view, known = view_of(fleet), typical(some)
    order, rng, roots = LeastFragmentation(known), np.random.default_rng(1), roots_of(view)
    total = sum(one.weight for one in known.typical)
    for spec in placed:
        measured = order.measure(view, roots) * total
        assert measured.round(6).tolist() == [weighed(view, root, known) for root in roots.tolist()]
        # What was worked out bit by bit is what it is worked out to be at once.
        assert measured.tolist() == (FragmentationIndex(view, known).measure(roots) * total).tolist()
        for found in find(view, spec, limit=1, order=order, rng=rng):
            taken = take(view, found)
            if rng.random() < 0.3:
                unreserve(view, taken)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(nodes, min_size=1, max_size=5),
    typical_lists,
    st.lists(requests(), min_size=1, max_size=8),
)
def test_the_best_really_is_the_best(
    fleet: list[Node], some: list[tuple[RequestSpec, int]], placed: list[RequestSpec]
) -> None:
    """For requests of one device at most: no other place raises the measure less, and places come in order."""
    view, known = view_of(fleet), typical(some)
    order, rng, roots = LeastFragmentation(known), np.random.default_rng(1), roots_of(view).tolist()

    def rise(candidate: Candidate) -> int:
        before = sum(weighed(view, root, known) for root in roots)
        taken = take(view, candidate)
        after = sum(weighed(view, root, known) for root in roots)
        unreserve(view, taken)
        return after - before

    for spec in placed:
        found = find(view, spec, limit=99, order=order, rng=rng, one_a_tree=True)
        if not found:
            continue
        if len(spec.groups) <= 2:
            rises = [rise(one) for one in found]
            assert rises == sorted(rises)
            assert rises[0] == min(rise(one) for one in every_way(view, spec))
        take(view, found[0])


def every_way(view: FleetView, spec: RequestSpec) -> list[Candidate]:
    """All places for a request of one device at most, whatever the measure says."""
    from vacancy.projections.query.conditions.filter import Filter
    from vacancy.projections.query.model import ServedGroup

    ways = []
    rows = [Filter(view, group).everywhere(view.open).tolist() for group in spec.groups]
    for root in rows[0]:
        cell, name = view.name(root)
        if len(spec.groups) == 1:
            ways.append(Candidate(cell, name, (ServedGroup(name, spec.groups[0].resources, ""),)))
            continue
        ways += [
            Candidate(
                cell,
                name,
                tuple(
                    ServedGroup(view.name(at)[1], group.resources, group.name)
                    for at, group in zip((root, row), spec.groups, strict=True)
                ),
            )
            for row in rows[1]
            if view.root[row] == root
        ]
    return ways


# -- by example -------------------------------------------------------------------------------------------------


def test_a_share_goes_where_it_spoils_least() -> None:
    """Whole GPUs are typical: a share goes beside another share, and not onto a GPU that is still whole."""
    view = view_of([(9, 9, MODELS[0], [10, 10]), (9, 9, MODELS[0], [10])])
    order = LeastFragmentation(typical([(spec_of({"VCPU": 1}, {GPU: 10}), 5)]))
    rng = np.random.default_rng(3)
    share = spec_of({"VCPU": 1}, {GPU: 4})
    places = []
    for _ in range(3):
        (found,) = find(view, share, limit=1, order=order, rng=rng)
        places.append(found.allocations[1].provider)
        take(view, found)
    assert places[0] == places[1] != places[2]
    # Asked for alone, too: then the candidate is the GPU itself.
    (found,) = find(view, spec_of({GPU: 6}), limit=1, order=order, rng=rng)
    assert found.allocations[0].provider == places[2]


def test_the_model_that_is_seldom_asked_for_goes_first() -> None:
    view = view_of([(9, 9, MODELS[0], [10]), (9, 9, MODELS[1], [10])])
    wanted = [{"resources": {GPU: 10}, "any_traits": [MODELS[:1]]}]
    order = LeastFragmentation(typical([(spec_of({"VCPU": 1}, *wanted), 9)]))
    for seed in range(8):
        (found,) = find(
            view, spec_of({"VCPU": 1}, {GPU: 10}), limit=1, order=order, rng=np.random.default_rng(seed)
        )
        assert found.root == "n1"


def test_ties_are_broken_by_the_seed() -> None:
    view = view_of([(9, 9, MODELS[0], [10])] * 12)
    order = LeastFragmentation(typical([]))

    def chosen(seed: int) -> list[str]:
        rng = np.random.default_rng(seed)
        return [
            find(view, spec_of({"VCPU": 1}, {GPU: 4}), limit=1, order=order, rng=rng)[0].root
            for _ in range(9)
        ]

    assert chosen(1) == chosen(1) != chosen(2)
    assert len(set(chosen(1))) > 3


def test_trees_that_come_close_and_go_are_noticed() -> None:
    tape = Tape()
    cell = tape.cells[0]
    known = typical([(spec_of({"VCPU": 1}, {GPU: 6}), 1)])
    order, spec = LeastFragmentation(known), spec_of({"VCPU": 1}, {GPU: 4})
    tape.append(cell, reported("a", [provider("a", VCPU=9), provider("a-g", "a", CUSTOM_GPU_MILLI=10)]))
    view = fleet_of(tape).view()
    seen = [order.measure(view, roots_of(view)).tolist()]
    for said in (
        reported(
            "b",
            [
                provider("b", VCPU=9),
                provider("b-g", "b", CUSTOM_GPU_MILLI=5),
                provider("b-h", "b", CUSTOM_GPU_MILLI=2),
            ],
        ),
        event("facts.set.v1", {"provider": "b-h", "revision": 1, "facts": {"status": "disabled"}}),
        reported("b", [provider("b", VCPU=9), provider("b-h", "b", CUSTOM_GPU_MILLI=8)], sequence=2),
        event("node.retired.v1", {"root": "a", "incarnation": f"{1:016x}", "sequence": 2}),
    ):
        tape.append(cell, said)
        (state,) = fleet_of(tape).states
        gone = [name for name in view.row_of if state.get(PROVIDERS, name) is None]
        view.feed(PROVIDERS.name, gone, [None] * len(gone))
        for family, at, data in state.items():
            if family in (PROVIDERS.family, NODES.family):
                view.feed(PROVIDERS.name if family == PROVIDERS.family else NODES.name, [at], [data])
            elif family in REGISTRY.families:
                view.feed(at.split(b"\0")[0].decode() if family == CUSTOM_FAMILY else family, [at], [data])
        roots = roots_of(view)
        seen.append(order.measure(view, roots).tolist())
        assert seen[-1] == [weighed(view, root, known) / 2 for root in roots.tolist()]
    # Half of the weight wants 3, half 6: of 5 the latter can use nothing, of 2 neither.
    assert seen[:3] == [[0.0], [0.0, 4.5], [0.0, 2.5]]
    found = find(view, spec, limit=9, order=order, rng=np.random.default_rng(1))
    assert [one.root for one in found] == []


def test_an_order_can_be_sent_to_another_process() -> None:
    order = LeastFragmentation(typical([]))
    view = view_of([(9, 9, MODELS[0], [10])])
    find(view, spec_of({"VCPU": 1}, {GPU: 4}), limit=1, order=order, rng=np.random.default_rng(1))
    assert pickle.loads(pickle.dumps(order)).settings == order.settings  # noqa: S301 - our own


def test_what_is_typical_is_counted() -> None:
    one, two = spec_of({"VCPU": 1}, {GPU: 4}), spec_of({"VCPU": 2}, {GPU: 4})
    again = RequestSpec.model_validate_json(one.model_dump_json().replace('"1"', '"gpu"'))
    found = tally([(one, 1), (two, 2), (again, 4)], GPU)
    assert [(some.weight, some.request) for some in found.typical] == [(5, one), (2, two)]
    assert len(tally([(one, 1), (two, 2)], GPU, limit=1).typical) == 1


@pytest.mark.parametrize(
    ("said", "what"),
    [
        ({"typical": []}, "at least 1 item"),
        ({"device": "gpus"}, "device"),
        ({"device": "CUSTOM_OTHER"}, "no typical request asks for an amount of CUSTOM_OTHER"),
        ({"typical": [{"request": json.loads(spec_of({GPU: 1}).model_dump_json()), "weight": 0}]}, "weight"),
        ({"typical": [{"request": {"groups": []}}]}, "groups"),
        ({"typical": [{"request": json.loads(spec_of({GPU: 1}).model_dump_json())}] * 257}, str(TYPICAL_MAX)),
    ],
)
def test_what_cannot_be_typical_is_refused(said: dict[str, Any], what: str) -> None:
    with pytest.raises(ValidationError, match=what):
        Workload.model_validate_json(json.dumps({**json.loads(typical([]).model_dump_json()), **said}))
