"""What differs between two deployments: each provider, inventory, usage, consumer and allocation is compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from vacancy.placement_api.state.backend import Consumer, Inventory, Provider
from vacancy.placement_api.transfer.deployment import Deployment, amounts

INVENTORY_FIELDS: Final = ("total", "reserved", "min_unit", "max_unit", "step_size", "allocation_ratio")


class Difference(NamedTuple):
    """`kind` of thing, its `subject` (a uuid, or a uuid and a class), and how each side has it; "" if it does not have it."""

    kind: str
    subject: str
    source: str
    target: str

    def __str__(self) -> str:
        return (
            f"{self.kind} {self.subject}: {self.source or 'nothing'} there, {self.target or 'nothing'} here"
        )


class Compared(NamedTuple):
    """How many things of a kind were compared, and how many differ."""

    kind: str
    compared: int
    different: int


@dataclass(frozen=True)
class Comparison:
    """What was compared and what differs. `raised`: providers whose generation is higher in the target. A client that holds the
    lower one is answered 409 and reads again, so this is no difference."""

    kinds: tuple[Compared, ...]
    differences: tuple[Difference, ...]
    raised: int = 0

    @property
    def equal(self) -> bool:
        """Whether nothing differs."""
        return not self.differences


def compare(source: Deployment, target: Deployment) -> Comparison:
    """Compare all that both have. Times and the generations of consumers are not compared: they begin again."""
    kinds, differences = [], []
    for kind, ours, theirs in _tables(source, target):
        found = [
            Difference(kind, subject, ours.get(subject, ""), theirs.get(subject, ""))
            for subject in {**ours, **theirs}
            if ours.get(subject, "") != theirs.get(subject, "")
        ]
        kinds.append(Compared(kind, len({**ours, **theirs}), len(found)))
        differences += found
    generations = [
        (uuid, one.generation, target.providers[uuid].generation)
        for uuid, one in source.providers.items()
        if uuid in target.providers
    ]
    lower = [
        Difference("generation", uuid, str(there), str(here))
        for uuid, there, here in generations
        if here < there
    ]
    kinds.append(Compared("generation", len(generations), len(lower)))
    raised = sum(here > there for _, there, here in generations)
    return Comparison(tuple(kinds), (*differences, *lower), raised)


def _tables(
    source: Deployment, target: Deployment
) -> Iterator[tuple[str, Mapping[str, str], Mapping[str, str]]]:
    """Each kind of things: subject -> text, of both sides."""
    for kind, table in (
        ("provider", _providers),
        ("inventory", _inventories),
        ("traits", _traits),
        ("aggregates", _aggregates),
        ("usage", _usages),
        ("consumer", _consumers),
        ("allocation", _allocations),
        ("custom class", lambda one: dict.fromkeys(one.classes, "exists")),
        ("custom trait", lambda one: dict.fromkeys(one.traits, "exists")),
    ):
        yield kind, table(source), table(target)


def _providers(one: Deployment) -> dict[str, str]:
    return {uuid: _provider_text(provider) for uuid, provider in one.providers.items()}


def _provider_text(provider: Provider) -> str:
    return f"name {provider.name!r}, parent {provider.parent or 'none'}"


def _inventories(one: Deployment) -> dict[str, str]:
    return {
        f"{uuid} {name}": inventory_text(inventory)
        for uuid, provider in one.providers.items()
        for name, inventory in provider.inventories.items()
    }


def inventory_text(inventory: Inventory) -> str:
    """An inventory for people."""
    return " ".join(f"{name}={getattr(inventory, name)}" for name in INVENTORY_FIELDS)


def _traits(one: Deployment) -> dict[str, str]:
    return {
        uuid: " ".join(sorted(provider.traits)) for uuid, provider in one.providers.items() if provider.traits
    }


def _aggregates(one: Deployment) -> dict[str, str]:
    return {
        uuid: " ".join(sorted(provider.aggregates))
        for uuid, provider in one.providers.items()
        if provider.aggregates
    }


def _usages(one: Deployment) -> dict[str, str]:
    return {
        f"{uuid} {name}": str(amount)
        for uuid, used in one.usages.items()
        for name, amount in used.items()
        if amount
    }


def _consumers(one: Deployment) -> dict[str, str]:
    return {uuid: _consumer_text(consumer) for uuid, consumer in one.consumers.items()}


def _consumer_text(consumer: Consumer) -> str:
    return f"project {consumer.project!r}, user {consumer.user!r}, type {consumer.consumer_type or 'none'}"


def _allocations(one: Deployment) -> dict[str, str]:
    return {
        f"{consumer.uuid} {provider} {name}": str(amount)
        for consumer, provider, name, amount in amounts(one.consumers.values())
    }


def as_fields(comparison: Comparison) -> dict[str, Any]:
    """A comparison for JSON."""
    return {
        "equal": comparison.equal,
        "compared": {one.kind: one.compared for one in comparison.kinds},
        "generations_raised": comparison.raised,
        "differences": [one._asdict() for one in comparison.differences],
    }
