"""The queries below Placement's search for allocation candidates, on the view instead of SQL.

`substitution` puts these functions into `placement.objects.research_context` and `allocation_candidate`, whose search
itself stays Placement's. Ids of providers are uuids, those of classes and traits the numbers of `attribute_cache`.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import os_traits

from vacancy.placement_api.objects.provider_filters import offers
from vacancy.placement_api.state import unit_of_work
from vacancy.placement_api.state.view import View

ProviderIds = namedtuple("ProviderIds", ["id", "uuid", "parent_id", "parent_uuid", "root_id", "root_uuid"])
AnchorIds = namedtuple("AnchorIds", ["rp_id", "rp_uuid", "anchor_id", "anchor_uuid"])


class UsageRow(NamedTuple):
    """An inventory and what is used of it, as Placement's SQL gives it."""

    resource_provider_id: str
    resource_provider_uuid: str
    resource_class_id: int | None = None
    total: int | None = None
    reserved: int | None = None
    allocation_ratio: float | None = None
    max_unit: int | None = None
    used: int | None = None


def provider_ids_from_uuid(context: Any, uuid: str) -> ProviderIds | None:
    one = unit_of_work.view(context).providers.get(uuid)
    return None if one is None else ProviderIds(uuid, uuid, one.parent, one.parent, one.root, one.root)


def get_providers_with_resource(
    ctx: Any, rc_id: int, amount: int, tree_root_id: str | None = None
) -> set[tuple[str, str]]:
    """(provider, root) of each provider that can give the amount."""
    view = unit_of_work.view(ctx)
    name = ctx.rc_cache.string_from_id(rc_id)
    among = view.with_class(name) if tree_root_id is None else view.tree(tree_root_id)
    providers = view.providers
    return {(uuid, providers[uuid].root) for uuid in among if offers(view, providers[uuid], name, amount)}


def get_providers_with_root(
    ctx: Any, allowed: Iterable[str] | None, forbidden: Iterable[str] | None
) -> set[tuple[str, str]]:
    """(provider, root) of the allowed providers, or of all, without the forbidden."""
    providers = unit_of_work.view(ctx).providers
    among = set(allowed) & providers.keys() if allowed else set(providers)
    return {(uuid, providers[uuid].root) for uuid in among.difference(forbidden or ())}


def _get_trees_with_traits(
    ctx: Any,
    rp_ids: Iterable[str],
    required_traits: Sequence[set[int]],
    forbidden_traits: Iterable[int | str],
) -> set[tuple[str, str]]:
    """(provider, root) of those providers whose trees have all required traits.

    Traits count only of providers without a forbidden one. A tree without such a provider is left out.
    Placement gives forbidden traits by name here (a dict), though its text says by number.
    """
    view = unit_of_work.view(ctx)
    name = ctx.trait_cache.string_from_id
    forbidden = {one if isinstance(one, str) else name(one) for one in forbidden_traits}
    required = [{name(number) for number in any_of} for any_of in required_traits]
    roots = {uuid: view.providers[uuid].root for uuid in rp_ids if uuid in view.providers}
    traits: dict[str, set[str]] = {}
    for uuid, root in roots.items():
        own = view.providers[uuid].traits
        if not own & forbidden:
            traits.setdefault(root, set()).update(own)
    good = {root for root, has in traits.items() if all(has & any_of for any_of in required)}
    return {(uuid, root) for uuid, root in roots.items() if root in good}


def _get_roots_with_traits(
    ctx: Any, required_traits: Iterable[int] | None, forbidden_traits: Iterable[int] | None
) -> set[str]:
    """The roots that have all of the required traits themselves and none of the forbidden."""
    if not (required_traits or forbidden_traits):
        raise ValueError("At least one of required_traits or forbidden_traits is required.")
    name = ctx.trait_cache.string_from_id
    required = {name(number) for number in required_traits or ()}
    forbidden = {name(number) for number in forbidden_traits or ()}
    return {
        one.uuid
        for one in unit_of_work.view(ctx).providers.values()
        if one.parent is None and required <= one.traits and not forbidden & one.traits
    }


