"""The query engine against trying everything: it finds what there is, all of it, and in the order asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.logs.events_json import Tape, event, provider, reported
from tests.support.models.memory_fleets import Fleet, alike, assignment_of, draws, fleet_of, spec_of
from tests.support.queries import find
from tests.support.random_logs.random_events import AGGREGATES, AMOUNTS, TRAITS
from tests.support.random_logs.strategies import logs
from vacancy.projections.query.budget import QUERY_STEPS_MAX, STEPS_MAX, SearchBudget
from vacancy.projections.query.order import Order, best
from vacancy.projections.ranking.orders import RANDOM, SIMPLE_ORDERS
from vacancy.resources.model.request import RequestSpec

EVERYTHING = 10_000
PACK, SPREAD, BEST_FIT = (SIMPLE_ORDERS[name] for name in ("pack", "spread", "best_fit"))
EVERY_ORDER: tuple[Order, ...] = tuple(SIMPLE_ORDERS.values())


@st.composite
def groups(draw: st.DrawFn, *, must_ask: bool) -> dict[str, Any]:
    some = st.lists(st.sampled_from(TRAITS), max_size=1)
    asks: dict[str, Any] = draw(
        st.dictionaries(
            st.sampled_from(("VCPU", "MEMORY_MB", "CUSTOM_GPU")), st.sampled_from(AMOUNTS[:3]), max_size=2
        )
    )
    if draw(st.integers(0, 5)) == 0:
        asks["PORTS"] = draw(st.sampled_from((1, 2, {"ports": [80]}, {"ports": [81, 83]})))
    if must_ask and not asks:
        asks = {"VCPU": 1}
    group = {
        "resources": asks,
        "required": draw(some),
        "forbidden": draw(some),
        "any_traits": draw(st.lists(st.lists(st.sampled_from(TRAITS), min_size=1, max_size=2), max_size=1)),
        "member_of": draw(
            st.lists(st.lists(st.sampled_from(AGGREGATES), min_size=1, max_size=2), max_size=1)
        ),
        "not_member_of": draw(st.lists(st.sampled_from(AGGREGATES), max_size=1)),
        "in_tree": draw(st.sampled_from(("n0", "n0-a", "n1"))),
    }
    said = draw(st.sets(st.sampled_from(sorted(group)), max_size=2))
    return {name: value for name, value in group.items() if name in said or name == "resources"}


@st.composite
def specs(draw: st.DrawFn) -> RequestSpec:
    count = draw(st.integers(1, 3))
    policy = draw(st.sampled_from(("none", "isolate")))
    return spec_of(*(draw(groups(must_ask=number == 0)) for number in range(count)), policy=policy)


@settings(max_examples=150, deadline=None)
@given(
    logs(partitions=2, length=25),
    st.lists(specs(), min_size=1, max_size=6),
    st.sampled_from(EVERY_ORDER),
    st.integers(1, 3),
)
def test_it_finds_what_trying_everything_finds(
    tape: Tape, wanted: list[RequestSpec], order: Order, limit: int
) -> None:
    fleet = fleet_of(tape)
    view, rng = fleet.view(), np.random.default_rng(1)
    for spec in wanted:
        serving = fleet.serving(spec)
        found = find(view, spec, limit=EVERYTHING, order=order, rng=rng)
        assert sorted(alike(spec, assignment_of(one, spec)) for one in found) == sorted(
            {alike(spec, way) for ways in serving.values() for way in ways}
        )
        firsts = find(view, spec, limit=EVERYTHING, order=order, rng=rng, one_a_tree=True)
        assert {(one.cell, one.root) for one in firsts} == set(serving)
        for one in found:
            assert assignment_of(one, spec) in serving[one.cell, one.root]
            assert {s.group: s.resources for s in one.allocations} == {
                g.name: g.resources for g in spec.groups
            }
        few = find(view, spec, limit=limit, order=order, rng=rng)
        assert len(few) == min(limit, len(found))
        assert len({assignment_of(one, spec) for one in few}) == len(few)
        assert {assignment_of(one, spec) for one in few} <= {way for ways in serving.values() for way in ways}


# -- a fleet to count on ------------------------------------------------------------------------------------


def even_fleet(count: int, *, parts: int = 0, **inventories: Any) -> Fleet:
    """A number of nodes that differ only in their names; every fourth has a trait and every tenth another."""
    tape = Tape()
    for n in range(count):
        traits = [*(["CUSTOM_FOURTH"] if n % 4 == 0 else []), *(["CUSTOM_TENTH"] if n % 10 == 0 else [])]
        gpus = [provider(f"n{n}-gpu{g}", f"n{n}", CUSTOM_GPU=2) for g in range(parts)]
        tape.append(
            tape.cells[0],
            reported(f"n{n}", [provider(f"n{n}", None, traits, **(inventories or {"VCPU": 8})), *gpus]),
        )
    return fleet_of(tape)


def is_uniform(counts: Counter[Any], kinds: int, times: int) -> bool:
    """Chi-square: a fair draw passes 999 times of 1000, and the seeds are fixed."""
    expected = times / kinds
    chi_square = sum((counts[kind] - expected) ** 2 for kind in counts) / expected
    chi_square += (kinds - len(counts)) * expected
    freedom = kinds - 1
    critical = (
        freedom * (1 - 2 / (9 * freedom) + 3.09 * (2 / (9 * freedom)) ** 0.5) ** 3
    )  # Wilson and Hilferty
    return bool(chi_square < critical)


@pytest.mark.parametrize(
    ("trait", "matching"),
    [("", 200), ("CUSTOM_FOURTH", 50), ("CUSTOM_TENTH", 20)],
    ids=["all", "many", "few"],
)
@pytest.mark.parametrize("limit", [1, 3])
def test_at_random_means_that_all_that_match_are_as_likely(trait: str, matching: int, limit: int) -> None:
    view = even_fleet(200).view()
    spec = spec_of({"resources": {"VCPU": 1}, "required": [trait] if trait else []})
    times = 3000
    counts = Counter(one.root for found in draws(view, spec, times, 7, limit) for one in found)
    assert is_uniform(counts, matching, times * limit)


def test_at_random_is_uniform_over_trees_too() -> None:
    view = even_fleet(40, parts=2).view()
    spec = spec_of({"VCPU": 1}, {"CUSTOM_GPU": 1}, {"CUSTOM_GPU": 1}, policy="isolate")
    counts = Counter(one.root for found in draws(view, spec, 1500, 3) for one in found)
    assert is_uniform(counts, 40, 1500)


def test_among_equal_parts_of_a_tree_any_may_serve() -> None:
    view = even_fleet(1, parts=4).view()
    spec = spec_of({"VCPU": 1}, {"CUSTOM_GPU": 1})
    counts = Counter(one.allocations[1].provider for found in draws(view, spec, 800, 5) for one in found)
    assert is_uniform(counts, 4, 800)


# -- orders -------------------------------------------------------------------------------------------------


def mixed_fleet(trees: bool) -> Fleet:
    tape, rng = Tape(), np.random.default_rng(11)
    for n in range(60):
        vcpu, memory = int(rng.integers(1, 17)), int(rng.integers(1, 17))
        gpus = [
            provider(f"n{n}-g{g}", f"n{n}", CUSTOM_GPU=4)
            for g in range(int(rng.integers(0, 3)) if trees else 0)
        ]
        tape.append(tape.cells[0], reported(f"n{n}", [provider(f"n{n}", VCPU=vcpu, MEMORY_MB=memory), *gpus]))
    return fleet_of(tape)


def totals(fleet: Fleet, names: Sequence[str]) -> dict[str, float]:
    """Root -> what is free in its tree of these classes, each as a share of the largest tree's capacity."""
    free = {name: Counter[str]() for name in ("VCPU", "MEMORY_MB", "CUSTOM_GPU")}
    for at, row in fleet.providers.items():
        for name in row.classes:
            free[name][row.root] += fleet.record(at, name).total
    roots = {row.root for row in fleet.providers.values()}
    return {r: sum(free[n][r] / max(free[n].values(), default=1) for n in names) for r in roots}


