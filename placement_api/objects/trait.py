"""Stands in for `placement.objects.trait`. Standard traits are those of the installed `os-traits`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from placement import exception

from vacancy.placement_api.objects.db_api import placement_context_manager
from vacancy.placement_api.state import unit_of_work


class Trait:
    """A trait as Placement's handlers use it."""

    CUSTOM_NAMESPACE = "CUSTOM_"

    def __init__(
        self, context: Any, id: Any = None, name: Any = None, updated_at: Any = None, created_at: Any = None
    ) -> None:
        self._context = context
        self.id = id
        self.name = name
        self.updated_at = updated_at
        self.created_at = created_at

    @classmethod
    def get_by_name(cls, context: Any, name: str) -> Trait:
        """Raises TraitNotFound."""
        return cls(context, **context.trait_cache.all_from_string(name)._asdict())

    def create(self) -> None:
        """Raises ObjectActionError or TraitExists."""
        if self.id is not None:
            raise exception.ObjectActionError(action="create", reason="already created")
        if not self.name:
            raise exception.ObjectActionError(action="create", reason="name is required")
        cache = self._context.trait_cache
        if not self.name.startswith(self.CUSTOM_NAMESPACE):
            raise exception.TraitExists(name=self.name)
        with unit_of_work.writing(self._context):
            unit_of_work.draft(self._context).stage(create_traits=(self.name,))
        cache.clear()
        row = cache.all_from_string(self.name)
        self.id, self.created_at, self.updated_at = row.id, row.created_at, row.updated_at

    def destroy(self) -> None:
        """Raises ObjectActionError, TraitCannotDeleteStandard, TraitInUse or TraitNotFound."""
        if not self.name:
            raise exception.ObjectActionError(action="destroy", reason="name is required")
        if not self.name.startswith(self.CUSTOM_NAMESPACE):
            raise exception.TraitCannotDeleteStandard(name=self.name)
        if self.id is None:
            raise exception.ObjectActionError(action="destroy", reason="ID attribute not found")
        with unit_of_work.writing(self._context):
            unit_of_work.draft(self._context).stage(delete_traits=(self.name,))
        self._context.trait_cache.clear()


def ensure_sync(ctx: Any) -> None:
    """Does nothing: standard traits need no rows."""


def get_all(context: Any, filters: Mapping[str, Any] | None = None) -> list[Trait]:
    """All traits, or those that match the filters `name_in`, `prefix` and `associated`."""
    filters = filters or {}
    view = unit_of_work.view(context)
    wanted = set(filters["name_in"]) if "name_in" in filters else None
    prefix = str(filters.get("prefix", ""))
    associated = filters.get("associated")
    return [
        Trait(context, **row._asdict())
        for row in context.trait_cache.get_all()
        if (wanted is None or row.name in wanted)
        and row.name.startswith(prefix)
        and (associated is None or bool(view.with_trait(row.name)) == associated)
    ]


def get_all_by_resource_provider(context: Any, rp: Any) -> list[Trait]:
    """The traits of a provider."""
    return [Trait(context, **row._asdict()) for row in get_traits_by_provider_id(context, rp.id)]


@placement_context_manager.reader
def get_traits_by_provider_id(context: Any, rp_id: str) -> list[Any]:
    """The cached rows of a provider's traits, in the order of their numbers."""
    row = unit_of_work.view(context).providers.get(rp_id)
    found = [] if row is None else [context.trait_cache.all_from_string(name) for name in row.traits]
    return sorted(found, key=lambda one: int(one.id))


@placement_context_manager.reader
def get_traits_by_provider_tree(ctx: Any, root_ids: Iterable[str]) -> Mapping[str, list[str]]:
    """Provider id -> names of its traits, for all providers under these roots."""
    if not root_ids:
        raise ValueError(
            "Expected root_ids to be a list of root resource provider internal IDs, but got an empty list."
        )
    view = unit_of_work.view(ctx)
    number = ctx.trait_cache.id_from_string
    found: dict[str, list[str]] = defaultdict(list)
    for root in root_ids:
        for uuid in view.tree(root):
            traits = view.providers[uuid].traits
            if traits:
                found[uuid] = sorted(traits, key=number)
    return found


def ids_from_names(ctx: Any, names: Iterable[str]) -> dict[str, int]:
    """Name -> number. Raises TraitNotFound for the first that nobody knows."""
    if not names:
        raise ValueError("Expected names to be a list of string trait names, but got an empty list.")
    return {name: ctx.trait_cache.id_from_string(name) for name in names}
