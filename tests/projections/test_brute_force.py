"""The query engine against a solver that tries everything, on small fleets and requests from a seed; and every answer
is claimed through the fold, which accepts it."""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from tests.events_json import START_MS, Tape, event, provider, reported
from tests.ports import REGISTRY
from tests.projections.brute_force import TAKES, Node, Way, take_amount, ways
from tests.projections.brute_force import Fleet as Known
from tests.projections.fleets import Fleet
from vacancy.clients.claiming import predicates
from vacancy.projections.candidates import Candidate, find
from vacancy.projections.matching import Effort
from vacancy.projections.orders import SIMPLE_ORDERS
from vacancy.projections.view import View
from vacancy.resources.fold import fold
from vacancy.resources.record import Record
from vacancy.resources.request import RequestSpec
from vacancy.resources.tables import VERDICTS, key

FLEETS = int(os.environ.get("VACANCY_FLEETS", "150"))
REQUESTS = 5
"""Requests asked of each fleet. 2,000 fleets are 10,000 requests."""

SHARES = "MISC_SHARES_VIA_AGGREGATE"
TRAITS = ("CUSTOM_A", "CUSTOM_B", "CUSTOM_C")
AGGREGATES = ("x", "y")
CLASSES = ("VCPU", "MEMORY_MB", "CUSTOM_GPU")
EVERYTHING = 5_000


def some(rng: random.Random, names: tuple[str, ...], chance: float) -> list[str]:
    return [name for name in names if rng.random() < chance]


class Town:
    """A fleet made from a seed: as a log, and as the solver knows it."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.tape = Tape()
        self.cell = self.tape.cells[0]
        self.known: dict[str, Node] = {}
        for number in range(rng.randint(1, 3)):
            self._tree(f"n{number}", rng.randint(0, 4))
        for number in range(rng.choice((0, 0, 1, 2))):
            self._lender(f"pool{number}")
        self._fill()

    def _tree(self, root: str, children: int) -> None:
        ids = [root]
        self.known[root] = self._node(None)
        for number in range(children):
            ids.append(f"{root}-{number}")
            self.known[ids[-1]] = self._node(self.rng.choice(ids[:-1]))
        self._tell(root, ids)

    def _lender(self, root: str) -> None:
        node = self._node(None)
        node.traits.add(SHARES)
        node.aggregates.add(self.rng.choice(AGGREGATES))
        self.known[root] = node
        self._tell(root, [root])

    def _node(self, parent: str | None) -> Node:
        rng = self.rng
        stock: dict[str, Any] = {}
        for name in some(rng, CLASSES, 0.6):
            total = rng.choice((1, 2, 3, 4, 6))
            stock[name] = {
                "free": total,
                "min": 2 if total > 1 and rng.random() < 0.1 else 1,
                "max": rng.choice((total, total, max(1, total - 1))),
                "step": rng.choice((1, 1, 1, 2)),
            }
            stock[name]["max"] = max(stock[name]["max"], stock[name]["min"])
        if rng.random() < 0.3:
            stock["PORTS"] = sorted(rng.sample((80, 81, 82, 83), rng.randint(1, 3)))
        traits = {*some(rng, TRAITS, 0.35), *([SHARES] if parent and rng.random() < 0.05 else [])}
        return Node(parent, traits, {*some(rng, AGGREGATES, 0.3)}, stock, rng.random() > 0.06)

    def _tell(self, root: str, ids: list[str]) -> None:
        """A node's report, and what the operator says of its providers."""
        parts = []
        for id_ in ids:
            node = self.known[id_]
            inventories = {
                name: {"ports": of}
                if name == "PORTS"
                else {
                    "total": of["free"],
                    "min_unit": of["min"],
                    "max_unit": of["max"],
                    "step_size": of["step"],
                }
                for name, of in node.stock.items()
            }
            parts.append(provider(id_, node.parent, sorted(node.traits), **inventories))
        self.tape.append(self.cell, reported(root, parts))
        for id_ in ids:
            node = self.known[id_]
            status = "enabled" if node.enabled else "disabled"
            facts = {"aggregates": sorted(node.aggregates), "status": status}
            self.tape.append(
                self.cell, event("facts.set.v1", {"provider": id_, "revision": 1, "facts": facts})
            )

    def _fill(self) -> None:
        """Consumers that hold something already."""
        for number in range(self.rng.randint(0, 3)):
            id_ = self.rng.choice(list(self.known))
            node = self.known[id_]
            counted = {name: of for name, of in node.stock.items() if name != "PORTS"}
            usable = [n for n, of in counted.items() if of["min"] == of["step"] == 1 and of["free"] > 1]
            if usable and node.enabled and all(self.known[top].enabled for top in self._above(id_)):
                name = self.rng.choice(usable)
                node.stock[name]["free"] -= 1
                parts = [{"provider": id_, "resources": {name: 1}}]
                self.tape.append(self.cell, bid(f"old{number}", f"held{number}", parts))

    def _above(self, id_: str) -> Iterator[str]:
        parent = self.known[id_].parent
        if parent is not None:
            yield parent
            yield from self._above(parent)


def bid(id_: str, consumer: str, allocations: list[Any], **more: Any) -> bytes:
    one = {"id": id_, "consumer": consumer, "allocations": allocations, "deadline_ms": START_MS + 60_000}
    return event("claims.requested.v1", {"claims": [{**one, **more}]})


