"""The parts of a transaction: what it changes of a cell, and what must be true for it (`events.TransactionRequested`).

A transaction is judged whole, at its place in the log: all of it is done, or nothing. It speaks the language of OpenStack
Placement: providers and consumers have generations that count changes, an inventory is set whole, and an allocation is a map
of amounts by provider.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field, JsonValue, model_validator

from vacancy.resources.model.names import Amount, Id, Symbol, TimeMs
from vacancy.resources.model.request import Ask, RequestModel

CHANGED_NAMES_MAX: Final = 64
CHANGED_PROVIDERS_MAX: Final = 1024
CHANGED_CONSUMERS_MAX: Final = 1024
RAISES_MAX: Final = 2**31 - 1
"""The largest generation that Placement keeps: a provider that is copied from there gets the one that it had."""

ABSENT: Final = "absent"
"""The generation of a consumer that must not exist."""

ANY: Final = "any"
"""The generation of a consumer that is not checked."""

UNKNOWN_TYPE: Final = "unknown"
"""The type of a consumer that has none. No consumer can have a type of this name: types have capital letters."""

ProviderName = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]
AccountName = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^\x00]*$")]
CustomName = Annotated[str, Field(pattern=r"^CUSTOM_[A-Z0-9_]{1,248}$")]


class NameChange(RequestModel):
    """A custom resource class or trait as a thing of the cell that exists by itself.

    `create`: it must not exist. `ensure`: it is created unless it exists. `delete`: it must exist, and no provider may have
    it.
    """

    kind: Literal["class", "trait"]
    name: CustomName
    op: Literal["create", "ensure", "delete"]


class ProviderChange(RequestModel):
    """What becomes of one provider. A field that is None changes nothing.

    `create`: it must not exist. `change` and `delete`: it must exist. `generation`: the one that it must have, None for any.
    `raises`: by how much its generation rises, besides the one for new allocations of it. `name`: a new name; a provider that
    is created without one has its id as name. `parent`: its new parent, '' for a root; without it, a new provider is a root.
    `inventories`, `traits` and `aggregates` are complete: what is not listed is removed.
    """

    provider: Id
    op: Literal["create", "change", "delete"] = "change"
    generation: Amount | None = None
    raises: Annotated[int, Field(ge=0, le=RAISES_MAX)] = 0
    name: ProviderName | None = None
    parent: Id | Literal[""] | None = None
    inventories: dict[Symbol, dict[str, JsonValue]] | None = None
    traits: tuple[Symbol, ...] | None = None
    aggregates: tuple[Id, ...] | None = None


class ConsumerChange(RequestModel):
    """What a consumer holds afterwards: provider -> class -> ask. With nothing, the consumer is deleted.

    `generation` is the one that it must have, `absent` if it must not exist, or `any`.
    """

    consumer: Id
    generation: Amount | Literal["absent", "any"]
    project: AccountName = "-"
    user: AccountName = "-"
    consumer_type: AccountName = UNKNOWN_TYPE
    allocations: dict[Id, Annotated[dict[Symbol, Ask], Field(min_length=1)]] = Field(default_factory=dict)


class TransactionData(RequestModel):
    """Changes of a cell that are done together or not at all. `deadline_ms` is log time, as that of a claim.

    Names, providers and consumers are each named at most once. Allocations are judged after everything that the named
    consumers held was given back, and after the inventories were set.
    """

    id: Id
    deadline_ms: TimeMs
    names: Annotated[tuple[NameChange, ...], Field(max_length=CHANGED_NAMES_MAX)] = ()
    providers: Annotated[tuple[ProviderChange, ...], Field(max_length=CHANGED_PROVIDERS_MAX)] = ()
    consumers: Annotated[tuple[ConsumerChange, ...], Field(max_length=CHANGED_CONSUMERS_MAX)] = ()

    @model_validator(mode="after")
    def _names_each_once(self) -> TransactionData:
        for what, named in (
            ("name", [(one.kind, one.name) for one in self.names]),
            ("provider", [one.provider for one in self.providers]),
            ("consumer", [one.consumer for one in self.consumers]),
        ):
            if len(set(named)) < len(named):
                raise ValueError(f"a {what} is in the transaction twice")
        return self
