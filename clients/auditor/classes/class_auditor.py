"""What the auditor needs to know about a resource class: the `ClassAuditor` contract.

The core of the auditor keeps a ledger of amounts and grants and knows no class. Everything that depends on a class is
answered by that class's auditor: built-in ones are in `built_in`, those of plugins come from the entry-point group
`vacancy.class_auditors`. A class auditor is written from the documented rules. It imports nothing of the resource
class that it judges, so that an error in one is not an error in both.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar

ROOM, RULE, OPAQUE = "room", "rule", "opaque"


class Objection(NamedTuple):
    """A reason against a claim. `kind`: `room` (it would exceed the capacity), `rule` (it violates any other rule) or
    `opaque` (the auditor cannot judge it)."""

    kind: str
    text: str


class Refused(Exception):
    """The rules make this event a dead letter. Nothing of it is applied."""


class Stock(Protocol):
    """What a provider has of one class: an immutable value that a class auditor makes from an inventory.

    Two equal stocks mean that the inventory has not changed, which decides the provider's generation.
    """

    @property
    def listed(self) -> bool:
        """False where the node no longer reports the inventory and a consumer still holds some of it."""

    def withdrawn(self) -> Stock:
        """What remains once the node no longer reports the inventory: no capacity, not `listed`."""


S = TypeVar("S", bound=Stock)


class Slot(NamedTuple, Generic[S]):
    """One class at one provider, as a claim finds it.

    `free`: the amount that is left, including what the claim's consumer gives back (0 where the class does not count
    amounts). `held`: the grants that other consumers hold. `kept`: the claim replaces an allocation and asks for no
    more than its consumer held by amount, so it may stay even over capacity. `unsure`: not all that is held there has a name
    that the provider reports, so what is free of it is not known (`ClassAuditor.is_unsure`).
    """

    provider: str
    stock: S
    free: int
    held: Sequence[Any]
    kept: bool
    unsure: bool = False


class ClassAuditor(ABC, Generic[S]):
    """The auditor of one resource class. Stateless and pure."""

    name: str
    """The resource class."""

    is_judged: ClassVar[bool] = True
    """False where nothing is known about the class: every outcome then counts as one that cannot be verified."""

    names_items: ClassVar[bool] = False
    """Whether an inventory has named items of which an operator may exclude some."""

    added_ask_fields: ClassVar[frozenset[str]] = frozenset()
    """Fields of asks that only rules of version 4 and later allow."""

    always_counted: ClassVar[bool] = False
    """Whether `capacity` is a number for every inventory of the class."""

    # -- inventories --------------------------------------------------------------------------------------

    @abstractmethod
    def read_inventory(self, inventory: Mapping[str, Any]) -> S:
        """The stock that a reported inventory describes. Raises `Refused` where the rules refuse it."""

    def read_set_inventory(self, inventory: Mapping[str, Any]) -> S:
        """The stock of an inventory that a transaction sets. By default as one that a node reports."""
        return self.read_inventory(inventory)

    def items(self, inventory: Mapping[str, Any]) -> int:
        """How many items a valid inventory has, for example devices, as the rules limit them; 0 if it has a fixed size."""
        return 0

    def check_override(self, override: Mapping[str, Any]) -> None:
        """Raise `Refused` where an operator's override is invalid. By default nothing can be overridden."""
        if override:
            raise Refused

    def capacity(self, stock: S, override: Mapping[str, Any]) -> int | None:
        """How much may be in use, under the operator's override; None where amounts do not decide what fits."""
        return None

    def with_unhealthy(self, stock: S, unhealthy: Any) -> S:
        """The stock of an inventory that names items that do not work: item -> reason. Raises `Refused` where it may not."""
        raise Refused

    def unhealthy(self, stock: S) -> Collection[str]:
        """The items of a stock that do not work."""
        return ()

    def offered(self, stock: S, excluded: Collection[str]) -> S:
        """What of the stock may be granted when these items are excluded."""
        return stock

    # -- asks ---------------------------------------------------------------------------------------------

    def count_of(self, ask: Any) -> int | None:
        """The amount of an ask that names nothing but an amount; None of any other ask."""
        return ask if type(ask) is int else None

    def amount(self, ask: Any) -> int:
        """The amount that is booked for an ask. An ask without an amount counts as one."""
        counted = self.count_of(ask)
        return 1 if counted is None else counted

    def counted(self, stock: S | None, ask: Any, grant: Any | None) -> Mapping[str, int] | None:
        """How much usage and quotas count of an ask: unit -> amount, where '' is the unit of amounts. `grant` is what was
        granted by name, None if nothing was or if it is not known. None where only that could say it."""
        return {"": ask} if type(ask) is int else None

    def fits_units(self, stock: S, amount: int) -> bool:
        """Whether one allocation may have this amount, whatever is free."""
        return False

    # -- claims -------------------------------------------------------------------------------------------

    def most_reads(self, stock: S, held: Sequence[Any], ask: Any) -> int | None:
        """How many items of a provider judging an ask can look at, as the limits of a record count them. `held` are all
        grants by name there. None where that is not known; then a rejection for it (`record_full`) is not judged."""
        return None

    @abstractmethod
    def objections(self, slot: Slot[S], asks: Sequence[Any]) -> Iterable[Objection]:
        """The reasons against a claim's asks for this class at one provider, in the order of its allocations."""

    def refusals(self, slot: Slot[S], asks: Sequence[Any]) -> Iterable[Objection]:
        """The same for a claim that the store rejected, where nothing says what it would have been granted by name. By default
        the objections."""
        return self.objections(slot, asks)

    def is_unsure(self, stock: S, held: Sequence[Any], used: int) -> bool:
        """Whether the grants by name in `held` do not say all that is held of a stock; `used` is the booked amount."""
        return False

    def grant_errors(self, slot: Slot[S], asks: Sequence[Any], grants: Sequence[Any]) -> Iterable[str]:
        """The errors in the grants that the store's verdict gives for these asks, in the same order."""
        return ()
