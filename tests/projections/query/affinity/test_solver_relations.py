"""Server groups and copies against a solver that tries every combination, on small fleets from a seed: who joins a
group by the words of the rules joins it by the fold, what can be placed is found, and what is found is accepted."""

from __future__ import annotations

import json
import os
import random
import sys
from collections import Counter
from collections.abc import Iterable

import numpy as np
import pytest
from msgspec import to_builtins

from tests.projections.query.test_solver import EVERYTHING, alike, as_assignment
from tests.support.classes.ports_class import REGISTRY
from tests.support.logs.events_json import START_MS
from tests.support.models.memory_fleets import Fleet
from tests.support.models.memory_state import MemoryState
from tests.support.queries import compiled, find
from tests.support.random_fleets.fleets import SHARES, RandomFleet, bid
from tests.support.random_fleets.relations import fleet_in_racks, joining, related, with_copies
from tests.support.solver.brute_force import Assignment, Request, assignments
from tests.support.solver.brute_force import Fleet as Known
from tests.support.solver.relations import Members, gangs, is_gang, misses, roots_of
from vacancy.clients.scheduler.claims import predicates
from vacancy.projections.query.budget import SearchBudget
from vacancy.projections.ranking.orders import SIMPLE_ORDERS
from vacancy.resources.fold.fold import fold
from vacancy.resources.model.record import Record
from vacancy.resources.model.request import RequestSpecV2, oldest_form
from vacancy.resources.state.rows import VerdictRow
from vacancy.resources.state.tables import DEAD_LETTERS, VERDICTS, key

FLEETS = int(os.environ.get("VACANCY_FLEETS", "150"))
REQUESTS = 5
ALL_MAX = 2_000
"""So many places for one copy are all found; of more, some."""

SEEN: Counter[str] = Counter()
"""What became of the requests."""


def judged(random_fleet: RandomFleet, state: MemoryState, value: bytes, claim: str) -> VerdictRow:
    """What the fold says of a claim where the log ends."""
    record = Record(0, len(random_fleet.tape.records[0]), START_MS, random_fleet.cell.encode(), value)
    verdict: VerdictRow = fold(state, record, REGISTRY)[VERDICTS][key(random_fleet.cell, claim)]
    return verdict


def settled(rng: random.Random) -> tuple[RandomFleet, Fleet, dict[str, list[set[str]]]]:
    """A random_fleet in which some have joined groups: those that may by the words of the rules, and nobody else."""
    random_fleet = fleet_in_racks(rng)
    fleet = Fleet(random_fleet.tape.records.values())
    (state,) = fleet.states
    random_fleet.learn(state)
    members: dict[str, list[set[str]]] = {}
    for one in joining(rng, random_fleet):
        verdict = judged(random_fleet, state, one.claim, f"in-{one.consumer}")
        assert verdict.accepted == one.may_join(random_fleet.known, members), f"{one}: {verdict}"
        if verdict.accepted:
            state.commit(fold(state, random_fleet.tape.append(random_fleet.cell, one.claim), REGISTRY))
            members.setdefault(one.rule["group"], []).extend(one.roots(random_fleet.known))
            for id_ in (id_ for copy in one.copies for id_ in copy):
                stock = random_fleet.known[id_].stock
                free = stock[one.resource_class]["free"] - 1
                stock[one.resource_class] = {**stock[one.resource_class], "free": free}
    assert not any(family == DEAD_LETTERS.family for family, _, _ in state.items())
    return random_fleet, fleet, members


@pytest.mark.parametrize("seed", range(FLEETS))
def test_copies_are_placed_where_trying_everything_places_them(seed: int) -> None:
    rng = random.Random(seed)
    random_fleet, fleet, members = settled(rng)
    view, known = fleet.view(), random_fleet.known
    for _ in range(REQUESTS):
        request = related(rng, random_fleet)
        options = {alike(request, way): way for _, way in assignments(known, request)}
        request = with_copies(rng, request, len(options))
        spec = oldest_form(RequestSpecV2.model_validate_json(json.dumps(request)))
        order = SIMPLE_ORDERS[rng.choice(sorted(SIMPLE_ORDERS))]
        budget, draw = SearchBudget(), np.random.default_rng(seed)
        found = find(view, spec, limit=EVERYTHING, order=order, rng=draw, budget=budget)
        told = f"seed {seed}: {request}: {found[:1]}"
        if spec.copies == 1:
            kept = {mark: way for mark, way in options.items() if is_gang(known, request, [way], members)}
            answers = [alike(request, as_assignment(one, spec)) for one in found]
            assert len(set(answers)) == len(answers), told
            assert set(answers) <= set(kept), told
            assert len(answers) == len(kept) if len(kept) <= ALL_MAX else answers, told
            assert not budget.gave_up
            if found:
                check_wishes(known, request, kept[answers[0]], kept.values(), members)
            possible = bool(kept)
        else:
            gang = next(gangs(known, request, [*options.values()], members), None)
            possible = gang is not None
            SEEN["gave up"] += bool(budget.gave_up) and not found
            assert bool(found) == possible or budget.gave_up, f"{told} {gang}"
        SEEN[f"{spec.copies} copies, {'placed' if possible else 'not'}"] += 1
        for one in found[:8]:
            copies = [options[alike(request, as_assignment(copy, spec))] for copy in one.copies or (one,)]
            assert is_gang(known, request, copies, members), f"{told} {one}"
            claim = bid(
                "c",
                "new",
                [served._asdict() for served in one.allocations if served.resources],
                predicates=to_builtins(predicates(compiled(spec), one, view)),
                memberships=request["memberships"],
            )
            verdict = judged(random_fleet, fleet.states[0], claim, "c")
            assert verdict.accepted, f"{told} {one} {verdict}"


def check_wishes(
    known: Known, request: Request, first: Assignment, kept: Iterable[Assignment], members: Members
) -> None:
    """The first place found is as near to what is wished as any is."""

    def missed(way: Assignment) -> int:
        at = roots_of(known, [(name, id_) for _, name, id_ in way])
        soft = [one for one in request["memberships"] if not one.get("hard", True)]
        return sum(misses(known, one, members.get(one["group"], ()), at) for one in soft)

    if not any(SHARES in node.traits for node in known.values()):
        assert missed(first) == min(map(missed, kept))


def test_nearly_all_is_searched_to_the_end() -> None:
    sys.stdout.write(f"{', '.join(f'{what}: {count:,}' for what, count in sorted(SEEN.items()))}\n")
    assert SEEN["gave up"] * 200 <= sum(SEEN.values())