def provider_ids_matching_aggregates(
    context: Any, member_of: Iterable[Iterable[str]], rp_ids: Iterable[str] | None = None
) -> set[str]:
    """The providers that are in at least one aggregate of each list."""
    view = unit_of_work.view(context)
    return _in_all([_in_any(view.members, any_of) for any_of in member_of], view, rp_ids)


def provider_ids_matching_required_traits(
    context: Any, required_traits: Sequence[Iterable[int]], rp_ids: Iterable[str] | None = None
) -> set[str]:
    """The providers that have at least one trait of each set."""
    if not required_traits:
        raise ValueError("required_traits must not be empty")
    view = unit_of_work.view(context)
    name = context.trait_cache.string_from_id
    sets = [_in_any(view.with_trait, map(name, any_of)) for any_of in required_traits]
    return _in_all(sets, view, rp_ids)


def get_provider_ids_having_any_trait(ctx: Any, traits: Iterable[int]) -> set[str]:
    if not traits:
        raise ValueError("traits must not be empty")
    view = unit_of_work.view(ctx)
    return _in_any(view.with_trait, map(ctx.trait_cache.string_from_id, traits))


def _in_any(members: Any, names: Iterable[str]) -> set[str]:
    return {uuid for name in names for uuid in members(name)}


def _in_all(sets: list[set[str]], view: View, only: Iterable[str] | None) -> set[str]:
    found = set.intersection(*sets) if sets else set(view.providers)
    return found & set(only) if only else found


def get_sharing_providers(ctx: Any, rp_ids: Iterable[str] | None = None) -> set[str]:
    """The providers that share their inventory with the trees of their aggregates."""
    found = set(unit_of_work.view(ctx).with_trait(os_traits.MISC_SHARES_VIA_AGGREGATE))
    return found & set(rp_ids) if rp_ids else found


def anchors_for_sharing_providers(context: Any, rp_ids: Iterable[str]) -> set[AnchorIds]:
    """Each sharing provider with each root that has a provider in one of its aggregates."""
    view = unit_of_work.view(context)
    return {
        AnchorIds(uuid, uuid, view.providers[member].root, view.providers[member].root)
        for uuid in rp_ids
        if uuid in view.providers
        for aggregate in view.providers[uuid].aggregates
        for member in view.members(aggregate)
    }


def _has_provider_trees(ctx: Any) -> bool:
    return unit_of_work.view(ctx).has_nested_providers


def get_usages_by_provider_trees(ctx: Any, root_ids: Iterable[str]) -> list[UsageRow]:
    """A row for each inventory of the providers under these roots; a provider without any has one with Nones."""
    view = unit_of_work.view(ctx)
    number = ctx.rc_cache.id_from_string
    rows = []
    for root in root_ids:
        for uuid in view.tree(root):
            used = view.used(uuid)
            inventories = view.providers[uuid].inventories
            rows += [
                UsageRow(
                    uuid,
                    uuid,
                    number(name),
                    one.total,
                    one.reserved,
                    one.allocation_ratio,
                    one.max_unit,
                    used.get(name),
                )
                for name, one in inventories.items()
            ]
            if not inventories:
                rows.append(UsageRow(uuid, uuid))
    return rows


def _provider_ids_from_root_ids(context: Any, root_ids: Iterable[str]) -> dict[str, ProviderIds]:
    view = unit_of_work.view(context)
    providers = view.providers
    return {
        uuid: ProviderIds(
            uuid,
            uuid,
            providers[uuid].parent,
            providers[uuid].parent,
            providers[uuid].root,
            providers[uuid].root,
        )
        for root in root_ids
        for uuid in view.tree(root)
    }
