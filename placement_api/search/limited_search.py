"""Allocation candidates with a limit: a search that stops at the limit, where each candidate is one provider.

Placement finds all candidates and then drops those beyond the limit. That is the same answer at many times the cost, if nothing is
nested, nothing is shared, and there is one group of resources: then each provider that matches is one candidate, and any of them
will do. For every other request Placement's own search is used.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from types import ModuleType, SimpleNamespace
from typing import Any

import os_traits

from vacancy.placement_api.objects.provider_filters import offers
from vacancy.placement_api.search.random_order import in_random_order
from vacancy.placement_api.state import unit_of_work
from vacancy.placement_api.state.backend import Provider
from vacancy.placement_api.state.view import View

Found = tuple[list[Any], list[Any]]
"""Allocation requests and provider summaries."""


def install(module: ModuleType) -> None:
    """Puts the search before that of `placement.objects.allocation_candidate`."""
    kind = module.AllocationCandidates
    kind._get_by_requests = staticmethod(_first_limited(module, kind._get_by_requests))


def _first_limited(module: ModuleType, search_all: Callable[..., Found]) -> Callable[..., Found]:
    def get_by_requests(
        context: Any, groups: Mapping[str, Any], rqparams: Any, nested_aware: bool = True
    ) -> Found:
        with unit_of_work.reading(context):
            if _stops_early(unit_of_work.view(context), groups, rqparams):
                return _search(module, context, groups, rqparams, nested_aware)
            return search_all(context, groups, rqparams, nested_aware=nested_aware)

    return get_by_requests


def _stops_early(view: View, groups: Mapping[str, Any], rqparams: Any) -> bool:
    """Whether each provider that matches is one candidate, and a few are enough."""
    if not rqparams.limit or len(groups) != 1 or view.has_nested_providers:
        return False
    if rqparams.anchor_required_traits or rqparams.anchor_forbidden_traits or rqparams.same_subtrees:
        return False
    (group,) = groups.values()
    return (
        bool(group.resources)
        and not group.in_tree
        and not view.with_trait(os_traits.MISC_SHARES_VIA_AGGREGATE)
    )


def _search(
    module: ModuleType, context: Any, groups: Mapping[str, Any], rqparams: Any, nested_aware: bool
) -> Found:
    """Raises ResourceClassNotFound or TraitNotFound, in the order of Placement's own search."""
    ((suffix, group),) = groups.items()
    view = unit_of_work.view(context)
    resources = {context.rc_cache.id_from_string(name): amount for name, amount in group.resources.items()}
    members = [_in_any(view.members, any_of) for any_of in group.member_of]
    if not all(members):
        return [], []
    for trait in (*(one for any_of in group.required_traits for one in any_of), *group.forbidden_traits):
        context.trait_cache.id_from_string(trait)
    found = _fewest(view, group, members)
    randomized = context.config.placement.randomize_allocation_candidates
    among = in_random_order(found) if randomized else found
    matching = (uuid for uuid in among if _matches(view, view.providers[uuid], group))
    chosen = [(uuid, uuid) for uuid, _ in zip(matching, range(rqparams.limit), strict=False)]
    if not chosen:
        return [], []
    wide = module.res_ctx.RequestWideSearchContext(context, rqparams, nested_aware)
    one_group = SimpleNamespace(context=context, resources=resources, suffix=suffix)
    requests = module._alloc_candidates_single_provider(one_group, wide, chosen)
    for one in requests:
        one.use_same_provider = group.use_same_provider
    return wide.limit_results(*module._merge_candidates({suffix: requests}, wide))  # type: ignore[no-any-return]


def _in_any(members: Callable[[str], Iterable[str]], names: Iterable[str]) -> dict[str, None]:
    return {uuid: None for name in names for uuid in members(name)}


def _fewest(view: View, group: Any, members: Iterable[dict[str, None]]) -> Sequence[str]:
    """The shortest list that has all that match: those with a class, with a trait, or in an aggregate."""
    lists: list[Collection[str]] = [view.with_class(name) for name in group.resources]
    lists.extend(view.with_trait(*any_of) for any_of in group.required_traits if len(any_of) == 1)
    lists.extend(members)
    fewest = min(lists, key=len)
    return list(fewest)


def _matches(view: View, one: Provider, group: Any) -> bool:
    return (
        all(offers(view, one, name, amount) for name, amount in group.resources.items())
        and all(one.traits & any_of for any_of in group.required_traits)
        and not one.traits & group.forbidden_traits
        and all(set(any_of).intersection(one.aggregates) for any_of in group.member_of)
        and not set(group.forbidden_aggs).intersection(one.aggregates)
    )
