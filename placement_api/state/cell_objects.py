"""Providers and consumers of a cell as Placement has them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from vacancy.clients.transactions import ConsumerState, ProviderState
from vacancy.placement_api.state.backend import Consumer, Inventory, Provider
from vacancy.resources.model.transactions import UNKNOWN_TYPE

Shown = Callable[[str], str]
"""The uuid for the id of a provider, an aggregate or a consumer."""


def provider_of(state: ProviderState, shown: Shown) -> Provider:
    """A provider."""
    changed = time_of(state.changed_ms)
    return Provider(
        uuid=shown(state.id),
        name=state.name,
        generation=state.generation,
        root=shown(state.root),
        parent=None if state.parent is None else shown(state.parent),
        inventories={
            name: Inventory(
                *(one.total, one.reserved, one.min_unit, one.max_unit, one.step_size),
                allocation_ratio=float(one.allocation_ratio),
                created_at=changed,
            )
            for name, one in state.inventories.items()
        },
        traits=frozenset(state.traits),
        aggregates=tuple(map(shown, state.aggregates)),
        created_at=time_of(state.created_ms),
        updated_at=changed,
    )


def consumer_of(state: ConsumerState, shown: Shown) -> Consumer:
    """A consumer and what it holds."""
    return Consumer(
        uuid=shown(state.id),
        generation=state.generation,
        project=state.project,
        user=state.user,
        consumer_type=None if state.consumer_type == UNKNOWN_TYPE else state.consumer_type,
        allocations={shown(provider): held for provider, held in state.allocations.items()},
    )


def time_of(milliseconds: int) -> datetime | None:
    """A time in the log; None where there is none."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC) if milliseconds else None