def scored(order: Order, asked: float, rest: float) -> tuple[float, float]:
    if order is PACK:
        return round(rest, 9), asked
    return (round(asked + rest, 9), 0.0) if order is BEST_FIT else (-asked, 0.0)


@pytest.mark.parametrize("trees", [False, True], ids=["nodes", "trees"])
@pytest.mark.parametrize("limit", [1, 5, 60])
@pytest.mark.parametrize("order", [PACK, SPREAD, BEST_FIT], ids=["pack", "spread", "best fit"])
def test_packing_and_spreading_give_the_exact_best(trees: bool, limit: int, order: Order) -> None:
    fleet = mixed_fleet(trees)
    asked, rest = totals(fleet, ["VCPU"]), totals(fleet, ["MEMORY_MB", "CUSTOM_GPU"])
    spec = spec_of({"VCPU": 3})
    able = sorted(root for _, root in fleet.serving(spec))
    score = {root: scored(order, asked[root], rest[root]) for root in able}
    found = [
        one.root for one in find(fleet.view(), spec, limit=limit, order=order, rng=np.random.default_rng(1))
    ]
    assert [score[root] for root in found] == sorted(score.values())[:limit]


@pytest.mark.parametrize("order", [PACK, SPREAD, BEST_FIT], ids=["pack", "spread", "best fit"])
def test_several_groups_are_packed_and_spread_like_one(order: Order) -> None:
    fleet = mixed_fleet(trees=True)
    asked, rest = totals(fleet, ["VCPU", "CUSTOM_GPU"]), totals(fleet, ["MEMORY_MB"])
    spec = spec_of({"VCPU": 3}, {"CUSTOM_GPU": 4}, {"CUSTOM_GPU": 4}, policy="isolate")
    able = sorted(root for _, root in fleet.serving(spec))
    assert 3 < len(able) < 40
    score = {root: scored(order, asked[root], rest[root]) for root in able}
    for limit in (1, 4, 60):
        found = [
            one.root
            for one in find(fleet.view(), spec, limit=limit, order=order, rng=np.random.default_rng(1))
        ]
        assert [score[root] for root in found] == sorted(score.values())[:limit]


