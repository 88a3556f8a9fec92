"""Stands in for `placement.objects.usage`: sums of what consumers hold."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from vacancy.placement_api.objects import consumer_type as consumer_type_obj
from vacancy.placement_api.objects.db_api import placement_context_manager
from vacancy.placement_api.state import unit_of_work
from vacancy.placement_api.state.backend import Consumer


class Usage:
    """The use of one class, and by how many consumers of one type."""

    def __init__(
        self,
        resource_class: Any = None,
        usage: Any = 0,
        consumer_type: Any = None,
        consumer_count: Any = 0,
    ) -> None:
        self.resource_class = resource_class
        self.usage = int(usage)
        self.consumer_type = consumer_type or consumer_type_obj.NULL_CONSUMER_TYPE_ALIAS
        self.consumer_count = int(consumer_count)


def get_all_by_resource_provider_uuid(context: Any, rp_uuid: str) -> list[Usage]:
    """The use of each class that a provider has."""
    view = unit_of_work.view(context)
    row = view.providers.get(rp_uuid)
    used = view.used(rp_uuid)
    return [] if row is None else [Usage(name, used.get(name, 0)) for name in row.inventories]


def get_all_by_project_user(context: Any, project_id: str, user_id: str | None = None) -> list[Usage]:
    """The use of each class by a project, or by a user of it."""
    return _sums(_consumers(context, project_id, user_id), lambda _: None, count=False)


def get_by_consumer_type(
    context: Any, project_id: str, user_id: str | None = None, consumer_type: str | None = None
) -> list[Usage]:
    """The use of each class by a project, for each consumer type; `all` joins the types, any other name selects."""
    consumers = _consumers(context, project_id, user_id)
    if consumer_type == "all":
        return _sums(consumers, lambda _: "all")
    if consumer_type is not None:
        wanted = None if consumer_type == consumer_type_obj.NULL_CONSUMER_TYPE_ALIAS else consumer_type
        consumers = [one for one in consumers if one.consumer_type == wanted]
    return _sums(consumers, lambda one: one.consumer_type)


@placement_context_manager.reader
def _consumers(context: Any, project_id: str, user_id: str | None) -> list[Consumer]:
    return list(unit_of_work.view(context).consumers_of(project_id, user_id))


def _sums(
    consumers: Iterable[Consumer], group: Callable[[Consumer], str | None], *, count: bool = True
) -> list[Usage]:
    sums: dict[tuple[str | None, str], int] = defaultdict(int)
    numbers: dict[str | None, int] = defaultdict(int)
    for one in consumers:
        kind = group(one)
        numbers[kind] += 1
        for amounts in one.allocations.values():
            for name, used in amounts.items():
                sums[kind, name] += used
    return [Usage(name, used, kind, numbers[kind] if count else 0) for (kind, name), used in sums.items()]
