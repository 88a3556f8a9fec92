"""RequestSpec: the resources and conditions that a request asks for.

A request has groups. One tree serves all of them, together with the sharing providers that serve the tree. For example, the
node itself serves cores and memory, one GPU serves a GPU share, and eight groups ask for eight GPUs. The terms and their
meaning are those of OpenStack Placement's `GET /allocation_candidates`; docs/queries.md has a table of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from itertools import accumulate, compress, product
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    JsonValue,
    SerializeAsAny,
    model_validator,
)

from vacancy.resources.model.names import Id, Symbol
from vacancy.resources.model.server_group import (
    COPIES_MAX,
    MEMBERSHIPS_MAX,
    ServerGroupMembership,
    ServerGroupMembershipV2,
    contradiction,
    spread_membership,
)
from vacancy.resources.model.taints import TOLERATIONS_MAX, Toleration

GROUPS_MAX = 64
ALLOCATIONS_MAX = 256
"""The limit of allocations in one claim: one for each group of each copy."""

WHERE_MAX = 4096
"""The limit of characters of an expression."""

ALTERNATIVES_MAX = 8
"""The limit of alternatives of a request."""

PREFERENCES_MAX = 3
"""The limit of preferred relations of a request: each of them doubles what is searched for."""

Ask = int | dict[str, JsonValue]
"""What is asked of one class: an amount, or an object in the form of the class."""


def stop_early(schema: Any, *, limited: bool) -> Any:
    """A schema of pydantic-core with which validation stops at the first error of each list or object; of those with a
    limited length only with `limited`."""
    if isinstance(schema, dict):
        changed = {name: stop_early(part, limited=limited) for name, part in schema.items()}
        if schema.get("type") in ("tuple", "list", "dict") and (limited or "max_length" not in schema):
            changed["fail_fast"] = True
        return changed
    return [stop_early(part, limited=limited) for part in schema] if isinstance(schema, list) else schema


class RequestModel(BaseModel):
    """A part of an event. It is immutable and strict about types. Unknown fields are errors.

    Validation stops at the first error of a list or an object, because an error takes 500 bytes and 2 us, and only the first
    one is reported. It does not stop where the length is limited: an error of the length is reported before those of the
    items, and rules versions 1 and 2 keep that (see `stop_early`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> Any:
        return stop_early(handler(source), limited=False)


GroupName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{0,64}$")]


class RequestGroup(RequestModel):
    """What a provider must have: amounts, traits, and membership of aggregates.

    `where` is a condition in a subset of CEL (docs/expressions.md). Schedulers evaluate it. The fold does not read it: a
    claim carries predicates instead, which the scheduler derives from it.
    `any_traits`: the provider has at least one trait of each inner tuple. `member_of`: the provider is in at least one
    aggregate of each inner tuple. `in_tree`: the provider is in the tree of the provider with this id.

    With `same_provider`, one provider serves all resources. Without it (Placement's unnumbered group), a different provider
    may serve each class. All these providers together must have the required traits, and none of them may have a forbidden
    one. `member_of` and `not_member_of` are then checked on the provider and on the root of its tree.
    """

    name: GroupName = ""
    same_provider: bool = True
    resources: dict[Symbol, Ask] = {}
    required: tuple[Symbol, ...] = ()
    forbidden: tuple[Symbol, ...] = ()
    any_traits: tuple[tuple[Symbol, ...], ...] = ()
    member_of: tuple[tuple[Id, ...], ...] = ()
    not_member_of: tuple[Id, ...] = ()
    in_tree: Id | None = None
    where: Annotated[str, Field(max_length=WHERE_MAX)] = ""


class RequestSpec(RequestModel):
    """One consumer's needs. Raises pydantic's `ValidationError` on invalid input.

    `group_policy`: whether two groups may share a provider (`none`) or must not (`isolate`); groups that several
    providers may serve are not meant by that. `root_required` and `root_forbidden` are traits of the tree's root,
    whichever providers serve the groups. `same_subtree`: of each inner tuple of groups' names, one is served by a
    provider that also serves the others, or stands above those that do.

    `memberships`: the server groups that it is in. `copies`: the number of instances of the same shape, each on one tree,
    all in one cell, all or none; each on another node, if `copies_on` is `distinct`.
    """

    groups: Annotated[tuple[RequestGroup, ...], Field(min_length=1, max_length=GROUPS_MAX)]
    group_policy: Literal["none", "isolate"] = "none"
    memberships: Annotated[
        tuple[SerializeAsAny[ServerGroupMembership], ...], Field(max_length=MEMBERSHIPS_MAX)
    ] = ()
    copies: Annotated[int, Field(ge=1, le=COPIES_MAX)] = 1
    copies_on: Literal["any", "distinct"] = "any"
    root_required: tuple[Symbol, ...] = ()
    root_forbidden: tuple[Symbol, ...] = ()
    same_subtree: Annotated[tuple[tuple[GroupName, ...], ...], Field(max_length=GROUPS_MAX)] = ()

    _may_spread: ClassVar[bool] = False

    @model_validator(mode="after")
    def _names_are_distinct(self) -> RequestSpec:
        groups = self.groups
        if len(groups) > 1 and len({group.name for group in groups}) != len(groups):
            raise ValueError("two groups of one request have the same name")
        # Loops, because this runs for every claim, and generators would cost more than everything else.
        asks = together = False
        for group in groups:
            asks = asks or bool(group.resources)
            together = together or not group.same_provider
        if not asks:
            raise ValueError("a request asks for at least one resource")
        if self.memberships or self.copies > 1:
            self._check_relations()
        if self.same_subtree or together:
            self._check_shape()
        return self

    @property
    def allocations_max(self) -> int:
        """The largest number of allocations that a claim for this request can have."""
        return self.copies * sum(
            bool(group.resources) if group.same_provider else len(group.resources) for group in self.groups
        )

    def _check_relations(self) -> None:
        wrong = contradiction(self.memberships, self.copies, self.copies_on)
        if wrong:
            raise ValueError(wrong)
        if not self._may_spread and (one := spread_membership(self.memberships)) is not None:
            raise ValueError(f"group {one.group} has the policy spread: use RequestSpecV2")
        if self.allocations_max > ALLOCATIONS_MAX:
            raise ValueError(
                f"{self.copies} copies of its groups are {self.allocations_max} allocations, and a claim has {ALLOCATIONS_MAX}"
            )

    def _check_shape(self) -> None:
        for group in self.groups:
            if not group.same_provider and not group.resources:
                raise ValueError(
                    f"group {group.name!r} may be served by several providers, but asks for nothing"
                )
        known = {group.name: group.same_provider for group in self.groups}
        for names in self.same_subtree:
            if not names:
                raise ValueError("same_subtree names no group")
            for name in names:
                if name not in known:
                    raise ValueError(f"same_subtree names group {name!r}, which is not there")
                if not known[name]:
                    raise ValueError(f"same_subtree names group {name!r}, which several providers may serve")
        if self.allocations_max > ALLOCATIONS_MAX:
            raise ValueError(
                f"its groups may take {self.allocations_max} allocations, and a claim has {ALLOCATIONS_MAX}"
            )


class ChosenSpec(RequestSpec):
    """What was chosen of a `RequestSpecV2`, as a claim has it: without alternatives and preferences."""

    memberships: Annotated[
        tuple[SerializeAsAny[ServerGroupMembershipV2], ...], Field(max_length=MEMBERSHIPS_MAX)
    ] = ()

    _may_spread: ClassVar[bool] = True


class RequestSpecV2(RequestSpec):
    """A request with alternatives, preferences and tolerations. A claim names what was chosen of the alternatives and
    preferences, so the fold needs neither.

    `alternatives`: what to ask for instead if nothing fits, in order of preference; the groups of the request itself come
    first. Each is a whole request, and stands for the groups and their conditions; server groups and copies are those of the
    request. `prefer_same_subtree`: as `same_subtree`, where it is possible; the first of them counts most. It also applies to
    alternatives that have groups of these names. `tolerations`: the taints of providers that do not repel it, whichever
    alternative is chosen.
    """

    memberships: Annotated[
        tuple[SerializeAsAny[ServerGroupMembershipV2], ...], Field(max_length=MEMBERSHIPS_MAX)
    ] = ()
    alternatives: Annotated[tuple[RequestSpec, ...], Field(max_length=ALTERNATIVES_MAX)] = ()
    prefer_same_subtree: Annotated[tuple[tuple[GroupName, ...], ...], Field(max_length=PREFERENCES_MAX)] = ()
    tolerations: Annotated[tuple[Toleration, ...], Field(max_length=TOLERATIONS_MAX)] = ()

    _may_spread: ClassVar[bool] = True

    @model_validator(mode="after")
    def _alternatives_are_whole(self) -> RequestSpecV2:
        for one in self.alternatives:
            if one.memberships or one.copies > 1:
                raise ValueError("an alternative has server groups or copies, which are those of the request")
            if self.copies * one.allocations_max > ALLOCATIONS_MAX:
                raise ValueError(
                    f"an alternative may take {self.copies * one.allocations_max} allocations, and a claim has {ALLOCATIONS_MAX}"
                )
        if self.prefer_same_subtree:
            known = [_names_of(one) for one in (self, *self.alternatives)]
            for names in self.prefer_same_subtree:
                if len(set(names)) < 2:
                    raise ValueError("prefer_same_subtree names fewer than two groups")
                if not any(one.issuperset(names) for one in known):
                    raise ValueError(
                        f"prefer_same_subtree names {', '.join(map(repr, names))}, which are not groups of one alternative"
                        " that one provider serves each"
                    )
        return self

    @cached_property
    def choices(self) -> tuple[RequestSpec, ...]:
        """The requests without alternatives and preferences that this one stands for, in order of preference: for each
        alternative first with all its preferred relations, last without any."""
        found: list[RequestSpec] = []
        for one in (self, *self.alternatives):
            fields = plain_fields(one)
            fields |= {name: getattr(self, name) for name in ("memberships", "copies", "copies_on")}
            preferred = self._preferred(one)
            for kept in product((True, False), repeat=len(preferred)):
                relations = tuple(compress(preferred, kept))
                found.append(
                    RequestSpec.model_construct(**{**fields, "same_subtree": (*one.same_subtree, *relations)})
                )
        return tuple(found)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """As for any model; the copy has choices of its own."""
        copied = super().model_copy(update=update, deep=deep)
        vars(copied).pop("choices", None)
        return copied

    @property
    def alternative_choices(self) -> tuple[int, ...]:
        """For the request itself and each of its alternatives, its choice without any preferred relation."""
        counts = [2 ** len(self._preferred(one)) for one in (self, *self.alternatives)]
        return tuple(end - 1 for end in accumulate(counts))

    def _preferred(self, one: RequestSpec) -> list[tuple[str, ...]]:
        """The preferred relations that apply to an alternative."""
        return [names for names in self.prefer_same_subtree if _names_of(one).issuperset(names)]


def plain_fields(spec: RequestSpec) -> dict[str, Any]:
    """The fields that every form of a request has."""
    return {name: getattr(spec, name) for name in RequestSpec.model_fields}


def _names_of(spec: RequestSpec) -> set[str]:
    """The names of the groups that relations may name."""
    return {group.name for group in spec.groups if group.same_provider}


def choices_of(spec: RequestSpec) -> tuple[RequestSpec, ...]:
    """What a request asks for, in order of preference: one request, unless it has alternatives or preferences."""
    return spec.choices if isinstance(spec, RequestSpecV2) else (spec,)


def oldest_form(spec: RequestSpec) -> RequestSpec:
    """The request as `RequestSpec`, unless it uses a field or a policy that only `RequestSpecV2` has."""
    if (
        isinstance(spec, RequestSpecV2)
        and not changed_extras(spec)
        and spread_membership(spec.memberships) is None
    ):
        return RequestSpec.model_construct(**plain_fields(spec))
    return spec


def as_requested(spec: RequestSpec) -> RequestSpec:
    """The spec of a claim in the form that a request for the same has, so that the two are equal."""
    newest = RequestSpecV2 if spread_membership(spec.memberships) is not None else RequestSpec
    return newest.model_validate_json(spec_bytes(spec))


def changed_extras(spec: RequestSpec) -> dict[str, Any]:
    """The fields that only `RequestSpecV2` has and that are not at their defaults, as JSON."""
    if not isinstance(spec, RequestSpecV2):
        return {}
    extras = spec.__class__.model_fields.keys() - RequestSpec.model_fields.keys()
    return spec.model_dump(mode="json", include=set(extras), exclude_defaults=True)


def tolerations_of(spec: RequestSpec) -> tuple[Toleration, ...]:
    """The taints that a request tolerates."""
    return spec.tolerations if isinstance(spec, RequestSpecV2) else ()


def spec_bytes(spec: RequestSpec) -> bytes:
    """A request as JSON in the form of the log: fields at their defaults are left out."""
    return spec.model_dump_json(exclude_defaults=True).encode()
