"""Random small fleets and requests, as a log and in the form of the solver in `brute_force`."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from tests.support.logs.events_json import START_MS, Tape, event, provider, reported
from tests.support.models.allocation_model import rows_of
from tests.support.models.memory_state import MemoryState
from tests.support.random_fleets.devices import device_ask, devices, matching_ask, mig, mig_ask
from tests.support.random_fleets.numa import numa_ask, numa_cell
from tests.support.random_fleets.ports import port_ask, port_inventory
from tests.support.solver.brute_force import Node, remaining_amount
from tests.support.solver.classes import REMAINING, without
from tests.support.solver.expressions import WHERE
from vacancy.resources.fold.rules_versions import RULES_VERSIONS
from vacancy.resources.state.tables import ALLOCATIONS, split_key

SHARES = "MISC_SHARES_VIA_AGGREGATE"
TRAITS = ("CUSTOM_A", "CUSTOM_B", "CUSTOM_C")
AGGREGATES = ("x", "y")
TAINTS = ("dedicated", "old")
ATTRIBUTES: Mapping[str, tuple[Any, ...]] = {
    "model": ("a", "b", "c", 1),
    "rank": (0, 1, 2, 3, "many", True),
    "secure": (True, False, "true"),
    "hv": ("8.2", "8.10.1", "8.9-rc1", "7", "nightly", 9),
}
"""Attribute -> possible values."""

KINDS = ("devices", "numa", "attributes")
"""Optional features of a fleet, in addition to counted classes, traits, aggregates and ports."""

CLASSES = ("VCPU", "MEMORY_MB", "CUSTOM_GPU")

ASKS: Mapping[str, Callable[[random.Random], tuple[str, Any]]] = {
    "devices": device_ask,
    "numa": numa_ask,
    "matching": matching_ask,
    "mig": mig_ask,
    "ports": port_ask,
}
"""Kind -> a function that makes an ask for a class that is not counted."""


def some(rng: random.Random, names: tuple[str, ...], chance: float) -> list[str]:
    return [name for name in names if rng.random() < chance]


class RandomFleet:
    """A random fleet, as a log (`tape`) and in the form of the solver (`known`). `newest`: its log follows the newest rules, and
    its requests may ask for what they have. `tape`: the log, if it is another one."""

    def __init__(self, rng: random.Random, *, newest: bool = False, tape: Tape | None = None) -> None:
        self.rng = rng
        self.tape = tape or (Tape(version=RULES_VERSIONS.newest.version) if newest else Tape())
        self.kinds = rng.sample(KINDS, min(len(KINDS), rng.choice((0, 1, 1, 2))))
        if newest and "devices" in self.kinds:
            self.kinds.append("matching")
        if newest and rng.random() < 0.3:
            self.kinds.append("mig")
        if newest and rng.random() < 0.3:
            self.kinds.append("ports")
        self.tainted = newest and rng.random() < 0.4
        self.asked: dict[str, tuple[str, Any]] = {}
        """Consumer -> the class and the ask of its first claim."""
        self.inventories: dict[str, dict[str, Any]] = {}
        """Provider -> the reported inventories of classes that are not counted."""
        self.excluded: dict[tuple[str, str], list[str]] = {}
        """(provider, class) -> the devices that an operator excluded."""
        self.cell = self.tape.cells[0]
        self.known: dict[str, Node] = {}
        self.revisions = Counter[str]()
        for number in range(rng.randint(1, 3)):
            self._tree(f"n{number}", rng.randint(0, 4))
        for number in range(rng.choice((0, 0, 1, 2))):
            self._sharing_provider(f"pool{number}")
        self._fill()
        if newest:
            self.exclude()

    def _tree(self, root: str, children: int) -> None:
        ids = [root]
        self.known[root] = self._node(root, None)
        for number in range(children):
            ids.append(f"{root}-{number}")
            self.known[ids[-1]] = self._node(ids[-1], self.rng.choice(ids[:-1]))
        self._report(root, ids)

    def _sharing_provider(self, root: str) -> None:
        node = self._node(root, None)
        node.traits.add(SHARES)
        node.aggregates.add(self.rng.choice(AGGREGATES))
        self.known[root] = node
        self._report(root, [root])

    def _node(self, id_: str, parent: str | None) -> Node:
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
        told: dict[str, Any] = {}
        if rng.random() < 0.3:
            ports = rng.sample((80, 81, 82, 83), rng.randint(1, 3))
            stock["PORTS"], told["PORTS"] = {"free": {*ports}}, {"ports": ports}
        if "devices" in self.kinds and rng.random() < 0.6:
            reported_, known = devices(rng)
            told |= reported_
            stock |= known
        if "mig" in self.kinds and rng.random() < 0.7:
            told["MIG"], stock["MIG"] = mig(rng)
        if "ports" in self.kinds and rng.random() < 0.7:
            told["PORT"], stock["PORT"] = port_inventory(rng)
        if "numa" in self.kinds and rng.random() < 0.7:
            told["NUMA_CELL"], stock["NUMA_CELL"] = numa_cell(rng)
        self.inventories[id_] = told
        traits = {*some(rng, TRAITS, 0.35), *([SHARES] if parent and rng.random() < 0.05 else [])}
        said: dict[str, Any] = {}
        if "attributes" in self.kinds:
            said = {name: rng.choice(values) for name, values in ATTRIBUTES.items() if rng.random() < 0.75}
        node = Node(parent, traits, {*some(rng, AGGREGATES, 0.3)}, stock, rng.random() > 0.06)
        node.attributes = said
        if self.tainted and rng.random() < 0.3:
            node.taints = {
                key: rng.choice(("", "x", "y")) for key in rng.sample(TAINTS, rng.choice((1, 1, 2)))
            }
        return node

    def _report(self, root: str, ids: list[str]) -> None:
        """Append a node's report and the operator settings of its providers."""
        parts = []
        for id_ in ids:
            node = self.known[id_]
            inventories = self.inventories[id_] | {
                name: {
                    "total": of["free"],
                    "min_unit": of["min"],
                    "max_unit": of["max"],
                    "step_size": of["step"],
                }
                for name, of in node.stock.items()
                if name not in REMAINING
            }
            part = provider(id_, node.parent, sorted(node.traits), **inventories)
            parts.append({**part, "attributes": node.attributes})
        self.tape.append(self.cell, reported(root, parts))
        for id_ in ids:
            self.set(id_)

    def _fill(self) -> None:
        """Append claims of some consumers."""
        for number in range(self.rng.randint(0, 3)):
            id_ = self.rng.choice(list(self.known))
            stock = self.known[id_].stock
            if stock:
                name, ask = self.rng.choice(sorted(stock)), 1
                if {*self.kinds} & {*ASKS} and self.rng.random() < 0.8:
                    name, ask = an_ask(self.rng, self.kinds)
                self.asked[f"held{number}"] = name, ask
                parts = [{"provider": id_, "resources": {name: ask}}]
                self.tape.append(self.cell, bid(f"old{number}", f"held{number}", parts))

    def exclude(self) -> None:
        """Append the settings of an operator who excludes some devices."""
        for id_, node in self.known.items():
            named = {name: sorted(of["devices"]) for name, of in node.stock.items() if "devices" in of}
            some_ = [name for name in named if self.rng.random() < 0.15]
            for name in some_:
                self.excluded[id_, name] = self.rng.sample(named[name], 1)
            if some_:
                self.set(id_)

    def set(self, id_: str) -> None:
        """Append the operator settings of a provider."""
        node = self.known[id_]
        status = "enabled" if node.enabled else "disabled"
        facts: dict[str, Any] = {"aggregates": sorted(node.aggregates), "status": status}
        overrides = {
            name: {"excluded": dict.fromkeys(out, "ECC errors")}
            for (provider_id, name), out in self.excluded.items()
            if provider_id == id_
        }
        if overrides:
            facts["overrides"] = overrides
        self.revisions[id_] += 1
        data = {"provider": id_, "revision": self.revisions[id_], "facts": facts}
        if node.taints:
            facts["taints"] = [{"key": key, "value": value} for key, value in node.taints.items()]
        self.tape.append(self.cell, event(f"facts.set.v{2 if node.taints else 1}", data))

    def learn(self, state: MemoryState, *, without_consumer: str = "") -> None:
        """Subtract the fold's grants from the stock, and check that each grant was possible. Then what is excluded."""
        for at, row in sorted(rows_of(state, ALLOCATIONS).items()):
            consumer = split_key(at)[1]
            if consumer == without_consumer:
                continue
            ask = self.asked[consumer][1]
            for part in row.parts:
                stock = self.known[part.provider].stock
                stock[part.resource_class] = take(
                    stock[part.resource_class], part.resource_class, ask, part.grant
                )
        for (id_, name), out in self.excluded.items():
            self.known[id_].stock[name] = {**self.known[id_].stock[name], "out": frozenset(out)}


