"""Places for a consumer that holds something, against a solver that tries everything, on small fleets from a seed; what is
found is accepted by the fold, which grants what the solver says can be granted."""

from __future__ import annotations

import copy
import json
import os
import random
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from tests.projections.query.test_solver import EVERYTHING, alike, as_assignment
from tests.support.classes.ports_class import REGISTRY
from tests.support.logs.events_json import START_MS, event
from tests.support.logs.tape_log import TapeLog
from tests.support.models.memory_state import MemoryState
from tests.support.random_fleets.fleets import ASKS, RandomFleet, a_request, an_ask, bid, take
from tests.support.sites.temporary_stores import opened_store
from tests.support.solver.brute_force import Assignment, Request, ancestors, assignments
from tests.support.solver.brute_force import Fleet as Known
from tests.support.solver.classes import units
from tests.support.solver.moves import Held, is_enabled, moves, no_more, taken
from vacancy.clients.scheduler.claims import ClaimMaker
from vacancy.clients.scheduler.moves.consumer_places import ConsumerPlaces, Place, Wish
from vacancy.clients.scheduler.moves.holdings import Holding, account_of, asked_of
from vacancy.clients.scheduler.moves.moves import node_of
from vacancy.clients.scheduler.store_query import StoreQuery
from vacancy.projections.query.budget import SearchBudget
from vacancy.projections.ranking.orders import SIMPLE_ORDERS
from vacancy.projections.store.store import Store
from vacancy.resources.fold.fold import fold
from vacancy.resources.model import events
from vacancy.resources.model.record import Record
from vacancy.resources.model.request import RequestSpec
from vacancy.resources.state.rows import AllocationRow, VerdictRow
from vacancy.resources.state.tables import ALLOCATIONS, VERDICTS, key
from vacancy.streams.clocks.log_clock import LogClock

FLEETS = int(os.environ.get("VACANCY_FLEETS", "150")) // 3
"""They cost more than others: each has a store."""

REQUESTS = 4
TRIES = 6
MOVER = "mover"

SEEN: Counter[str] = Counter()
"""What became of the requests."""


class Site:
    """A random fleet, the state that the fold makes of its log, and a store of it."""

    def __init__(self, seed: int, store: Store, rng: random.Random) -> None:
        self.random_fleet = RandomFleet(rng, newest=True)
        self.state, self.store = MemoryState(), store
        self._applied = 0
        store.open(0)
        self.follow()
        self.query = StoreQuery(store.path, REGISTRY, seed=seed)

    @property
    def known(self) -> Known:
        return self.random_fleet.known

    def follow(self) -> None:
        """Fold what was appended."""
        records = self.random_fleet.tape.records[0][self._applied :]
        self._applied += len(records)
        for record in records:
            self.state.commit(fold(self.state, record, REGISTRY))
        self.store.apply(0, records)

    def judged(self, value: bytes, claim: str) -> tuple[VerdictRow, AllocationRow | None]:
        """What the fold says of a claim where the log ends, and what the consumer holds then."""
        cell = self.random_fleet.cell
        changes = fold(self.state, Record(0, self._applied, START_MS, cell.encode(), value), REGISTRY)
        return changes[VERDICTS][key(cell, claim)], changes[ALLOCATIONS].get(key(cell, MOVER))

    @property
    def holding(self) -> Holding:
        """What the mover holds."""
        row = self.state.get(ALLOCATIONS, key(self.random_fleet.cell, MOVER))
        assert row is not None
        return Holding(MOVER, self.random_fleet.cell, row)


@contextmanager
def site_of(seed: int, rng: random.Random) -> Iterator[Site]:
    with opened_store() as store:
        site = Site(seed, store, rng)
        with site.query:
            yield site


def spec_of(request: Request) -> RequestSpec:
    return RequestSpec.model_validate_json(json.dumps(request))


def placed(site: Site, rng: random.Random) -> tuple[dict[str, Any], list[Held]] | None:
    """Let the mover be placed by a random request: the request and what it holds, or None if nothing fits."""
    for _ in range(TRIES):
        request = a_request(rng, list(site.known), site.random_fleet.kinds)
        spec = spec_of(request)
        found = site.query.candidates(spec, limit=20).candidates
        if not found:
            continue
        candidate = rng.choice(found)
        allocations = [one._asdict() for one in candidate.allocations if one.resources]
        if not allocations:
            continue
        claim = bid("c-1", MOVER, allocations, spec=json.loads(spec.model_dump_json()))
        verdict, row = site.judged(claim, "c-1")
        assert verdict.accepted
        assert row is not None
        site.random_fleet.tape.append(site.random_fleet.cell, claim)
        asks = [(name, ask) for one in candidate.allocations for name, ask in one.resources.items()]
        held = [
            Held(part.provider, name, part.group, ask, part.grant)
            for part, (name, ask) in zip(row.parts, asks, strict=True)
        ]
        return request, held
    return None


