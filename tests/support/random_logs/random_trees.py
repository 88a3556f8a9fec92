"""Random events of a few nodes that pass their parts to each other while consumers hold some of them.

Parts are withdrawn, come back, change their node; nodes retire, and become parts of others.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from tests.support.logs.events_json import START_MS, claim, claims, event, provider
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import Record

ROOTS = ("n0", "n1", "n2")
PARTS = tuple(f"p{n}" for n in range(8))
CLASSES = ("VCPU", "CUSTOM_A", "CUSTOM_B", "CUSTOM_C")
CELL = covering_cells(1)[0]


class RandomTrees:
    """Records of one partition after `log.opened`, from a seed. Most claims ask for little, so that they are accepted."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.lives = dict.fromkeys(ROOTS, 1)
        self.sequences = dict.fromkeys(ROOTS, 0)
        self.revisions: dict[str, int] = {}
        self.claims = 0
        self.now_ms = START_MS
        self.deeds = (
            *(self.report,) * 4,
            *(self.change,) * 3,
            *(self.bid,) * 6,
            *(self.release,) * 4,
            *(self.settings, self.heartbeat, self.retire, self.replace, self.tick),
        )

    def records(self, count: int) -> Iterator[Record]:
        """That many records, from offset 1."""
        for offset in range(1, count + 1):
            value = self.rng.choice(self.deeds)()
            self.now_ms += self.rng.choice((0, 0, 0, 10, 20_000))
            yield Record(0, offset, self.now_ms, CELL.encode(), value)

    def inventories(self) -> dict[str, Any]:
        names = self.rng.sample(CLASSES, self.rng.randint(0, len(CLASSES)))
        return dict.fromkeys(names, 20)

    def parts(self, root: str) -> list[dict[str, Any]]:
        """Some parts, rarely another root among them, in any order."""
        ids = self.rng.sample(PARTS, self.rng.choice((0, 1, 2, 4, 6)))
        if self.rng.random() < 0.1:
            ids.append(self.rng.choice([other for other in ROOTS if other != root]))
        found = []
        for at, id_ in enumerate(ids):
            parent = self.rng.choice([root, *ids[:at]])
            found.append(provider(id_, parent, self.rng.choice(((), ("CUSTOM_RED",))), **self.inventories()))
        self.rng.shuffle(found)
        return found

    def said(self, root: str) -> dict[str, Any]:
        self.sequences[root] += self.rng.choice((1,) * 30 + (2,))
        return {"root": root, "incarnation": f"{self.lives[root]:016x}", "sequence": self.sequences[root]}

    def report(self) -> bytes:
        root = self.rng.choice(ROOTS)
        if self.rng.random() < 0.15:
            self.lives[root], self.sequences[root] = self.lives[root] + 1, 0
        whole = [provider(root, None, **self.inventories()), *self.parts(root)]
        return event("node.reported.v1", {**self.said(root), "providers": whole})

    def change(self) -> bytes:
        root = self.rng.choice(ROOTS)
        gone = self.rng.sample(PARTS, self.rng.choice((0, 0, 1, 3)))
        upserts = [one for one in self.parts(root) if one["id"] not in gone]
        return event("node.changed.v1", {**self.said(root), "providers": upserts, "removed": gone})

    def heartbeat(self) -> bytes:
        return event("node.heartbeat.v1", self.said(self.rng.choice(ROOTS)))

    def retire(self) -> bytes:
        return event("node.retired.v1", self.said(self.rng.choice(ROOTS)))

    def settings(self) -> bytes:
        id_ = self.rng.choice((*ROOTS, *PARTS))
        revision = self.revisions[id_] = self.revisions.get(id_, 0) + 1
        facts = {
            "status": self.rng.choice(("enabled", "enabled", "enabled", "draining")),
            "traits": self.rng.choice(([], ["CUSTOM_BLUE"])),
            "overrides": self.rng.choice(({}, {"VCPU": {"reserved": 1}}, {"CUSTOM_A": {"reserved": 2}})),
        }
        return event("facts.set.v1", {"provider": id_, "revision": revision, "facts": facts}, f"f-{revision}")

    def one(self, **more: Any) -> dict[str, Any]:
        self.claims += 1
        ids = self.rng.sample((*ROOTS, *PARTS), self.rng.choice((1, 1, 2)))
        allocations = [{"provider": id_, "resources": {self.rng.choice(CLASSES): 1}} for id_ in ids]
        hold_ms = self.now_ms + 30_000 if self.rng.random() < 0.3 else None
        whole = claim(
            f"c{self.claims}", f"i{self.claims}", "", {}, self.now_ms + 60_000, hold_until_ms=hold_ms
        )
        return {**whole, "allocations": allocations, **more}

    def bid(self) -> bytes:
        return claims(*(self.one() for _ in range(self.rng.choice((1, 3, 10)))))

    def replace(self) -> bytes:
        consumer = f"i{self.rng.randint(1, max(1, self.claims))}"
        return event("consumer.replaced.v1", self.one(consumer=consumer, consumer_generation=1))

    def release(self) -> bytes:
        numbers = self.rng.sample(
            range(1, self.claims + 2), min(self.claims + 1, self.rng.choice((1, 4, 40)))
        )
        them = [{"consumer": f"i{n}", "claim": f"c{n}"} for n in numbers]
        return event("consumers.released.v1", {"releases": them})

    def tick(self) -> bytes:
        return event("tick.v1", {})
