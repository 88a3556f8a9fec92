"""Random moves, resizes, rollbacks, updates, holds and cancellations of consumers, and what must be true of them.

The model knows what each consumer asks for and, from the verdicts, which of its claims were accepted. It shares no code with
the fold.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from itertools import cycle
from typing import Any, NamedTuple

from tests.support.classes.ports_class import REGISTRY
from tests.support.logs.events_json import Tape, event, provider
from tests.support.models.memory_state import MemoryState
from tests.support.random_logs.random_events import Pick
from vacancy.resources.fold.fold import fold
from vacancy.resources.fold.rules_versions import RULES_VERSIONS
from vacancy.resources.state.rows import AllocationPart, AllocationRow
from vacancy.resources.state.tables import ALLOCATIONS, PARTITION, PARTITION_KEY, VERDICTS

CELL = "auto-0"
PROVIDERS = {"n1": None, "n1:x": "n1", "n2": None}
CONSUMERS = ("vm-0", "vm-1", "vm-2", "vm-3", "vm-4")
NEVER_MS = 1 << 50

INVENTORIES: dict[str, list[dict[str, Any]]] = {
    "VCPU": [{"total": 12}, {"total": 5}],
    "PCI_DEVICE": [
        {"devices": {"1": {"model": "A"}, "2": {"model": "A"}, "3": {"model": "B"}, "4": {"model": "B"}}},
        {"devices": {"1": {"model": "A"}, "3": {"model": "B"}, "5": {"model": "A"}}},
    ],
    "FPGA": [{"devices": {"0": {}, "1": {}, "2": {}}}, {"devices": {"2": {}, "3": {}}}],
    "VGPU": [{"devices": {"g0": {"types": {"q": 2, "c": 1}}, "g1": {"types": {"q": 2}}}}],
    "GPU_SHARE": [{"devices": {"s0": {"total": 10}, "s1": {"total": 10}}}],
    "MIG": [{"devices": {"m0": {"table": "A30-24GB"}, "m1": {"table": "A30-24GB"}}}],
    "NUMA_CELL": [
        {
            "cores": [[0, 8], [1, 9], [2, 10], [3, 11]],
            "shared_cpus": [],
            "reserved_cpus": [],
            "cpu_ratio_milli": 1000,
            "memory_mb": 64,
            "page_kib": 4,
            "hugepages": {"2048": 16},
        }
    ],
    "PORT": [{"tcp": [[1, 4], [10, 13]], "udp": [[1, 2]]}, {"tcp": [[2, 11]]}],
}
ASKS: dict[str, list[Any]] = {
    "VCPU": [1, 2, 3],
    "PCI_DEVICE": [
        1,
        2,
        {"count": 1},
        {"count": 2},
        {"count": 1, "where": {"model": "B"}},
        {"match": ["model"], "count": 2},
    ],
    "FPGA": [1, 2, {"count": 1}],
    "VGPU": [1, {"type": "q"}, {"type": "q", "count": 2}, {"type": "c"}],
    "GPU_SHARE": [3, 7, {"share": 5}, {"share": 4, "count": 2}],
    "MIG": [{"profile": "1g.6gb"}, {"profile": "1g.6gb", "count": 2}, {"profile": "2g.12gb"}],
    "NUMA_CELL": [
        {"pinned": 1},
        {"pinned": 2},
        {"pinned": 3},
        {"pinned": 2, "memory_mb": 4, "page_kib": 2048},
        {"pinned": 2, "memory_mb": 8, "page_kib": 2048},
        {"memory_mb": 8, "page_kib": "any"},
    ],
    "PORT": [1, {"count": 2}, {"count": 3}, {"ports": [[10, 12]]}, {"count": 1, "protocol": "udp"}],
}


class Wanted(NamedTuple):
    """One ask of a consumer; each has a request group of its own."""

    group: str
    provider: str
    name: str
    ask: Any

    @property
    def slot(self) -> tuple[str, str, str]:
        """What must be equal for the grant to stay, but for the group."""
        return self.provider, self.name, json.dumps(self.ask, sort_keys=True)


class RandomMoves:
    """A log of one cell, folded while it is written. `problems` has what was not as it must be."""

    def __init__(self, pick: Pick) -> None:
        self.pick, self.state = pick, MemoryState()
        self.tape = Tape(version=RULES_VERSIONS.newest.version)
        self.problems: list[str] = []
        self.kinds: Counter[str] = Counter()
        self.asked: dict[str, list[Wanted]] = {}
        self.earlier: dict[str, list[Wanted]] = {}
        first = self.pick(tuple(range(len(ASKS))))
        self.classes = tuple(name for name, _ in zip(cycle(ASKS), range(first + 3)))[first:]
        self.offers = {
            (id_, name): some[0]
            for id_ in PROVIDERS
            for name, some in INVENTORIES.items()
            if name in self.classes
        }
        self.excluded: dict[str, list[str]] = {}
        self.sequence, self.count, self.folded = Counter[str](), 0, 0
        self.report("n1")
        self.report("n2")

    def step(self) -> None:
        """Append one random record, or several."""
        held = [name for name in CONSUMERS if self.held(name)]
        deeds = [self.place] if len(held) < len(CONSUMERS) else []
        if held:
            deeds += [self.resize, self.resize, self.resize, self.rollback, self.migrate, self.update]
            deeds += [self.cancel, self.release, self.confirm]
        self.pick((*deeds, self.change_offer, self.settings, self.pass_time))()

    # -- what is said -------------------------------------------------------------------------------------------

    def place(self) -> None:
        """A consumer that holds nothing claims; sometimes for some seconds only."""
        consumer = self.pick([name for name in CONSUMERS if not self.held(name)])
        asks = [self.any_ask(f"g{number}") for number in range(self.pick((1, 2, 3)))]
        hold = self.pick((None, None, self.tape.now_ms + 5_000))
        self.claim(consumer, asks, hold_until_ms=hold)

    def resize(self) -> None:
        """Each ask stays, changes, moves to another provider, or ends; and another one may come."""
        consumer = self.any_holder()
        asks = []
        for one in self.asked[consumer]:
            deed = self.pick(("stays", "stays", "stays", "changes", "moves", "ends", "renamed"))
            if deed == "changes":
                one = one._replace(ask=self.pick(ASKS[one.name]))
            elif deed == "moves":
                one = one._replace(provider=self.pick(tuple(PROVIDERS)))
            elif deed == "renamed":
                one = one._replace(group=f"r{self.count}-{one.group}")
            if deed != "ends":
                asks.append(one)
        if not asks or self.pick((False, False, True)):
            asks.append(self.any_ask(f"n{self.count}"))
        self.claim(
            consumer,
            self.pick((asks, asks[::-1])),
            hold_until_ms=self.pick((None, None, self.tape.now_ms + 5_000)),
        )

    def rollback(self) -> None:
        """A consumer asks for what it held before."""
        consumer = self.any_holder()
        self.claim(consumer, self.earlier.get(consumer) or self.asked[consumer])

    def migrate(self) -> None:
        """A consumer holds two places, then one of them."""
        consumer = self.any_holder()
        here = self.asked[consumer]
        there = [
            one._replace(provider="n2", group=f"m{self.count}-{one.group}")
            for one in here
            if one.provider != "n2"
        ]
        if there and len(here) < 4:
            self.claim(consumer, [*here, *there])
            self.claim(consumer, self.pick((here, there)))

    def update(self) -> None:
        """Another project or type."""
        consumer = self.any_holder()
        data = {"consumer": consumer, "claim": self.row(consumer).claim, "project": self.pick(("p", "q"))}
        self.say(event("consumer.updated.v1", data), consumer, "update")

    def cancel(self) -> None:
        """A replacement is cancelled before it comes."""
        consumer = self.any_holder()
        self.count += 1
        claim = f"c{self.count}"
        release = {"consumer": consumer, "claim": claim, "deadline_ms": self.tape.now_ms + 60_000}
        self.say(event("consumers.released.v1", {"releases": [release]}), consumer, "cancel")
        self.count -= 1
        self.claim(consumer, [self.any_ask("z")], cancelled=True)

    def release(self) -> None:
        """A consumer gives back all."""
        consumer = self.any_holder()
        release = {"consumer": consumer, "claim": self.row(consumer).claim}
        self.say(event("consumers.released.v1", {"releases": [release]}), consumer, "release")

    def confirm(self) -> None:
        """A hold becomes an allocation."""
        consumer = self.any_holder()
        ref = {"consumer": consumer, "claim": self.row(consumer).claim}
        self.say(event("consumer.confirmed.v1", ref), consumer, "confirm")

    def change_offer(self) -> None:
        """A node reports something else of one class."""
        slot = self.pick(tuple(self.offers))
        self.offers[slot] = self.pick(INVENTORIES[slot[1]])
        self.report(slot[0].split(":")[0])

    def report(self, root: str) -> None:
        """A full report of a node."""
        self.sequence[root] += 1
        providers = [
            {**provider(id_, parent), "inventories": {name: self.offers[id_, name] for name in self.classes}}
            for id_, parent in PROVIDERS.items()
            if id_.split(":")[0] == root
        ]
        said = {"root": root, "incarnation": f"{1:016x}", "sequence": self.sequence[root]}
        self.say(event("node.reported.v2", {**said, "providers": providers}), None, "report")

    def settings(self) -> None:
        """An operator closes or opens a provider, or excludes devices of it."""
        id_ = self.pick(tuple(PROVIDERS))
        self.sequence[f"facts {id_}"] += 1
        names = self.pick(([], ["1"], ["2", "3"]))
        self.excluded[id_] = names
        facts = {
            "status": self.pick(("enabled", "enabled", "disabled")),
            "overrides": {"PCI_DEVICE": {"excluded": dict.fromkeys(names, "faulty")}} if names else {},
        }
        data = {"provider": id_, "revision": self.sequence[f"facts {id_}"], "facts": facts}
        self.say(event("facts.set.v1", data), None, "settings")

    def pass_time(self) -> None:
        """Some holds end."""
        self.tape.now_ms += self.pick((1_000, 6_000))
        self.say(event("tick.v1", {}), None, "tick")

    # -- parts of it --------------------------------------------------------------------------------------------

    def any_holder(self) -> str:
        """A consumer that holds something."""
        return self.pick([name for name in CONSUMERS if self.held(name)])

    def any_ask(self, group: str) -> Wanted:
        """An ask of any class."""
        name = self.pick(self.classes)
        return Wanted(group, self.pick(tuple(PROVIDERS)), name, self.pick(ASKS[name]))

    def held(self, consumer: str) -> AllocationRow | None:
        """What a consumer holds."""
        return self.state.get(ALLOCATIONS, f"{CELL}\0{consumer}".encode())

    def row(self, consumer: str) -> AllocationRow:
        """As `held`, of a consumer that holds something."""
        row = self.held(consumer)
        assert row is not None
        return row

    def claim(
        self,
        consumer: str,
        asks: Sequence[Wanted],
        *,
        cancelled: bool = False,
        hold_until_ms: int | None = None,
    ) -> None:
        """A claim or a replacement, and whether it kept what it had to keep."""
        self.count += 1
        before = self.held(consumer)
        claim = {
            "id": f"c{self.count}",
            "consumer": consumer,
            "allocations": [
                {"provider": one.provider, "group": one.group, "resources": {one.name: one.ask}}
                for one in asks
            ],
            "deadline_ms": self.tape.now_ms + 60_000,
            **({"hold_until_ms": hold_until_ms} if hold_until_ms else {}),
        }
        if before is None:
            value = event("claims.requested.v1", {"claims": [claim]})
        else:
            more = {"replaces": before.claim, "consumer_generation": before.generation}
            value = event("consumer.replaced.v3", {**claim, **more})
        self.say(value, consumer, "place" if before is None else "replace")
        verdict = self.state.get(VERDICTS, f"{CELL}\0{claim['id']}".encode())
        if verdict is None:
            self.problems.append(f"claim {claim['id']} has no verdict")
        elif verdict.accepted:
            self.kinds["accepted"] += 1
            if cancelled:
                self.problems.append(f"claim {claim['id']} was cancelled and is accepted")
            if before is not None:
                self.kept(before, self.asked[consumer], self.row(consumer), asks)
            self.earlier[consumer], self.asked[consumer] = self.asked.get(consumer, list(asks)), list(asks)
        else:
            self.kinds[verdict.reason] += 1
            if self.held(consumer) != before:
                self.problems.append(f"claim {claim['id']} is rejected, and {consumer} holds something else")

    def say(self, value: bytes, subject: str | None, kind: str) -> None:
        """Append a record; nobody but its subject and holds that end may hold something else after it."""
        before = {name: self.held(name) for name in CONSUMERS}
        record = self.tape.append(CELL, value)
        while self.folded <= record.offset:
            self.state.commit(fold(self.state, self.tape.records[0][self.folded], REGISTRY))
            self.folded += 1
        self.kinds[kind] += 1
        for name, row in before.items():
            after = self.held(name)
            if after is None and row is not None and 0 < row.hold_until_ms < self.tape.now_ms:
                self.kinds["hold ended"] += 1
            elif name != subject and after != row:
                self.problems.append(f"{kind} of {subject}: {name} held {row}, and holds {after}")
            elif name == subject and kind in ("update", "confirm", "cancel") and parts(after) != parts(row):
                self.problems.append(f"{kind} of {name}: it held {row}, and holds {after}")
        partition = self.state.get(PARTITION, PARTITION_KEY)
        if partition is None or partition.dead_letters:
            self.problems.append(f"{kind} of {subject} is a dead letter: {value!r}")
        self.problems += items_held_twice(self.state)

    def kept(
        self, before: AllocationRow, old: Sequence[Wanted], after: AllocationRow, new: Sequence[Wanted]
    ) -> None:
        """Each ask that stays has its grant as before, and one that is asked for in another group too."""
        had = [(one, part.grant) for one, part in zip(old, before.parts, strict=True)]
        has = [(one, part.grant) for one, part in zip(new, after.parts, strict=True)]
        by_group = {(one.group, one.slot): grant for one, grant in had}
        for one, grant in has:
            if by_group.get((one.group, one.slot), grant) != grant:
                self.problems.append(f"{one} had {by_group[one.group, one.slot]}, and has {grant}")
        for slot in {one.slot for one in (*old, *new)}:
            grants = [
                Counter(json.dumps(grant) for one, grant in some if one.slot == slot) for some in (had, has)
            ]
            if (grants[0] & grants[1]).total() < min(grants[0].total(), grants[1].total()):
                self.problems.append(f"{slot} had {grants[0]}, and has {grants[1]}")
        for place in {(one.provider, one.name) for one in old}:
            changed = [
                [
                    pair
                    for pair in some
                    if pair[0][1:3] == place and pair[0].slot not in {one.slot for one in others}
                ]
                for some, others in ((had, new), (has, old))
            ]
            if len(changed[0]) == len(changed[1]) == 1:
                self.kept_most(*changed[0][0], *changed[1][0])

    def kept_most(self, old: Wanted, before: Any, new: Wanted, after: Any) -> None:
        """An ask that is larger or smaller now keeps as many of its items as there are still."""
        plain = (old.name, json.dumps(old.ask)) in COUNTED and (new.name, json.dumps(new.ask)) in COUNTED
        if not plain or type(before) is int or type(after) is int:
            return
        self.kinds["resized"] += 1
        offered = items(new.name, self.offers[new.provider, new.name])
        there = items(new.name, before) & offered
        there -= set(self.excluded.get(new.provider, ())) if new.name == "PCI_DEVICE" else set()
        now = items(new.name, after)
        if len(there & now) < min(len(there), len(now)):
            self.problems.append(f"{old} had {before}; {new} has {after}")


COUNTED = {
    (name, json.dumps(ask))
    for name, ask in (
        ("PCI_DEVICE", 1),
        ("PCI_DEVICE", 2),
        ("PCI_DEVICE", {"count": 1}),
        ("PCI_DEVICE", {"count": 2}),
        ("FPGA", 1),
        ("FPGA", 2),
        ("FPGA", {"count": 1}),
        ("NUMA_CELL", {"pinned": 1}),
        ("NUMA_CELL", {"pinned": 2}),
        ("NUMA_CELL", {"pinned": 3}),
        ("PORT", 1),
        ("PORT", {"count": 2}),
        ("PORT", {"count": 3}),
    )
}
"""Asks that differ only in their number."""


def items(name: str, some: Any) -> set[str]:
    """The items of a grant or of an inventory, of classes that grant named ones."""
    if name == "PORT":
        if "ports" in some:
            return {f"{some['protocol']}:{port}" for port in some["ports"]}
        return {
            f"{protocol}:{port}"
            for protocol, ranges in some.items()
            for low, high in ranges
            for port in range(low, high + 1)
        }
    if name == "NUMA_CELL":
        return {str(cpu) for cpu in some.get("cpus", [cpu for core in some.get("cores", ()) for cpu in core])}
    if name in ("PCI_DEVICE", "FPGA"):
        return set(some["devices"] if isinstance(some, dict) else some)
    return set()


def parts(row: AllocationRow | None) -> tuple[AllocationPart, ...]:
    """What a row has."""
    return () if row is None else row.parts


def parts_of(state: MemoryState) -> list[AllocationPart]:
    """What all consumers hold."""
    rows = (state.get(ALLOCATIONS, f"{CELL}\0{name}".encode()) for name in CONSUMERS)
    return [part for row in rows if row is not None for part in row.parts]


def items_held_twice(state: MemoryState) -> list[str]:
    """Items that two grants have."""
    held = Counter(
        (part.provider, part.resource_class, item)
        for part in parts_of(state)
        if type(part.grant) is not int
        for item in items(part.resource_class, part.grant)
    )
    return [f"{item} is held twice" for item, count in held.items() if count > 1]


def not_adding_up(world: RandomMoves) -> list[str]:
    """Records of classes that are not as reported, once all that is held of them is given back."""
    found = []
    for (id_, name), offer in world.offers.items():
        table = REGISTRY.table(name)
        row = world.state.get(table, f"{CELL}\0{id_}".encode())
        record = None if row is None else row.record
        grants = [
            part.grant
            for part in parts_of(world.state)
            if (part.provider, part.resource_class) == (id_, name)
        ]
        for grant in world.pick((grants, grants[::-1])):
            record = table.resource_class.release(record, grant)
        expected = table.resource_class.report(offer, None)
        if name == "PCI_DEVICE" and (excluded := world.excluded.get(id_)):
            expected = table.resource_class.override(
                expected, {"excluded": dict.fromkeys(excluded, "faulty")}
            )
        if record != expected:
            found.append(f"{id_} {name} without {grants} is {record}, not {expected}")
    return found
