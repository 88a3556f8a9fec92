"""Server groups: affinity and anti-affinity between consumers.

A server group is in one cell, and its id contains the cell: `CELL/NAME`. So one partition judges all its members, in
order. A request for several copies is one consumer, and each copy counts as one member.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal, NamedTuple

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

SPREAD: Final = "spread"
"""The policy of groups whose members are spread evenly over domains."""

GroupId = Annotated[str, StringConstraints(pattern=GROUP_PATTERN)]
Policy = Literal["affinity", "anti-affinity"]

_kind = re.compile(r"[A-Za-z0-9]*[._:/@+=~-]").match


class AffinityRule(NamedTuple):
    """The rule of a group. The first member sets it. It stays the same as long as the group has members. With the policy
    `spread`, `max_per_node` is the rule's `max_skew`."""

    policy: str
    hard: bool
    max_per_node: int
    scope: str | None

    @property
    def spreads(self) -> bool:
        """Whether the rule is about the differences between domains."""
        return self.policy == SPREAD


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


class ServerGroupMembershipV2(ServerGroupMembership):
    """As `ServerGroupMembership`, with one policy more (rules version 4).

    `spread`: the members are spread over the *domains* of a cell, which are its aggregates of the kind `scope`, such as
    `zone-`. A new member is allowed in a domain if that has, with it, at most `max_skew` (by default 1) members more than
    the domain with the fewest. The rule is `DoNotSchedule` of Kubernetes' `topologySpreadConstraints`; docs/relations.md
    says which domains count.
    """

    policy: Literal["affinity", "anti-affinity", "spread"]  # type: ignore[assignment]
    max_skew: Annotated[int, Field(ge=1, le=MEMBERS_MAX)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_older(cls, value: Any) -> Any:
        return dict(value) if type(value) is ServerGroupMembership else value

    @model_validator(mode="after")
    def _is_spread(self) -> ServerGroupMembershipV2:
        if self.policy != SPREAD:
            if self.max_skew is not None:
                raise ValueError("max_skew is for spread")
            return self
        if self.max_per_node != 1:
            raise ValueError("max_per_node is for anti-affinity; spread has max_skew")
        if self.scope is None or kind_of(self.scope) != self.scope:
            raise ValueError(
                "spread has a kind of aggregates as its scope, such as zone-: their names up to and with the first character"
                " that is no letter and no digit"
            )
        return self

    @property
    def rule(self) -> AffinityRule:
        """See `ServerGroupMembership`."""
        most = (self.max_skew or 1) if self.policy == SPREAD else self.max_per_node
        return AffinityRule(self.policy, self.hard, most, self.scope)


def membership_of(group: str, rule: AffinityRule) -> ServerGroupMembership:
    """The membership in a group with this rule."""
    fields: dict[str, Any] = {"group": group, **rule._asdict()}
    if rule.spreads:
        fields |= {"max_per_node": 1, "max_skew": rule.max_per_node}
        return ServerGroupMembershipV2.model_construct(**fields)
    return ServerGroupMembership.model_construct(**fields)


def spread_membership(memberships: Sequence[ServerGroupMembership]) -> ServerGroupMembershipV2 | None:
    """The first membership with the policy `spread`, or None. Only rules from version 4 on have it."""
    return next(
        (one for one in memberships if isinstance(one, ServerGroupMembershipV2) and one.rule.spreads), None
    )


def kind_of(aggregate: str) -> str:
    """The kind of an aggregate: `zone-` of `zone-a`, '' of a name of letters and digits only."""
    found = _kind(aggregate)
    return "" if found is None else found[0]


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