def meanwhile(site: Site, rng: random.Random, held: Sequence[Held]) -> None:
    """Others release what they hold or claim more, and operators close or taint providers and exclude devices."""
    fleet = site.random_fleet
    for consumer in sorted(fleet.asked):
        if rng.random() < 0.4:
            data = {"releases": [{"consumer": consumer, "claim": f"old{consumer.removeprefix('held')}"}]}
            fleet.tape.append(fleet.cell, event("consumers.released.v1", data))
    there = sorted({id_ for one in held for id_ in (one.provider, ancestors(site.known, one.provider)[-1])})
    for id_ in there:
        if rng.random() < 0.25:
            if rng.random() < 0.3:
                site.known[id_].taints = {"dedicated": "x"}
            else:
                site.known[id_].enabled = False
            fleet.set(id_)
    if rng.random() < 0.5:
        fleet.exclude()
    site.follow()
    fleet.learn(site.state, without_consumer=MOVER)


def wanted(rng: random.Random, site: Site, request: Mapping[str, Any]) -> dict[str, Any]:
    """What is asked for the mover: the same, something else in one group, or another request."""
    chance = rng.random()
    if chance < 0.35:
        return dict(request)
    kinds = site.random_fleet.kinds
    if chance > 0.75:
        return a_request(rng, list(site.known), kinds)
    new = copy.deepcopy(dict(request))
    resources = rng.choice(new["groups"])["resources"]
    for name in list(resources):
        if type(resources[name]) is int and rng.random() < 0.5:
            resources[name] = max(1, resources[name] + rng.choice((-1, 1)))
        elif name in ("PCI_DEVICE", "GPU_SHARE", "VGPU", "MIG", "PORT", "NUMA_CELL") and rng.random() < 0.5:
            others = [one for one in (an_ask(rng, kinds) for _ in range(20)) if one[0] == name]
            resources.update(others[:1])
        elif len(resources) > 1 and rng.random() < 0.3:
            del resources[name]
    if {*kinds} & {*ASKS} and rng.random() < 0.3:
        name, ask = an_ask(rng, kinds)
        resources.setdefault(name, ask)
    return new


def check_grants(known: Known, held: Sequence[Held], asked: Sequence[Held]) -> None:
    """Asks that stay the same keep their grants, what changed could be granted, and nothing new is of a closed provider.
    `asked` are the new asks and what was granted."""
    slots = {one.slot for one in asked}
    for slot in sorted(slots):
        id_, name = slot
        before = [one for one in held if one.slot == slot]
        after = [one for one in asked if one.slot == slot]
        rest, kept, changed = (
            [one for one in before if type(one.grant) is not int],
            list[Held](),
            list[Held](),
        )
        for one in after:
            found = [was for was in rest if was.ask == one.ask and was.grant == one.grant]
            if found:
                rest.remove(found[0])
                kept.append(one)
            else:
                changed.append(one)
        for one in changed:
            assert one.ask not in [was.ask for was in rest], f"{one} has lost a grant that it had"
        start = known[id_].stock[name]
        for one in kept:
            start = taken(name, start, one.grant)
        mine = start
        for one in rest if name in known[id_].stock else ():
            mine = taken(name, mine, one.grant)
        for one in before:
            if type(one.grant) is int:
                mine = taken(name, mine, one.grant)
        if no_more([("", one.ask) for one in after], before):
            continue
        end = start
        for one in changed:
            end = take(end, name, one.ask, one.grant)
        if not is_enabled(known, id_):
            assert units(name, end) - units(name, start) <= units(name, mine) - units(name, start)


def check_accepted(site: Site, place: Place, told: str) -> AllocationRow:
    """The fold accepts what a place claims, and grants what the place says."""
    replacement = events.ConsumerReplacedV3(id="e", source="/tests", data=place.replacement)
    verdict, row = site.judged(events.encode(replacement), place.replacement.id)
    assert verdict.accepted, f"{told}: {place}: {verdict}"
    assert row is not None
    assert place.after is not None
    assert row.parts == place.after.parts
    return row


def check_place(site: Site, place: Place, held: Sequence[Held], told: str) -> None:
    """The fold accepts what a place claims, and grants what the solver says can be granted."""
    row = check_accepted(site, place, told)
    asks = [(name, ask) for one in place.replacement.allocations for name, ask in one.resources.items()]
    asked = [
        Held(part.provider, name, part.group, ask, part.grant)
        for part, (name, ask) in zip(row.parts, asks, strict=True)
    ]
    check_grants(site.known, held, asked)


