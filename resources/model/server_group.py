"""Memberships: which other consumers someone wants to be near to, or apart from.

A server group is in one cell, and its id names it: `CELL/NAME`. So all its members are judged in one order.
A request of several copies is one consumer; each copy counts as a member of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from vacancy.resources.model.names import Id

GROUP_PATTERN = r"^[A-Za-z0-9._:/@+=~-]{1,200}/[A-Za-z0-9._@+=~-]{1,100}$"
MEMBERSHIPS_MAX = 16
"""Groups that one consumer may be in."""

COPIES_MAX = 64
"""Copies that one request may ask for."""

MEMBERS_MAX = 1024
"""Copies that one group may hold, so that judging one more costs at most that number of look-ups."""

COPY_MARK = "#"
"""Sets a copy's number apart in the name of the request group that an allocation serves: `gpu#2`."""

SHARES = "MISC_SHARES_VIA_AGGREGATE"
"""Trait of a sharing provider: a consumer that holds a part of it is on another node."""

GroupId = Annotated[str, StringConstraints(pattern=GROUP_PATTERN)]
Policy = Literal["affinity", "anti-affinity"]


class AffinityRule(NamedTuple):
    """The rule of a group. The first member sets it, and it holds while the group has members."""

    policy: str
    hard: bool
    max_per_node: int
    scope: str | None


class ServerGroupMembership(BaseModel):
    """One group that a consumer is in.

    `affinity`: on a node that has members already, if there are any. `anti-affinity`: at most `max_per_node`
    members on a node. A `hard` one is judged by the fold; others only order the candidates. With a `scope`, what
    holds for a node holds for all nodes that share an aggregate whose name starts with it (for example `rack-`); a node
    in no such aggregate counts by itself.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    group: GroupId
    policy: Policy
    hard: bool = True
    max_per_node: Annotated[int, Field(ge=1, le=MEMBERS_MAX)] = 1
    scope: Id | None = None

    @model_validator(mode="after")
    def _can_be_meant(self) -> ServerGroupMembership:
        if self.policy == "affinity" and self.max_per_node != 1:
            raise ValueError("max_per_node is for anti-affinity")
        return self

    @property
    def rule(self) -> AffinityRule:
        """The part that must be equal for all members of the group."""
        return AffinityRule(self.policy, self.hard, self.max_per_node, self.scope)


def group_cell(group: str) -> str:
    """The cell of a group, by its id."""
    return group.rpartition("/")[0]


def group_name(group: str) -> str:
    """A group's name within its cell."""
    return group.rpartition("/")[2]


def copy_of(name: str) -> str:
    """Which copy an allocation belongs to, by the name of the request group it serves; '' where there is one."""
    return name.partition(COPY_MARK)[2]


def with_copy(name: str, number: int) -> str:
    """The name of a request group as a copy serves it."""
    return f"{name}{COPY_MARK}{number}"


def contradiction(memberships: Sequence[ServerGroupMembership], copies: int, copies_on: str) -> str:
    """Why no place can ever satisfy these together, or ''."""
    groups = [one.group for one in memberships]
    twice = sorted({group for group in groups if groups.count(group) > 1})
    if twice:
        return f"group {twice[0]} is named twice: nobody is in a group more than once"
    cells = sorted({group_cell(group) for group in groups})
    if len(cells) > 1:
        return f"its groups are in cells {' and '.join(cells)}: a request goes to one"
    if copies > 1 and copies_on == "distinct":
        for one in memberships:
            if one.policy == "affinity" and one.hard and one.scope is None:
                return f"copies on distinct nodes cannot be on one node with group {one.group}"
    return ""
