"""Stands in for `placement.objects.resource_provider`: providers, their inventories, traits and aggregates.

A provider's id is its uuid.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from oslo_db import exception as db_exc
from oslo_log import log as logging
from placement import exception

from vacancy.placement_api.objects import inventory as inv_obj
from vacancy.placement_api.objects.db_api import placement_context_manager
from vacancy.placement_api.objects.provider_filters import matching
from vacancy.placement_api.state import backend, unit_of_work

LOG = logging.getLogger(__name__)


class ResourceProvider:
    """A resource provider as Placement's handlers use it."""

    SETTABLE_FIELDS = ("name", "parent_provider_uuid")

    __slots__ = (
        *("_context", "id", "uuid", "name", "generation"),
        *("parent_provider_uuid", "root_provider_uuid", "updated_at", "created_at"),
    )

    def __init__(
        self,
        context: Any,
        id: Any = None,
        uuid: Any = None,
        name: Any = None,
        generation: Any = None,
        parent_provider_uuid: Any = None,
        root_provider_uuid: Any = None,
        updated_at: Any = None,
        created_at: Any = None,
    ) -> None:
        self._context = context
        self.id = id
        self.uuid = uuid
        self.name = name
        self.generation = generation
        self.root_provider_uuid = root_provider_uuid
        self.parent_provider_uuid = parent_provider_uuid
        self.updated_at = updated_at
        self.created_at = created_at

    # -- the provider itself --------------------------------------------------------------------------------------

    @classmethod
    def get_by_uuid(cls, context: Any, uuid: str) -> ResourceProvider:
        """Raises NotFound if there is none."""
        row = unit_of_work.view(context).providers.get(uuid)
        if row is None:
            raise exception.NotFound(f"No resource provider with uuid {uuid} found")
        return from_row(context, row)

    def create(self) -> None:
        """Raises ObjectActionError, or DBDuplicateEntry with the column `uuid` or `name`."""
        if self.id is not None:
            raise exception.ObjectActionError(action="create", reason="already created")
        if self.uuid is None:
            raise exception.ObjectActionError(action="create", reason="uuid is required")
        if not self.name:
            raise exception.ObjectActionError(action="create", reason="name is required")
        if self.parent_provider_uuid == self.uuid:
            raise exception.ObjectActionError(
                action="create",
                reason="parent provider UUID cannot be same as UUID. Please set parent provider UUID to None "
                "if there is no parent.",
            )
        parent = self.parent_provider_uuid
        if parent is not None and parent not in unit_of_work.view(self._context).providers:
            raise exception.ObjectActionError(action="create", reason="parent provider UUID does not exist.")
        with unit_of_work.writing(self._context):
            unit_of_work.draft(self._context).create_provider(self.uuid, self.name, self.parent_provider_uuid)
        row = unit_of_work.view(self._context).providers.get(self.uuid)
        self.id = self.uuid
        self.generation = 0
        self.root_provider_uuid = self.uuid if row is None else row.root

    def save(self, allow_reparenting: bool = False) -> None:
        """Writes name and parent. A parent may be set once; with `allow_reparenting` it may change.

        Raises NotFound, ObjectActionError, or DBDuplicateEntry with the column `name`.
        """
        view = unit_of_work.view(self._context)
        row = view.providers.get(self.uuid)
        if row is None:
            raise exception.NotFound(f"No resource provider with uuid {self.uuid} found")
        parent = self.parent_provider_uuid
        if parent is not None and parent not in view.providers:
            raise exception.ObjectActionError(action="create", reason="parent provider UUID does not exist.")
        if row.parent not in (None, parent) and not allow_reparenting:
            verb = "re-parenting" if parent is not None else "un-parenting"
            raise exception.ObjectActionError(
                action="update", reason=f"{verb} a provider is not currently allowed."
            )
        with unit_of_work.writing(self._context):
            unit_of_work.draft(self._context).move_provider(self.uuid, self.name, parent, row.parent)
        new = unit_of_work.view(self._context).providers.get(self.uuid)
        if new is not None:
            self.root_provider_uuid = new.root

    def destroy(self) -> None:
        """Raises NotFound, CannotDeleteParentResourceProvider or ResourceProviderInUse."""
        with unit_of_work.writing(self._context):
            unit_of_work.draft(self._context).stage(delete_providers=(self.id,))

    def increment_generation(self) -> None:
        """Raises ResourceProviderConcurrentUpdateDetected, when the unit commits, if the provider changed since."""
        with unit_of_work.writing(self._context):
            unit_of_work.draft(self._context).step_generation(self.id, self.generation)
        self.generation += 1

    def get_subtree(self, context: Any, rp_uuid_to_child_rps: Any = None) -> list[ResourceProvider]:
        """This provider and all below it."""
        view = unit_of_work.view(context)
        return [from_row(context, view.providers[uuid]) for uuid in view.below(self.uuid)]

    # -- inventories ----------------------------------------------------------------------------------------------

    def add_inventory(self, inventory: Any) -> None:
        """Raises ResourceClassNotFound, ConcurrentUpdateDetected, or DBDuplicateEntry if the class is there."""
        self._context.rc_cache.id_from_string(inventory.resource_class)
        now = self._inventories()
        if inventory.resource_class in now:
            raise db_exc.DBDuplicateEntry(
                columns=["resource_provider_id", "resource_class_id"],
                inner_exception=f"resource provider {self.uuid} has an inventory of {inventory.resource_class} already",
            )
        self._write_inventories({**now, inventory.resource_class: inv_obj.to_row(inventory)})

    def update_inventory(self, inventory: Any) -> None:
        """Raises InventoryWithResourceClassNotFound if the class is not there."""
        self._context.rc_cache.id_from_string(inventory.resource_class)
        now = self._inventories()
        if inventory.resource_class not in now:
            raise exception.InventoryWithResourceClassNotFound(resource_class=inventory.resource_class)
        self._write_inventories({**now, inventory.resource_class: inv_obj.to_row(inventory)})
        self._warn_of_excess([inventory])

    def delete_inventory(self, resource_class: str) -> None:
        """Raises ResourceClassNotFound, NotFound or InventoryInUse."""
        self._context.rc_cache.id_from_string(resource_class)
        now = dict(self._inventories())
        if now.pop(resource_class, None) is None:
            raise exception.NotFound(f"No inventory of class {resource_class} found for delete")
        self._write_inventories(now)

    def set_inventory(self, inv_list: Iterable[Any]) -> None:
        """Replaces all inventories. Raises ResourceClassNotFound, ConcurrentUpdateDetected or InventoryInUse."""
        inventories = list(inv_list)
        for one in inventories:
            self._context.rc_cache.id_from_string(one.resource_class)
        self._write_inventories({one.resource_class: inv_obj.to_row(one) for one in inventories})
        self._warn_of_excess(inventories)

    def _inventories(self) -> Mapping[str, backend.Inventory]:
        row = unit_of_work.view(self._context).providers.get(self.id)
        return {} if row is None else row.inventories

    def _write_inventories(self, inventories: Mapping[str, backend.Inventory]) -> None:
        with unit_of_work.writing(self._context):
            unit_of_work.draft(self._context).change_provider(self.id, inventories=inventories)
            self.increment_generation()

    def _warn_of_excess(self, inventories: Iterable[Any]) -> None:
        used = unit_of_work.view(self._context).used(self.id)
        for one in inventories:
            if used.get(one.resource_class, 0) > one.capacity:
                LOG.warning(
                    "Resource provider %(uuid)s is now over-capacity for %(resource)s",
                    {"uuid": self.uuid, "resource": one.resource_class},
                )

    # -- aggregates and traits ------------------------------------------------------------------------------------

    def get_aggregates(self) -> list[str]:
        row = unit_of_work.view(self._context).providers.get(self.id)
        return [] if row is None else list(row.aggregates)

    def set_aggregates(self, aggregate_uuids: Iterable[str], increment_generation: bool = False) -> None:
        """Replaces the aggregates. Only with `increment_generation` the generation is compared, and rises."""
        aggregates = tuple(dict.fromkeys(str(one) for one in aggregate_uuids))
        with unit_of_work.writing(self._context):
            unit_of_work.draft(self._context).change_provider(self.id, aggregates=aggregates)
            if increment_generation:
                self.increment_generation()

    def set_traits(self, traits: Iterable[Any]) -> None:
        """Replaces the traits. The generation is compared and rises only if the set changes."""
        wanted = frozenset(one.name for one in traits)
        row = unit_of_work.view(self._context).providers.get(self.id)
        if row is not None and row.traits == wanted:
            return
        with unit_of_work.writing(self._context):
            unit_of_work.draft(self._context).change_provider(self.id, traits=wanted)
            self.increment_generation()


def from_row(context: Any, row: backend.Provider) -> ResourceProvider:
    """A provider of the view as Placement's object."""
    return ResourceProvider(
        context,
        id=row.uuid,
        uuid=row.uuid,
        name=row.name,
        generation=row.generation,
        parent_provider_uuid=row.parent,
        root_provider_uuid=row.root,
        updated_at=row.updated_at,
        created_at=row.created_at,
    )


@placement_context_manager.reader
def get_all_by_filters(context: Any, filters: Mapping[str, Any] | None = None) -> list[ResourceProvider]:
    """The providers that match all filters: `name`, `uuid`, `in_tree`, `member_of`, `forbidden_aggs`,
    `required_traits`, `forbidden_traits`, `resources`. Raises ResourceClassNotFound or TraitNotFound."""
    return [from_row(context, row) for row in matching(context, unit_of_work.view(context), filters or {})]
