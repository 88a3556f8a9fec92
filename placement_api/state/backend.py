"""What this package needs of a store of state: a view to read, transactions to commit, and reasons of a refusal.

The HTTP layer reads a `View` and builds one `Transaction` for each write. The backend judges the transaction as a
whole: all of its preconditions hold and all of its effects are applied, or nothing changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from vacancy.placement_api.state.view import View

ABSENT = -1
"""An expected generation that stands for "does not exist"."""


@dataclass(frozen=True, slots=True)
class Inventory:
    """What a provider has of one resource class, with Placement's fields."""

    total: int
    reserved: int
    min_unit: int
    max_unit: int
    step_size: int
    allocation_ratio: float
    created_at: datetime | None = None
    updated_at: datetime | None = None

    @property
    def capacity(self) -> float:
        """What allocations may use together: in binary64 and not rounded, as Placement compares it."""
        return (self.total - self.reserved) * self.allocation_ratio


@dataclass(frozen=True, slots=True)
class Provider:
    """A resource provider. `parent` and `root` are uuids; a root has no parent and is its own root."""

    uuid: str
    name: str
    generation: int
    root: str
    parent: str | None = None
    inventories: Mapping[str, Inventory] = field(default_factory=dict)
    traits: frozenset[str] = frozenset()
    aggregates: tuple[str, ...] = ()
    created_at: datetime | None = None
    updated_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Consumer:
    """A consumer and all that it holds: provider uuid -> resource class -> amount."""

    uuid: str
    generation: int
    project: str
    user: str
    consumer_type: str | None
    allocations: Mapping[str, Mapping[str, int]]
    created_at: datetime | None = None
    updated_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ProviderCreation:
    """Creates a provider with generation 0. Precondition: uuid and name are free, the parent exists."""

    uuid: str
    name: str
    parent: str | None


@dataclass(frozen=True, slots=True)
class ProviderMove:
    """Sets name and parent. Precondition: name is free, the parent exists and is not below the provider."""

    uuid: str
    name: str
    parent: str | None
    was_parent: str | None


@dataclass(frozen=True, slots=True)
class ProviderChange:
    """What a transaction does to one provider that exists.

    `inventories`, `traits` and `aggregates` replace all of the provider's where they are not None. `generation` is
    the generation that is expected, None for any; `generation_steps` is by how much it rises.
    """

    uuid: str
    generation: int | None = None
    generation_steps: int = 0
    inventories: Mapping[str, Inventory] | None = None
    traits: frozenset[str] | None = None
    aggregates: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Amount:
    """One allocation that is asked for."""

    provider: str
    resource_class: str
    used: int


@dataclass(frozen=True, slots=True)
class ConsumerChange:
    """Replaces all that a consumer holds. Without `amounts` the consumer ends.

    `generation` is the generation that is expected: `ABSENT` for a consumer that must not exist, None for any.
    """

    uuid: str
    generation: int | None
    project: str
    user: str
    consumer_type: str | None
    amounts: tuple[Amount, ...]


@dataclass(frozen=True, slots=True)
class Transaction:
    """One write: judged whole, in the order of the fields."""

    create_providers: tuple[ProviderCreation, ...] = ()
    move_providers: tuple[ProviderMove, ...] = ()
    delete_providers: tuple[str, ...] = ()
    create_classes: tuple[str, ...] = ()
    rename_classes: tuple[tuple[str, str], ...] = ()
    delete_classes: tuple[str, ...] = ()
    create_traits: tuple[str, ...] = ()
    delete_traits: tuple[str, ...] = ()
    providers: tuple[ProviderChange, ...] = ()
    consumers: tuple[ConsumerChange, ...] = ()

    @property
    def is_empty(self) -> bool:
        return self == Transaction()


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a transaction was refused: the first precondition or effect that does not hold.

    reason: one of `provider_unknown`, `provider_exists`, `name_exists`, `parent_unknown`, `parent_below`,
    `parent_changed`, `provider_has_children`, `provider_in_use`, `provider_generation`, `consumer_generation`,
    `inventory_in_use`, `no_inventory`, `constraints`, `capacity`, `class_unknown`, `class_exists`, `class_in_use`,
    `trait_unknown`, `trait_exists`, `trait_in_use`.
    subject: the uuid or name of what the reason is about.
    resource_classes: the classes concerned, where the reason is about an inventory.
    """

    reason: str
    subject: str
    resource_classes: tuple[str, ...] = ()


class Backend(Protocol):
    """A store of Placement's state."""

    def read(self) -> View:
        """The newest state that this process can have without waiting. It changes only in `read` and `commit`."""

    def commit(self, transaction: Transaction) -> Rejection | None:
        """Writes a transaction and waits for its verdict. After that, `read` shows its effects.

        Raises BackendUnavailable if the log or the tables do not answer, InvalidTransaction if it cannot be written.
        """

    def close(self) -> None:
        """Releases what the backend holds. It is not used after that."""

    def position(self) -> str:
        """How far the log was read for the last view, as text for people and for an HTTP header."""


class BackendUnavailable(Exception):
    """The log or the tables do not answer. `outcome_known` is true if certainly nothing was or will be written."""

    def __init__(self, text: str, *, outcome_known: bool) -> None:
        super().__init__(text)
        self.outcome_known = outcome_known


class InvalidTransaction(Exception):
    """The log has no form for this transaction, or its rules do not allow it. Nothing was changed."""