def test_within_a_tree_a_group_takes_the_part_that_fits_best_unless_it_spreads() -> None:
    tape = Tape()
    parts = [provider(f"g{size}", "n1", CUSTOM_GPU=size) for size in (4, 2, 8)]
    tape.append(tape.cells[0], reported("n1", [provider("n1", VCPU=8), *parts]))
    view, spec = fleet_of(tape).view(), spec_of({"VCPU": 1}, {"CUSTOM_GPU": 2})
    parts_by_order = {RANDOM: "g2", PACK: "g2", BEST_FIT: "g2", SPREAD: "g8"}
    for order, part in parts_by_order.items():
        (found,) = find(view, spec, limit=1, order=order, rng=np.random.default_rng(1))
        assert found.allocations[1].provider == part


def test_best_takes_the_lowest_and_breaks_ties_at_random() -> None:
    values = np.array([3.0, 1.0, 2.0, 2.0, 2.0, 2.0, 5.0])
    rng = np.random.default_rng(2)
    taken: Counter[int] = Counter()
    for _ in range(2000):
        chosen = best(values, 3, rng).tolist()
        assert chosen[0] == 1
        assert len(set(chosen)) == 3
        taken.update(chosen[1:])
    assert set(taken) == {2, 3, 4, 5}
    assert is_uniform(taken, 4, 4000)
    assert sorted(best(values, 7, rng).tolist()) == list(range(7))
    assert values[best(values, 99, rng)].tolist() == sorted(values.tolist())
    assert best(np.array([]), 3, rng).tolist() == []


# -- what columns cannot say ----------------------------------------------------------------------------------


@pytest.mark.parametrize("order", EVERY_ORDER, ids=list(SIMPLE_ORDERS))
def test_the_one_that_fits_is_found_among_many_that_only_seem_to(order: Order) -> None:
    """By the columns every node has room enough; only one has the port that is asked for."""
    tape = Tape()
    for n in range(300):
        ports = [*range(100, 110), 200 + (n == 123), 300]
        tape.append(tape.cells[0], reported(f"n{n}", [provider(f"n{n}", PORTS={"ports": ports})]))
    view = fleet_of(tape).view()
    for spec in (spec_of({"PORTS": {"ports": [201]}}), spec_of({"PORTS": {"ports": [201]}}, {"PORTS": 1})):
        found = find(view, spec, limit=1, order=order, rng=np.random.default_rng(1))
        assert [one.root for one in found] == ["n123"]


