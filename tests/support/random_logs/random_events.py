"""Random events of nodes, operators and schedulers, and invalid events.

`RandomEvents` calls `pick` for every choice, so that Hypothesis and a seeded simulator can both use it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from tests.support.logs.events_json import START_MS, Tape, claim, claims, event, provider, released, reported
from vacancy.resources.model.partitioner import partition_for

T = TypeVar("T")


class Pick(Protocol):
    """Chooses one of several options."""

    def __call__(self, options: Sequence[T], /) -> T: ...


@dataclass
class Issued:
    """A claim that a scheduler has sent or will send."""

    cell: str
    claim: dict[str, Any]
    sent: bool = False


@dataclass
class Node:
    """The state of a node that sends events."""

    root: str
    life: int
    sequence: int = 0
    parts: dict[str, dict[str, Any]] = field(default_factory=dict)
    retired: bool = False


STEPS_MS = (*(0,) * 12, *(1_000,) * 8, *(45_000,) * 4, 400_000, 2_000_000, -10_000)
AMOUNTS = (1, 2, 3, 4, 8, 16)
TRAITS = ("HW_CPU_X86_AVX2", "CUSTOM_RED", "CUSTOM_BLUE")
AGGREGATES = ("rack-1", "rack-2")
ATTRIBUTES: tuple[dict[str, Any], ...] = (
    {},
    {"cores": 4},
    {"cores": 8, "kernel": "6.1.0-21-amd64"},
    {"kernel": "6.10", "secure_boot": True},
)
RETYPED: tuple[dict[str, Any], ...] = ({"cores": "4"}, {"secure_boot": 1})
COMPARED: tuple[dict[str, Any], ...] = (
    {"name": "cores", "operator": ">=", "value": 8},
    {"name": "kernel", "operator": "<", "value": "6.10", "version": True},
    {"name": "kernel", "operator": ">=", "value": "6.8", "version": True},
    {"name": "secure_boot", "operator": "!=", "value": False},
    {"name": "cores", "value": "4"},
    {"name": "row", "operator": "lacks"},
    {"name": "cores", "operator": "has"},
)
CONSUMERS = ("i0", "i1")
CLASSES = ("VCPU", "MEMORY_MB", "CUSTOM_GPU", "PORTS")


class RandomEvents:
    """Nodes, operators and schedulers that append events to a log.

    With `wild` there are also invalid and unexpected records: gaps, late duplicates, providers of other nodes, different
    claims under a known id, records that are not events.
    """

    def __init__(self, pick: Pick, tape: Tape, *, wild: bool = False) -> None:
        self.pick, self.tape, self.wild = pick, tape, wild
        self.nodes: dict[tuple[str, str], Node] = {}
        self.issued: list[Issued] = []
        self.requests: list[str] = []
        self.revisions: dict[tuple[str, str], int] = {}
        self.deeds: tuple[Callable[[str], bytes | None], ...] = (
            *(self.report, self.report, self.change, self.heartbeat, self.retire, self.facts, self.facts),
            *(self.claim,) * 6,
            *(self.replace, self.replace, self.release, self.release, self.cancel),
            *(self.confirm, self.request, self.close, self.tick),
        )
        if wild:
            self.deeds += (self.skip, self.again, self.forge, self.steal, self.garbage, self.activate)

    def settle(self) -> None:
        """Report the first nodes of every cell."""
        for cell in self.tape.cells:
            for _ in range(self.pick((1, 2))):
                self.tape.append(cell, self.report(cell))

    def step(self) -> None:
        """Append one random event, and advance the time."""
        cell = self.pick(self.tape.cells)
        deed = self.pick(self.deeds)
        value = deed(cell)
        if value is not None:
            self.tape.append(cell, value)
        self.tape.now_ms += self.pick(STEPS_MS)

    def often(self) -> bool:
        return self.pick((True, False))

    def seldom(self) -> bool:
        return self.pick((False, False, False, True))

    # -- nodes --------------------------------------------------------------------------------------------

    def inventory(self, name: str) -> dict[str, Any]:
        if name == "PORTS":
            return {"ports": [80 + n for n in range(self.pick(AMOUNTS))]}
        total = self.pick(AMOUNTS)
        shapes: tuple[dict[str, int], ...] = (
            {},
            {},
            {"reserved": total // 2},
            {"allocation_ratio_milli": 1500},
            {"step_size": 2, "min_unit": 2, "max_unit": max(2, total // 2)},
        )
        return {"total": total, **self.pick(shapes)}

    def part(self, node: Node, id_: str) -> dict[str, Any]:
        parents = [
            node.root,
            *(p for p in node.parts if p not in (node.root, id_) and not p.endswith("-deep")),
        ]
        names = self.pick(((), ("VCPU",), ("VCPU", "MEMORY_MB"), ("CUSTOM_GPU",), ("VCPU", "PORTS"), CLASSES))
        return {
            "id": id_,
            "parent": None
            if id_ == node.root
            else self.pick(parents)
            if id_.endswith("-deep")
            else node.root,
            "inventories": {name: self.inventory(name) for name in names},
            "traits": list(self.pick(((), TRAITS[:1], TRAITS[1:], TRAITS))),
            "attributes": self.pick((*ATTRIBUTES, *(RETYPED if self.wild else ()))),
        }

    def said(self, node: Node, **more: Any) -> dict[str, Any]:
        node.sequence += 1
        return {"root": node.root, "incarnation": f"{node.life:016x}", "sequence": node.sequence, **more}

    def report(self, cell: str) -> bytes:
        others = (f"{cell}-0", f"{cell}-1")  # and a name that another cell has, too
        root = self.pick(("n0", "n1", "n2") if cell == self.tape.cells[0] else (*others, "n0"))
        node = self.nodes.get((cell, root))
        if node is None or node.retired or self.seldom():
            node = self.nodes[cell, root] = Node(root, node.life + 1 if node else 1)
        ids = (
            root,
            *self.pick(((), (f"{root}-a",), (f"{root}-a", f"{root}-b"), (f"{root}-a", f"{root}-deep"))),
        )
        node.parts = {id_: node.parts.get(id_, {}) for id_ in ids}
        node.parts = {id_: self.part(node, id_) for id_ in ids}
        more: dict[str, Any] = {}
        if self.often():
            more["consumers"] = [self.pick(CONSUMERS)]
        return event("node.reported.v1", self.said(node, providers=list(node.parts.values()), **more))

    def known(self, cell: str) -> Node | None:
        here = [node for (at, _), node in self.nodes.items() if at == cell and not node.retired]
        return self.pick(here) if here else None

    def change(self, cell: str) -> bytes | None:
        node = self.known(cell)
        if node is None:
            return None
        id_ = self.pick((node.root, f"{node.root}-a", f"{node.root}-b", f"{node.root}-deep"))
        leaves = [
            p for p in node.parts if p != node.root and not any(p == o["parent"] for o in node.parts.values())
        ]
        if leaves and self.often():
            gone = self.pick(leaves)
            del node.parts[gone]
            return event("node.changed.v1", self.said(node, removed=[gone]))
        node.parts[id_] = self.part(node, id_)
        return event("node.changed.v1", self.said(node, providers=[node.parts[id_]]))

    def heartbeat(self, cell: str) -> bytes | None:
        node = self.known(cell)
        return None if node is None else event("node.heartbeat.v1", self.said(node))

    def retire(self, cell: str) -> bytes | None:
        node = self.known(cell) if self.pick((True, False)) else None
        if node is None:
            return None
        node.retired = True
        return event("node.retired.v1", self.said(node))

    # -- operators ----------------------------------------------------------------------------------------

    def facts(self, cell: str) -> bytes:
        id_ = self.pick(self.providers(cell))
        revision = self.revisions.get((cell, id_), 0) + 1
        self.revisions[cell, id_] = revision
        said = {
            "status": self.pick(("enabled", "enabled", "disabled", "draining")),
            "aggregates": list(self.pick(((), AGGREGATES[:1], AGGREGATES))),
            "traits": list(self.pick(((), ("CUSTOM_OPERATOR",), TRAITS[:1]))),
            "overrides": self.pick(
                (
                    {},
                    {},
                    {"VCPU": {"reserved": 1}},
                    {"VCPU": {"allocation_ratio_milli": 4000}},
                    {"CUSTOM_GPU": {}},
                )
            ),
            "attributes": self.pick(({}, {}, {"kernel": "6.8", "row": 7}, {"cores": "many"})),
        }
        data = {"provider": id_, "revision": revision, "facts": said}
        return event("facts.set.v1", data, f"f-{cell}-{id_}-{revision}")

    # -- schedulers ---------------------------------------------------------------------------------------

    def providers(self, cell: str) -> list[str]:
        found = [part for (at, _), node in self.nodes.items() if at == cell for part in node.parts]
        return found or ["n0"]

    def ask(self, cell: str, group: int) -> dict[str, Any]:
        """An allocation, mostly from an existing provider; amounts are often too large."""
        here = [node for (at, _), node in self.nodes.items() if at == cell]
        parts = [part for node in here for part in node.parts.values() if part["inventories"]]
        if not parts or self.seldom():
            return {
                "provider": self.pick(self.providers(cell)),
                "resources": {"VCPU": 1},
                "group": str(group),
            }
        part = self.pick(parts)
        names = [self.pick(tuple(part["inventories"])) for _ in range(self.pick((1, 2)))]
        resources = {name: self.pick(AMOUNTS[:5]) for name in names}
        return {"provider": part["id"], "resources": resources, "group": str(group)}

    def bid(self, cell: str, **more: Any) -> Issued:
        allocations = [self.ask(cell, group) for group in range(self.pick((1, 1, 2)))]
        number = len(self.issued)
        predicate = {"provider": allocations[0]["provider"], "negate": self.often()}
        predicates: tuple[dict[str, Any], ...] = (
            {"kind": "trait", "value": self.pick(TRAITS), **predicate},
            {"kind": "aggregate", "value": self.pick(AGGREGATES), **predicate},
            {"kind": "generation", "value": self.pick(AMOUNTS), **predicate},
            {"kind": "attribute", "provider": predicate["provider"], **self.pick(COMPARED)},
        )
        whole = {
            **claim(f"c{number}", self.pick((f"i{number}", *CONSUMERS)), "", {}, self.tape.now_ms),
            "allocations": allocations,
            "predicates": [self.pick(predicates)] if self.seldom() else [],
            "deadline_ms": self.tape.now_ms + self.pick((0, 30_000, 300_000)),
            "hold_until_ms": self.tape.now_ms + 60_000 if self.seldom() else None,
            "memberships": [self.membership(cell)] if self.seldom() else [],
            **more,
        }
        self.issued.append(Issued(cell, whole))
        return self.issued[-1]

    def membership(self, cell: str) -> dict[str, Any]:
        name = self.pick(("near", "apart", "soft"))
        policy = "affinity" if name == "near" else "anti-affinity"
        return {"group": f"{cell}/{name}", "policy": policy, "hard": name != "soft"}

    def claim(self, cell: str) -> bytes:
        waiting = [one for one in self.issued if not one.sent and one.cell == cell]
        them = [waiting[0] if waiting and self.often() else self.bid(cell)]
        if self.seldom():
            them.append(self.bid(cell))
        for one in them:
            one.sent = True
        return claims(*(one.claim for one in them))

    def replace(self, cell: str) -> bytes:
        here = [one for one in self.issued if one.sent and one.cell == cell]
        consumer = self.pick(here).claim["consumer"] if here else "i0"
        one = self.bid(cell, consumer=consumer, consumer_generation=self.pick((1, 1, 2, None)))
        one.sent = True
        return event("consumer.replaced.v1", one.claim)

    def release(self, cell: str) -> bytes | None:
        here = [one for one in self.issued if one.sent and one.cell == cell]
        if not here:
            return None
        one = self.pick(here).claim
        return released(one["consumer"], one["id"], self.pick((None, one["deadline_ms"])))

    def cancel(self, cell: str) -> bytes:
        one = self.bid(cell).claim
        return released(one["consumer"], one["id"], one["deadline_ms"])

    def confirm(self, cell: str) -> bytes | None:
        here = [one for one in self.issued if one.sent and one.cell == cell]
        if not here:
            return None
        one = self.pick(here).claim
        return event("consumer.confirmed.v1", {"consumer": one["consumer"], "claim": one["id"]})

    def request(self, cell: str) -> bytes:
        home = partition_for(cell, len(self.tape.records))
        number = len(self.requests)
        id_ = next(
            f"r{number}-{n}"
            for n in range(1000)
            if partition_for(f"r{number}-{n}", len(self.tape.records)) == home
        )
        self.requests.append(id_)
        spec = {"groups": [{"resources": {"VCPU": self.pick(AMOUNTS)}}]}
        return event("requests.received.v1", {"requests": [{"id": id_, "spec": spec}]})

    def close(self, cell: str) -> bytes | None:
        home = partition_for(cell, len(self.tape.records))
        here = [id_ for id_ in self.requests if partition_for(id_, len(self.tape.records)) == home]
        if not here:
            return None
        outcome = self.pick(("placed", "no_valid_host", "failed"))
        closed = {"id": self.pick(here), "outcome": outcome, "as_of": {"0": 3}, "in_flight": ["c0"]}
        return event("requests.closed.v1", {"requests": [closed]})

    def tick(self, cell: str) -> bytes:
        return event("tick.v1", {})

    # -- invalid and unexpected records -------------------------------------------------------------------

    def skip(self, cell: str) -> None:
        """An event of a node is lost."""
        node = self.known(cell)
        if node is not None:
            node.sequence += 1

    def again(self, cell: str) -> None:
        """An earlier record is appended again."""
        record = self.pick(self.tape.records[partition_for(cell, len(self.tape.records))])
        self.tape.append(record.key.decode(), record.value)

    def forge(self, cell: str) -> bytes | None:
        """A claim with a known id and different content."""
        here = [one for one in self.issued if one.cell == cell]
        return claims({**self.pick(here).claim, "consumer": "forger"}) if here else None

    def steal(self, cell: str) -> bytes | None:
        """A node reports a provider that belongs or belonged to another node."""
        node, id_ = self.known(cell), self.pick(self.providers(cell))
        if node is None:
            return None
        stolen = {
            "id": id_,
            "parent": None if id_ == node.root else node.root,
            "inventories": {"VCPU": {"total": 2}},
        }
        return event("node.changed.v1", self.said(node, providers=[stolen]))

    def garbage(self, cell: str) -> bytes:
        return self.pick(GARBAGE)

    def activate(self, cell: str) -> bytes:
        return event("rules.activated.v1", {"version": 1, "classes": ["PORTS"]})


GARBAGE: tuple[bytes, ...] = (
    b"",
    b"{",
    b"\xff\xfe",
    b"[]",
    event("node.exploded.v1", {}),
    event("node.reported.v1", {"root": "n0"}),
    reported("n0", [provider("n0", VCPU={"total": -1})], life=77),
    reported("n0", [provider("n0", NONSENSE=1)], life=77),
    reported("n0", [provider("n0", parent="n0-a"), provider("n0-a", parent="n0")], life=77),
    event("tick.v1", {"surprise": 1}),
    claims(claim("huge", "i9", "n0", {"VCPU": 2**53 - 1}, START_MS + 10**9)),
    claims(claim("beyond", "i9", "n0", {"VCPU": 10**40}, START_MS + 10**5)),
    claims(claim("far", "i9", "n0", {"VCPU": 1}, START_MS + 10**12)),
)
