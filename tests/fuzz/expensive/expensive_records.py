"""Records that may cost the fold more than they should, made from a few numbers, and a search for worse ones.

Each kind is a function that makes a case from a few numbers. The search changes one number at a time and keeps what costs
more. What it found worst is the corpus, `corpus/expensive_records.json`.
"""

from __future__ import annotations

import json
import random
import time
import tracemalloc
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from tests.fuzz.expensive.expensive_case import CELL, DEADLINE_MS, HOLD_MS, Case
from tests.fuzz.expensive.expensive_version_4 import KINDS_4
from tests.fuzz.expensive.expensive_version_6 import KINDS_6
from tests.fuzz.expensive.expensive_version_7 import KINDS_7
from tests.support.logs.events_json import START_MS, claim, claims, event, opened, provider, reported
from tests.support.models.memory_state import MemoryState
from tests.support.processes.machine_speed import slowness
from vacancy.resources.classes.registry import Registry
from vacancy.resources.fold.fold import fold
from vacancy.resources.model.limits import LIMITS_3
from vacancy.resources.model.record import Record

SMALL_BYTES: Final = 64 * 1024
SMALL_S: Final = 0.020
LARGE_S: Final = 0.250
HELD_BYTES_MAX: Final = 64 * 1024 * 1024
"""The budget: the CPU time of a record of less than 64 KiB, that of any other record, and the memory that is kept."""


class Recipe(NamedTuple):
    """A kind of record, and the numbers that one of it is made from."""

    kind: str
    numbers: Mapping[str, int]


# -- kinds ----------------------------------------------------------------------------------------------------


def predicates(claims_: int, predicates_: int, kind: int, classes: int, depth: int) -> Case:
    """Predicates that hold, on the last provider of a chain."""
    chain = [provider("p0"), *(provider(f"p{n}", f"p{n - 1}") for n in range(1, depth))]
    chain[-1]["inventories"] = {f"CUSTOM_{n}": {"total": 10_000} for n in range(classes)}
    last = chain[-1]["id"]
    one: dict[str, Any] = (
        {"kind": "generation", "value": 1},
        {"kind": "subtree", "value": "p0"},
        {"kind": "trait", "value": "CUSTOM_NONE", "negate": True},
        {"kind": "aggregate", "value": "none", "negate": True},
        {"kind": "attribute", "name": "none", "operator": "lacks"},
    )[kind % 5]
    them = [{"provider": last, **one}] * predicates_
    bids = [_claim(n, [(last, "CUSTOM_0")], predicates=them) for n in range(claims_)]
    return Case([reported("p0", chain)], claims(*bids))


def bad_values(values: int, size: int) -> Case:
    """Many errors in one record."""
    return Case([], reported("p0", [{**provider("p0"), "traits": ["x" * size] * values}]))


def replaced_tree(before: int, after: int, changed: int) -> Case:
    """A report that replaces all parts of a node, or a change that removes and adds them."""
    old, new = (
        [provider(f"{name}{n}", "p0", VCPU=1) for n in range(count)]
        for name, count in (("a", before), ("b", after))
    )
    setup = [reported("p0", [provider("p0"), *old])]
    if changed % 2:
        data = {"root": "p0", "incarnation": f"{1:016x}", "sequence": 2, "providers": new}
        return Case(setup, event("node.changed.v1", {**data, "removed": [one["id"] for one in old]}))
    return Case(setup, reported("p0", [provider("p0"), *new], sequence=2))


def dropped_tree(parts: int, classes: int, kind: int) -> Case:
    """A node with many inventories retires, reports its root only, or reports some parts without their classes."""
    inventories = {f"CUSTOM_{n}": {"total": 1} for n in range(min(classes, 64))}
    tree = [{**provider(f"p{n}", "p0"), "inventories": inventories} for n in range(1, parts + 1)]
    data: dict[str, Any] = {"root": "p0", "incarnation": f"{1:016x}"}
    setup, each = [reported("p0", [provider("p0")])], 200_000 // (8 + 4 * len(inventories))
    for at in range(0, parts, each):
        more = {"sequence": len(setup) + 1, "providers": tree[at : at + each]}
        setup.append(event("node.changed.v1", {**data, **more}))
    data["sequence"] = len(setup) + 1
    if kind % 3 == 0:
        return Case(setup, event("node.retired.v1", data))
    if kind % 3 == 1:
        return Case(setup, event("node.reported.v1", {**data, "providers": [provider("p0")]}))
    bare = [{"id": one["id"], "parent": "p0"} for one in tree[:2000]]
    return Case(setup, event("node.changed.v1", {**data, "providers": bare}))


