"""The query engine against a solver that tries everything, on small fleets and requests from a seed; and every answer
is claimed through the fold, which accepts it."""

from __future__ import annotations

import itertools
import json
import os
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from msgspec import to_builtins

from tests.support.classes.ports_class import REGISTRY
from tests.support.logs.events_json import START_MS, Tape, provider, reported
from tests.support.models.memory_fleets import Fleet
from tests.support.queries import compiled, find
from tests.support.random_fleets.fleets import RandomFleet, a_request, bid, take, tolerations
from tests.support.solver.alternatives import choices
from tests.support.solver.brute_force import Assignment, Node, ancestors, assignments
from tests.support.solver.brute_force import Fleet as Known
from vacancy.clients.scheduler.claims import predicates
from vacancy.projections.query.budget import SearchBudget
from vacancy.projections.query.model import Candidate
from vacancy.projections.ranking.orders import SIMPLE_ORDERS
from vacancy.projections.view.fleet import FleetView
from vacancy.resources.fold.fold import fold
from vacancy.resources.model.record import Record
from vacancy.resources.model.request import RequestSpec, RequestSpecV2, oldest_form
from vacancy.resources.state.rows import AllocationPart, AllocationRow
from vacancy.resources.state.tables import ALLOCATIONS, VERDICTS, key

FLEETS = int(os.environ.get("VACANCY_FLEETS", "150"))
REQUESTS = 5
"""Requests asked of each fleet. 2,000 fleets are 10,000 requests."""

EVERYTHING = 5_000


def as_assignment(candidate: Candidate, spec: RequestSpec) -> Assignment:
    numbers = {group.name: number for number, group in enumerate(spec.groups)}
    return tuple(
        (numbers[served.group], name, served.provider)
        for served in candidate.allocations
        for name in (served.resources or [""])
    )


def alike(request: Mapping[str, Any], way: Assignment) -> Any:
    """A way, without which of equal groups is served by whom."""
    subtrees = request.get("same_subtree", ())
    kinds = [
        repr(sorted((n, v) for n, v in group.items() if n != "name"))
        + repr([group["name"] in names for names in subtrees])
        for group in request["groups"]
    ]
    by_group: dict[int, list[tuple[str, str]]] = {}
    for number, name, id_ in way:
        by_group.setdefault(number, []).append((name, id_))
    return frozenset(Counter((kinds[n], tuple(sorted(served))) for n, served in by_group.items()).items())


def granted(
    random_fleet: RandomFleet,
    fleet: Fleet,
    view: FleetView,
    spec: RequestSpec,
    candidate: Candidate,
    tolerated: Sequence[Mapping[str, Any]] = (),
) -> tuple[AllocationPart, ...] | None:
    """What the fold grants to a claim of this candidate where the log ends, or None where it rejects it."""
    (state,) = fleet.states
    allocations = [served._asdict() for served in candidate.allocations if served.resources]
    checks = to_builtins(predicates(compiled(spec), candidate, view))
    value = bid("c", "new", allocations, predicates=checks, tolerations=tolerated)
    at = len(random_fleet.tape.records[0])
    changes = fold(state, Record(0, at, START_MS, random_fleet.cell.encode(), value), REGISTRY)
    if not changes[VERDICTS][key(random_fleet.cell, "c")].accepted:
        return None
    row: AllocationRow = changes[ALLOCATIONS][key(random_fleet.cell, "new")]
    return row.parts


def checked(
    known: Known, request: Mapping[str, Any], parts: Iterable[AllocationPart]
) -> list[tuple[Node, str, Any]]:
    """(provider, class, what is left) after these grants; the provider could give each of them."""
    asks = {group["name"].partition("#")[0]: group["resources"] for group in request["groups"]}
    left: dict[tuple[str, str], Any] = {}
    for part in parts:
        at = part.provider, part.resource_class
        before = left.get(at, known[part.provider].stock[part.resource_class])
        ask = asks[part.group.partition("#")[0]][part.resource_class]
        left[at] = take(before, part.resource_class, ask, part.grant)
    return [(known[id_], name, stock) for (id_, name), stock in left.items()]


@contextmanager
def under_way(
    view: FleetView,
    known: Known,
    request: Mapping[str, Any],
    candidate: Candidate,
    parts: Iterable[AllocationPart],
) -> Iterator[None]:
    """The candidate's claim is under way: the view counts it, and so does the solver."""
    taken = [
        (view.row_of[key(candidate.cell, served.provider)], name, ask)
        for served in candidate.allocations
        for name, ask in served.resources.items()
    ]
    before = [(node, name, node.stock[name]) for node, name, _ in checked(known, request, parts)]
    for node, name, stock in checked(known, request, parts):
        node.stock[name] = stock
    under_way = [view.reserve(*one) for one in taken]
    yield
    for one in reversed(under_way):
        view.unreserve(one)
    for node, name, stock in before:
        node.stock[name] = stock