def a_request(rng: random.Random, ids: list[str]) -> dict[str, Any]:
    groups = [a_group(rng, number, ids) for number in range(rng.choice((1, 1, 2, 2, 3)))]
    request: dict[str, Any] = {"groups": groups, "group_policy": rng.choice(("none", "isolate"))}
    if rng.random() < 0.2:
        request["root_required"] = [rng.choice(TRAITS)]
    if rng.random() < 0.15:
        request["root_forbidden"] = [rng.choice((*TRAITS, SHARES))]
    names = [group["name"] for group in groups if group.get("same_provider", True)]
    if len(names) > 1 and rng.random() < 0.5:
        request["same_subtree"] = [rng.sample(names, rng.randint(1, len(names)))]
    return request


def a_group(rng: random.Random, number: int, ids: list[str]) -> dict[str, Any]:
    names = rng.sample(CLASSES, rng.choice((1, 1, 2, 3)) if number == 0 else rng.choice((0, 1, 1, 2)))
    group: dict[str, Any] = {
        "name": f"g{number}" if number else "",
        "resources": {name: rng.choice((1, 1, 2, 2, 3)) for name in names},
    }
    if rng.random() < 0.15:
        group["resources"]["PORTS"] = rng.choice((1, 1, 2, {"ports": [80]}, {"ports": [81, 82]}))
    if number == 0 and rng.random() < 0.6:
        group["same_provider"] = False
    if rng.random() < 0.25:
        group["required"] = [rng.choice(TRAITS)]
    if rng.random() < 0.15:
        group["forbidden"] = [rng.choice(TRAITS)]
    if rng.random() < 0.15:
        group["any_traits"] = [rng.sample(TRAITS, 2)]
    if rng.random() < 0.15:
        group["member_of"] = [rng.sample(AGGREGATES, rng.randint(1, 2)) for _ in range(rng.choice((1, 1, 2)))]
    if rng.random() < 0.1:
        group["not_member_of"] = [rng.choice(AGGREGATES)]
    if rng.random() < 0.1:
        group["in_tree"] = rng.choice(ids)
    return group


def as_way(candidate: Candidate, spec: RequestSpec) -> Way:
    numbers = {group.name: number for number, group in enumerate(spec.groups)}
    return tuple(
        (numbers[served.group], name, served.provider)
        for served in candidate.allocations
        for name in (served.resources or [""])
    )


def alike(request: Mapping[str, Any], way: Way) -> Any:
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


def is_accepted(town: Town, fleet: Fleet, view: View, spec: RequestSpec, candidate: Candidate) -> bool:
    """Whether the fold accepts a claim of this candidate where the log ends."""
    (state,) = fleet.states
    allocations = [served._asdict() for served in candidate.allocations if served.resources]
    value = bid("c", "new", allocations, predicates=predicates(spec, candidate, view))
    at = len(town.tape.records[0])
    changes = fold(state, Record(0, at, START_MS, town.cell.encode(), value), REGISTRY)
    verdict = changes[VERDICTS][key(town.cell, "c")]
    return bool(verdict.accepted)


@contextmanager
def under_way(view: View, known: Known, candidate: Candidate) -> Iterator[None]:
    """The candidate's claim is under way: the view counts it, and so does the solver."""
    taken = []
    for served in candidate.allocations:
        stock = known[served.provider].stock
        for name, ask in served.resources.items():
            row = view.row_of[key(candidate.cell, served.provider)]
            taken.append((row, name, ask, stock, stock[name]))
            view.take(row, name, ask)
            take: Callable[[Any, Any], Any] = TAKES.get(name, take_amount)
            stock[name] = take(stock[name], ask)
    yield
    for row, name, ask, stock, before in reversed(taken):
        view.untake(row, name, ask)
        stock[name] = before


@pytest.mark.parametrize("seed", range(FLEETS))
def test_the_engine_finds_what_trying_everything_finds(seed: int) -> None:
    rng = random.Random(seed)
    town = Town(rng)
    fleet = Fleet(town.tape.records.values())
    view, known = fleet.view(), town.known
    for _ in range(REQUESTS):
        request = a_request(rng, list(known))
        spec = RequestSpec.model_validate_json(json.dumps(request))
        order = SIMPLE_ORDERS[rng.choice(sorted(SIMPLE_ORDERS))]
        effort, draw = Effort(), np.random.default_rng(seed)
        solved = list(ways(known, request))
        right = {alike(request, way): root for root, way in solved}
        found = find(view, spec, limit=EVERYTHING, order=order, rng=draw, effort=effort)
        answers = [alike(request, as_way(one, spec)) for one in found]
        assert not effort.gave_up
        assert len(set(answers)) == len(answers)
        assert set(answers) == set(right), f"seed {seed}: {request}"
        roots = {one.root for one in find(view, spec, limit=99, order=order, rng=draw, one_a_tree=True)}
        assert roots <= {root for root, _ in solved}
        assert bool(roots) == bool(solved)
        if not found:
            continue
        for one in found[:8]:
            assert is_accepted(town, fleet, view, spec, one), f"seed {seed}: {request}: {one}"
        (first,) = find(view, spec, limit=1, order=order, rng=draw)
        with under_way(view, known, first):
            again = find(view, spec, limit=1, order=order, rng=draw)
            assert bool(again) == any(True for _ in ways(known, request))
