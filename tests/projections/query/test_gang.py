"""Unlike requests together, against a solver that tries every combination, on small fleets from a seed; what is found is
accepted by the fold, as one gang."""

from __future__ import annotations

import itertools
import json
import os
import random
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from msgspec import to_builtins

from tests.projections.query.test_solver import alike
from tests.support.classes.ports_class import REGISTRY
from tests.support.logs.events_json import START_MS, Tape, event, provider, reported
from tests.support.models.memory_fleets import Fleet
from tests.support.queries import compiled
from tests.support.random_fleets.fleets import RandomFleet, a_request
from tests.support.solver.brute_force import Assignment, Request, assignments, fits_all
from tests.support.solver.brute_force import Fleet as Known
from vacancy.clients.scheduler.claims import predicates
from vacancy.projections.query.gang import TRIALS_MAX, FoundGang, GangMember, find_gang
from vacancy.projections.ranking.orders import RANDOM, SIMPLE_ORDERS
from vacancy.projections.view.fleet import FleetView
from vacancy.resources.fold.fold import fold
from vacancy.resources.model.record import Record
from vacancy.resources.model.request import RequestSpec
from vacancy.resources.state.tables import VERDICTS, key

FLEETS = int(os.environ.get("VACANCY_FLEETS", "150"))

SEEN: Counter[str] = Counter()
"""What became of the gangs."""


def cpus(amount: int) -> RequestSpec:
    return RequestSpec.model_validate({"groups": ({"resources": {"VCPU": amount}},)})


def together(view: FleetView, specs: Sequence[RequestSpec], seed: int = 1, **options: Any) -> FoundGang:
    members = [GangMember(compiled(spec), f"m{number}") for number, spec in enumerate(specs)]
    return find_gang(view, members, rng=np.random.default_rng(seed), **{"order": RANDOM, **options})


def fleet_of(*totals: int) -> FleetView:
    tape = Tape()
    for number, total in enumerate(totals):
        tape.append(tape.cells[0], reported(f"n{number}", [provider(f"n{number}", VCPU=total)]))
    return Fleet(tape.records.values()).view()


@pytest.mark.parametrize("order", sorted(SIMPLE_ORDERS))
def test_each_order_of_asking_finds_the_only_places(order: str) -> None:
    view = fleet_of(53, 31, 12)
    for asks in itertools.permutations((50, 30, 11, 1, 3)):
        found = together(view, [cpus(amount) for amount in asks], order=SIMPLE_ORDERS[order])
        roots = {amount: place.root for amount, place in zip(asks, found.places, strict=True)}
        assert (roots[50], roots[30], roots[11]) == ("n0", "n1", "n2")
    assert not together(view, [cpus(50), cpus(30), cpus(12), cpus(4)]).places


def test_members_alike_that_have_no_room_are_refused_without_trying_all_their_orders() -> None:
    found = together(fleet_of(*[8] * 8), [cpus(5)] * 9)
    assert (found.places, found.gave_up, found.placeless) == ((), 0, None)


def test_a_search_that_reaches_its_limit_says_so() -> None:
    found = together(fleet_of(*[100] * 10), [cpus(60 + n) for n in range(11)])
    assert (found.places, found.gave_up) == ((), 1)
    assert TRIALS_MAX < 10 * 9 * 8 * 7


def test_the_view_is_as_before() -> None:
    view = fleet_of(53, 31)
    before = view.classes["VCPU"].arrays["free"][: view.size].tolist()
    together(view, [cpus(50), cpus(30)])
    together(view, [cpus(50), cpus(32)])
    assert view.classes["VCPU"].arrays["free"][: view.size].tolist() == before


def solved(known: Known, requests: Sequence[Request]) -> Iterator[tuple[Assignment, ...]]:
    """All combinations of assignments, one for each request, that fit together."""
    groups = [group for request in requests for group in request["groups"]]
    firsts = list(itertools.accumulate((len(request["groups"]) for request in requests), initial=0))
    options = [
        {
            alike(request, way): tuple((first + n, name, id_) for n, name, id_ in way)
            for _, way in assignments(known, request)
        }.values()
        for request, first in zip(requests, firsts, strict=False)
    ]
    for some in itertools.product(*options):
        if fits_all(known, {"groups": groups}, some):
            yield some


def a_member(rng: random.Random, random_fleet: RandomFleet) -> dict[str, Any]:
    """A random request, mostly one that has a place if it is alone."""
    for _ in range(8):
        request = a_request(rng, list(random_fleet.known), random_fleet.kinds)
        if rng.random() < 0.5:
            kept = ("name", "resources", "same_provider")
            groups = [{name: group[name] for name in kept if name in group} for group in request["groups"]]
            request = {"groups": groups}
        if next(assignments(random_fleet.known, request), None):
            break
    return request


@pytest.mark.parametrize("seed", range(FLEETS))
def test_gangs_are_placed_where_trying_everything_places_them(seed: int) -> None:
    rng = random.Random(20_000_000 + seed)
    random_fleet = RandomFleet(rng, newest=True)
    fleet = Fleet(random_fleet.tape.records.values())
    view, known = fleet.view(), random_fleet.known
    random_fleet.learn(fleet.states[0])
    requests = [a_member(rng, random_fleet) for _ in range(rng.choice((2, 2, 3)))]
    specs = [RequestSpec.model_validate_json(json.dumps(one)) for one in requests]
    found = together(view, specs, seed, order=SIMPLE_ORDERS[rng.choice(sorted(SIMPLE_ORDERS))])
    possible = next(solved(known, requests), None)
    SEEN["gave up" if found.gave_up and not found.places else "placed" if found.places else "nowhere"] += 1
    assert bool(found.places) == bool(possible) or found.gave_up, f"seed {seed}: {requests}: {possible}"
    if not found.places:
        return
    claims = [
        {
            "id": f"c{number}",
            "consumer": f"new-{number}",
            "deadline_ms": START_MS + 60_000,
            "allocations": [served._asdict() for served in place.allocations if served.resources],
            "predicates": to_builtins(predicates(compiled(spec), place, view)),
        }
        for number, (spec, place) in enumerate(zip(specs, found.places, strict=True))
    ]
    record = Record(
        0,
        len(random_fleet.tape.records[0]),
        START_MS,
        random_fleet.cell.encode(),
        event("gang.requested.v1", {"claims": [claims[number] for number in found.turns]}),
    )
    verdicts = fold(fleet.states[0], record, REGISTRY)[VERDICTS]
    for claim in claims:
        verdict = verdicts[key(random_fleet.cell, claim["id"])]
        assert verdict.accepted, f"seed {seed}: {requests}: {found.places}: {verdict}"


def test_nearly_all_gangs_are_searched_to_the_end() -> None:
    sys.stdout.write(f"{', '.join(f'{what}: {count:,}' for what, count in sorted(SEEN.items()))}\n")
    assert SEEN["gave up"] * 200 <= sum(SEEN.values())