def withdrawn_parts(rounds: int, parts: int, releases: int) -> Case:
    """Releases of parts that their node no longer reports: each goes when nobody holds it."""
    setup = []
    for turn in range(rounds):
        ids = [f"r{turn}-{n}" for n in range(parts)]
        setup.append(
            reported("p0", [provider("p0"), *(provider(id_, "p0", VCPU=1) for id_ in ids)], sequence=turn + 1)
        )
        bids = [_claim(turn * parts + n, [(id_, "VCPU")]) for n, id_ in enumerate(ids)]
        setup += [claims(*bids[at : at + 64]) for at in range(0, parts, 64)]
    setup.append(reported("p0", [provider("p0")], sequence=rounds + 1))
    them = [{"consumer": f"i{n}", "claim": f"c{n}"} for n in range(releases)]
    return Case(setup, event("consumers.released.v1", {"releases": them}))


def server_group(members: int, parts: int, claims_: int) -> Case:
    """Claims that join a group whose members have many parts."""
    setup = []
    group = [{"group": f"{CELL}/g", "policy": "anti-affinity", "max_per_node": 1024}]
    for node in range(8):
        tree = [
            provider(f"n{node}"),
            *(provider(f"n{node}-{part}", f"n{node}", VCPU=10_000) for part in range(parts)),
        ]
        setup.append(reported(f"n{node}", tree))

    def bid(number: int) -> dict[str, Any]:
        places = [(f"n{number % 8}-{part}", "VCPU") for part in range(parts)]
        return _claim(number, places, memberships=group)

    setup += [claims(bid(number)) for number in range(members)]
    return Case(setup, claims(*(bid(members + number) for number in range(claims_))))


def ending_at_once(holds: int, verdicts: int) -> Case:
    """A tick at which holds end and verdicts expire."""
    setup = [reported("p0", [provider("p0", VCPU=1_000_000)])]
    bids = [
        _claim(n, [("p0", "VCPU")], hold_until_ms=HOLD_MS if n < holds else None)
        for n in range(holds + verdicts)
    ]
    setup += [claims(*bids[at : at + 64]) for at in range(0, len(bids), 64)]
    return Case(setup, event("tick.v1", {}), 3_000_000)


def made_up_names(providers: int, classes: int, traits: int, attributes: int) -> Case:
    """A report of names that nobody has seen before."""

    def one(number: int) -> dict[str, Any]:
        return {
            **provider(
                f"p{number}", "p0" if number else None, [f"CUSTOM_{number}_{n}" for n in range(traits)]
            ),
            "inventories": {f"CUSTOM_{number}_{n}": {"total": 1} for n in range(classes)},
            "attributes": {f"a{number}.{n}": n for n in range(min(attributes, 256))},
        }

    return Case([], reported("p0", [one(number) for number in range(providers)]))


def operators_names(aggregates: int, traits: int, parts: int) -> Case:
    """Settings of a root with many names."""
    setup = [
        reported("p0", [provider("p0"), *(provider(f"p{n}", "p0", VCPU=1) for n in range(1, parts + 1))])
    ]
    said = {
        "aggregates": [f"a{n}" for n in range(aggregates)],
        "traits": [f"CUSTOM_{n}" for n in range(traits)],
    }
    return Case(setup, event("facts.set.v1", {"provider": "p0", "revision": 1, "facts": said}))


def allocations(claims_: int, parts: int, classes: int) -> Case:
    """Claims for many classes of many parts."""
    inventories = {f"CUSTOM_{n}": {"total": 1_000_000} for n in range(classes)}
    tree = [
        provider("p0"),
        *({**provider(f"p{n}", "p0"), "inventories": inventories} for n in range(1, parts + 1)),
    ]
    places = [(f"p{n}", f"CUSTOM_{c}") for n in range(1, parts + 1) for c in range(classes)]
    return Case([reported("p0", tree)], claims(*(_claim(n, places[:256]) for n in range(claims_))))


