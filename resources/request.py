"""RequestSpec: what is asked for.

A request has groups. Each group is served by one provider of one tree: cores and memory by the node itself,
a GPU share by one GPU, eight GPUs by eight groups. `group_policy` says whether two groups may share a provider
(`none`) or must not (`isolate`), as in OpenStack Placement's granular requests.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from vacancy.resources.names import Id, Symbol

GROUPS_MAX = 64

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
    """One instance's needs. Raises pydantic's `ValidationError` on anything that cannot be meant."""

    groups: Annotated[tuple[RequestGroup, ...], Field(min_length=1, max_length=GROUPS_MAX)]
    group_policy: Literal["none", "isolate"] = "none"

    @model_validator(mode="after")
    def _names_are_distinct(self) -> RequestSpec:
        names = [group.name for group in self.groups]
        if len(set(names)) != len(names):
            raise ValueError("two groups of one request have the same name")
        if not any(group.resources for group in self.groups):
            raise ValueError("a request asks for at least one resource")
        return self