def take(stock: Any, name: str, ask: Any, grant: Any) -> Any:
    """The remaining stock after the fold granted `grant`; asserts that the grant was possible."""
    left = without(name, stock, grant) if name in REMAINING else {**stock, "free": stock["free"] - grant}
    assert left in [*REMAINING.get(name, remaining_amount)(stock, ask)], (
        f"{name}: {ask} of {stock} was granted {grant}"
    )
    return left


def an_ask(rng: random.Random, kinds: list[str]) -> tuple[str, Any]:
    """An ask for a class that is not counted."""
    return ASKS[rng.choice([kind for kind in kinds if kind in ASKS])](rng)


def bid(id_: str, consumer: str, allocations: list[Any], **more: Any) -> bytes:
    one = {"id": id_, "consumer": consumer, "allocations": allocations, "deadline_ms": START_MS + 60_000}
    newest = more.get("tolerations") or any(
        membership["policy"] == "spread" for membership in more.get("memberships", ())
    )
    whole = {name: value for name, value in {**one, **more}.items() if name != "tolerations" or value}
    return event(f"claims.requested.v{2 if newest else 1}", {"claims": [whole]})


def a_request(rng: random.Random, ids: list[str], kinds: list[str]) -> dict[str, Any]:
    groups = [a_group(rng, number, ids, kinds) for number in range(rng.choice((1, 1, 2, 2, 3)))]
    request: dict[str, Any] = {"groups": groups, "group_policy": rng.choice(("none", "isolate"))}
    if rng.random() < 0.2:
        request["root_required"] = [rng.choice(TRAITS)]
    if rng.random() < 0.15:
        request["root_forbidden"] = [rng.choice((*TRAITS, SHARES))]
    names = [group["name"] for group in groups if group.get("same_provider", True)]
    if len(names) > 1 and rng.random() < 0.5:
        request["same_subtree"] = [rng.sample(names, rng.randint(1, len(names)))]
    return request


