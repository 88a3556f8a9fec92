"""All that one Placement knows, in memory: read from its database, from its API, or from a cell of a log."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from vacancy.placement_api.state.backend import Consumer, Inventory, Provider
from vacancy.placement_api.state.names import is_custom, standard_classes

INCOMPLETE: Final = "00000000-0000-0000-0000-000000000000"
"""The project and the user of allocations without a consumer's record, as Placement's own migration names them."""

Usages = Mapping[str, Mapping[str, int]]
"""Provider uuid -> resource class -> amount."""


class Finding(NamedTuple):
    """What a source has that cannot be copied as it is. `lost`: it is not copied at all."""

    subject: str
    text: str
    lost: bool = False

    def __str__(self) -> str:
        return f"{self.subject}: {self.text}"


@dataclass(frozen=True)
class Deployment:
    """The state of one Placement.

    providers, consumers: by uuid. `classes` and `traits` are the custom ones, in the order of their creation. `usages` is what the
    source itself says is in use; amounts of 0 are left out. `findings`: what the reader could not make sense of.
    """

    providers: Mapping[str, Provider] = field(default_factory=dict)
    consumers: Mapping[str, Consumer] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    traits: tuple[str, ...] = ()
    usages: Usages = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether there are neither providers nor consumers nor names."""
        return not (self.providers or self.consumers or self.classes or self.traits)

    def counts(self) -> dict[str, int]:
        """How many things of each kind there are."""
        return {
            "providers": len(self.providers),
            "inventories": sum(len(one.inventories) for one in self.providers.values()),
            "consumers": len(self.consumers),
            "allocations": sum(
                len(held) for one in self.consumers.values() for held in one.allocations.values()
            ),
            "custom classes": len(self.classes),
            "custom traits": len(self.traits),
        }


def amounts(consumers: Iterable[Consumer]) -> Iterator[tuple[Consumer, str, str, int]]:
    """Each allocation: its consumer, its provider, its resource class and its amount."""
    for consumer in consumers:
        for provider, held in consumer.allocations.items():
            for name, amount in held.items():
                yield consumer, provider, name, amount


def usages_of(consumers: Iterable[Consumer]) -> dict[str, dict[str, int]]:
    """What consumers hold together of each provider."""
    found: dict[str, dict[str, int]] = {}
    for _, provider, name, amount in amounts(consumers):
        held = found.setdefault(provider, {})
        held[name] = held.get(name, 0) + amount
    return found


def parents_first(providers: Mapping[str, Provider]) -> list[Provider]:
    """The providers in an order in which each one comes after its parent. A parent that is not there counts as none; of
    providers in a circle, the one that is found first."""
    ordered: list[Provider] = []
    placed: set[str] = set()
    for start in providers.values():
        path: list[Provider] = []
        on_path: set[str] = set()
        at: Provider | None = start
        while at is not None and at.uuid not in placed and at.uuid not in on_path:
            path.append(at)
            on_path.add(at.uuid)
            at = None if at.parent is None else providers.get(at.parent)
        placed.update(on_path)
        ordered += reversed(path)
    return ordered


# -- what can be copied -------------------------------------------------------------------------------------------


def sound(source: Deployment) -> tuple[Deployment, list[Finding]]:
    """The deployment as any Placement can have it, and what was changed or left out for that.

    Allocations of a class without inventory are kept: the provider gets an inventory of no capacity.
    """
    findings = list(source.findings)
    consumers = dict(_sound_consumers(source, findings))
    used = usages_of(consumers.values())
    providers: dict[str, Provider] = {}
    for provider in parents_first(source.providers):
        providers[provider.uuid] = _sound_provider(provider, providers, used.get(provider.uuid, {}), findings)
    named_classes = {name for one in providers.values() for name in one.inventories if is_custom(name)}
    named_traits = {name for one in providers.values() for name in one.traits if is_custom(name)}
    return (
        replace(
            source,
            providers=providers,
            consumers=consumers,
            classes=(*source.classes, *sorted(named_classes.difference(source.classes))),
            traits=(*source.traits, *sorted(named_traits.difference(source.traits))),
        ),
        findings,
    )


