"""Loads a fleet into vacancy as its API of Placement would: by transactions, many providers in each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Final, Literal

from evaluation.candidates.candidate import Fleet, Held, Provider
from evaluation.candidates.myriad_fleet import MyriadFleet
from evaluation.candidates.placement.fill import CONSUMER_TYPE, OWNER
from evaluation.candidates.placement.myriad import MyriadProvider, myriad_providers
from evaluation.candidates.placement.names import name_of, uuid_of
from vacancy.clients.runtime.bootstrap import installed_registry
from vacancy.clients.transactions import (
    CellState,
    ConsumerChange,
    NameChange,
    ProviderChange,
    TransactionClient,
)
from vacancy.placement_api import DEFAULT_CELL
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.model.errors import VacancyError
from vacancy.streams.log import open_log

_TOGETHER: Final = 100
_TIMEOUT_S: Final = 120.0


def load(url: str, store: Path, fleet: Fleet, used_share: float) -> None:
    """Load a fleet, as `placement_fill.load` does into Placement: with the same names, generations and first allocations.

    Raises `VacancyError` if a transaction is refused.
    """
    with _loader(url, store) as loader:
        providers = fleet.providers()
        while some := list(islice(providers, _TOGETHER)):
            fillers = [held for one in some if (held := fleet.filler(one, used_share)) is not None]
            loader.load([_creation(one) for one in some], [_consumer(one) for one in fillers])


def load_myriad(url: str, store: Path, fleet: MyriadFleet) -> None:
    """Load hosts with many qualities, as trees of the same providers as in Placement. Raises `VacancyError` if a transaction is
    refused."""
    with _loader(url, store) as loader:
        providers = iter(myriad_providers(fleet))
        while some := list(islice(providers, _TOGETHER)):
            loader.load([_creation_of_part(one) for one in some])
        hosts = iter(fleet.hosts)
        while some_hosts := list(islice(hosts, _TOGETHER)):
            residents = (Held(host.consumer, host.name, host.resident) for host in some_hosts)
            loader.load(consumers=list(map(_consumer, residents)))


@contextmanager
def _loader(url: str, store: Path) -> Iterator[_Loader]:
    with open_log(url) as log, StoreReader(store, installed_registry(), with_view=False) as reader:
        state = CellState(reader, DEFAULT_CELL)
        yield _Loader(TransactionClient(log, reader, cell=DEFAULT_CELL, source="/evaluation"), state)


class _Loader:
    """Submits transactions, each with the custom names that it is the first to use."""

    def __init__(self, client: TransactionClient, state: CellState) -> None:
        self._client = client
        self._known = {one.name for one in (*state.custom_traits(), *state.custom_classes())}

    def load(
        self, providers: Sequence[ProviderChange] = (), consumers: Sequence[ConsumerChange] = ()
    ) -> None:
        outcome = self._client.submit(
            names=self._new_names(providers), providers=providers, consumers=consumers, timeout_s=_TIMEOUT_S
        )
        if not outcome.accepted:
            raise VacancyError(f"the load was refused: {outcome.reason} ({outcome.provider})")

    def _new_names(self, providers: Sequence[ProviderChange]) -> list[NameChange]:
        used: set[tuple[Literal["trait", "class"], str]] = set()
        for one in providers:
            used |= {("trait", name) for name in one.traits or ()}
            used |= {("class", name) for name in one.inventories or {}}
        new = [(kind, name) for kind, name in sorted(used) if name.startswith("CUSTOM_")]
        changes = [
            NameChange(kind=kind, name=name, op="create") for kind, name in new if name not in self._known
        ]
        self._known |= {name for _, name in new}
        return changes


def _creation(provider: Provider) -> ProviderChange:
    return ProviderChange(
        provider=uuid_of(provider.name),
        op="create",
        name=provider.name,
        raises=2,  # inventories and traits, each by a request
        inventories={name: {"total": total, "max_unit": total} for name, total in provider.totals.items()},
        traits=provider.traits,
    )


def _creation_of_part(provider: MyriadProvider) -> ProviderChange:
    return ProviderChange(
        provider=uuid_of(provider.name),
        op="create",
        name=provider.name,
        parent=None if provider.parent is None else uuid_of(provider.parent),
        raises=1,
        inventories={
            name: {"total": total, "max_unit": total} for name, total in provider.inventories.items()
        },
        traits=tuple(provider.traits),
        aggregates=tuple(map(uuid_of, provider.aggregates)),
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
    with StoreReader(store, installed_registry(), with_view=False) as reader:
        state = CellState(reader, DEFAULT_CELL)
        for consumer in state.consumers():
            for provider, resources in consumer.allocations.items():
                yield Held(name_of(consumer.id), name_of(provider), resources)