def tolerations(rng: random.Random) -> list[dict[str, Any]]:
    """What a random request tolerates."""
    keys = rng.choices(TAINTS, k=rng.choice((0, 1, 1, 2, 3)))
    return [
        {"key": key, **({"value": rng.choice(("", "x", "y"))} if rng.random() < 0.5 else {})} for key in keys
    ]


def a_group(rng: random.Random, number: int, ids: list[str], kinds: list[str]) -> dict[str, Any]:
    names = rng.sample(CLASSES, rng.choice((1, 1, 2, 3)) if number == 0 else rng.choice((0, 1, 1, 2)))
    group: dict[str, Any] = {
        "name": f"g{number}" if number else "",
        "resources": {name: rng.choice((1, 1, 2, 2, 3)) for name in names},
    }
    if rng.random() < 0.15:
        group["resources"]["PORTS"] = rng.choice((1, 1, 2, {"ports": [80]}, {"ports": [81, 82]}))
    if "attributes" in kinds and rng.random() < 0.6:
        group["where"] = rng.choice(list(WHERE))
    if {*kinds} & {*ASKS} and rng.random() < 0.6:
        if rng.random() < 0.6:
            group["resources"] = {}
        name, ask = an_ask(rng, kinds)
        group["resources"][name] = ask
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
