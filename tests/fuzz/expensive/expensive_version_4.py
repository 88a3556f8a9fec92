"""Kinds of records of rules version 4 that may cost the fold more than they should (`expensive_records`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from tests.fuzz.expensive.expensive_case import CELL, DEADLINE_MS, HOLD_MS, Case
from tests.support.logs.events_json import claim, claims, event, provider, reported, rules_in_steps

Json = dict[str, Any]


def mig_instances(gpus: int, profiles: int, starts: int, size: int, asks: int, count: int) -> Case:
    """Claims of instances of GPUs that report profiles with many placements."""
    size, starts = min(size, 16), max(1, min(starts, 17 - min(size, 16)))
    table = {
        f"p{n}": {"size": size, "starts": list(range(starts))}
        for n in range(max(1, min(profiles, 64 // starts)))
    }
    mig = {"devices": {f"g{n}": {"profiles": table} for n in range(gpus)}}
    return _asked("MIG", mig, {"profile": "p0", "count": count}, asks)


def ports(ranges: int, width: int, asks: int, count: int, named: int, protocols: int) -> Case:
    """Claims of ports, of any or of named ranges."""
    offered = _ranges(ranges, width)
    wanted: Json = {"count": count}
    if named:
        wanted["ports"] = _ranges(named, max(width, -(-count // named)))
    inventory = dict.fromkeys(("tcp", "udp")[: 1 + protocols % 2], offered)
    return _asked("PORT", inventory, wanted, asks)


def given_back_ports(parts: int, count: int, consumers: int, kind: int) -> Case:
    """Ports that are released, that end with their holds, or that are claimed again in a move."""
    setup = [reported("p0", [provider("p0", PORT={"tcp": [[1, 65535]], "udp": [[1, 65535]]})])]
    them = [
        {
            "provider": "p0",
            "resources": {"PORT": {"count": count, "protocol": ("tcp", "udp")[n % 2]}},
            "group": str(n),
        }
        for n in range(parts)
    ]
    hold = HOLD_MS if kind % 3 == 1 else None
    for number in range(consumers):
        one = claim(f"c{number}", f"i{number}", "", {}, DEADLINE_MS, allocations=them, hold_until_ms=hold)
        setup.append(claims(one))
    if kind % 3 == 1:
        return Case(setup, event("tick.v1", {}), 3_000_000)
    if kind % 3 == 2:
        moved = [{**one, "resources": {"PORT": {"count": max(1, count // 2)}}} for one in them]
        return Case(setup, _moved("c0", "m0", "i0", moved))
    released = [{"consumer": f"i{n}", "claim": f"c{n}"} for n in range(consumers)]
    return Case(setup, event("consumers.released.v1", {"releases": released}))


def fragmented_ports(providers: int, fragments: int, protocols: int) -> Case:
    """Claims of one port each, of providers of which every other port is held."""
    names = ("tcp", "udp")[: 1 + protocols % 2]
    whole = {name: [[1, 65535]] for name in names}
    setup = [reported(f"n{number}", [provider(f"n{number}", PORT=whole)]) for number in range(providers)]
    held = [
        (number, name, [[port, port] for port in range(first, min(first + 128, 2 * fragments), 2)])
        for number in range(providers)
        for name in names
        for first in range(1, 2 * fragments, 128)
    ]
    bids = []
    for at, (number, name, ranges) in enumerate(held):
        ask = {"count": len(ranges), "ports": ranges, "protocol": name}
        bids.append(claim(f"c{at}", f"i{at}", f"n{number}", {"PORT": ask}, DEADLINE_MS))
    setup += [claims(*bids[at : at + 16]) for at in range(0, len(bids), 16)]
    more = [claim(f"m{n}", f"k{n}", f"n{n % providers}", {"PORT": 1}, DEADLINE_MS) for n in range(providers)]
    return Case(setup, claims(*more[:64]))


def gang(claims_: int, parts: int, memberships: int, fails: int) -> Case:
    """A gang of many claims; with `fails` the last of them does not fit, and all is undone."""
    tree = [provider("p0"), *(provider(f"p{n}", "p0", VCPU=10_000) for n in range(1, parts + 1))]
    joins = [
        {"group": f"{CELL}/g{n}", "policy": "anti-affinity", "max_per_node": 1024} for n in range(memberships)
    ]
    last = claims_ - 1
    bids = [
        _bid(
            n,
            [(f"p{p}", 20_000 if fails % 2 and n == last and p == parts else 1) for p in range(1, parts + 1)],
        )
        | {"memberships": joins}
        for n in range(max(2, claims_))
    ]
    return Case([reported("p0", tree)], event("gang.requested.v1", {"claims": bids}))


def gang_after_gangs(rounds: int, claims_: int, parts: int) -> Case:
    """A gang that fails, in a record whose deadlines have changed much."""
    tree = [provider("p0"), *(provider(f"p{n}", "p0", VCPU=10_000) for n in range(1, parts + 1))]
    setup = [reported("p0", tree)]
    for turn in range(rounds):
        bids = [
            _bid(1000 * turn + n, [(f"p{1 + (n + p) % parts}", 1) for p in range(2)], hold_until_ms=HOLD_MS)
            for n in range(max(2, claims_))
        ]
        setup.append(event("gang.requested.v1", {"claims": bids}))
    bids = [_bid(10**6 + n, [("p1", 1 if n else 20_000)]) for n in range(max(2, claims_))]
    return Case(setup, event("gang.requested.v1", {"claims": [*bids[1:], bids[0]]}), 70_000)


def moved_members(members: int, groups: int, parts: int, kind: int) -> Case:
    """A member of large server groups moves, or is released, or its hold ends with many others, or it is updated."""
    tree = [provider("p0"), *(provider(f"p{n}", "p0", VCPU=10_000) for n in range(1, parts + 1))]
    hold = HOLD_MS if kind % 4 == 2 else None
    joins = [
        {"group": f"{CELL}/g{n}", "policy": "anti-affinity", "max_per_node": 1024} for n in range(groups)
    ]
    setup = [reported("p0", tree)]
    each = max(1, min(64, 128 // groups))
    places = [(f"p{p}", 1) for p in range(1, parts + 1)]
    bids = [
        _bid(n, places, one_copy=True, hold_until_ms=hold) | {"memberships": joins} for n in range(members)
    ]
    setup += [claims(*bids[at : at + each]) for at in range(0, members, each)]
    if kind % 4 == 0:
        moved = _bid(0, places[: max(1, parts // 2)], one_copy=True)["allocations"]
        return Case(setup, _moved("c0", "m0", "i0", moved))
    if kind % 4 == 2:
        return Case(setup, event("tick.v1", {}), 3_000_000)
    released = [
        {"consumer": f"i{n}", "claim": f"c{n}"} for n in range(min(members, 64 if kind % 4 == 1 else 1))
    ]
    return Case(setup, event("consumers.released.v1", {"releases": released}))


def moved_parts(parts: int, kind: int, items: int, changed: int) -> Case:
    """A consumer of many devices or CPUs moves: some of its asks change."""
    name, inventory, ask = _by_name(kind, items)
    per = 4
    setup = [reported(f"n{n}", [_of(f"n{n}", None, name, inventory)]) for n in range(-(-parts // per))]
    them = [{"provider": f"n{n // per}", "resources": {name: ask}, "group": str(n)} for n in range(parts)]
    setup.append(claims(claim("c0", "i0", "", {}, DEADLINE_MS, allocations=them)))
    other = {**ask, "count": 1} if kind % 3 == 0 else {**ask, "count": 2} if kind % 3 == 1 else {"pinned": 2}
    after = [{**one, "resources": {name: other}} if n < changed else one for n, one in enumerate(them)]
    return Case(setup, _moved("c0", "m0", "i0", after))


def quotas(shares: int, units: int, parents: int, asks: int, users: int) -> Case:
    """Claims of projects whose rows of quotas have many entries."""
    inventories = {f"CUSTOM_{n}": {"total": 10**6} for n in range(min(64, units))}
    setup = [reported("p0", [{**provider("p0"), "inventories": inventories}])]
    projects = [f"q{n}" for n in range(64)]
    for number, project in enumerate(projects if parents else projects[:1], start=1):
        if parents:
            said = {"project": project, "parent": "domain", "revision": 1}
            setup.append(event("quota.parent.set.v1", said, f"e{number}"))
    for number in range(shares):
        said = {"project": "domain", "consumer_type": f"T{number // 64}", "unit": f"CUSTOM_{number % 64}"}
        setup.append(event("quota.share.set.v1", {**said, "number": 1, "amount": 10**6}))
    bids = []
    for number in range(64):
        bid = _bid(number, [])
        bid["allocations"] = [
            {"provider": "p0", "resources": {f"CUSTOM_{n % min(64, units)}": 1}, "group": str(n)}
            for n in range(asks)
        ]
        bids.append(
            bid
            | {
                "project": projects[number],
                "user": f"u{number % max(1, users)}",
                "consumer_type": f"T{number % 8}",
            }
        )
    return Case(setup, claims(*bids))


def ended_quotas(holds: int, units: int, shares: int) -> Case:
    """Holds of many users that end at once."""
    inventories = {f"CUSTOM_{n}": {"total": 10**6} for n in range(min(64, units))}
    setup = [reported("p0", [{**provider("p0"), "inventories": inventories}])]
    for number in range(shares):
        said = {"project": "domain", "consumer_type": f"T{number // 64}", "unit": f"CUSTOM_{number % 64}"}
        setup.append(event("quota.share.set.v1", {**said, "number": 1, "amount": 10**6}))
    setup.append(event("quota.parent.set.v1", {"project": "q", "parent": "domain", "revision": 1}))
    bids = []
    for number in range(holds):
        bid = _bid(number, [], hold_until_ms=HOLD_MS) | {"project": "q", "user": f"u{number}"}
        bid["allocations"] = [{"provider": "p0", "resources": {f"CUSTOM_{number % min(64, units)}": 1}}]
        bids.append(bid | {"consumer_type": f"T{number % 8}"})
    setup += [claims(*bids[at : at + 64]) for at in range(0, holds, 64)]
    return Case(setup, event("tick.v1", {}), 3_000_000)


def counted(consumers: int, asks: int, shares: int, users: int, user_shares: int, named: int) -> Case:
    """Consumers that got something before the rules were raised are counted, in rows of quotas with many entries."""
    inventories: Json = {f"CUSTOM_{n}": {"total": 10**6} for n in range(min(64, asks))}
    if named:
        inventories["PCI_DEVICE"] = {"devices": {f"d{n}": {"a": n % 3} for n in range(512)}}
    setup = [reported("p0", [{**provider("p0"), "inventories": inventories}])]
    for number in range(consumers):
        wanted: list[Json] = [{f"CUSTOM_{n % 64}": 1} for n in range(asks)]
        wanted += [{"PCI_DEVICE": {"count": 1}}] * named
        bid = _bid(number, []) | {"project": "q", "user": f"u{number % users}", "consumer_type": "T0"}
        bid["allocations"] = [
            {"provider": "p0", "resources": one, "group": str(n)} for n, one in enumerate(wanted[:256])
        ]
        setup.append(claims(bid))
    setup += rules_in_steps(4)
    scopes: list[tuple[int, Json]] = [(shares, {"project": "domain"}), (shares, {"project": "q"})]
    scopes += [(user_shares, {"project": "q", "user": f"u{n}"}) for n in range(users)]
    for count, scope in scopes:
        for number in range(count):
            said = {**scope, "consumer_type": f"S{number // 64}", "unit": f"CUSTOM_{number % 64}"}
            setup.append(event("quota.share.set.v1", {**said, "number": 1, "amount": 10**6}))
    setup.append(event("quota.parent.set.v1", {"project": "q", "parent": "domain", "revision": 1}))
    named_consumers = [f"i{n}" for n in range(consumers)]
    return Case(setup, event("quota.counted.v1", {"consumers": named_consumers}), version=3)


def parent_set(entries: int, other: int) -> Case:
    """A project with many entries gets a parent with many entries."""
    setup = []
    for project, count in (("q", entries), ("domain", other)):
        inventories = {f"CUSTOM_{n}": {"total": 10**6} for n in range(64)}
        setup.append(reported(f"n-{project}", [{**provider(f"n-{project}"), "inventories": inventories}]))
        bids = [
            _bid(0, [])
            | {
                "id": f"{project}{n}",
                "consumer": f"{project}{n}",
                "project": project,
                "consumer_type": f"T{n}",
            }
            for n in range(-(-count // 64))
        ]
        for bid in bids:
            bid["allocations"] = [
                {"provider": f"n-{project}", "resources": {f"CUSTOM_{n}": 1 for n in range(64)}}
            ]
        setup += [claims(*bids[at : at + 8]) for at in range(0, len(bids), 8)]
    return Case(setup, event("quota.parent.set.v1", {"project": "q", "parent": "domain", "revision": 1}))


def ended_move(parts: int, kind: int, groups: int) -> Case:
    """The claim of a move between cells, with many parts, is withdrawn."""
    name, inventory, ask = _by_name(kind, 64)
    tree = [provider("p0"), *(_of(f"p{n}", "p0", name, inventory) for n in range(1, parts + 1))]
    joins = [
        {"group": f"{CELL}/g{n}", "policy": "anti-affinity", "max_per_node": 1024} for n in range(groups)
    ]
    them = [
        {"provider": f"p{n}", "resources": {name: ask}, "group": str(n)}
        for n in range(1, min(parts, 256) + 1)
    ]
    bid = claim("m", "i", "", {}, DEADLINE_MS, allocations=them, hold_until_ms=HOLD_MS, memberships=joins)
    said = {"move": "m", "consumer": "i", "deadline_ms": DEADLINE_MS}
    return Case([reported("p0", tree), claims(bid)], event("cell.move.withdrawn.v1", said))


def renamed(parts: int, classes: int, consumers: int, per: int) -> Case:
    """A node with many parts and consumers gets another name."""
    inventories = {f"CUSTOM_{n}": {"total": 10**6} for n in range(min(64, classes))}
    tree = [
        provider("p0"),
        *({**provider(f"p{n}", "p0"), "inventories": inventories} for n in range(1, parts + 1)),
    ]
    setup = [reported("p0", tree)]
    bids = [
        _bid(n, [(f"p{1 + (n + p) % parts}", 1) for p in range(per)], name="CUSTOM_0")
        for n in range(consumers)
    ]
    setup += [claims(*bids[at : at + 64]) for at in range(0, consumers, 64)]
    names = {"p0": "q0", **{f"p{n}": f"q{n}" for n in range(1, parts + 1)}}
    named = [f"i{n}" for n in range(min(consumers, 1024))]
    return Case(
        setup, event("node.renamed.v1", {"root": "p0", "to": "q0", "providers": names, "consumers": named})
    )


def excluded(devices: int, held: int) -> Case:
    """An operator excludes many devices of one provider."""
    name, inventory, ask = _by_name(0, devices)
    setup = [reported("p0", [_of("p0", None, name, inventory)])]
    setup += [claims(claim(f"c{n}", f"i{n}", "p0", {name: ask}, DEADLINE_MS)) for n in range(held)]
    facts = {"overrides": {name: {"excluded": {f"d{n}": "bad" for n in range(devices)}}}}
    return Case(setup, event("facts.set.v1", {"provider": "p0", "revision": 1, "facts": facts}))


def alternatives(requests: int, count: int, names: int) -> Case:
    """Requests with many alternatives."""
    group = {"resources": {"VCPU": 1}, "required": [f"CUSTOM_{n}" for n in range(names)]}
    spec = {"groups": [group], "alternatives": [{"groups": [group]} for _ in range(count)]}
    them = [{"id": f"r{n}", "spec_at": n} for n in range(requests)]
    return Case([], event("requests.received.v2", {"specs": [spec] * requests, "requests": them}))


KINDS_4: Final[Mapping[str, tuple[Callable[..., Case], Mapping[str, int]]]] = {
    "mig_instances": (
        mig_instances,
        {"gpus": 512, "profiles": 64, "starts": 16, "size": 16, "asks": 2048, "count": 256},
    ),
    "ports": (
        ports,
        {"ranges": 64, "width": 1000, "asks": 2048, "count": 256, "named": 64, "protocols": 1},
    ),
    "given_back_ports": (given_back_ports, {"parts": 256, "count": 256, "consumers": 4, "kind": 2}),
    "fragmented_ports": (fragmented_ports, {"providers": 16, "fragments": 1024, "protocols": 1}),
    "gang": (gang, {"claims_": 64, "parts": 64, "memberships": 16, "fails": 1}),
    "gang_after_gangs": (gang_after_gangs, {"rounds": 16, "claims_": 64, "parts": 64}),
    "moved_members": (moved_members, {"members": 256, "groups": 16, "parts": 8, "kind": 3}),
    "moved_parts": (moved_parts, {"parts": 256, "kind": 2, "items": 256, "changed": 256}),
    "quotas": (quotas, {"shares": 512, "units": 64, "parents": 1, "asks": 32, "users": 64}),
    "ended_quotas": (ended_quotas, {"holds": 1024, "units": 64, "shares": 512}),
    "counted": (
        counted,
        {"consumers": 64, "asks": 256, "shares": 500, "users": 64, "user_shares": 500, "named": 8},
    ),
    "parent_set": (parent_set, {"entries": 512, "other": 512}),
    "ended_move": (ended_move, {"parts": 256, "kind": 2, "groups": 16}),
    "renamed": (renamed, {"parts": 1000, "classes": 4, "consumers": 1024, "per": 4}),
    "excluded": (excluded, {"devices": 512, "held": 64}),
    "alternatives": (alternatives, {"requests": 64, "count": 8, "names": 1000}),
}
"""As `expensive_records.KINDS`."""


def _bid(
    number: int,
    places: Sequence[tuple[str, int]],
    *,
    name: str = "VCPU",
    one_copy: bool = False,
    hold_until_ms: int | None = None,
) -> Json:
    them = [
        {"provider": id_, "resources": {name: amount}, "group": "" if one_copy else str(n)}
        for n, (id_, amount) in enumerate(places)
    ]
    return claim(
        f"c{number}", f"i{number}", "", {}, DEADLINE_MS, allocations=them, hold_until_ms=hold_until_ms
    )


def _moved(before: str, id_: str, consumer: str, allocations: Sequence[Json]) -> bytes:
    data = {
        "id": id_,
        "consumer": consumer,
        "replaces": before,
        "consumer_generation": 1,
        "allocations": list(allocations),
        "deadline_ms": DEADLINE_MS,
    }
    return event("consumer.replaced.v3", data)


def _asked(name: str, inventory: Json, wanted: Json, asks: int) -> Case:
    """Claims with that many asks of one provider."""
    them = [{"provider": "p0", "resources": {name: wanted}, "group": str(n)} for n in range(asks)]
    bids = [
        claim(f"c{at}", f"i{at}", "", {}, DEADLINE_MS, allocations=them[at : at + 32])
        for at in range(0, asks, 32)
    ]
    return Case([reported("p0", [_of("p0", None, name, inventory)])], claims(*bids[:64]))


def _ranges(count: int, width: int) -> list[list[int]]:
    width = max(1, min(width, 65_000 // count - 1))
    return [[1 + n * (width + 1), n * (width + 1) + width] for n in range(count)]


def _by_name(kind: int, items: int) -> tuple[str, Json, Json]:
    """A class, an inventory of it with that many items, and an ask for one."""
    if kind % 3 == 0:
        return (
            "PCI_DEVICE",
            {"devices": {f"d{n}": {"a": n % 3} for n in range(items)}},
            {"count": 1, "where": {"a": {">=": 0}}},
        )
    if kind % 3 == 1:
        gpus = {f"d{n}": {"table": "A100-40GB"} for n in range(max(1, items // 20))}
        return "MIG", {"devices": gpus}, {"profile": "1g.5gb", "count": 1}
    return "NUMA_CELL", {"cores": [[2 * n, 2 * n + 1] for n in range(max(1, items // 2))]}, {"pinned": 1}


def _of(id_: str, parent: str | None, name: str, inventory: Json) -> Json:
    """A provider with one inventory."""
    return {"id": id_, "parent": parent, "inventories": {name: inventory}}
