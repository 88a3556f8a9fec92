"""Scenes of a few records each, in a cell of their own, that go up to a limit of the rules, and beyond it.

A scene is a generator: it yields the value of one record at a time, and reads the time when it is asked for the next, because
other records come between. Every choice is `rng`'s.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from tests.support.logs.events_json import Tape, claims, event
from vacancy.resources.model.limits import LIMITS_3 as LIMITS

Json = dict[str, Any]
CLAIMS = 64
"""Claims in one record at most."""

PARTS = 256
"""Allocations in one claim at most."""


class Scene:
    """A cell with one node, whose providers have `VCPU`, and a scheduler that takes from them."""

    def __init__(self, rng: random.Random, tape: Tape, cell: str) -> None:
        self.rng, self.tape, self.cell = rng, tape, cell
        self.root = f"{cell}-n"
        self.life, self.sequence, self.number = rng.getrandbits(64), 0, 0

    # -- records ------------------------------------------------------------------------------------------

    def near(self, limit: int) -> int:
        """Just below, at, or above a limit."""
        return limit + self.rng.choice((-1, 0, 0, 1, 1, 2, limit // 8))

    def node(self, kind: str, **more: Any) -> bytes:
        """The node's next event."""
        self.sequence += 1
        place = {"root": self.root, "incarnation": f"{self.life:016x}", "sequence": self.sequence}
        return event(f"node.{kind}.v1", {**place, **more})

    def provider(self, number: int, **more: Any) -> Json:
        """The root (0) or one of its parts."""
        id_ = f"{self.root}-{number}" if number else self.root
        parent = self.root if number else None
        return {"id": id_, "parent": parent, "inventories": {"VCPU": {"total": 100}}, **more}

    def tree(self, parts: Iterable[int], **more: Any) -> bytes:
        """A full report of the root and these parts."""
        return self.node("reported", providers=[self.provider(0), *(self.provider(n) for n in parts)], **more)

    def claim(self, parts: Iterable[int] = (0,), **more: Any) -> Json:
        """A claim of one VCPU of each of these providers."""
        self.number += 1
        return {
            "id": f"{self.cell}-c{self.number}",
            "consumer": f"{self.cell}-i{self.number}",
            "allocations": [
                {"provider": self.provider(n)["id"], "resources": {"VCPU": 1}, "group": f"g#{at}"}
                for at, n in enumerate(parts, start=1)
            ],
            "deadline_ms": self.tape.now_ms + self.rng.choice((0, 1000, 60_000, *(600_000,) * 9)),
            **more,
        }

    def released(self, *of: Json) -> bytes:
        """These claims are released."""
        return event(
            "consumers.released.v1",
            {"releases": [{"consumer": one["consumer"], "claim": one["id"]} for one in of]},
        )

    def held(self, copies: int, parts: int, **more: Any) -> list[Json]:
        """Claims of the same parts."""
        return [self.claim(range(1, parts + 1), **more) for _ in range(copies)]

    # -- scenes -------------------------------------------------------------------------------------------

    def predicates(self) -> Iterator[bytes]:
        yield self.tree(range(1, 5))
        for _ in range(4):
            total, many = self.near(LIMITS.predicates), self.rng.choice((1, 2, 64))
            kinds: tuple[Json, ...] = (
                {"kind": "trait", "value": "CUSTOM_NONE", "negate": True},
                {"kind": "subtree", "value": self.root},
                {"kind": "attribute", "name": "none", "operator": "lacks"},
            )
            one = {"provider": self.provider(1)["id"], **self.rng.choice(kinds)}
            shares = [total // many + (n < total % many) for n in range(many)]
            yield claims(*(self.claim(predicates=[one] * share) for share in shares))

    def memberships(self) -> Iterator[bytes]:
        yield self.tree(range(1, 9))
        for _ in range(4):
            total = self.near(LIMITS.memberships)
            shares = [min(16, total - at) for at in range(0, total, 16)]
            policy = {"policy": "anti-affinity", "hard": self.rng.random() < 0.5, "max_per_node": 1024}
            yield claims(
                *(
                    self.claim(memberships=[{"group": f"{self.cell}/g{n}", **policy} for n in range(share)])
                    for share in shares
                )
            )

    def confirmed(self) -> Iterator[bytes]:
        yield self.tree(())
        for _ in range(3):
            hold = self.claim(hold_until_ms=self.tape.now_ms + 30_000)
            yield claims(hold)
            others = [f"i{n}" for n in range(self.near(LIMITS.consumers_confirmed) - 1)]
            yield self.tree((), consumers=[*others, hold["consumer"]])

    def wide_provider(self) -> Iterator[bytes]:
        """Classes, attributes, traits, aggregates of one provider, from its node and from an operator."""
        yield self.tree((1,))
        most = {
            "classes": LIMITS.provider_classes,
            "attributes": LIMITS.provider_attributes,
            "traits": LIMITS.provider_traits,
            "aggregates": LIMITS.provider_aggregates,
        }
        revision = 1
        for _ in range(6):
            chosen = self.rng.choice(list(most))
            count = {name: limit for name, limit in most.items() if name == chosen or self.rng.random() < 0.2}
            count[chosen] = self.near(most[chosen])
            traits = [f"CUSTOM_T{n}" for n in range(count.get("traits", 1))]
            attributes = {f"a{n}": n for n in range(count.get("attributes", 1))}
            inventories = {f"CUSTOM_C{n}": {"total": n} for n in range(count.get("classes", 1))}
            if self.rng.random() < 0.5:
                wide = {"traits": traits, "attributes": attributes, "inventories": inventories}
                providers = [self.provider(0), self.provider(1, **wide)]
                yield self.node(self.rng.choice(("reported", "changed")), providers=providers)
            else:
                facts = {
                    "traits": traits,
                    "attributes": attributes,
                    "overrides": {name: {"reserved": 1} for name in inventories},
                    "aggregates": [f"rack-{n}" for n in range(count.get("aggregates", 1))],
                }
                data = {"provider": self.provider(1)["id"], "revision": revision, "facts": facts}
                yield event("facts.set.v1", data, f"f-{self.cell}-{revision}")
                revision += all(count[name] <= most[name] for name in count)
            yield claims(self.claim((1,)))

    def marks(self) -> Iterator[bytes]:
        yield self.tree((1,))
        for _ in range(2):
            value = self.rng.choice((claims(self.claim((1,))), self.tree((1, 2))))
            body = json.loads(value)
            whole = json.dumps({**body, "pad": [0, 0]}).encode()
            marks = sum(whole.count(mark) for mark in (b",", b":", b"[", b"{"))
            body["pad"] = [0] * (2 + self.near(LIMITS.record_marks) - marks)
            yield json.dumps(body, separators=(",", ":") if self.rng.random() < 0.5 else None).encode()

    def large_tree(self) -> Iterator[bytes]:
        size = LIMITS.tree_members - self.rng.choice((1, 2, 200))
        yield self.tree(range(1, size))
        taken = [self.claim((n,)) for n in range(1, 40)]
        yield claims(*taken)
        for _ in range(3):
            kind = self.rng.randrange(3)
            if kind == 0:
                start = self.rng.choice((1, 20, 45))
                yield self.tree(range(start, start + LIMITS.tree_members - self.rng.choice((1, 21, 45, 60))))
            elif kind == 1:
                yield self.node(
                    "changed", removed=[self.provider(n)["id"] for n in range(1, self.rng.randint(2, 1500))]
                )
            else:
                first = 10_000 + self.rng.randrange(1000)
                yield self.node(
                    "changed",
                    providers=[self.provider(n) for n in range(first, first + self.rng.choice((1, 3, 50)))],
                )
            yield claims(self.claim((self.rng.randint(1, 50),)), self.claim())
        yield self.released(*taken)
        yield claims(self.claim((self.rng.randint(1, 50),)), self.claim())

    def names(self) -> Iterator[bytes]:
        """Names of a cell that come and go."""
        kind, most, each = self.rng.choice(
            (
                ("inventories", LIMITS.cell_classes, LIMITS.provider_classes),
                ("attributes", LIMITS.cell_attributes, LIMITS.provider_attributes),
                ("traits", LIMITS.cell_traits, LIMITS.provider_traits),
            )
        )

        def named(number: int, first: int, count: int) -> Json:
            names = [f"CUSTOM_N{n}" for n in range(first, first + count)]
            value: Any = {
                "inventories": {name: {"total": 2} for name in names},
                "attributes": {name.lower(): 1 for name in names},
                "traits": names,
            }[kind]
            return {**self.provider(number), kind: value}

        full = (most - self.rng.choice((0, 1, 2, each))) // each
        parts = {n: named(n, n * each, each) for n in range(1, full + 1)}
        for _ in range(7):
            before = dict(parts)
            if self.rng.random() < 0.2:
                parts.pop(self.rng.randint(1, full), None)
            number = full + self.rng.randint(1, 3)
            first = self.rng.choice((0, each, most, most + self.rng.randrange(4) * each))
            parts[number] = named(number, first, self.rng.choice((1, each - 2, each - 1, each, each)))
            if self.rng.random() < 0.7:
                yield self.node("reported", providers=[self.provider(0), *parts.values()])
            else:
                gone = [self.provider(n)["id"] for n in before if n not in parts]
                yield self.node("changed", providers=[parts[number]], removed=gone)
            yield claims(self.claim(), self.claim((full,)))
        yield self.node("reported", providers=[self.provider(0), named(1, most * 2, each)])
        yield claims(self.claim(), self.claim((1,)))

    def sets_of_names(self) -> Iterator[bytes]:
        """Providers that have nearly the same names, each another set of them."""
        each = LIMITS.provider_traits
        for _ in range(4):
            count = LIMITS.changed_names // each + self.rng.choice((-1, 0, 1))
            first = self.rng.choice((0, 0, 1, 50))
            sets = [[f"CUSTOM_N{n + at}" for at in range(each)] for n in range(first, first + count)]
            sets[-1] = sets[-1][: self.rng.choice((each, each - 1, 1))]
            parts = [self.provider(n, traits=traits) for n, traits in enumerate(sets, start=1)]
            yield self.node("reported", providers=[self.provider(0), *parts])
            yield claims(self.claim(), self.claim((count,)))

    def withdrawals(self) -> Iterator[bytes]:
        """A large part of a tree goes at once, while some of it is in use."""
        size, classes = self.rng.choice(((250, 2), (256, 1), (600, 1), (60, 30), (1000, 1)))
        size += self.rng.choice((-1, 0, 1, 12))
        inventories = {f"CUSTOM_W{n}": {"total": 5} for n in range(classes - 1)} | {"VCPU": {"total": 100}}
        parts = [self.provider(n, inventories=inventories) for n in range(1, size + 1)]
        yield self.node("reported", providers=[self.provider(0), *parts])
        taken = [*self.held(2, 100), self.claim((0,)), self.claim((size,))]
        yield claims(*taken)
        kept = self.rng.choice((0, 3, 50))
        how = self.rng.randrange(4)
        if how == 0:
            yield self.tree(range(1, kept + 1))
        elif how == 1:
            yield self.node("changed", removed=[part["id"] for part in parts[kept:]])
        elif how == 2:
            yield self.node("retired")
        else:
            yield self.node(
                "reported",
                providers=[self.provider(0), *(self.provider(n, inventories={}) for n in range(1, size + 1))],
            )
        for turn in range(6):
            yield self.rng.choice(
                (
                    event("tick.v1", {}),
                    self.node("heartbeat"),
                    claims(self.claim(), self.claim((1,)), self.claim((size,))),
                    self.released(taken[turn % 4]),
                    self.tree(range(1, self.rng.choice((1, 5, size)))),
                )
            )
        yield claims(self.claim(), self.claim((1,)))

    def server_group(self) -> Iterator[bytes]:
        yield self.tree(range(1, PARTS + 1))
        rule = {"group": f"{self.cell}/g", "policy": "anti-affinity", "hard": self.rng.random() < 0.5}
        joining = [{**rule, "max_per_node": 1024}]
        full = LIMITS.group_providers // PARTS
        parts = self.rng.choice((PARTS, PARTS - 1))
        taken = [self.one_copy(range(1, parts + 1), memberships=joining) for _ in range(full)]
        for at in range(0, full, 4):
            yield claims(*taken[at : at + 4])
        for _ in range(4):
            count = self.rng.choice((1, full, full + 1))
            yield claims(self.one_copy(range(1, count + 1), memberships=joining))
            if self.rng.random() < 0.4:
                yield self.released(self.rng.choice(taken))

    def one_copy(self, parts: Iterable[int], **more: Any) -> Json:
        """A claim of several providers for one copy."""
        one = self.claim(parts, **more)
        for allocation in one["allocations"]:
            allocation["group"] = ""
        return one

    def released_parts(self) -> Iterator[bytes]:
        yield self.tree(range(1, PARTS + 1))
        sizes = [self.rng.choice((PARTS, PARTS, PARTS - 1, 7, 1)) for _ in range(24)]
        taken = [self.claim(range(1, size + 1)) for size in sizes]
        for at in range(0, len(taken), 8):
            yield claims(*taken[at : at + 8])
        for _ in range(3):
            self.rng.shuffle(taken)
            yield self.released(*taken[: self.rng.randint(7, 24)])
        yield claims(self.claim((1,)))

    def expiries(self) -> Iterator[bytes]:
        """Holds, verdicts and cancellations that end at about the same time."""
        yield self.tree(range(1, PARTS + 1))
        until = self.tape.now_ms + self.rng.choice((1000, 60_000))
        for _ in range(self.rng.choice((2, 4, 8))):
            parts = self.rng.choice((1, 3, 60, 255))
            holds = self.held(self.rng.choice((5, 20)), parts, hold_until_ms=until + self.rng.randrange(3))
            yield claims(*holds)
            one = self.rng.choice(holds)
            yield self.rng.choice(
                (
                    self.released(one),
                    event("consumer.confirmed.v1", {"consumer": one["consumer"], "claim": one["id"]}),
                    self.tree(range(1, PARTS + 1), consumers=[one["consumer"]]),
                    claims(*(self.claim(deadline_ms=until) for _ in range(CLAIMS))),
                    event(
                        "consumers.released.v1",
                        {
                            "releases": [
                                {"consumer": "x", "claim": f"{self.cell}-x{n}", "deadline_ms": until + n % 3}
                                for n in range(CLAIMS)
                            ]
                        },
                    ),
                )
            )
        for _ in range(10):
            claim = self.claim((self.rng.randint(1, PARTS),))
            claim["allocations"][0]["resources"]["VCPU"] = self.rng.choice((1, 50, 99, 100))
            yield self.rng.choice((claims(claim), claims(claim), event("tick.v1", {})))

    def two_writers(self) -> Iterator[bytes]:
        """Events of one node by two publishers, with gaps and late events."""
        yield self.tree((1, 2))
        lives = {self.life: self.sequence}
        for _ in range(14):
            kind = self.rng.randrange(6)
            if kind == 0:
                lives[self.life] = max(lives.get(self.life, 0), self.sequence)
                self.life = self.rng.choice((self.rng.getrandbits(64), *lives))
                self.sequence = lives.get(self.life, 0)
            elif kind == 1:
                self.sequence += self.rng.choice((1, 3, 2**40))
            elif kind == 2:
                self.sequence = max(0, self.sequence - self.rng.choice((1, 2, 5)))
            yield self.rng.choice(
                (
                    self.tree((1, 2)),
                    self.node("heartbeat"),
                    self.node("changed", providers=[self.provider(3)]),
                )
            )
            yield claims(self.claim(), self.claim((1,)))


SCENES: Mapping[str, Callable[[Scene], Iterator[bytes]]] = {
    "predicates": Scene.predicates,
    "memberships": Scene.memberships,
    "confirmed": Scene.confirmed,
    "wide_provider": Scene.wide_provider,
    "marks": Scene.marks,
    "large_tree": Scene.large_tree,
    "names": Scene.names,
    "sets_of_names": Scene.sets_of_names,
    "withdrawals": Scene.withdrawals,
    "server_group": Scene.server_group,
    "released_parts": Scene.released_parts,
    "expiries": Scene.expiries,
    "two_writers": Scene.two_writers,
}
"""All scenes by name: a function from a new scene to its records."""
