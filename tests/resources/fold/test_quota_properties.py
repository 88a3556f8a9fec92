"""What the rows of quotas count is what consumers hold: for each project with those below it, each user and each type, after any
sequence of claims, moves, resizes, ends of holds, changes of accounts and of parents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.allocation_model import rows_of
from tests.support.events_json import event
from tests.support.memory_state import MemoryState
from tests.support.ports_class import REGISTRY
from tests.support.random_events import Pick
from tests.support.random_moves import CELL, CONSUMERS, RandomMoves
from vacancy.resources.state.rows import AllocationRow
from vacancy.resources.state.tables import ALLOCATIONS, QUOTAS

T = TypeVar("T")
Rows = dict[bytes, Counter[tuple[str, str]]]
SEEN: Counter[str] = Counter()
PROJECTS = ("p", "q", "-")


class RandomAccounts(RandomMoves):
    """Random moves of consumers whose projects, users and types change, and projects that come under others."""

    def __init__(self, pick: Pick) -> None:
        super().__init__(pick)
        self.parents: dict[str, str] = {}
        self.revision = 0

    def step(self) -> None:
        """Also a change of a parent, sometimes."""
        if self.pick((False, False, False, True)):
            self.set_parent()
        else:
            super().step()

    def update(self) -> None:
        """Another project, user or type."""
        consumer = self.any_holder()
        account = {
            "project": self.pick((*PROJECTS, "domain")),
            "user": self.pick(("-", "u", "v")),
            "consumer_type": self.pick(("INSTANCE", "MIGRATION")),
        }
        names = self.pick((tuple(account), ("project",), ("user", "consumer_type")))
        data = {"consumer": consumer, "claim": self.row(consumer).claim}
        self.say(
            event("consumer.updated.v1", data | {name: account[name] for name in names}), consumer, "update"
        )

    def set_parent(self) -> None:
        """A project comes under another one; the partition may see that in any order, also in circles."""
        self.revision += 1
        project = self.pick(("p", "q", "domain"))
        parent = self.pick([one for one in ("", "domain", "top", "p", "q") if one != project])
        data = {"project": project, "parent": parent, "revision": self.revision}
        self.say(event("quota.parent.set.v1", data), None, "parent")
        self.parents[project] = parent


def counted(state: MemoryState) -> Rows:
    """What the rows say, by their keys."""
    found: Rows = {}
    for key, row in rows_of(state, QUOTAS).items():
        amounts = Counter({(kind, unit): amount for kind, unit, amount in row.used})
        assert 0 not in amounts.values()
        if amounts:
            found[key] = amounts
    return found


def recounted(state: MemoryState, parents: dict[str, str]) -> Rows:
    """What consumers hold, added up."""
    found: Rows = {}
    for consumer in CONSUMERS:
        row: AllocationRow | None = state.get(ALLOCATIONS, f"{CELL}\0{consumer}".encode())
        if row is None:
            continue
        keys = [row.project]
        keys += [parents[row.project]] if parents.get(row.project) else []
        keys += [f"{row.project}\0{row.user}"] if row.user != "-" else []
        for part in row.parts:
            of_class = REGISTRY.table(part.resource_class).resource_class
            amounts = {"": part.grant} if type(part.grant) is int else of_class.amounts_of(part.grant, None)
            for key in keys:
                for unit, amount in amounts.items():
                    slot = (
                        row.consumer_type,
                        f"{part.resource_class}.{unit}" if unit else part.resource_class,
                    )
                    found.setdefault(key.encode(), Counter())[slot] += amount
    return {key: +amounts for key, amounts in found.items() if +amounts}


@st.composite
def accounts(draw: st.DrawFn) -> RandomAccounts:
    def pick(options: Sequence[T]) -> T:
        return options[draw(st.integers(0, len(options) - 1))]

    world = RandomAccounts(pick)
    for _ in range(draw(st.integers(5, 30))):
        world.step()
        if counted(world.state) != recounted(world.state, world.parents):
            world.problems.append(f"{counted(world.state)} is counted")
    return world


@settings(max_examples=100, deadline=None)
@given(accounts())
def test_rows_of_quotas_count_what_is_held(world: RandomAccounts) -> None:
    assert world.problems == []
    SEEN.update(world.kinds)


def test_enough_happened_to_tell() -> None:
    missing = [
        kind
        for kind in ("accepted", "update", "parent", "replace", "release", "hold ended")
        if not SEEN[kind]
    ]
    assert not missing
