"""RequestSpec: what is asked for.

A request has groups. Each group is served by one provider of one tree: cores and memory by the node itself,
a GPU share by one GPU, eight GPUs by eight groups. `group_policy` says whether two groups may share a provider
(`none`) or must not (`isolate`), as in OpenStack Placement's granular requests.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from vacancy.resources.membership import COPIES_MAX, MEMBERSHIPS_MAX, Membership, contradiction
from vacancy.resources.names import Id, Symbol

GROUPS_MAX = 64
ALLOCATIONS_MAX = 256
"""Allocations that one claim may carry: one for each group of each copy."""

Ask = int | dict[str, JsonValue]
"""How much or what of one class: an amount, or an object that the class itself understands."""


class Model(BaseModel):
    """A part of an event: frozen, exact about types, and deaf to fields it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class RequestGroup(Model):
    """What one provider must have: amounts, traits, and membership of aggregates.

    `any_traits` is a conjunction of disjunctions: of each inner tuple at least one. `member_of` likewise:
    the provider is in at least one aggregate of each inner tuple. `in_tree` names a provider whose tree it is.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{0,64}$")] = ""
    resources: dict[Symbol, Ask] = {}
    required: tuple[Symbol, ...] = ()
    forbidden: tuple[Symbol, ...] = ()
    any_traits: tuple[tuple[Symbol, ...], ...] = ()
    member_of: tuple[tuple[Id, ...], ...] = ()
    not_member_of: tuple[Id, ...] = ()
    in_tree: Id | None = None


class RequestSpec(Model):
    """One consumer's needs. Raises pydantic's `ValidationError` on anything that cannot be meant.

    `memberships`: the server groups that it is in. `copies`: so many instances of the same shape, each on one tree,
    all in one cell, all or none; on nodes of their own each, if `copies_on` says `distinct`.
    """

    groups: Annotated[tuple[RequestGroup, ...], Field(min_length=1, max_length=GROUPS_MAX)]
    group_policy: Literal["none", "isolate"] = "none"
    memberships: Annotated[tuple[Membership, ...], Field(max_length=MEMBERSHIPS_MAX)] = ()
    copies: Annotated[int, Field(ge=1, le=COPIES_MAX)] = 1
    copies_on: Literal["any", "distinct"] = "any"

    @model_validator(mode="after")
    def _names_are_distinct(self) -> RequestSpec:
        names = [group.name for group in self.groups]
        if len(set(names)) != len(names):
            raise ValueError("two groups of one request have the same name")
        if not any(group.resources for group in self.groups):
            raise ValueError("a request asks for at least one resource")
        if self.memberships or self.copies > 1:
            self._check_relations()
        return self

    def _check_relations(self) -> None:
        wrong = contradiction(self.memberships, self.copies, self.copies_on)
        if wrong:
            raise ValueError(wrong)
        allocations = self.copies * sum(bool(group.resources) for group in self.groups)
        if allocations > ALLOCATIONS_MAX:
            raise ValueError(
                f"{self.copies} copies of its groups are {allocations} allocations, and a claim has {ALLOCATIONS_MAX}"
            )