def _sound_consumers(source: Deployment, findings: list[Finding]) -> Iterator[tuple[str, Consumer]]:
    for consumer in source.consumers.values():
        held: dict[str, dict[str, int]] = {}
        for _, provider, name, amount in amounts((consumer,)):
            subject = f"consumer {consumer.uuid}"
            if provider not in source.providers:
                findings.append(
                    Finding(subject, f"holds {amount} {name} of {provider}, which does not exist", lost=True)
                )
            elif amount < 1:
                findings.append(Finding(subject, f"holds {amount} {name} of {provider}", lost=amount != 0))
            else:
                held.setdefault(provider, {})[name] = amount
        if held:
            yield consumer.uuid, replace(consumer, allocations=held)
        else:
            findings.append(Finding(f"consumer {consumer.uuid}", "holds nothing, so it is not copied"))


def _sound_provider(
    provider: Provider, above: Mapping[str, Provider], used: Mapping[str, int], findings: list[Finding]
) -> Provider:
    """A provider with a name, a parent that was copied before it, and inventories that can be set."""
    subject = f"provider {provider.uuid}"
    name, parent = provider.name, provider.parent
    if not name:
        name = provider.uuid
        findings.append(Finding(subject, "has no name, so its uuid becomes its name"))
    if parent is not None and parent not in above:
        findings.append(Finding(subject, f"its parent {parent} is not above it, so it becomes a root"))
        parent = None
    inventories = {}
    for of_class, inventory in provider.inventories.items():
        inventories[of_class] = _sound_inventory(inventory)
        if inventories[of_class] != inventory:
            findings.append(Finding(subject, f"its inventory of {of_class} has numbers that are not allowed"))
    for of_class, amount in used.items():
        if of_class not in inventories:
            inventories[of_class] = closed_inventory(amount)
            text = f"{amount} {of_class} of it are in use, and it has no inventory of that: it gets one without capacity"
            findings.append(Finding(subject, text))
    root = provider.uuid if parent is None else above[parent].root
    return replace(provider, name=name, parent=parent, root=root, inventories=inventories)


def _sound_inventory(one: Inventory) -> Inventory:
    total = max(one.total, 0)
    return replace(
        one,
        total=total,
        reserved=min(max(one.reserved, 0), total),
        min_unit=max(one.min_unit, 1),
        max_unit=max(one.max_unit, 1),
        step_size=max(one.step_size, 1),
        allocation_ratio=one.allocation_ratio if math.isfinite(one.allocation_ratio) else 1.0,
    )


def closed_inventory(used: int) -> Inventory:
    """An inventory that keeps what is in use and gives nothing more."""
    return Inventory(used, used, 1, used, 1, 1.0)


def open_inventory(used: int) -> Inventory:
    """An inventory of which any amounts can be allocated, `used` in all."""
    return Inventory(used, 0, 1, used, 1, 1.0)


def in_placements_words(deployment: Deployment) -> tuple[Deployment, list[Finding]]:
    """A deployment without the resource classes that Placement does not have, and what was left out. Vacancy's own classes have
    records that are no amounts, and classes of plugins have names that Placement refuses."""
    findings: list[Finding] = []

    def is_known(name: str) -> bool:
        return is_custom(name) or name in standard_classes()

    providers = {}
    for provider in deployment.providers.values():
        left_out = sorted(name for name in provider.inventories if not is_known(name))
        findings += [
            Finding(f"provider {provider.uuid}", f"Placement has no class {name}", lost=True)
            for name in left_out
        ]
        kept = {name: one for name, one in provider.inventories.items() if name not in left_out}
        providers[provider.uuid] = replace(provider, inventories=kept)
    consumers = {}
    for consumer in deployment.consumers.values():
        held = {
            provider: known
            for provider, of_provider in consumer.allocations.items()
            if (known := {name: amount for name, amount in of_provider.items() if is_known(name)})
        }
        if held != consumer.allocations:
            text = "holds resources of classes that Placement does not have"
            findings.append(Finding(f"consumer {consumer.uuid}", text, lost=True))
        if held:
            consumers[consumer.uuid] = replace(consumer, allocations=held)
    return replace(deployment, providers=providers, consumers=consumers), findings