@pytest.mark.parametrize("seed", range(FLEETS))
def test_a_consumer_finds_the_places_that_trying_everything_finds(seed: int) -> None:
    rng = random.Random(30_000_000 + seed)
    with site_of(seed, rng) as site:
        there = placed(site, rng)
        if there is None:
            SEEN["not placed"] += 1
            return
        first, held = there
        meanwhile(site, rng, held)
        roots = [id_ for id_, node in site.known.items() if node.parent is None]
        for _ in range(REQUESTS):
            request = wanted(rng, site, first)
            not_nodes = [id_ for id_ in roots if rng.random() < 0.3] if rng.random() < 0.4 else []
            told = f"seed {seed}: {request}, not on {not_nodes}"
            check(site, rng, request, held, not_nodes, told, same=request == first)
        check_second_place(site, first, held, f"seed {seed}: {first}")


def check(
    site: Site,
    rng: random.Random,
    request: Mapping[str, Any],
    held: Sequence[Held],
    not_nodes: Sequence[str],
    told: str,
    *,
    same: bool,
) -> None:
    """`same`: it has asked for just this."""
    spec = spec_of(request)
    order = SIMPLE_ORDERS[rng.choice(sorted(SIMPLE_ORDERS))]
    right: dict[Any, bool] = {}
    for _, way, is_open in moves(site.known, request, held, not_nodes):
        mark = mark_of(request, way)
        right[mark] = right.get(mark, False) or is_open
    found = site.query.candidates(spec, limit=EVERYTHING, order=order, consumer=MOVER, not_nodes=not_nodes)
    assert not found.gave_up
    answers = [mark_of(request, as_assignment(one, spec)) for one in found.candidates]
    if all(group["resources"] for group in request["groups"]):
        assert len({*answers}) == len(answers), told
    assert {*answers} <= {*right}, told
    missing = [mark for mark, is_open in right.items() if is_open and mark not in answers]
    assert not missing, f"{told}: {missing}"
    SEEN["found" if answers else "nowhere"] += 1
    numbers = {group["name"]: number for number, group in enumerate(request["groups"])}
    stays = same and mark_of(
        request, tuple((numbers[one.group], one.resource_class, one.provider) for one in held)
    )
    for place in places(site, spec, not_nodes, 8):
        SEEN["stays" if place.stays else "goes"] += 1
        mark = mark_of(request, as_assignment(place.candidate, spec))
        assert mark in right or (same and mark == stays), told
        check_place(site, place, held, told)


def check_second_place(site: Site, request: Mapping[str, Any], held: Sequence[Held], told: str) -> None:
    """A place that the consumer holds beside the one that it has, as while it migrates: nothing that it holds is free."""
    spec = spec_of(request)
    asked = asked_of(site.query.reader, TapeLog(site.random_fleet.tape.records), site.holding)
    home = node_of(site.query.reader, site.holding, asked.served)
    full = dict(copy.deepcopy(site.known))
    for one in held:
        stock = full[one.provider].stock
        stock[one.resource_class] = taken(one.resource_class, stock[one.resource_class], one.grant)
    for id_ in full:
        full[id_].enabled &= ancestors(full, id_)[-1] != home
    right = {mark_of(request, way) for _, way in assignments(full, request)}
    found = places(site, spec, [home], EVERYTHING, keep=True)
    answers = [mark_of(request, as_assignment(one.candidate, spec)) for one in found]
    assert {*answers} == right, f"{told}, beside {home}"
    SEEN["second place" if found else "no second place"] += 1
    for place in found[:4]:
        row = check_accepted(site, place, told)
        before = {(one.provider, one.resource_class, one.group): one.grant for one in held}
        after = {(part.provider, part.resource_class, part.group): part.grant for part in row.parts}
        assert {**after, **before} == after, f"{told}: {place}"


def mark_of(request: Mapping[str, Any], way: Assignment) -> Any:
    """A way without the groups that ask for no resources: nothing of them is held."""
    return alike(request, tuple(one for one in way if one[1]))


def places(
    site: Site, spec: RequestSpec, not_nodes: Sequence[str], limit: int, *, keep: bool = False
) -> list[Place]:
    """The first places, as a move or a resize finds them."""
    query, order, holding = site.query, SIMPLE_ORDERS["random"], site.holding
    query.reader.catch_up()
    asked = asked_of(query.reader, TapeLog(site.random_fleet.tape.records), holding)
    wish = Wish(account_of(holding), query.compile(spec), asked, not_nodes=frozenset(not_nodes), keep=keep)
    maker = ClaimMaker(query.reader, LogClock(""), deadline_ms=60_000, seed=0, policy=order.name)
    return ConsumerPlaces(query, maker, holding, wish).places(limit, order, None, SearchBudget())


def test_all_kinds_of_moves_were_tried() -> None:
    sys.stdout.write(f"{', '.join(f'{what}: {count:,}' for what, count in sorted(SEEN.items()))}\n")
    assert all(SEEN[what] for what in ("found", "nowhere", "stays", "goes", "second place"))
