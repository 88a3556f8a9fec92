"""Server groups: affinity and anti-affinity between consumers.

A server group is in one cell, and its id contains the cell: `CELL/NAME`. So one partition judges all its members, in
order. A request for several copies is one consumer, and each copy counts as one member.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from vacancy.resources.model.names import Id

GROUP_PATTERN = r"^[A-Za-z0-9._:/@+=~-]{1,200}/[A-Za-z0-9._@+=~-]{1,100}$"
MEMBERSHIPS_MAX = 16
"""The limit of groups of one consumer."""

COPIES_MAX = 64
"""The limit of copies of one request."""

MEMBERS_MAX = 1024
"""The limit of members of one group. It limits the number of look-ups that judging a new member needs."""

COPY_MARK = "#"
"""Separates the number of the copy in the name of the request group that an allocation serves: `gpu#2`."""

SHARES = "MISC_SHARES_VIA_AGGREGATE"
"""The trait of sharing providers. They do not count as a place of their consumers."""

GroupId = Annotated[str, StringConstraints(pattern=GROUP_PATTERN)]
Policy = Literal["affinity", "anti-affinity"]


class AffinityRule(NamedTuple):
    """The rule of a group. The first member sets it. It stays the same as long as the group has members."""

    policy: str
    hard: bool
    max_per_node: int
    scope: str | None


class ServerGroupMembership(BaseModel):
    """One group that a consumer is in.

    `affinity`: place the consumer on a node that already has members, if there are any. `anti-affinity`: at most
    `max_per_node` members on a node. The fold judges `hard` memberships; the others only order the candidates. With a
    `scope`, the rule is not about single nodes but about all nodes that share an aggregate whose name starts with the
    scope (for example `rack-`). A node without such an aggregate counts on its own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    group: GroupId
    policy: Policy
    hard: bool = True
    max_per_node: Annotated[int, Field(ge=1, le=MEMBERS_MAX)] = 1
    scope: Id | None = None

    @model_validator(mode="after")
    def _is_consistent(self) -> ServerGroupMembership:
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
    """The number of the copy in the name of a request group that an allocation serves; '' if the request has one copy."""
    return name.partition(COPY_MARK)[2]


def with_copy(name: str, number: int) -> str:
    """The name of a request group with the number of the copy."""
    return f"{name}{COPY_MARK}{number}"


def contradiction(memberships: Sequence[ServerGroupMembership], copies: int, copies_on: str) -> str:
    """Why no placement can satisfy these memberships together, or an empty text."""
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
