"""Events of rules version 4: machines, moves that keep grants, gangs, MIG, ports, taints, devices that are excluded, moves
between cells, changed accounts, and quotas. Some of them lie."""

from __future__ import annotations

import random
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

from tests.support.classes.ports_class import REGISTRY
from tests.support.logs.events_json import Tape, event
from tests.support.models.memory_state import MemoryState
from vacancy.resources.fold.fold import fold
from vacancy.resources.model.partitioner import partition_for
from vacancy.resources.state.rows import AllocationRow
from vacancy.resources.state.tables import ALLOCATIONS, FACTS, NODES, split_key

UNITS = ("VCPU", "PCI_DEVICE", "MIG", "PORT")
PROJECTS = ("p", "q", "domain")
DEVICES = ("5:0", "6:0", "7:0")
GPUS = ("A30-24GB", "A100-40GB", "H200-141GB")
PROFILES = ("1g.6gb", "1g.5gb", "2g.10gb", "3g.20gb", "1g.18gb", "7g.40gb", "1g.5gb+me", "p0", "p1")
OUTCOMES = ("finished", "undone", "released")
TYPES = ("INSTANCE", "INSTANCE", "MIGRATION", "")
TAINTS = ("maintenance", "gpu")


class Version4Events(Iterator[tuple[str, bytes]]):
    """(key, value) of records of a cell of partition 1 and of its quotas' ledgers, without end. Most of them are taken."""

    def __init__(self, rng: random.Random, tape: Tape, cell: str, *, raised: bool = False) -> None:
        """`raised`: the log was raised to these rules, so that there is something to count."""
        self._rng, self._tape, self._cell = rng, tape, cell
        self._state, self._folded = MemoryState(), 0
        self._lives = {"n0": 1, "n1": 1}
        self._sequences: dict[str, int] = {}
        self._claims: list[dict[str, Any]] = []
        self._numbers: dict[str, int] = {}
        self._moves: list[dict[str, Any]] = []
        self._count = 0
        self._deeds = (
            *(self._report,) * 5,
            *(self._claim,) * 6,
            *(self._move,) * 6,
            *(self._update,) * 3,
            *(self._limit, self._plan, self._settle, self._parent),
            *(self._share,) * 2,
            *(self._retire, self._adopt, self._rename, self._release, self._release),
            *(self._facts,) * 4,
            *(self._gang,) * 3,
            *(self._request, self._begin, self._begin),
            *(self._claim_of_move, self._confirm, self._withdraw, self._end, self._leave) * 2,
            *((self._count_held, self._count_held, self._count_node) if raised else ()),
        )

    def __next__(self) -> tuple[str, bytes]:
        kind, data = self._rng.choice(self._deeds)()
        self._count += 1
        key = data["move"] if kind.startswith(("cell.move.begun", "cell.move.ended")) else self._cell
        if kind == "quota.parent.planned.v1" and self._rng.random() < 0.8:
            key = "quota-parents"
        if kind.startswith(("quota.limit", "quota.share.p", "quota.share.settled")):
            key = _limit_id(data)
        if kind.endswith("counted.v1"):
            key = data.pop("cell")
        return key, event(kind, data, f"{self._cell}-{self._count}")

    # -- what the fold made of it ------------------------------------------------------------------------------

    def _now(self) -> MemoryState:
        """The state of the partition: most events are about what is there."""
        records = self._tape.records[1]
        for record in records[self._folded :]:
            self._state.commit(fold(self._state, record, REGISTRY))
        self._folded = len(records)
        return self._state

    def _held(self) -> list[tuple[str, AllocationRow]]:
        """The consumers of this cell that hold something."""
        keys = ((split_key(key), row) for key, row in self._now().rows(ALLOCATIONS))
        return [(consumer, row) for (cell, consumer), row in keys if cell == self._cell]

    def _root(self) -> str:
        """One of the newest nodes: older ones were contested or renamed."""
        return self._rng.choice(tuple(self._lives)[-3:])

    # -- machines ---------------------------------------------------------------------------------------------

    def _said(self, root: str) -> dict[str, Any]:
        self._sequences[root] = self._sequences.get(root, 0) + 1
        return {"root": root, "incarnation": f"{self._lives[root]:016x}", "sequence": self._sequences[root]}

    def _report(self) -> tuple[str, dict[str, Any]]:
        rng = self._rng
        root = self._root()
        if rng.random() < 0.3:  # what was forged in the names of others does not concern it
            root = f"n{len(self._lives)}"
            self._lives[root] = 1
        elif rng.random() < 0.1:
            self._lives[root] += 1
        devices: dict[str, Any] = {name: {} for name in DEVICES if rng.random() < 0.9}
        inventories: dict[str, Any] = {"VCPU": {"total": rng.choice((4, 8, 8))}}
        if devices:
            inventories["PCI_DEVICE"] = {"devices": devices}
            if rng.random() < 0.4:  # now and then of a device that is not reported
                inventories["PCI_DEVICE"]["unhealthy"] = {rng.choice(DEVICES): "broken"}
        if rng.random() < 0.8:
            inventories["MIG"] = {"devices": {f"g{n}": self._gpu() for n in range(rng.choice((1, 2, 2, 3)))}}
        if rng.random() < 0.8:
            ranges = rng.choice(([[80, 90]], [[80, 81], [83, 85], [90, 400]], [[1, 65535]]))
            inventories["PORT"] = {"tcp": ranges, **({"udp": [[53, 60]]} if rng.random() < 0.5 else {})}
        data = {**self._said(root), "providers": [{"id": root, "inventories": inventories}]}
        machine = rng.choice((None, *(f"m-{root}",) * 20, f"m-{self._root()}"))
        return "node.reported.v2", {**data, "machine": machine} if machine else data

    def _retire(self) -> tuple[str, dict[str, Any]]:
        root = self._root()
        said = self._said(root)
        if self._rng.random() < 0.5:
            del said["sequence"]
        self._lives[root] += 1
        return "node.retired.v2", said

    def _adopt(self) -> tuple[str, dict[str, Any]]:
        return "node.adopted.v1", {
            "root": (root := self._root()),
            "machine": f"m-{root if self._rng.random() < 0.8 else self._root()}",
        }

    def _rename(self) -> tuple[str, dict[str, Any]]:
        rng = self._rng
        old, new = self._root(), rng.choice((self._root(), f"n{len(self._lives)}"))
        consumers = [consumer for consumer, _ in self._held() if rng.random() < 0.95]
        self._lives.setdefault(new, 1)
        return "node.renamed.v1", {"root": old, "to": new, "providers": {old: new}, "consumers": consumers}

    def _facts(self) -> tuple[str, dict[str, Any]]:
        rng, root = self._rng, self._root()
        row = self._now().get(FACTS, f"{self._cell}\0{root}".encode())
        said = {"provider": root, "revision": 1 if row is None else row.revision + rng.choice((1, 1, 1, 0))}
        facts: dict[str, Any] = {
            "status": rng.choice(("enabled", "enabled", "enabled", "disabled")),
            "aggregates": rng.sample(("zone-a", "zone-b", "rack-1"), rng.choice((0, 1, 1, 2))),
        }
        if rng.random() < 0.6:
            names = {"PCI_DEVICE": DEVICES, "MIG": ("g0", "g1")}
            facts["overrides"] = {
                name: {"excluded": {one: "it is broken" for one in some if rng.random() < 0.3}}
                for name, some in names.items()
            }
        if rng.random() < 0.4:
            return "facts.set.v1", {**said, "facts": facts}
        facts["taints"] = [
            {
                "key": key,
                "value": rng.choice(("", "a")),
                "effect": rng.choice(("no_schedule", "prefer_no_schedule")),
            }
            for key in TAINTS
            if rng.random() < 0.3
        ]
        return "facts.set.v2", {**said, "facts": facts}

    def _gpu(self) -> dict[str, Any]:
        rng = self._rng
        if rng.random() < 0.7:
            return {"table": rng.choice(GPUS)}
        starts = sorted(rng.sample(range(9), rng.randint(1, 6)))
        return {"profiles": {f"p{n}": {"size": rng.randint(1, 4), "starts": starts} for n in range(2)}}

    # -- consumers --------------------------------------------------------------------------------------------

    def _bid(self, consumer: str) -> dict[str, Any]:
        rng = self._rng
        self._count += 1
        allocations = []
        for group in range(rng.choice((1, 1, 2))):
            resources: dict[str, Any] = {"VCPU": rng.choice((1, 1, 2, 3))}
            if rng.random() < 0.6:
                resources["PCI_DEVICE"] = {"count": rng.choice((1, 1, 2))}
            if rng.random() < 0.3:
                resources["MIG"] = {"profile": rng.choice(PROFILES), "count": rng.choice((1, 1, 2, 5))}
                if rng.random() < 0.3:
                    resources["MIG"]["start"] = rng.randrange(8)
            if rng.random() < 0.3:
                resources["PORT"] = rng.choice(
                    (
                        1,
                        3,
                        {"ports": [[80, 84]]},
                        {"count": 2, "ports": [[90, 95], [53, 60]], "protocol": "udp"},
                    )
                )
            allocations.append({"provider": self._root(), "resources": resources, "group": str(group)})
        rule, name = rng.choice(
            (
                ({"policy": "anti-affinity", "max_per_node": 2}, rng.choice("ab")),
                ({"policy": "spread", "scope": "zone-", "max_skew": 1}, "even"),
            )
        )
        return {
            "id": f"{self._cell}-c{self._count}",
            "consumer": consumer,
            "project": rng.choice(PROJECTS),
            "user": rng.choice(("-", "u")),
            "consumer_type": rng.choice(TYPES),
            "allocations": allocations,
            "memberships": [{"group": f"{self._cell}/{name}", **rule}] if rng.random() < 0.4 else [],
            "deadline_ms": self._tape.now_ms + 300_000,
        } | self._tolerations()

    def _tolerations(self) -> dict[str, Any]:
        if self._rng.random() < 0.5:
            return {}
        key, value = self._rng.choice(TAINTS), self._rng.choice((None, "", "a"))
        return {"tolerations": [{"key": key} | ({} if value is None else {"value": value})]}

    def _claim(self) -> tuple[str, dict[str, Any]]:
        bid = self._bid(f"i{self._rng.randrange(12)}")
        self._claims.append(bid)
        return _claims(bid)

    def _gang(self) -> tuple[str, dict[str, Any]]:
        rng = self._rng
        consumers = rng.sample(range(20), rng.choice((2, 2, 3, 4)))
        bids = [self._bid(f"i{number}") for number in consumers]
        if rng.random() < 0.2 and self._claims:
            bids[-1]["id"] = rng.choice(self._claims)["id"]  # a claim that was made before
        if rng.random() < 0.1:
            bids[0]["deadline_ms"] = bids[1]["deadline_ms"] = self._tape.now_ms - 1
        for bid in bids:
            bid["deadline_ms"] = bids[0]["deadline_ms"]
            self._claims.append(bid)
        return "gang.requested.v1", {"claims": bids}

    def _request(self) -> tuple[str, dict[str, Any]]:
        rng = self._rng
        specs = [{"groups": [{"name": "a", "resources": {"VCPU": n + 1}}]} for n in range(rng.randint(1, 4))]
        spec = specs[0] | {"alternatives": specs[1:]} | self._tolerations()
        requests = [{"id": self._id_here("r"), "spec_at": rng.choice((0, 0, 0, 1))} for _ in range(2)]
        return "requests.received.v2", {"specs": [spec, *specs[1:]], "requests": requests}

    def _move(self) -> tuple[str, dict[str, Any]]:
        rng, held = self._rng, self._held()
        if not held:
            return self._claim()
        consumer, row = rng.choice(held)
        bid = self._bid(consumer)
        before = next((one for one in self._claims if one["id"] == row.claim), bid)
        if rng.random() < 0.7:  # the same asks, or one of them changed
            bid["allocations"] = [
                one
                if rng.random() < 0.7
                else {**one, "resources": rng.choice(bid["allocations"])["resources"]}
                for one in before["allocations"]
            ]
        bid |= {"replaces": row.claim, "consumer_generation": row.generation - (rng.random() < 0.1)}
        if rng.random() < 0.3:
            bid["leaves"] = [f"{self._cell}/a"]
        self._claims = [*self._claims[-100:], bid]
        return "consumer.replaced.v3", bid

    def _update(self) -> tuple[str, dict[str, Any]]:
        held = self._held()
        if not held:
            return self._claim()
        consumer, row = self._rng.choice(held)
        changes = {
            "project": self._rng.choice(PROJECTS),
            "user": self._rng.choice((None, "u", "-")),
            "consumer_type": self._rng.choice((None, *TYPES)),
        }
        return "consumer.updated.v1", {"consumer": consumer, "claim": row.claim, **changes}

    def _release(self) -> tuple[str, dict[str, Any]]:
        held = self._held()
        if not held:
            return self._claim()
        some = self._rng.sample(held, min(len(held), self._rng.choice((1, 1, 4))))
        releases = [{"consumer": consumer, "claim": row.claim} for consumer, row in some]
        return "consumers.released.v1", {"releases": releases}

    # -- what was there before the rules ----------------------------------------------------------------------

    def _count_held(self) -> tuple[str, dict[str, Any]]:
        """Some consumers of any cell are counted; many of them are already."""
        keys = [split_key(key) for key, _ in self._now().rows(ALLOCATIONS)] or [(self._cell, "nobody")]
        cell = self._rng.choice(keys)[0]
        there = [consumer for at, consumer in keys if at == cell]
        return "quota.counted.v1", {"cell": cell, "consumers": self._rng.sample(there, min(len(there), 3))}

    def _count_node(self) -> tuple[str, dict[str, Any]]:
        """A node of any cell is counted."""
        keys = [split_key(key) for key, _ in self._now().rows(NODES)] or [(self._cell, "nobody")]
        cell, root = self._rng.choice(keys)
        return "node.counted.v1", {"cell": cell, "root": root}

    # -- moves between cells ----------------------------------------------------------------------------------

    def _id_here(self, kind: str) -> str:
        """An id of this partition."""
        self._count += 1
        names = (f"{kind}-{self._cell}-{self._count}-{n}" for n in range(1000))
        return next(name for name in names if partition_for(name, len(self._tape.records)) == 1)

    def _begin(self) -> tuple[str, dict[str, Any]]:
        rng, now_ms = self._rng, self._tape.now_ms
        if self._moves and rng.random() < 0.2:
            return "cell.move.begun.v1", rng.choice(self._moves) | {"waits": rng.random() < 0.5}
        move = {
            "move": self._id_here("m"),
            "consumer": f"i{rng.randrange(12, 20)}",
            "source": {"cell": rng.choice((*self._tape.cells[:2], self._cell)), "claim": f"{self._cell}-c1"},
            "destination": self._cell,
            "deadline_ms": now_ms + 300_000,
            "hold_until_ms": now_ms + rng.choice((1000, 60_000, 200_000)),
        }
        self._moves = [*self._moves[-5:], move]
        return "cell.move.begun.v1", move

    def _any_move(self) -> dict[str, Any]:
        if not self._moves:
            self._begin()
        move = dict(self._rng.choice(self._moves))
        if self._rng.random() < 0.1:
            move["consumer"] = f"i{self._rng.randrange(6)}"  # that of another move
        return move

    def _claim_of_move(self) -> tuple[str, dict[str, Any]]:
        move = self._any_move()
        bid = self._bid(move["consumer"]) | {"id": move["move"], "hold_until_ms": move["hold_until_ms"]}
        self._claims.append(bid)
        return _claims(bid)

    def _confirm(self) -> tuple[str, dict[str, Any]]:
        move = self._any_move()
        return "consumer.confirmed.v1", {"consumer": move["consumer"], "claim": move["move"]}

    def _withdraw(self) -> tuple[str, dict[str, Any]]:
        move = self._any_move()
        return "cell.move.withdrawn.v1", {name: move[name] for name in ("move", "consumer", "deadline_ms")}

    def _end(self) -> tuple[str, dict[str, Any]]:
        return "cell.move.ended.v1", {"move": self._any_move()["move"], "outcome": self._rng.choice(OUTCOMES)}

    def _leave(self) -> tuple[str, dict[str, Any]]:
        """The source of a move is released."""
        move = self._any_move()
        release = {"consumer": move["consumer"], "claim": move["source"]["claim"]}
        return "consumers.released.v1", {"releases": [release]}

    # -- quotas -----------------------------------------------------------------------------------------------

    def _scope(self) -> dict[str, Any]:
        rng = self._rng
        found: dict[str, Any] = {"project": rng.choice((*PROJECTS, *PROJECTS, "")), "unit": rng.choice(UNITS)}
        for number in range(100):  # until its ledger is in this partition
            found["consumer_type"] = "" if number == 0 else rng.choice((*TYPES, f"T{number}"))
            if number and rng.random() < 0.3:
                found["user"] = rng.choice(("u", ""))
            if partition_for(_limit_id(found), len(self._tape.records)) == 1:
                break
        return found

    def _numbered(self, kind: str) -> tuple[dict[str, Any], int]:
        scope = self._scope()
        name = f"{kind} {_limit_id(scope)}"
        self._numbers[name] = self._numbers.get(name, 0) + 1
        return scope, self._numbers[name]

    def _limit(self) -> tuple[str, dict[str, Any]]:
        scope, revision = self._numbered("limit")
        return "quota.limit.set.v1", {
            **scope,
            "limit": self._rng.choice((-1, 4, 10, 20)),
            "revision": revision,
        }

    def _plan(self) -> tuple[str, dict[str, Any]]:
        scope, number = self._numbered("plan")
        amount = self._rng.choice((-1, 0, 3, 8, 20))
        return "quota.share.planned.v1", {**scope, "number": number, "amount": amount, "partition": 1}

    def _settle(self) -> tuple[str, dict[str, Any]]:
        scope = self._scope()
        number = self._numbers.get(f"plan {_limit_id(scope)}", 0) or 1
        amount = self._rng.choice((0, 3, 8))
        return "quota.share.settled.v1", {**scope, "number": number, "amount": amount, "partition": 1}

    def _share(self) -> tuple[str, dict[str, Any]]:
        scope, number = self._numbered("share")
        return "quota.share.set.v1", {**scope, "number": number, "amount": self._rng.choice((-1, 3, 8, 20))}

    def _parent(self) -> tuple[str, dict[str, Any]]:
        self._numbers["parent"] = self._numbers.get("parent", 0) + 1
        parent = self._rng.choice(("domain", ""))
        data = {
            "project": self._rng.choice(("p", "q")),
            "parent": parent,
            "revision": self._numbers["parent"],
        }
        return f"quota.parent.{self._rng.choice(('set', 'planned'))}.v1", data


def _claims(bid: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """A record of one claim, of the form that it needs. Some of the newest form refer to a spec that is not there."""
    newer = "tolerations" in bid or any("max_skew" in one for one in bid["memberships"])
    if newer and bid["deadline_ms"] % 2:
        specs = [{"groups": [{"resources": {"VCPU": 1}}]}] * (bid["deadline_ms"] % 3)
        return "claims.requested.v2", {"claims": [{**bid, "spec_at": 0}], "specs": specs}
    return f"claims.requested.v{2 if newer else 1}", {"claims": [bid]}


def _limit_id(scope: dict[str, Any]) -> str:
    user = f"\0{scope['user']}" if "user" in scope else ""
    text = f"{scope.get('consumer_type', '')}\0{scope['unit']}\0{scope['project']}{user}"
    return f"quota-{sha256(text.encode()).hexdigest()[:32]}"
