"""What must be written so that a target has all that a source has: computed from both, so a copy can go on where it ended."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from vacancy.placement_api.state.backend import ABSENT, Consumer, Inventory, Provider
from vacancy.placement_api.transfer.deployment import (
    Deployment,
    amounts,
    open_inventory,
    parents_first,
    usages_of,
)

Inventories = Mapping[str, Inventory]


class ProviderStep(NamedTuple):
    """What is set of a provider. None changes nothing. `provider` is as the source has it."""

    provider: Provider
    create: bool
    place: bool
    """Whether its name or its parent changes."""
    inventories: Inventories | None
    traits: frozenset[str] | None
    aggregates: tuple[str, ...] | None


class ConsumerStep(NamedTuple):
    """A consumer is to hold what the source says. `generation` is the one that it has in the target, or `ABSENT`."""

    consumer: Consumer
    generation: int


class ClosingStep(NamedTuple):
    """After the allocations: the inventories as they are in the source, if they were opened before, and the generation that the
    provider has there."""

    provider: str
    inventories: Inventories | None
    generation: int


@dataclass(frozen=True)
class Plan:
    """The steps of a copy, in their order."""

    classes: tuple[str, ...]
    traits: tuple[str, ...]
    providers: tuple[ProviderStep, ...]
    consumers: tuple[ConsumerStep, ...]
    closings: tuple[ClosingStep, ...]

    @property
    def steps(self) -> int:
        """How many steps there are."""
        return sum(map(len, (self.classes, self.traits, self.providers, self.consumers, self.closings)))


def make_plan(source: Deployment, target: Deployment) -> Plan:
    """The steps from `target` to `source`, which is `sound`. What only the target has stays."""
    consumers = tuple(
        ConsumerStep(one, ABSENT if held is None else held.generation)
        for one in source.consumers.values()
        if not _same_consumer(one, held := target.consumers.get(one.uuid))
    )
    opened = _to_open(source, target, consumers)
    providers, closings = [], []
    for provider in parents_first(source.providers):
        there = target.providers.get(provider.uuid)
        to_open = opened.get(provider.uuid, {})
        step = _provider_step(provider, there, to_open)
        if step is not None:
            providers.append(step)
        if to_open or there is None or there.generation < provider.generation:
            final = provider.inventories if to_open else None
            closings.append(ClosingStep(provider.uuid, final, provider.generation))
    return Plan(
        tuple(name for name in source.classes if name not in target.classes),
        tuple(name for name in source.traits if name not in target.traits),
        tuple(providers),
        consumers,
        tuple(closings),
    )


def _same_consumer(one: Consumer, other: Consumer | None) -> bool:
    if other is None:
        return False
    owner = (one.project, one.user, one.consumer_type)
    return owner == (other.project, other.user, other.consumer_type) and one.allocations == other.allocations


def _provider_step(provider: Provider, there: Provider | None, opened: Inventories) -> ProviderStep | None:
    inventories: Inventories = {**provider.inventories, **opened}
    if there is None:
        return ProviderStep(provider, True, False, inventories, provider.traits, provider.aggregates)
    step = ProviderStep(
        provider,
        False,
        (provider.name, provider.parent) != (there.name, there.parent),
        None if same_inventories(inventories, there.inventories) else inventories,
        None if provider.traits == there.traits else provider.traits,
        None if set(provider.aggregates) == set(there.aggregates) else provider.aggregates,
    )
    return step if step.place or step[3:] != (None, None, None) else None


def same_inventories(one: Inventories, other: Inventories) -> bool:
    """Whether they are the same, whenever they were made."""
    return {name: numbers(what) for name, what in one.items()} == {
        name: numbers(what) for name, what in other.items()
    }


def numbers(one: Inventory) -> Inventory:
    """An inventory without its times."""
    return replace(one, created_at=None, updated_at=None)


def _to_open(
    source: Deployment, target: Deployment, consumers: Collection[ConsumerStep]
) -> dict[str, dict[str, Inventory]]:
    """The inventories that do not allow what consumers hold of them (too little capacity, other units), as they must be while that is
    written: provider -> class -> inventory."""
    used = usages_of(source.consumers.values())
    opened: dict[str, dict[str, Inventory]] = {}
    for _, provider, name, amount in amounts(step.consumer for step in consumers):
        inventory, in_use = source.providers[provider].inventories[name], used[provider][name]
        if in_use <= int(inventory.capacity) and _allows(inventory, amount):
            continue
        there = target.usages.get(provider, {}).get(name, 0)
        opened.setdefault(provider, {})[name] = open_inventory(max(in_use + there, inventory.total))
    return opened


def _allows(inventory: Inventory, amount: int) -> bool:
    return inventory.min_unit <= amount <= inventory.max_unit and amount % inventory.step_size == 0