@pytest.mark.parametrize("seed", range(FLEETS))
def test_the_engine_finds_what_trying_everything_finds(seed: int) -> None:
    rng = random.Random(seed)
    random_fleet = RandomFleet(rng, newest=seed % 2 == 1)
    fleet = Fleet(random_fleet.tape.records.values())
    view, known = fleet.view(), random_fleet.known
    random_fleet.learn(fleet.states[0])
    for _ in range(REQUESTS):
        request = a_request(rng, list(known), random_fleet.kinds)
        if random_fleet.tainted:
            request["tolerations"] = tolerations(rng)
        spec = oldest_form(RequestSpecV2.model_validate_json(json.dumps(request)))
        order = SIMPLE_ORDERS[rng.choice(sorted(SIMPLE_ORDERS))]
        budget, draw = SearchBudget(), np.random.default_rng(seed)
        solved = list(assignments(known, request))
        right = {alike(request, way): root for root, way in solved}
        found = find(view, spec, limit=EVERYTHING, order=order, rng=draw, budget=budget)
        answers = [alike(request, as_assignment(one, spec)) for one in found]
        assert not budget.gave_up
        assert len(set(answers)) == len(answers)
        assert set(answers) == set(right), f"seed {seed}: {request}"
        roots = {one.root for one in find(view, spec, limit=99, order=order, rng=draw, one_a_tree=True)}
        assert roots <= {root for root, _ in solved}
        assert bool(roots) == bool(solved)
        if not found:
            continue
        for one in found[:8]:
            parts = granted(random_fleet, fleet, view, spec, one, request.get("tolerations", ()))
            assert parts is not None, f"seed {seed}: {request}: {one}"
            checked(known, request, parts)
        (first,) = find(view, spec, limit=1, order=order, rng=draw)
        parts = granted(random_fleet, fleet, view, spec, first, request.get("tolerations", ()))
        assert parts is not None
        with under_way(view, known, request, first, parts):
            again = find(view, spec, limit=1, order=order, rng=draw)
            assert bool(again) == any(True for _ in assignments(known, request)), f"seed {seed}: {request}"


def with_choices(rng: random.Random, known: Known, kinds: list[str]) -> dict[str, Any]:
    """A random request with alternatives and preferred relations."""
    request, *others = (a_request(rng, list(known), kinds) for _ in range(rng.choice((1, 2, 2, 3))))
    whole = {**request, "alternatives": others, "tolerations": tolerations(rng)}
    served = [
        [group["name"] for group in one["groups"] if group.get("same_provider", True)]
        for one in (request, *others)
    ]
    pairs = [rng.sample(names, 2) for names in served if len(names) > 1]
    if pairs:
        whole["prefer_same_subtree"] = rng.sample(pairs, rng.randint(1, min(2, len(pairs))))
    return whole


@pytest.mark.parametrize("seed", range(FLEETS))
def test_each_tree_is_a_candidate_by_its_first_choice_that_fits(seed: int) -> None:
    rng = random.Random(10_000_000 + seed)
    random_fleet = RandomFleet(rng, newest=True)
    fleet = Fleet(random_fleet.tape.records.values())
    view, known = fleet.view(), random_fleet.known
    random_fleet.learn(fleet.states[0])
    for _ in range(REQUESTS):
        request = with_choices(rng, known, random_fleet.kinds)
        spec = RequestSpecV2.model_validate_json(json.dumps(request))
        order = SIMPLE_ORDERS[rng.choice(sorted(SIMPLE_ORDERS))]
        budget, draw = SearchBudget(), np.random.default_rng(seed)
        found = find(view, spec, limit=EVERYTHING, order=order, rng=draw, budget=budget)
        assert not budget.gave_up
        assert [one.choice for one in found] == sorted(one.choice for one in found)
        (best, *_) = [*find(view, spec, limit=1, order=order, rng=draw), None]
        earlier: set[str] = set()
        for number, choice in enumerate(choices(request)):
            right: dict[Any, set[str]] = {}
            own: dict[Any, set[str]] = {}
            for root, way in assignments(known, choice):
                right.setdefault(alike(choice, way), set()).add(root)
                own[alike(choice, way)] = {ancestors(known, id_)[-1] for _, _, id_ in way}
            if best is None or number < best.choice:
                assert not right, f"seed {seed}: {request}"
            here = [one for one in found if one.choice == number]
            answers = [alike(choice, as_assignment(one, spec.choices[number])) for one in here]
            assert len(set(answers)) == len(answers)
            new = {way for way, roots in right.items() if roots - earlier}
            # What only sharing providers serve is a candidate of one of the trees that may use them.
            sure = {way for way in new if own[way] - earlier}
            assert sure <= set(answers) <= new, f"seed {seed}, choice {number}: {request}"
            earlier |= {one.root for one in here}
            for one in here[:2]:
                parts = granted(random_fleet, fleet, view, spec.choices[number], one, request["tolerations"])
                assert parts is not None, f"seed {seed}: {request}: {one}"
                checked(known, choice, parts)


@pytest.mark.parametrize("asks", list(itertools.permutations(("01", "02", "03"))))
def test_who_needs_a_certain_device_is_served_before_who_takes_any(asks: tuple[str, ...]) -> None:
    """Of three devices the first ask takes the first that will do, which another one needs."""
    will_do = {"01": ["01", "02", "03"], "02": ["01", "02"], "03": ["01"]}
    tape = Tape()
    devices: dict[str, Any] = {name: {} for name in will_do}
    tape.append(tape.cells[0], reported("n", [provider("n", PCI_DEVICE={"devices": devices})]))
    groups = [
        {"name": at, "resources": {"PCI_DEVICE": {"where": {"address": {"in": will_do[at]}}}}} for at in asks
    ]
    spec = RequestSpec.model_validate_json(json.dumps({"groups": groups}))
    fleet = Fleet(tape.records.values())
    (one,) = find(fleet.view(), spec, limit=5, order=SIMPLE_ORDERS["random"], rng=np.random.default_rng(1))
    claim = bid("c", "new", [served._asdict() for served in one.allocations])
    changes = fold(fleet.states[0], Record(0, 2, START_MS, tape.cells[0].encode(), claim), REGISTRY)
    assert changes[VERDICTS][key(tape.cells[0], "c")].accepted
