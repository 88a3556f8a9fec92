"""Random transactions over a cell, most of them sensible: a few providers, consumers and names that they change again and again."""

from __future__ import annotations

import random
from typing import Any

from tests.support.models.memory_state import MemoryState
from vacancy.resources.state.rows import AllocationRow, ProviderRow
from vacancy.resources.state.tables import ALLOCATIONS, PROVIDER_DETAILS, PROVIDERS, key, split_key

RATIOS = ("1.0", "1.0", "16.0", "1.5", "0.5", "1.15", "3.40282", "2.0", "1")
CLASSES = ("VCPU", "MEMORY_MB", "CUSTOM_GOLD", "CUSTOM_IRON")
TRAITS = ("HW_CPU_X86_AVX", "HW_CPU_X86_AVX2", "CUSTOM_FAST", "CUSTOM_SLOW")
DEADLINE_MS = 60_000


class RandomTransactions:
    """Makes the data of transactions for a cell. `own` is how often one is only about providers that transactions made."""

    def __init__(self, rng: random.Random, cell: str, prefix: str = "t", *, own: float = 0.0) -> None:
        self._rng, self._cell, self._prefix, self._own = rng, cell, prefix, own
        self._count = 0

    def make(self, state: MemoryState, now_ms: int) -> dict[str, Any]:
        """One transaction, on what is there now."""
        rng = self._rng
        self._count += 1
        there = self._rows(state, PROVIDERS)
        if self._own and rng.random() < self._own:
            there = {id_: row for id_, row in there.items() if id_[1:].isdigit() and id_[0] == "p"}
        held = {
            consumer: row
            for consumer, row in self._rows(state, ALLOCATIONS).items()
            if not self._own or row.parts[0].provider in there
        }
        data: dict[str, Any] = {
            "id": f"{self._prefix}{self._count}",
            "deadline_ms": now_ms + rng.choice((DEADLINE_MS,) * 9 + (5_000, -1)),
        }
        kind = rng.random()
        if kind < 0.12 or not there:
            data["providers"] = [self._create(there)]
            data["names"] = self._names(0.3)
        elif kind < 0.45:
            some = rng.sample(sorted(there), min(len(there), rng.choice((1, 1, 1, 2))))
            data["providers"] = [self._change(state, there, one) for one in some]
            data["names"] = self._names(0.2)
        elif kind < 0.52:
            data["names"] = self._names(1.0)
        elif kind < 0.58:
            data["providers"] = [{"provider": rng.choice(sorted(there)), "op": "delete"}]
        elif kind < 0.66 and held:
            data |= self._reshape(there, held)
        else:
            data["consumers"] = self._consumers(there, held)
        return {name: value for name, value in data.items() if value != []}

    def _rows(self, state: MemoryState, table: Any) -> dict[str, Any]:
        rows = ((split_key(name), row) for name, row in state.rows(table))
        return {id_: row for (cell, id_), row in rows if cell == self._cell}

    def _names(self, likely: float) -> list[dict[str, Any]]:
        rng = self._rng
        if rng.random() > likely:
            return []
        kind, names = rng.choice((("class", CLASSES[2:]), ("trait", TRAITS[2:])))
        return [
            {
                "kind": kind,
                "name": rng.choice(names),
                "op": rng.choice(("ensure", "ensure", "create", "delete")),
            }
        ]

    def _inventories(self) -> dict[str, Any]:
        rng = self._rng
        return {name: self._inventory() for name in rng.sample(CLASSES, rng.choice((0, 1, 2, 2, 3)))}

    def _inventory(self) -> dict[str, Any]:
        rng = self._rng
        found: dict[str, Any] = {"total": rng.choice((2, 4, 8, 16)), "max_unit": rng.choice((4, 64))}
        if rng.random() < 0.6:
            found["allocation_ratio"] = rng.choice(RATIOS)
        if rng.random() < 0.3:
            found |= {
                "reserved": rng.choice((0, 1, 2, 9)),
                "step_size": rng.choice((1, 2)),
                "min_unit": rng.choice((1, 2)),
            }
        return found

    def _create(self, there: dict[str, ProviderRow]) -> dict[str, Any]:
        rng = self._rng
        made: dict[str, Any] = {
            "provider": f"p{rng.randrange(8)}",
            "op": "create",
            "raises": rng.choice((0, 1)),
        }
        if there and rng.random() < 0.5:
            made["parent"] = rng.choice((*sorted(there), "unknown"))
        if rng.random() < 0.6:
            made["name"] = f"name {rng.randrange(6)}"
        if rng.random() < 0.9:
            made["inventories"] = self._inventories()
        return made

    def _change(self, state: MemoryState, there: dict[str, ProviderRow], id_: str) -> dict[str, Any]:
        rng = self._rng
        row = state.get(PROVIDER_DETAILS, key(self._cell, id_))
        generation = (0 if row is None else row.generation) + rng.choice((0,) * 9 + (1,))
        change: dict[str, Any] = {"provider": id_, "raises": rng.choice((0, 1, 1, 2))}
        if rng.random() < 0.7:
            change["generation"] = generation
        if rng.random() < 0.15:
            change["name"] = f"name {rng.randrange(6)}"
        if rng.random() < 0.2:
            change["parent"] = rng.choice(("", *sorted(there)))
        if rng.random() < 0.4:
            change["inventories"] = self._inventories()
        if rng.random() < 0.3:
            change["traits"] = rng.sample(TRAITS, rng.randrange(3))
        if rng.random() < 0.3:
            change["aggregates"] = rng.sample(("a", "b", "rack:1"), rng.randrange(3))
        return change

    def _consumers(
        self, there: dict[str, ProviderRow], held: dict[str, AllocationRow]
    ) -> list[dict[str, Any]]:
        rng = self._rng
        names = {f"u{rng.randrange(12)}" for _ in range(rng.choice((1, 1, 2, 3)))}
        if held and rng.random() < 0.3:
            names.add(rng.choice(sorted(held)))
        return [self._consumer(name, there, held.get(name)) for name in sorted(names)]

    def _consumer(
        self, name: str, there: dict[str, ProviderRow], held: AllocationRow | None
    ) -> dict[str, Any]:
        rng = self._rng
        right: int | str = "absent" if held is None else held.generation
        consumer: dict[str, Any] = {
            "consumer": name,
            "generation": rng.choice((right,) * 8 + ("any", "any", "absent", 3)),
            "project": rng.choice(("p", "q", "a project: ä")),
            "user": rng.choice(("-", "u")),
        }
        if rng.random() < 0.5:
            consumer["consumer_type"] = rng.choice(("INSTANCE", "MIGRATION"))
        if held is not None and rng.random() < 0.35:
            return consumer
        places = rng.sample(sorted(there), min(len(there), rng.choice((1, 1, 2))))
        consumer["allocations"] = {
            place: {name: rng.choice((1, 1, 2, 3, 8)) for name in self._some_classes(there[place])}
            for place in places
        }
        if held is not None and rng.random() < 0.3:
            consumer["allocations"] = _amounts(held)
        return consumer

    def _some_classes(self, row: ProviderRow) -> list[str]:
        rng = self._rng
        known = [name for name in row.classes if name in CLASSES]
        return (
            rng.sample(known, rng.randrange(1, len(known) + 1)) if known and rng.random() < 0.95 else ["VCPU"]
        )

    def _reshape(self, there: dict[str, ProviderRow], held: dict[str, AllocationRow]) -> dict[str, Any]:
        """Inventories of a provider and what is held of them go to another one."""
        rng = self._rng
        consumer = rng.choice(sorted(held))
        row = held[consumer]
        before, after = row.parts[0].provider, rng.choice(sorted(there))
        amounts = _amounts(row)
        moved = amounts.pop(before, {})
        return {
            "providers": [
                {"provider": one, "raises": 1, "inventories": inventories}
                for one, inventories in {
                    before: {},
                    after: {name: {"total": 16} for name in moved if name in CLASSES},
                }.items()
            ],
            "consumers": [
                {
                    "consumer": consumer,
                    "generation": row.generation,
                    "project": row.project,
                    "user": row.user,
                    "consumer_type": row.consumer_type or "unknown",
                    "allocations": {**amounts, after: moved},
                }
            ],
        }


def _amounts(row: AllocationRow) -> dict[str, dict[str, Any]]:
    amounts: dict[str, dict[str, Any]] = {}
    for part in row.parts:
        if type(part.grant) is int:
            there = amounts.setdefault(part.provider, {})
            there[part.resource_class] = there.get(part.resource_class, 0) + part.grant
    return amounts or {"nowhere": {"VCPU": 1}}
