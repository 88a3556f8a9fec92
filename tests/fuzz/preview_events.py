"""Events of the preview rules: machines, moves that keep grants, changed accounts, and quotas."""

from __future__ import annotations

import random
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

from tests.support.events_json import Tape, event
from vacancy.resources.model.partitioner import partition_for

UNITS = ("VCPU", "PCI_DEVICE")
PROJECTS = ("p", "q", "domain")
DEVICES = ("5:0", "6:0", "7:0")


class PreviewEvents(Iterator[tuple[str, bytes]]):
    """(key, value) of records of a cell of partition 1 and of its quotas' ledgers, without end. Most of them are taken."""

    def __init__(self, rng: random.Random, tape: Tape, cell: str) -> None:
        self._rng, self._tape, self._cell = rng, tape, cell
        self._lives = {"n0": 1, "n1": 1}
        self._sequences: dict[str, int] = {}
        self._claims: list[dict[str, Any]] = []
        self._generations: dict[str, int] = {}
        self._numbers: dict[str, int] = {}
        self._count = 0
        self._deeds = (
            *(self._report,) * 5,
            *(self._claim,) * 6,
            *(self._move,) * 6,
            *(self._update,) * 3,
            *(self._limit, self._plan, self._settle, self._parent),
            *(self._share,) * 2,
            *(
                self._retire,
                self._adopt,
                self._rename,
                self._facts,
                self._facts,
                self._release,
                self._release,
            ),
        )

    def __next__(self) -> tuple[str, bytes]:
        kind, data = self._rng.choice(self._deeds)()
        self._count += 1
        key = self._cell
        if kind.startswith(("quota.limit", "quota.share.p", "quota.share.settled")):
            key = _limit_id(data)
        return key, event(kind, data, f"{self._cell}-{self._count}")

    # -- machines ---------------------------------------------------------------------------------------------

    def _said(self, root: str) -> dict[str, Any]:
        self._sequences[root] = self._sequences.get(root, 0) + 1
        return {"root": root, "incarnation": f"{self._lives[root]:016x}", "sequence": self._sequences[root]}

    def _report(self) -> tuple[str, dict[str, Any]]:
        rng = self._rng
        root = rng.choice(tuple(self._lives))
        if rng.random() < 0.3:  # what was forged in its name ends with its life
            self._lives[root] += 1
        devices: dict[str, Any] = {name: {} for name in DEVICES if rng.random() < 0.9}
        inventories: dict[str, Any] = {"VCPU": {"total": rng.choice((4, 8, 8))}}
        if devices:
            inventories["PCI_DEVICE"] = {"devices": devices}
            if rng.random() < 0.4:  # now and then of a device that is not reported
                inventories["PCI_DEVICE"]["unhealthy"] = {rng.choice(DEVICES): "broken"}
        data = {**self._said(root), "providers": [{"id": root, "inventories": inventories}]}
        machine = rng.choice((None, f"m-{root}", f"m-{root}", f"m-{root}", "m-n0"))
        return "node.reported.v2", {**data, "machine": machine} if machine else data

    def _retire(self) -> tuple[str, dict[str, Any]]:
        root = self._rng.choice(tuple(self._lives))
        said = self._said(root)
        if self._rng.random() < 0.5:
            del said["sequence"]
        self._lives[root] += 1
        return "node.retired.v2", said

    def _adopt(self) -> tuple[str, dict[str, Any]]:
        return "node.adopted.v1", {
            "root": self._rng.choice(("n0", "n1")),
            "machine": f"m-n{self._rng.randrange(2)}",
        }

    def _rename(self) -> tuple[str, dict[str, Any]]:
        old, new = self._rng.sample(("n0", "n1", "n2"), 2)
        consumers = [f"i{number}" for number in range(6)]
        self._lives.setdefault(new, 1)
        return "node.renamed.v1", {"root": old, "to": new, "providers": {old: new}, "consumers": consumers}

    def _facts(self) -> tuple[str, dict[str, Any]]:
        root = self._rng.choice(("n0", "n1"))
        revision = self._numbers[root] = self._numbers.get(root, 0) + 1
        facts: dict[str, Any] = {
            "status": self._rng.choice(("enabled", "enabled", "disabled")),
            "aggregates": self._rng.sample(("zone-a", "zone-b", "rack-1"), self._rng.choice((0, 1, 1, 2))),
        }
        if root == "n0" and self._rng.random() < 0.5:
            facts["overrides"] = {"PCI_DEVICE": {"excluded": {self._rng.choice(DEVICES): "bad"}}}
        return "facts.set.v1", {"provider": root, "revision": revision, "facts": facts}

    # -- consumers --------------------------------------------------------------------------------------------

    def _bid(self, consumer: str) -> dict[str, Any]:
        rng = self._rng
        self._count += 1
        allocations = []
        for group in range(rng.choice((1, 1, 2))):
            resources: dict[str, Any] = {"VCPU": rng.choice((1, 1, 2, 3))}
            if rng.random() < 0.6:
                resources["PCI_DEVICE"] = {"count": rng.choice((1, 1, 2))}
            allocations.append(
                {"provider": rng.choice(("n0", "n1")), "resources": resources, "group": str(group)}
            )
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
            "allocations": allocations,
            "memberships": [{"group": f"{self._cell}/{name}", **rule}] if rng.random() < 0.5 else [],
            "deadline_ms": self._tape.now_ms + 300_000,
        }

    def _claim(self) -> tuple[str, dict[str, Any]]:
        bid = self._bid(f"i{self._rng.randrange(6)}")
        self._claims.append(bid)
        self._generations.setdefault(bid["consumer"], 1)
        spread = any("max_skew" in one for one in bid["memberships"])
        return f"claims.requested.v{2 if spread else 1}", {"claims": [bid]}

    def _move(self) -> tuple[str, dict[str, Any]]:
        if not self._claims:
            return self._claim()
        rng = self._rng
        before = rng.choice(self._claims[-6:])
        bid = self._bid(before["consumer"])
        if rng.random() < 0.6:  # the same asks, or one of them changed
            bid["allocations"] = [
                one if rng.random() < 0.7 else {**one, "resources": {"VCPU": 1}}
                for one in before["allocations"]
            ]
        bid |= {"replaces": before["id"], "consumer_generation": self._generations[bid["consumer"]]}
        if rng.random() < 0.3:
            bid["leaves"] = [f"{self._cell}/a"]
        self._claims.append(bid)
        if rng.random() < 0.7:
            self._generations[bid["consumer"]] += 1
        return "consumer.replaced.v3", bid

    def _update(self) -> tuple[str, dict[str, Any]]:
        if not self._claims:
            return self._claim()
        one = self._rng.choice(self._claims[-6:])
        changes = {"project": self._rng.choice(PROJECTS), "user": self._rng.choice((None, "u", "-"))}
        return "consumer.updated.v1", {"consumer": one["consumer"], "claim": one["id"], **changes}

    def _release(self) -> tuple[str, dict[str, Any]]:
        if not self._claims:
            return self._claim()
        one = self._claims.pop(self._rng.randrange(len(self._claims)))
        self._generations[one["consumer"]] = 1
        return "consumers.released.v1", {"releases": [{"consumer": one["consumer"], "claim": one["id"]}]}

    # -- quotas -----------------------------------------------------------------------------------------------

    def _scope(self) -> dict[str, Any]:
        rng = self._rng
        found: dict[str, Any] = {"project": rng.choice(PROJECTS), "unit": rng.choice(UNITS)}
        for number in range(100):  # until its ledger is in this partition
            found["consumer_type"] = "" if number == 0 else rng.choice(("", "INSTANCE", f"T{number}"))
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
        return "quota.parent.set.v1", data


def _limit_id(scope: dict[str, Any]) -> str:
    text = f"{scope.get('consumer_type', '')}\0{scope['unit']}\0{scope['project']}"
    return f"quota-{sha256(text.encode()).hexdigest()[:32]}"
