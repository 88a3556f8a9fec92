"""Random small fleets in racks and rows, with random members of server groups."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from tests.support.logs.events_json import Tape, event
from tests.support.random_fleets.fleets import RandomFleet, a_request, bid
from tests.support.solver.brute_force import Fleet, ancestors, fits_all
from tests.support.solver.relations import Members, keeps, roots_of
from vacancy.resources.fold.rules_versions import RULES_VERSIONS

RULES: Mapping[str, Mapping[str, Any]] = {
    "near": {"policy": "affinity"},
    "apart": {"policy": "anti-affinity"},
    "pairs": {"policy": "anti-affinity", "max_per_node": 2},
    "rack": {"policy": "affinity", "scope": "rack-"},
    "row": {"policy": "affinity", "scope": "row-"},
    "racks": {"policy": "anti-affinity", "scope": "rack-"},
    "rows": {"policy": "anti-affinity", "scope": "row-", "max_per_node": 2},
    "even": {"policy": "spread", "scope": "rack-"},
    "rows-evenly": {"policy": "spread", "scope": "row-", "max_skew": 2},
    "softly-near": {"policy": "affinity", "scope": "rack-", "hard": False},
    "softly-apart": {"policy": "anti-affinity", "hard": False},
}
"""Group -> its rule."""

COMBINATIONS_MAX = 3_000
"""Maximum number of combinations of assignments that are tried."""


class Joining(NamedTuple):
    """A consumer that claims one unit of some providers for each of its copies, and joins a group."""

    consumer: str
    resource_class: str
    copies: list[list[str]]
    rule: Mapping[str, Any]

    @property
    def claim(self) -> bytes:
        """The claim as a record."""
        parts = [
            {"provider": id_, "resources": {self.resource_class: 1}, "group": f"#{number}"}
            for number, copy in enumerate(self.copies, 1)
            for id_ in copy
        ]
        return bid(f"in-{self.consumer}", self.consumer, parts, memberships=[self.rule])

    def roots(self, fleet: Fleet) -> list[set[str]]:
        """The nodes of each copy."""
        return [roots_of(fleet, [(self.resource_class, id_) for id_ in copy]) for copy in self.copies]

    def may_join(self, fleet: Fleet, members: Members) -> bool:
        """Whether the documented rules allow it."""
        name = self.resource_class
        ids = {each for copy in self.copies for id_ in copy for each in (id_, ancestors(fleet, id_)[-1])}
        ways = [tuple((0, name, id_) for id_ in copy) for copy in self.copies]
        return (
            all(fleet[id_].enabled for id_ in ids)
            and fits_all(fleet, {"groups": [{"resources": {name: 1}}]}, ways)
            and keeps(fleet, self.rule, members.get(self.rule["group"], ()), self.roots(fleet))
        )


def membership(cell: str, name: str) -> dict[str, Any]:
    return {"group": f"{cell}/{name}", **RULES[name]}


def fleet_in_racks(rng: random.Random) -> RandomFleet:
    """A random fleet in racks and rows; a node may be in two of them or in none."""
    random_fleet = RandomFleet(rng, tape=Tape(version=RULES_VERSIONS.newest.version))
    for node in (id_ for id_, one in random_fleet.known.items() if one.parent is None):
        racks = rng.sample(("rack-1", "rack-2"), rng.choice((0, 1, 1, 1, 2)))
        rows = rng.sample(("row-1", "row-2"), rng.choice((0, 1, 1, 2)))
        one = random_fleet.known[node]
        one.aggregates |= {*racks, *rows}
        facts = {
            "aggregates": sorted(one.aggregates),
            "status": "enabled" if one.enabled else "disabled",
        }
        said = {"provider": node, "revision": 2, "facts": facts}
        random_fleet.tape.append(random_fleet.cell, event("facts.set.v1", said, f"rack-of-{node}"))
    return random_fleet


def joining(rng: random.Random, random_fleet: RandomFleet) -> Iterator[Joining]:
    """Random consumers that join groups, on random providers."""
    for number in range(rng.randint(0, 5)):
        name = rng.choice(("VCPU", "MEMORY_MB", "CUSTOM_GPU"))
        able = [id_ for id_, node in random_fleet.known.items() if name in node.stock]
        if able:
            sizes = [rng.choice((1, 1, 1, 2)) for _ in range(rng.choice((1, 1, 1, 2)))]
            copies = [rng.sample(able, min(size, len(able))) for size in sizes]
            yield Joining(
                f"m{number}", name, copies, membership(random_fleet.cell, rng.choice(sorted(RULES)))
            )


def related(rng: random.Random, random_fleet: RandomFleet) -> dict[str, Any]:
    """A request that joins some groups, mostly with fewer other conditions than `a_request` makes."""
    request = a_request(rng, list(random_fleet.known), random_fleet.kinds)
    if rng.random() < 0.6:
        kept = ("name", "resources", "same_provider")
        request = {"groups": [{n: v for n, v in group.items() if n in kept} for group in request["groups"]]}
        if not any(group["resources"] for group in request["groups"]):
            request["groups"][0]["resources"] = {"VCPU": 1}
    names = rng.sample(sorted(RULES), rng.choice((0, 1, 1, 1, 2, 3)))
    return {**request, "memberships": [membership(random_fleet.cell, name) for name in names]}


def with_copies(rng: random.Random, request: Mapping[str, Any], options: int) -> dict[str, Any]:
    """The request for a number of copies whose combinations can all be tried; `options`: assignments of one copy."""
    most = next((n for n in (4, 3, 2) if math.comb(options + n - 1, n) <= COMBINATIONS_MAX), 1)
    copies = rng.randint(1, most)
    near = any(one["policy"] == "affinity" and "scope" not in one for one in request["memberships"])
    distinct = copies > 1 and not near and rng.random() < 0.3
    return {**request, "copies": copies, "copies_on": "distinct" if distinct else "any"}
