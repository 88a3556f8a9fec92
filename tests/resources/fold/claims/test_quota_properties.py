"""What the rows of quotas count is what consumers hold: for each project with those below it, each user and each type, after any
sequence of claims, moves, resizes, ends of holds, changes of accounts and of parents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.classes.ports_class import REGISTRY
from tests.support.logs.events_json import event
from tests.support.models.quota_counts import counted, recounted
from tests.support.random_logs.random_moves import RandomMoves

T = TypeVar("T")
SEEN: Counter[str] = Counter()
PROJECTS = ("p", "q", "-")


class RandomAccounts(RandomMoves):
    """Random moves of consumers whose projects, users and types change, and projects that come under others."""

    revision = 0

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


@st.composite
def accounts(draw: st.DrawFn) -> RandomAccounts:
    def pick(options: Sequence[T]) -> T:
        return options[draw(st.integers(0, len(options) - 1))]

    world = RandomAccounts(pick)
    for _ in range(draw(st.integers(5, 30))):
        world.step()
        if counted(world.state) != recounted(world.state, REGISTRY):
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
