"""Stands in for `placement.objects.consumer`.

A consumer exists in the state while it holds something. One that a request creates is kept on the request's context
until its allocations are written, with them in one transaction. A consumer's id is its uuid.
"""

from __future__ import annotations

from typing import Any

from placement import exception

from vacancy.placement_api.objects import project as project_obj
from vacancy.placement_api.objects import user as user_obj
from vacancy.placement_api.objects.created_here import created_here
from vacancy.placement_api.state import backend, unit_of_work


class Consumer:
    """A consumer as Placement's handlers use it. `is_new` is true until its first allocations are written."""

    def __init__(
        self,
        context: Any,
        id: Any = None,
        uuid: Any = None,
        project: Any = None,
        user: Any = None,
        generation: Any = None,
        consumer_type_id: Any = None,
        updated_at: Any = None,
        created_at: Any = None,
    ) -> None:
        self._context = context
        self.id = id
        self.uuid = uuid
        self.project = project
        self.user = user
        self.generation = generation
        self.consumer_type_id = consumer_type_id
        self.updated_at = updated_at
        self.created_at = created_at
        self.is_new = False

    @classmethod
    def get_by_uuid(cls, ctx: Any, uuid: str) -> Consumer:
        """Raises ConsumerNotFound."""
        row = unit_of_work.view(ctx).consumer(uuid)
        if row is not None:
            return from_row(ctx, row)
        found = created_here(ctx).consumers.get(uuid)
        if found is None:
            raise exception.ConsumerNotFound(uuid=uuid)
        return _copy(ctx, found)

    def create(self) -> None:
        """Raises ConsumerExists."""
        known = created_here(self._context).consumers
        if self.uuid in known or unit_of_work.view(self._context).consumer(self.uuid) is not None:
            raise exception.ConsumerExists(uuid=self.uuid)
        self.id = self.uuid
        self.generation = 0
        self.is_new = True
        known[self.uuid] = self

    def update(self) -> None:
        """Changes project, user and type of a consumer that this request created. `replace_all` writes those of any other."""
        known = created_here(self._context).consumers.get(self.uuid)
        if known is not None:
            known.project, known.user = self.project, self.user
            known.consumer_type_id = self.consumer_type_id

    def increment_generation(self) -> None:
        self.generation += 1

    def delete(self) -> None:
        """Forgets a consumer that this request created."""
        created_here(self._context).consumers.pop(self.uuid, None)


def _copy(context: Any, one: Consumer) -> Consumer:
    new = Consumer(
        context,
        id=one.id,
        uuid=one.uuid,
        project=one.project,
        user=one.user,
        generation=one.generation,
        consumer_type_id=one.consumer_type_id,
    )
    new.is_new = one.is_new
    return new


def from_row(context: Any, row: backend.Consumer) -> Consumer:
    """A consumer of the view as Placement's object."""
    return Consumer(
        context,
        id=row.uuid,
        uuid=row.uuid,
        project=project_obj.Project(context, id=row.project, external_id=row.project),
        user=user_obj.User(context, id=row.user, external_id=row.user),
        generation=row.generation,
        consumer_type_id=row.consumer_type,
        updated_at=row.updated_at,
        created_at=row.created_at,
    )


def change(one: Consumer, amounts: tuple[backend.Amount, ...]) -> backend.ConsumerChange:
    """What replaces all that a consumer holds, if it has still the generation of the object."""
    return backend.ConsumerChange(
        one.uuid,
        backend.ABSENT if one.is_new else one.generation,
        one.project.external_id,
        one.user.external_id,
        one.consumer_type_id,
        amounts,
    )


def written(one: Consumer) -> None:
    """After its allocations were written: it exists, one generation later."""
    one.is_new = False
    one.generation += 1
    created_here(one._context).consumers.pop(one.uuid, None)
