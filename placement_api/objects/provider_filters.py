"""The filters of `GET /resource_providers`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from vacancy.placement_api.state.backend import Inventory, Provider
from vacancy.placement_api.state.view import View


def matching(context: Any, view: View, filters: Mapping[str, Any]) -> list[Provider]:
    """The providers of a view that match, in the order of creation.

    Raises ResourceClassNotFound or TraitNotFound for a name that nobody knows. As in Placement, a filter is not looked at where
    one before it leaves no provider: the order is tree, required traits, forbidden traits, aggregates, resources.
    """
    in_tree = filters.get("in_tree")
    root = None
    if in_tree:
        row = view.providers.get(in_tree)
        if row is None:
            return []
        root = row.root
    required: list[set[str]] = [set(any_of) for any_of in filters.get("required_traits") or []]
    for trait in (one for any_of in required for one in any_of):
        context.trait_cache.id_from_string(trait)
    if required and not _in_all(view.with_trait, required):
        return []
    forbidden: set[str] = set(filters.get("forbidden_traits") or ())
    for trait in forbidden:
        context.trait_cache.id_from_string(trait)
    member_of: list[set[str]] = [set(any_of) for any_of in filters.get("member_of") or []]
    if member_of and not _in_all(view.members, member_of):
        return []
    resources: Mapping[str, int] = filters.get("resources") or {}
    for name in resources:
        context.rc_cache.id_from_string(name)
    outside: set[str] = set(filters.get("forbidden_aggs") or ())

    def matches(one: Provider) -> bool:
        return (
            (root is None or one.root == root)
            and all(one.traits & any_of for any_of in required)
            and not one.traits & forbidden
            and all(any_of.intersection(one.aggregates) for any_of in member_of)
            and not outside.intersection(one.aggregates)
            and all(offers(view, one, name, amount) for name, amount in resources.items())
        )

    return [one for one in _named(view, filters) if matches(one)]


def _in_all(having: Callable[[str], Iterable[str]], sets: Iterable[Iterable[str]]) -> set[str]:
    """The providers that have something of each set."""
    return set.intersection(*({uuid for name in any_of for uuid in having(name)} for any_of in sets))


def _named(view: View, filters: Mapping[str, Any]) -> Iterable[Provider]:
    """The providers that a filter by uuid or name leaves; all without such a filter."""
    uuid, name = filters.get("uuid"), filters.get("name")
    found: Iterable[Provider | None]
    if uuid:
        found = [view.providers.get(uuid)]
    elif name:
        found = [view.provider_named(name)]
    else:
        return view.providers.values()
    return [one for one in found if one is not None and (not name or one.name == name)]


def offers(view: View, one: Provider, resource_class: str, amount: int) -> bool:
    """Whether a provider can give an amount of a class now."""
    inventory = one.inventories.get(resource_class)
    return inventory is not None and fits(inventory, view.used(one.uuid).get(resource_class, 0), amount)


def fits(inventory: Inventory, used: int, amount: int) -> bool:
    """Whether an amount fits an inventory beside what is used of it."""
    return (
        used + amount <= inventory.capacity
        and inventory.min_unit <= amount <= inventory.max_unit
        and amount % inventory.step_size == 0
    )
