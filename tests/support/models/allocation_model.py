"""A naive model of the allocations, computed from events and verdicts. It shares no code with the fold.

It accepts the fold's verdicts and the reported totals as given, computes everything else itself, and reports
contradictions.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.support.models.memory_state import MemoryState
from vacancy.resources.classes.registry import Registry
from vacancy.resources.model.record import Record
from vacancy.resources.state.tables import ALLOCATIONS, CUSTOM_FAMILY, Table

Slot = tuple[str, str, str]
"""(cell, provider, resource class)."""


@dataclass
class Holding:
    claim: str
    amounts: Counter[Slot]
    until_ms: int | None


class AllocationModel:
    """The allocations of each consumer after the events so far, and the used amount of each slot."""

    def __init__(self) -> None:
        self.holdings: dict[tuple[str, str], Holding] = {}

    @property
    def used(self) -> Counter[Slot]:
        return sum((holding.amounts for holding in self.holdings.values()), Counter())

    def note(
        self,
        record: Record,
        time_ms: int,
        accepted: Callable[[str, str], bool],
        capacity: Callable[[Slot], int],
    ) -> list[str]:
        """Apply a valid record at its log time. Returns the problems with the verdicts on it."""
        self.holdings = {
            who: held
            for who, held in self.holdings.items()
            if held.until_ms is None or held.until_ms >= time_ms
        }
        event, cell = json.loads(record.value), record.key.decode()
        kind, data = event["type"], event["data"]
        problems: list[str] = []
        asks = ("vacancy.claims.requested.v1", "vacancy.claims.requested.v2", "vacancy.gang.requested.v1")
        if kind in asks or kind.startswith("vacancy.consumer.replaced."):
            for claim in data.get("claims", [data]):
                if accepted(cell, claim["id"]):
                    problems += self._grant(cell, claim, capacity)
        elif kind == "vacancy.transaction.requested.v1":
            if accepted(cell, data["id"]):
                problems += self._transact(cell, data, capacity)
        elif kind == "vacancy.consumers.released.v1":
            for one in data["releases"]:
                held = self.holdings.get((cell, one["consumer"]))
                if held is not None and held.claim == one["claim"]:
                    del self.holdings[cell, one["consumer"]]
        elif kind == "vacancy.cell.move.withdrawn.v1":
            held = self.holdings.get((cell, data["consumer"]))
            if held is not None and held.claim == data["move"] and held.until_ms is not None:
                del self.holdings[cell, data["consumer"]]
        elif kind == "vacancy.consumer.confirmed.v1":
            self._keep(cell, data["consumer"], data["claim"])
        return problems

    def confirmed(self, cell: str, consumers: list[str]) -> None:
        """A report that was applied names these consumers as running."""
        for consumer in consumers:
            self._keep(cell, consumer, None)

    def _keep(self, cell: str, consumer: str, claim: str | None) -> None:
        held = self.holdings.get((cell, consumer))
        if held is not None and claim in (None, held.claim):
            held.until_ms = None

    def _transact(self, cell: str, data: dict[str, Any], capacity: Callable[[Slot], int]) -> list[str]:
        """All consumers give back, then all get. It is over capacity only where the use rises."""
        before: Counter[Slot] = Counter()
        after: Counter[Slot] = Counter()
        for one in data.get("consumers", ()):
            held = self.holdings.pop((cell, one["consumer"]), None)
            before += held.amounts if held is not None else Counter()
            amounts = Counter(
                {
                    (cell, provider, name): ask
                    for provider, asks in one.get("allocations", {}).items()
                    for name, ask in asks.items()
                }
            )
            after += amounts
            if amounts:
                self.holdings[cell, one["consumer"]] = Holding(data["id"], amounts, None)
        return [
            f"transaction {data['id']}: {self.used[slot]} of {slot} is over {capacity(slot)}"
            for slot, amount in after.items()
            if amount > before[slot] and self.used[slot] > capacity(slot)
        ]

    def _grant(self, cell: str, claim: dict[str, Any], capacity: Callable[[Slot], int]) -> list[str]:
        who = (cell, claim["consumer"])
        before = self.holdings.pop(who, None)
        amounts: Counter[Slot] = Counter()
        for allocation in claim["allocations"]:
            for name, ask in allocation["resources"].items():
                amounts[cell, allocation["provider"], name] += (
                    ask if isinstance(ask, int) else len(ask["ports"])
                )
        problems = []
        for slot, amount in amounts.items():
            no_worse = before is not None and amount <= before.amounts[slot]
            used = self.used[slot]
            if slot[2] != "PORTS" and not no_worse and used + amount > capacity(slot):
                problems.append(f"claim {claim['id']}: {used} + {amount} of {slot} is over {capacity(slot)}")
        self.holdings[who] = Holding(claim["id"], amounts, claim.get("hold_until_ms"))
        return problems


# -- the fold's tables -------------------------------------------------------------------------------------


def class_rows(state: MemoryState, registry: Registry) -> dict[Slot, Any]:
    """All records of all classes, by slot."""
    found = {}
    for family, key, data in state.items():
        parts = key.decode().split("\0") if family in registry.families else []
        if parts:
            name, cell, provider = parts if family == CUSTOM_FAMILY else (family, *parts)
            found[cell, provider, name] = registry.table(name).decode(data).record
    return found


def used_by_rows(state: MemoryState, registry: Registry) -> Counter[Slot]:
    """The used amounts in the class rows."""
    return Counter(
        {
            slot: len(record.taken) if slot[2] == "PORTS" else record.used
            for slot, record in class_rows(state, registry).items()
            if (record.taken if slot[2] == "PORTS" else record.used)
        }
    )


def used_by_allocations(state: MemoryState) -> Counter[Slot]:
    """The sums of the allocations."""
    used: Counter[Slot] = Counter()
    for key, row in rows_of(state, ALLOCATIONS).items():
        for part in row.parts:
            slot = (key.decode().split("\0")[0], part.provider, part.resource_class)
            used[slot] += part.grant if isinstance(part.grant, int) else len(part.grant)
    return used


def rows_of(state: MemoryState, table: Table[Any]) -> dict[bytes, Any]:
    """All rows of one table."""
    return {key: table.decode(data) for family, key, data in state.items() if family == table.family}