def granted_by_name(kind: int, providers: int, items: int, asks: int, tests: int) -> Case:
    """Claims of devices or CPUs, one an ask, of providers that have many."""
    name, inventory, ask = _by_name(kind, items, tests)
    setup = [
        reported(f"n{number}", [provider(f"n{number}", **{name: inventory})]) for number in range(providers)
    ]
    bids = []
    for first in range(0, asks, 32):
        them = [
            {"provider": f"n{n % providers}", "resources": {name: ask}, "group": str(n)}
            for n in range(first, min(asks, first + 32))
        ]
        bids.append(claim(f"c{first}", f"i{first}", "", {}, DEADLINE_MS, allocations=them))
    return Case(setup, claims(*bids[:64]))


def given_back(kind: int, providers: int, items: int, consumers: int, parts: int) -> Case:
    """Releases of devices or CPUs, or of amounts, that were claimed one by one."""
    name, inventory, ask = _by_name(kind, items, 0)
    setup = [
        reported(f"n{number}", [provider(f"n{number}", **{name: inventory})]) for number in range(providers)
    ]
    for number in range(consumers):
        them = [
            {"provider": f"n{(number * parts + n) % providers}", "resources": {name: ask}, "group": str(n)}
            for n in range(parts)
        ]
        setup.append(claims(claim(f"c{number}", f"i{number}", "", {}, DEADLINE_MS, allocations=them)))
    released = [{"consumer": f"i{number}", "claim": f"c{number}"} for number in range(consumers)]
    return Case(setup, event("consumers.released.v1", {"releases": released}))