def test_groups_that_share_a_provider_share_what_it_has() -> None:
    view = even_fleet(1, VCPU=8, MEMORY_MB=8).view()
    rng = np.random.default_rng(1)

    def fits(*groups: dict[str, Any], policy: str = "none") -> bool:
        return bool(find(view, spec_of(*groups, policy=policy), limit=1, order=RANDOM, rng=rng))

    assert fits({"VCPU": 4}, {"VCPU": 4})
    assert not fits({"VCPU": 4}, {"VCPU": 5})
    assert fits({"VCPU": 8}, {"MEMORY_MB": 8})
    assert not fits({"VCPU": 4}, {"VCPU": 4}, policy="isolate")


def test_eight_of_eight_parts_are_found_however_they_must_be_matched() -> None:
    """Group k fits only parts k and above: a greedy choice goes wrong, a matching does not."""
    tape = Tape()
    parts = [provider(f"g{n}", "n1", CUSTOM_GPU=n + 1) for n in range(8)]
    tape.append(tape.cells[0], reported("n1", [provider("n1", VCPU=1), *parts]))
    view = fleet_of(tape).view()
    asks = [{"CUSTOM_GPU": n + 1} for n in range(8)]
    for order in EVERY_ORDER:
        for some in (asks, asks[::-1]):
            found = find(
                view, spec_of(*some, policy="isolate"), limit=1, order=order, rng=np.random.default_rng(1)
            )
            assert len(found) == 1
            assert len({served.provider for served in found[0].allocations}) == 8
    assert not find(
        view,
        spec_of(*asks, {"CUSTOM_GPU": 8}, policy="isolate"),
        limit=1,
        order=PACK,
        rng=np.random.default_rng(1),
    )


def test_a_hostile_request_does_not_stop_a_scheduler() -> None:
    """Sixty-four groups that share forty parts, one unit too few: the search ends early."""
    tape = Tape()
    parts = [provider(f"g{n}", "n1", CUSTOM_GPU=5) for n in range(42)]
    tape.append(tape.cells[0], reported("n1", [provider("n1", VCPU=1), *parts]))
    view = fleet_of(tape).view()
    budget = SearchBudget()
    spec = spec_of(*[{"CUSTOM_GPU": 3}] * 64)
    assert not find(view, spec, limit=1, order=RANDOM, rng=np.random.default_rng(1), budget=budget)
    assert QUERY_STEPS_MAX - budget.left <= STEPS_MAX


# -- what is not a candidate ------------------------------------------------------------------------------------


def test_a_root_that_is_live_in_two_cells_is_a_candidate_in_neither() -> None:
    tape = Tape()
    for cell in tape.cells:
        tape.append(cell, reported("n1", [provider("n1", VCPU=8)]))
    tape.append(tape.cells[1], reported("n2", [provider("n2", VCPU=8)]))
    found = find(
        fleet_of(tape).view(), spec_of({"VCPU": 1}), limit=9, order=RANDOM, rng=np.random.default_rng(1)
    )
    assert [(one.cell, one.root) for one in found] == [(tape.cells[1], "n2")]


@pytest.mark.parametrize("turned", [False, True])
def test_who_takes_any_does_not_take_what_another_group_wants(turned: bool) -> None:
    tape = Tape()
    tape.append(tape.cells[0], reported("n1", [provider("n1", PORTS={"ports": [80, 81]})]))
    groups: list[dict[str, Any]] = [{"PORTS": 1}, {"PORTS": {"ports": [80]}}]
    spec = spec_of(*(groups[::-1] if turned else groups))
    assert find(fleet_of(tape).view(), spec, limit=1, order=RANDOM, rng=np.random.default_rng(1))


