"""Stands in for `placement.objects.resource_class`. Standard classes are those of `os-resource-classes`."""

from __future__ import annotations

from typing import Any

from placement import exception

from vacancy.placement_api.state import names, unit_of_work


class ResourceClass:
    """A resource class as Placement's handlers use it."""

    MIN_CUSTOM_RESOURCE_CLASS_ID = names.FIRST_CUSTOM

    def __init__(
        self, context: Any, id: Any = None, name: Any = None, updated_at: Any = None, created_at: Any = None
    ) -> None:
        self._context = context
        self.id = id
        self.name = name
        self.updated_at = updated_at
        self.created_at = created_at

    @classmethod
    def get_by_name(cls, context: Any, name: str) -> ResourceClass:
        """Raises ResourceClassNotFound."""
        return cls(context, **context.rc_cache.all_from_string(name)._asdict())

    def create(self) -> None:
        """Raises ObjectActionError or ResourceClassExists."""
        if self.id is not None:
            raise exception.ObjectActionError(action="create", reason="already created")
        if not self.name:
            raise exception.ObjectActionError(action="create", reason="name is required")
        if self.name in names.standard_classes():
            raise exception.ResourceClassExists(resource_class=self.name)
        if not names.is_custom(self.name):
            raise exception.ObjectActionError(action="create", reason="name must start with CUSTOM_")
        with unit_of_work.writing(self._context):
            unit_of_work.draft(self._context).stage(create_classes=(self.name,))
        self._load()

    def destroy(self) -> None:
        """Raises ObjectActionError, ResourceClassCannotDeleteStandard, ResourceClassInUse or NotFound."""
        if self.id is None:
            raise exception.ObjectActionError(action="destroy", reason="ID attribute not found")
        if self.id < names.FIRST_CUSTOM:
            raise exception.ResourceClassCannotDeleteStandard(resource_class=self.name)
        with unit_of_work.writing(self._context):
            unit_of_work.draft(self._context).stage(delete_classes=(self.name,))
        self._context.rc_cache.clear()

    def save(self) -> None:
        """Renames the class to `name`.

        Raises ObjectActionError, ResourceClassCannotUpdateStandard, ResourceClassExists or ResourceClassNotFound.
        """
        if self.id is None:
            raise exception.ObjectActionError(action="save", reason="ID attribute not found")
        if self.id < names.FIRST_CUSTOM:
            raise exception.ResourceClassCannotUpdateStandard(resource_class=self.name)
        old = self._context.rc_cache.string_from_id(self.id)
        if old != self.name:
            with unit_of_work.writing(self._context):
                unit_of_work.draft(self._context).stage(rename_classes=((old, self.name),))
        self._load()

    def _load(self) -> None:
        self._context.rc_cache.clear()
        row = self._context.rc_cache.all_from_string(self.name)
        self.id, self.created_at, self.updated_at = row.id, row.created_at, row.updated_at


def ensure_sync(ctx: Any) -> None:
    """Does nothing: standard classes need no rows."""


def get_all(context: Any) -> list[ResourceClass]:
    """All resource classes."""
    return [ResourceClass(context, **row._asdict()) for row in context.rc_cache.get_all()]
