"""Small fleets in racks and rows, and who is in which server group there, made from a seed."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from tests.support.events_json import event
from tests.support.random_fleets.fleets import Town, a_request, bid
from tests.support.solver.brute_force import Fleet, fits_all, line
from tests.support.solver.relations import Members, keeps, roots_of

RULES: Mapping[str, Mapping[str, Any]] = {
    "near": {"policy": "affinity"},
    "apart": {"policy": "anti-affinity"},
    "pairs": {"policy": "anti-affinity", "max_per_node": 2},
    "rack": {"policy": "affinity", "scope": "rack-"},
    "row": {"policy": "affinity", "scope": "row-"},
    "racks": {"policy": "anti-affinity", "scope": "rack-"},
    "rows": {"policy": "anti-affinity", "scope": "row-", "max_per_node": 2},
    "softly-near": {"policy": "affinity", "scope": "rack-", "hard": False},
    "softly-apart": {"policy": "anti-affinity", "hard": False},
}
"""Group -> what it is for."""

COMBINATIONS_MAX = 3_000
"""Of places for copies: more are not tried."""


class Joining(NamedTuple):
    """A consumer that wants a little of some providers, for each of its copies, and to be in a group."""

    consumer: str
    resource_class: str
    copies: list[list[str]]
    rule: Mapping[str, Any]

    @property
    def claim(self) -> bytes:
        """Its claim as it stands in the log."""
        parts = [
            {"provider": id_, "resources": {self.resource_class: 1}, "group": f"#{number}"}
            for number, copy in enumerate(self.copies, 1)
            for id_ in copy
        ]
        return bid(f"in-{self.consumer}", self.consumer, parts, memberships=[self.rule])

    def roots(self, fleet: Fleet) -> list[set[str]]:
        """The nodes that each copy is on."""
        return [roots_of(fleet, [(self.resource_class, id_) for id_ in copy]) for copy in self.copies]

    def may_join(self, fleet: Fleet, members: Members) -> bool:
        """Whether it may, by the words of the rules."""
        name = self.resource_class
        ids = {each for copy in self.copies for id_ in copy for each in (id_, line(fleet, id_)[-1])}
        ways = [tuple((0, name, id_) for id_ in copy) for copy in self.copies]
        return (
            all(fleet[id_].enabled for id_ in ids)
            and fits_all(fleet, {"groups": [{"resources": {name: 1}}]}, ways)
            and keeps(fleet, self.rule, members.get(self.rule["group"], ()), self.roots(fleet))
        )


def membership(cell: str, name: str) -> dict[str, Any]:
    return {"group": f"{cell}/{name}", **RULES[name]}


def racked(rng: random.Random) -> Town:
    """A town with racks and rows; a node may be in two of them, or in none."""
    town = Town(rng)
    for node in (id_ for id_, one in town.known.items() if one.parent is None):
        racks = rng.sample(("rack-1", "rack-2"), rng.choice((0, 1, 1, 1, 2)))
        rows = rng.sample(("row-1", "row-2"), rng.choice((0, 1, 1, 2)))
        one = town.known[node]
        one.aggregates |= {*racks, *rows}
        facts = {
            "aggregates": sorted(one.aggregates),
            "status": "enabled" if one.enabled else "disabled",
        }
        said = {"provider": node, "revision": 2, "facts": facts}
        town.tape.append(town.cell, event("facts.set.v1", said, f"rack-of-{node}"))
    return town


def joining(rng: random.Random, town: Town) -> Iterator[Joining]:
    """Some who want to be in groups, on whatever providers, and beside others as often as not."""
    for number in range(rng.randint(0, 5)):
        name = rng.choice(("VCPU", "MEMORY_MB", "CUSTOM_GPU"))
        able = [id_ for id_, node in town.known.items() if name in node.stock]
        if able:
            sizes = [rng.choice((1, 1, 1, 2)) for _ in range(rng.choice((1, 1, 1, 2)))]
            copies = [rng.sample(able, min(size, len(able))) for size in sizes]
            yield Joining(f"m{number}", name, copies, membership(town.cell, rng.choice(sorted(RULES))))


def related(rng: random.Random, town: Town) -> dict[str, Any]:
    """A request in some groups, most of them with fewer other conditions than `a_request` makes."""
    request = a_request(rng, list(town.known), town.kinds)
    if rng.random() < 0.6:
        kept = ("name", "resources", "same_provider")
        request = {"groups": [{n: v for n, v in group.items() if n in kept} for group in request["groups"]]}
        if not any(group["resources"] for group in request["groups"]):
            request["groups"][0]["resources"] = {"VCPU": 1}
    names = rng.sample(sorted(RULES), rng.choice((0, 1, 1, 1, 2, 3)))
    return {**request, "memberships": [membership(town.cell, name) for name in names]}


def with_copies(rng: random.Random, request: Mapping[str, Any], options: int) -> dict[str, Any]:
    """The request for as many copies as can be tried with that number of places for one."""
    most = next((n for n in (4, 3, 2) if math.comb(options + n - 1, n) <= COMBINATIONS_MAX), 1)
    copies = rng.randint(1, most)
    near = any(one["policy"] == "affinity" and "scope" not in one for one in request["memberships"])
    distinct = copies > 1 and not near and rng.random() < 0.3
    return {**request, "copies": copies, "copies_on": "distinct" if distinct else "any"}
