"""Loads a fleet into vacancy as its API of Placement would: by transactions, many providers in each."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final

from evaluation.candidates.candidate import Fleet, Held, Provider
from evaluation.candidates.placement.fill import CONSUMER_TYPE, OWNER
from evaluation.candidates.placement.names import name_of, uuid_of
from vacancy.clients.runtime.bootstrap import installed_registry
from vacancy.clients.transactions import (
    CellState,
    ConsumerChange,
    NameChange,
    ProviderChange,
    TransactionClient,
)
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.model.errors import VacancyError
from vacancy.streams.log import open_log

_TOGETHER: Final = 100
_TIMEOUT_S: Final = 120.0


def load(url: str, store: Path, fleet: Fleet, used_share: float) -> None:
    """Load a fleet, as `placement_fill.load` does into Placement: with the same names, generations and first allocations.

    Raises `VacancyError` if a transaction is refused.
    """
    # Imported here: it needs Placement's libraries, and every command of `evaluation` imports this module.
    from vacancy.placement_api.wsgi import DEFAULT_CELL

    with open_log(url) as log, StoreReader(store, installed_registry(), with_view=False) as reader:
        client = TransactionClient(log, reader, cell=DEFAULT_CELL, source="/evaluation")
        known = {one.name for one in CellState(reader, DEFAULT_CELL).custom_traits()}
        needed = {trait for one in fleet.providers() for trait in one.traits if trait.startswith("CUSTOM_")}
        names = [NameChange(kind="trait", name=one, op="create") for one in sorted(needed - known)]
        providers = fleet.providers()
        while some := list(islice(providers, _TOGETHER)):
            fillers = [held for one in some if (held := fleet.filler(one, used_share)) is not None]
            outcome = client.submit(
                names=names,
                providers=[_creation(one) for one in some],
                consumers=[_consumer(one) for one in fillers],
                timeout_s=_TIMEOUT_S,
            )
            if not outcome.accepted:
                raise VacancyError(f"the load was refused: {outcome.reason} ({outcome.provider})")
            names = []


def _creation(provider: Provider) -> ProviderChange:
    return ProviderChange(
        provider=uuid_of(provider.name),
        op="create",
        name=provider.name,
        raises=2,  # inventories and traits, each by a request
        inventories={name: {"total": total, "max_unit": total} for name, total in provider.totals.items()},
        traits=provider.traits,
    )


def _consumer(held: Held) -> ConsumerChange:
    return ConsumerChange(
        consumer=uuid_of(held.consumer),
        generation="absent",
        project=OWNER,
        user=OWNER,
        consumer_type=CONSUMER_TYPE,
        allocations={uuid_of(held.provider): dict(held.resources)},
    )


def held(store: Path) -> Iterator[Held]:
    """All allocations, from the store."""
    from vacancy.placement_api.wsgi import DEFAULT_CELL

    with StoreReader(store, installed_registry(), with_view=False) as reader:
        state = CellState(reader, DEFAULT_CELL)
        for consumer in state.consumers():
            for provider, resources in consumer.allocations.items():
                yield Held(name_of(consumer.id), name_of(provider), resources)