def _by_name(kind: int, items: int, tests: int) -> tuple[str, Any, Any]:
    """A class, an inventory of it with that many items, and an ask for one, with that many comparisons."""
    where = {f"a{n}": {">=": 0} for n in range(tests)}
    attributes = {f"a{n}": n for n in range(tests)}
    if kind % 5 == 0:
        devices = {f"d{n}": attributes for n in range(items)}
        return "PCI_DEVICE", {"devices": devices}, {"count": 1, "where": where} if tests else 1
    if kind % 5 == 1:
        types = {f"t{n}": 4 for n in range(min(64, max(1, tests)))}
        return "VGPU", {"devices": {f"d{n}": {"types": types} for n in range(items)}}, 1
    if kind % 5 == 2:
        gpus = {f"d{n}": {"total": 1000, **attributes} for n in range(items)}
        return "GPU_SHARE", {"devices": gpus}, {"share": 1, "where": where}
    if kind % 5 == 3:
        return "NUMA_CELL", {"cores": [[2 * n, 2 * n + 1] for n in range(items // 2)]}, {"pinned": 1}
    return "VCPU", 1_000_000, 1


def many_groups(claims_: int, groups: int, members: int) -> Case:
    """Claims that join several groups each, of which each has many members."""
    setup = [reported("p0", [provider("p0", VCPU=1_000_000)])]

    def bid(number: int) -> dict[str, Any]:
        them = [
            {"group": f"{CELL}/g{number % claims_}-{n}", "policy": "anti-affinity", "max_per_node": 1024}
            for n in range(groups)
        ]
        return _claim(number, [("p0", "VCPU")], memberships=them)

    setup += [claims(bid(number)) for number in range(claims_ * members)]
    return Case(setup, claims(*(bid(claims_ * members + number) for number in range(claims_))))


def ancestors(claims_: int, predicates_: int, depth: int) -> Case:
    """Predicates about the ancestors of the providers of a chain, each about another pair."""
    chain = [provider("p0", VCPU=10_000), *(provider(f"p{n}", f"p{n - 1}") for n in range(1, depth))]
    pairs = [
        (f"p{depth - 1 - n % depth}", f"p{n % max(1, depth // 2)}") for n in range(claims_ * predicates_)
    ]
    them = [{"provider": below, "kind": "subtree", "value": top} for below, top in pairs]
    at = predicates_
    bids = [
        _claim(n, [("p0", "VCPU")], predicates=them[n * at : n * at + at] or them) for n in range(claims_)
    ]
    return Case([reported("p0", chain)], claims(*bids))


def wrong_fields(kind: int, number: int) -> Case:
    """Many errors in one record, of other kinds."""
    values = (
        event("claims.requested.v1", {"claims": [{}] * number}),
        event("claims.requested.v1", {"claims": [], **{f"x{n}": 1 for n in range(number)}}),
        reported("p0", [{"id": 1}] * number),
        reported("p0", [{**provider("p0"), "inventories": {f"x{n}": 1 for n in range(number)}}]),
        reported("p0", [{**provider("p0"), "attributes": {f"X{n}": [] for n in range(number)}}]),
        event("requests.received.v1", {"requests": [{"spec": {"groups": [{}] * number}}]}),
        event("tick.v1", {"data": [[]] * number}),
    )
    return Case([], values[kind % len(values)])


def missing_fields(kind: int, brackets: int, depth: int) -> Case:
    """Objects that lack all their fields, and have a field of that many objects that nobody reads instead."""
    types = ("consumer.replaced.v2", "node.reported.v1", "facts.set.v1", "requests.received.v1")
    nested = '{"a":' * depth + "1" + "}" * depth
    pad = json.loads("[" + ",".join([nested] * max(1, brackets // depth)) + "]")
    return Case([], event(types[kind % len(types)], {"pad": pad}))


def received(requests: int, groups: int, names: int) -> Case:
    """Requests with many names."""
    group = {"resources": {"VCPU": 1}, "required": [f"CUSTOM_{n}" for n in range(names)]}
    spec = {"groups": [{**group, "name": f"g{n}"} for n in range(groups)]}
    them = [{"id": f"r{n}", "spec": spec} for n in range(requests)]
    return Case([], event("requests.received.v1", {"requests": them}))


def closed(requests: int, names: int) -> Case:
    """Outcomes of requests with many names."""
    spec = {"groups": [{"resources": {"VCPU": 1}}]}
    them = [{"id": f"r{n}", "spec": spec} for n in range(requests)]
    ended = {
        "outcome": "no_valid_host",
        "in_flight": [f"c{n}" for n in range(names)],
        "as_of": {str(n): n for n in range(names)},
    }
    outcomes = [{"id": f"r{n}", **ended} for n in range(requests)]
    return Case(
        [event("requests.received.v1", {"requests": them})],
        event("requests.closed.v1", {"requests": outcomes}),
    )


KINDS: Final[Mapping[str, tuple[Callable[..., Case], Mapping[str, int]]]] = {
    "predicates": (
        predicates,
        {"claims_": 64, "predicates_": 1024, "kind": 4, "classes": 2000, "depth": 4000},
    ),
    "bad_values": (bad_values, {"values": 2_000_000, "size": 256}),
    "replaced_tree": (replaced_tree, {"before": 4000, "after": 4000, "changed": 1}),
    "dropped_tree": (dropped_tree, {"parts": 4000, "classes": 64, "kind": 2}),
    "withdrawn_parts": (withdrawn_parts, {"rounds": 3, "parts": 4000, "releases": 64}),
    "server_group": (server_group, {"members": 200, "parts": 255, "claims_": 64}),
    "ending_at_once": (ending_at_once, {"holds": 32_000, "verdicts": 32_000}),
    "made_up_names": (made_up_names, {"providers": 64, "classes": 5000, "traits": 5000, "attributes": 256}),
    "operators_names": (operators_names, {"aggregates": 100_000, "traits": 100_000, "parts": 4000}),
    "allocations": (allocations, {"claims_": 64, "parts": 256, "classes": 256}),
    "granted_by_name": (
        granted_by_name,
        {"kind": 4, "providers": 64, "items": 4096, "asks": 2048, "tests": 64},
    ),
    "given_back": (
        given_back,
        {"kind": 4, "providers": 64, "items": 4096, "consumers": 64, "parts": 256},
    ),
    "many_groups": (many_groups, {"claims_": 64, "groups": 16, "members": 64}),
    "ancestors": (ancestors, {"claims_": 64, "predicates_": 1024, "depth": 4000}),
    "wrong_fields": (wrong_fields, {"kind": 6, "number": 250_000}),
    "missing_fields": (missing_fields, {"kind": 3, "brackets": 250_000, "depth": 100}),
    "received": (received, {"requests": 64, "groups": 64, "names": 1000}),
    "closed": (closed, {"requests": 64, "names": 20_000}),
    **KINDS_4,
    **KINDS_6,
    **KINDS_7,
}
"""By kind, the function that makes it, and how large each of its numbers may be. None is less than 0 or, where it counts
what there must be, 1."""


def _claim(number: int, places: Sequence[tuple[str, str]], **more: Any) -> dict[str, Any]:
    them = [
        {"provider": id_, "resources": {name: 1}, "group": str(n)} for n, (id_, name) in enumerate(places)
    ]
    return claim(f"c{number}", f"i{number}", "", {}, DEADLINE_MS, allocations=them, **more)


# -- measuring ------------------------------------------------------------------------------------------------


class Cost(NamedTuple):
    """What one record costs: CPU time, bytes of its value, bytes of memory that are kept (0: not measured)."""

    cpu_s: float
    size: int
    held: int = 0

    @property
    def share(self) -> float:
        """Its share of the budget for CPU time: above 1 it is too expensive."""
        return self.cpu_s / budget_s(self.size)


def budget_s(size: int) -> float:
    """The CPU time that a record of that size in bytes may cost, seconds."""
    return SMALL_S if size < SMALL_BYTES else LARGE_S


def fold_s(state: MemoryState, record: Record, registry: Registry) -> float:
    """The CPU time that the fold takes for a record, and that encoding the changed rows takes, seconds."""
    started = time.process_time()
    changes = fold(state, record, registry)
    for table, rows in changes.items():
        for row in rows.values():
            if row is not None:
                table.encode(row)
    return time.process_time() - started


def made(recipe: Recipe) -> Case:
    """The records of a recipe."""
    return KINDS[recipe.kind][0](**recipe.numbers)


def cost(recipe: Recipe, *, times: int = 3, memory: bool = False) -> Cost:
    """Fold a recipe's records in memory. CPU time is the least of that number of folds of the same state, on a machine
    that is not slowed down (`slowness`)."""
    case = made(recipe)
    state, registry = MemoryState(), Registry()
    for offset, one in enumerate([opened(classes=(), version=case.version), *case.before]):
        state.commit(fold(state, Record(0, offset, START_MS, CELL.encode(), one), registry))
    record = Record(0, 1 + len(case.before), START_MS + case.later_ms, CELL.encode(), case.value)
    spent = min(fold_s(state, record, registry) / slowness() for _ in range(times))
    held = 0
    if memory:
        tracemalloc.start()
        state.commit(fold(state, record, registry))
        held = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
    return Cost(spent, len(case.value), held)


# -- searching ------------------------------------------------------------------------------------------------


def varied(rng: random.Random, recipe: Recipe) -> Recipe:
    """A recipe with one number changed, a little or a lot."""
    most = KINDS[recipe.kind][1]
    name = rng.choice(list(most))
    old = recipe.numbers[name]
    new = rng.choice((old * 2, old // 2, old + 1, old - 1, most[name], 1, rng.randint(0, most[name])))
    return Recipe(
        recipe.kind,
        {**recipe.numbers, name: max(0 if name in ("kind", "changed", "tests") else 1, min(new, most[name]))},
    )


def search(
    rng: random.Random, start: Sequence[tuple[Recipe, Cost]], steps: int
) -> Iterator[tuple[Recipe, Cost]]:
    """Search from these recipes, whose cost is known. Yields each that costs a larger share of the budget than any of its kind before.

    The search stops at a kind that is over the budget: worse ones take minutes and show nothing new.
    """
    best = {recipe.kind: (recipe, found.share) for recipe, found in start}
    for _ in range(steps):
        within = [kind for kind, (_, share) in best.items() if share <= 1]
        if not within:
            return
        recipe = varied(rng, best[rng.choice(within)][0])
        if (
            len(made(recipe).value) > LIMITS_3.record_bytes
            or cost(recipe, times=1).share <= best[recipe.kind][1]
        ):
            continue
        found = cost(recipe)
        if found.share > best[recipe.kind][1]:
            best[recipe.kind] = recipe, found.share
            yield recipe, found
