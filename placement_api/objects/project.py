"""Stands in for `placement.objects.project`. A project's id is its external id; it has no record of its own, and
a request knows only those that it created."""

from __future__ import annotations

from typing import Any

from placement import exception

from vacancy.placement_api.objects.created_here import created_here


class Project:
    """A project as Placement's handlers use it."""

    def __init__(
        self,
        context: Any,
        id: Any = None,
        external_id: Any = None,
        updated_at: Any = None,
        created_at: Any = None,
    ) -> None:
        self._context = context
        self.id = id
        self.external_id = external_id
        self.updated_at = updated_at
        self.created_at = created_at

    @classmethod
    def get_by_external_id(cls, ctx: Any, external_id: str) -> Project:
        """Raises ProjectNotFound."""
        if not _is_known(ctx, external_id):
            raise exception.ProjectNotFound(external_id=external_id)
        return cls(ctx, id=external_id, external_id=external_id)

    def create(self) -> None:
        """Raises ProjectExists."""
        if _is_known(self._context, self.external_id):
            raise exception.ProjectExists(external_id=self.external_id)
        created_here(self._context).projects.add(self.external_id)
        self.id = self.external_id


def _is_known(context: Any, external_id: str) -> bool:
    return external_id in created_here(context).projects