@pytest.mark.parametrize("order", [RANDOM, SPREAD])
def test_candidates_of_one_cell(order: Order) -> None:
    tape = Tape()
    for number in range(60):
        cell = tape.cells[number % len(tape.cells)]
        tape.append(cell, reported(f"n{number}", [provider(f"n{number}", VCPU=8)]))
    view = fleet_of(tape).view()
    for asks in ({"VCPU": 1}, {"VCPU": 9}):
        for limit in (1, 5, 100):
            rng = np.random.default_rng(1)
            for cell in tape.cells:
                found = find(view, spec_of(asks), limit=limit, order=order, rng=rng, cell=cell)
                there = 60 // len(tape.cells) if asks["VCPU"] == 1 else 0
                assert len({one.root for one in found}) == len(found) == min(limit, there)
                assert {one.cell for one in found} <= {cell}
            assert find(view, spec_of(asks), limit=limit, order=order, rng=rng, cell="no-cell") == []


def test_a_tree_is_found_in_the_cell_where_it_lives_now() -> None:
    """A node moved to another cell, and what was held of it in the first is still there."""
    for order in (0, 1), (1, 0):
        tape = Tape()
        old, new = (tape.cells[n] for n in order)
        tree = [provider("n1", VCPU=8), provider("n1-a", "n1", CUSTOM_GPU=1)]
        tape.append(old, reported("n1", tree))
        held = [{"provider": "n1", "resources": {"VCPU": 1}}]
        bid = {"id": "c1", "consumer": "i1", "allocations": held, "deadline_ms": tape.now_ms}
        tape.append(old, event("claims.requested.v1", {"claims": [bid]}))
        tape.append(old, event("node.retired.v1", {"root": "n1", "incarnation": f"{1:016x}", "sequence": 2}))
        tape.append(new, reported("n1", tree))
        view, rng = fleet_of(tape).view(), np.random.default_rng(1)
        for within in ("n1", "n1-a"):
            spec = spec_of({"resources": {"VCPU": 1}, "in_tree": within})
            assert [one.cell for one in find(view, spec, limit=9, order=RANDOM, rng=rng)] == [new]


def test_a_node_that_was_not_heard_of_lately_may_be_left_out() -> None:
    tape = Tape()
    for n in range(3):
        tape.append(
            tape.cells[0],
            reported(f"n{n}", [provider(f"n{n}", VCPU=8), provider(f"n{n}-a", f"n{n}", CUSTOM_GPU=1)]),
        )
        tape.now_ms += 60_000
    view, rng = fleet_of(tape).view(), np.random.default_rng(1)
    for spec in (spec_of({"CUSTOM_GPU": 1}), spec_of({"VCPU": 1}, {"CUSTOM_GPU": 1})):
        since = tape.now_ms - 120_000
        found = find(view, spec, limit=9, order=PACK, rng=rng, heard_since_ms=since)
        assert {one.root for one in found} == {"n1", "n2"}
        assert len(find(view, spec, limit=9, order=PACK, rng=rng)) == 3
        assert not find(view, spec, limit=9, order=PACK, rng=rng, heard_since_ms=since + 10**6)


def test_nothing_is_found_where_there_is_nothing() -> None:
    rng = np.random.default_rng(1)
    empty, fleet = fleet_of(Tape()).view(), even_fleet(3).view()
    assert find(empty, spec_of({"VCPU": 1}), limit=1, order=RANDOM, rng=rng) == []
    for group in (
        {"resources": {"MEMORY_MB": 1}},
        {"resources": {"VCPU": 9}},
        {"resources": {"VCPU": 1}, "required": ["CUSTOM_NOBODY_HAS_IT"]},
        {"resources": {"VCPU": 1}, "any_traits": [["CUSTOM_NOBODY_HAS_IT"]]},
        {"resources": {"VCPU": 1}, "member_of": [["nobody"]]},
        {"resources": {"VCPU": 1}, "in_tree": "nobody"},
    ):
        for order in EVERY_ORDER:
            assert find(fleet, spec_of(group), limit=1, order=order, rng=rng) == []
    for group in (
        {"resources": {"VCPU": 1}, "forbidden": ["CUSTOM_NOBODY_HAS_IT"]},
        {"resources": {"VCPU": 1}, "not_member_of": ["nobody"]},
        {"resources": {"VCPU": 1}, "any_traits": [["CUSTOM_NOBODY_HAS_IT", "CUSTOM_TENTH"]]},
    ):
        assert find(fleet, spec_of(group), limit=1, order=RANDOM, rng=rng)
