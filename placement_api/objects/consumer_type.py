"""Stands in for `placement.objects.consumer_type`. A type's id is its name; consumers without a type are `unknown`.

A type has no record of its own, and a request knows only those that it created.
"""

from __future__ import annotations

from typing import Any

from placement import exception

from vacancy.placement_api.objects.created_here import created_here

NULL_CONSUMER_TYPE_ALIAS = "unknown"


class ConsumerType:
    """A consumer type as Placement's handlers use it."""

    def __init__(
        self, context: Any, id: Any = None, name: Any = None, updated_at: Any = None, created_at: Any = None
    ) -> None:
        self._context = context
        self.id = id
        self.name = name
        self.updated_at = updated_at
        self.created_at = created_at

    @classmethod
    def get_by_id(cls, ctx: Any, id: Any) -> Any:
        return ctx.ct_cache.all_from_string(ctx.ct_cache.string_from_id(id))

    @classmethod
    def get_by_name(cls, ctx: Any, name: str) -> Any:
        """Raises ConsumerTypeNotFound."""
        return ctx.ct_cache.all_from_string(name)

    def create(self) -> None:
        """Raises ConsumerTypeExists."""
        if self.name in known(self._context):
            raise exception.ConsumerTypeExists(name=self.name)
        created_here(self._context).consumer_types.add(self.name)
        self.id = self.name


def known(context: Any) -> set[str]:
    """The types that this context created, and `unknown`."""
    return {*created_here(context).consumer_types, NULL_CONSUMER_TYPE_ALIAS}


def key_of(context: Any, name: str) -> str | None:
    """The id of a type. Raises ConsumerTypeNotFound."""
    if name not in known(context):
        raise exception.ConsumerTypeNotFound(name=name)
    return None if name == NULL_CONSUMER_TYPE_ALIAS else name
