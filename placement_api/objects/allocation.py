"""Stands in for `placement.objects.allocation`.

The backend judges amounts. There is no retry: an allocation expects no generation of a provider.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from oslo_log import log as logging

from vacancy.placement_api.objects import consumer as consumer_obj
from vacancy.placement_api.objects import resource_provider as rp_obj
from vacancy.placement_api.objects.db_api import placement_context_manager
from vacancy.placement_api.state import unit_of_work
from vacancy.placement_api.state.backend import Amount, Consumer, ConsumerChange
from vacancy.placement_api.state.view import View

LOG = logging.getLogger(__name__)

REDUCED = (
    "Over capacity for %(rc)s on resource provider %(rp)s but allocation of %(needed)s reduces existing overage from "
    "%(prev_used)s to %(needed_all)s"
)
REFUSED = "Over capacity for %(rc)s on resource provider %(rp)s. Needed: %(needed)s, Used: %(used)s, Capacity: %(cap)s"


class Allocation:
    """One amount that a consumer holds, as Placement's handlers use it."""

    def __init__(
        self,
        id: Any = None,
        resource_provider: Any = None,
        consumer: Any = None,
        resource_class: Any = None,
        used: Any = 0,
        updated_at: Any = None,
        created_at: Any = None,
    ) -> None:
        self.id = id
        self.resource_provider = resource_provider
        self.resource_class = resource_class
        self.consumer = consumer
        self.used = used
        self.updated_at = updated_at
        self.created_at = created_at


@placement_context_manager.reader
def get_all_by_resource_provider(context: Any, rp: Any) -> list[Allocation]:
    """What all consumers hold of a provider."""
    view = unit_of_work.view(context)
    return [one for consumer in view.holders(rp.id) for one in _allocations(context, consumer, only=rp)]


@placement_context_manager.reader
def get_all_by_consumer_id(context: Any, consumer_id: str) -> list[Allocation]:
    """What a consumer holds; nothing if there is no such consumer."""
    row = unit_of_work.view(context).consumer(consumer_id)
    return [] if row is None else _allocations(context, row)


def _allocations(context: Any, row: Consumer, only: Any = None) -> list[Allocation]:
    consumer = consumer_obj.from_row(context, row)
    providers = unit_of_work.view(context).providers
    return [
        Allocation(
            id=(row.uuid, provider, name),
            resource_provider=only or rp_obj.from_row(context, providers[provider]),
            resource_class=name,
            consumer=consumer,
            used=used,
            created_at=row.updated_at or row.created_at,
        )
        for provider, amounts in row.allocations.items()
        if only is None or only.id == provider
        for name, used in amounts.items()
    ]


def replace_all(context: Any, alloc_list: Iterable[Allocation]) -> None:
    """Replaces all that the consumers of the list hold. An amount of 0 stands for "nothing of this".

    Each provider in the list and each consumer rises by one generation. A consumer that holds nothing afterwards ends.
    Raises ResourceClassNotFound, the InvalidInventory family and ConcurrentUpdateDetected.
    """
    allocations = list(alloc_list)
    for one in allocations:
        context.rc_cache.id_from_string(one.resource_class)
    consumers = {one.consumer.uuid: one.consumer for one in allocations}
    providers = {one.resource_provider.uuid: one.resource_provider for one in allocations}
    with unit_of_work.writing(context):
        _warn_of_excess(unit_of_work.view(context), allocations)
        draft = unit_of_work.draft(context)
        for uuid in providers:
            draft.step_generation(uuid, None)
        for uuid, consumer in consumers.items():
            amounts = tuple(
                Amount(one.resource_provider.uuid, one.resource_class, one.used)
                for one in allocations
                if one.consumer.uuid == uuid
            )
            draft.change_consumer(consumer_obj.change(consumer, amounts))
    for provider in providers.values():  # only now: a refused write leaves the objects as they were
        if provider.generation is not None:
            provider.generation += 1
    for one in allocations:
        one.id = (one.consumer.uuid, one.resource_provider.uuid, one.resource_class)
    for consumer in consumers.values():
        consumer_obj.written(consumer)


def _warn_of_excess(view: View, allocations: Sequence[Allocation]) -> None:
    """Logs amounts beyond a capacity with Placement's words, because operators search for them. The fold judges them later."""
    wanted: Counter[tuple[str, str]] = Counter()
    for one in allocations:
        wanted[one.resource_provider.uuid, one.resource_class] += one.used
    for key, amount in wanted.items():
        uuid, name = key
        provider = view.providers.get(uuid)
        inventory = None if provider is None else provider.inventories.get(name)
        before = view.used(uuid).get(name, 0)
        if inventory is None or not amount or before + amount <= inventory.capacity:
            continue
        rows = map(view.consumer, {one.consumer.uuid for one in allocations})
        others = before - sum(row.allocations.get(uuid, {}).get(name, 0) for row in rows if row is not None)
        excess = {"rc": name, "rp": uuid, "used": others, "cap": inventory.capacity}
        excess |= {"prev_used": before, "needed_all": others + amount}
        for one in allocations:
            if (
                one.resource_provider.uuid,
                one.resource_class,
            ) == key and others + amount > inventory.capacity:
                LOG.warning(REDUCED if others + amount <= before else REFUSED, {**excess, "needed": one.used})


def delete_all(context: Any, alloc_list: Iterable[Allocation]) -> None:
    """Deletes these allocations, whatever generation their consumers have. A consumer without any ends."""
    gone = {one.id for one in alloc_list}
    with unit_of_work.writing(context):
        view = unit_of_work.view(context)
        for uuid in dict.fromkeys(one[0] for one in gone):
            row = view.consumer(uuid)
            if row is None:
                continue
            kept = tuple(
                Amount(provider, name, used)
                for provider, amounts in row.allocations.items()
                for name, used in amounts.items()
                if (uuid, provider, name) not in gone
            )
            expected = row.generation if kept else None
            unit_of_work.draft(context).change_consumer(
                ConsumerChange(uuid, expected, row.project, row.user, row.consumer_type, kept)
            )
