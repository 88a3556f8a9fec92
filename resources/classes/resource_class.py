"""ResourceClass: the contract of a kind of resource: what it is, how it is written, and how it is queried.

Ed Leafe, "Distributed Data and Nova" (2016): a resource class should encapsulate what the resource is, and know
how to write its state to the store and how to generate the query that selects it. Here each class keeps one
immutable record per provider, and has

* the write: `report`, `override` and `withdraw` make records from events; `claim` and `release` change their use;
* the query: `columns` names int64 columns that readers keep in memory, `project` fills them, and `query` turns
  an ask into terms over them. What the terms cannot decide, `claim` decides on the few providers that satisfy them.

The contract is closed: the fold, the query engine and the command line use what is declared here and nothing else
of any class. docs/adding-a-resource-class.md explains each method. `vacancy.testing` tests a class for the contract.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, NamedTuple, TypeGuard, TypeVar, final

from vacancy.resources.model.comparison import Relation
from vacancy.resources.model.errors import InvalidRecord

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

R = TypeVar("R")

Operator = Literal[Relation, "divides", "all_bits", "any_bits"]


EXCLUDED = "excluded"
"""The field of an operator's override that excludes named items of an inventory: name -> reason. See
`ResourceClass.excludes_items`."""

UNHEALTHY = "unhealthy"
"""The field of a reported inventory that names its items that do not work: name -> reason. See `ResourceClass.excludes_items`."""


class Term(NamedTuple):
    """One comparison of a column with a number. `divides`: the column divides `value` without remainder.
    `all_bits`, `any_bits`: the column has all, or any, of the bits of `value`."""

    column: str
    operator: Operator
    value: int


class Granted(NamedTuple):
    """A claim that fits: the record after it, and the grant (JSON) that `release` gives back."""

    record: Any
    grant: Any


class Shortfall(NamedTuple):
    """A claim that does not fit: the reason (an identifier), the amount that was asked for, and the available amount."""

    reason: str
    asked: int
    available: int


class Exactness(Enum):
    """What the terms of `ResourceClass.query(ask)` decide about an ask. Terms never exclude a provider whose record
    grants the ask; the question is whether they let through only those."""

    NEEDS_CLAIM = "needs_claim"
    """Satisfied terms do not guarantee a grant: `claim` must be tried on the record."""

    EXACT_NEXT = "exact_next"
    """A record that satisfies the terms grants the ask, if it is the next claim. After another claim that its columns
    do not show yet, `claim` must be tried."""

    EXACT = "exact"
    """The ask is counted: for every record it changes the columns by `column_deltas(ask)` and changes nothing else. The
    terms require that each of these columns is `>=` the amount that the ask takes of it. No claim changes the columns of
    the other terms. So columns decide any number of claims. A class is exact for all of its asks, or for none."""


class ResourceClass(ABC, Generic[R]):
    """One kind of resource. Instances are stateless and pure; records are immutable values."""

    name: str
    columns: ClassVar[tuple[str, ...]]
    """Names of the int64 columns that readers keep, one for each property that queries and weighers use.
    `free` and `capacity` are among them: amounts that orders and reports can compare."""

    consumable_columns: ClassVar[tuple[str, ...]] = ("free",)
    """The columns that claims consume: a claim decreases them or does not change them. If an ask fails a term over one of
    them, the last claim on the record took the missing units."""

    index_columns: ClassVar[tuple[str, ...]] = ()
    """The columns that only exclude providers early. Their values are not shown to people."""

    more_units: ClassVar[tuple[str, ...]] = ()
    """What grants are counted in besides the unit of the column `capacity`, for example `memory_mb` of a class whose
    capacity is CPUs. See `amounts_of`."""

    added_ask_fields: ClassVar[frozenset[str]] = frozenset()
    """The fields of an ask that came after rules version 1. The rules of a log decide which of them it allows
    (`RuleSet.ask_fields`)."""

    excludes_items: ClassVar[bool] = False
    """Whether the class has named items of which an operator may exclude some, and a node may say that some do not work:
    `override` then honours `EXCLUDED`, `set_unhealthy` sets what a node says, and nobody gets these items. The rules check
    `EXCLUDED`; `check_override` is not given it. `report` is not given `UNHEALTHY`."""

    amounts_need_record: ClassVar[bool] = False
    """Whether `amounts_of` of a grant that is no plain amount depends on the record."""

    # -- write ------------------------------------------------------------------------------------------

    @abstractmethod
    def report(self, inventory: Mapping[str, Any], old: R | None) -> R:
        """The record after a node reported this inventory. Use in `old` is kept, even if it no longer fits. Raises
        `InvalidRecord` when the inventory is invalid. Its text becomes the reason of a dead letter."""

    def set_inventory(self, inventory: Mapping[str, Any], old: R | None) -> R:
        """As `report`, for an inventory that a transaction sets. By default the same; a class may allow more there."""
        return self.report(inventory, old)

    def inventory_set(self, record: R) -> Mapping[str, Any]:
        """The inventory as a transaction would set it, with what the operator overrides; empty where the record is no amount."""
        return {}

    def check_units(self, record: R, ask: Any) -> Shortfall | None:
        """Why no amount of free units helps this ask, as far as the class has such a rule (smallest, largest, step). A transaction
        checks it also where an ask may exceed the capacity."""
        return None

    def check_override(self, override: Mapping[str, Any]) -> None:
        """Raise `InvalidRecord` when an operator's override is invalid."""
        if override:
            raise InvalidRecord(f"{self.name} has nothing that an operator can override")

    def without_effect(self, record: R, override: Mapping[str, Any]) -> tuple[str, ...]:
        """The fields of a valid override that change nothing of this record, whatever their values: clients refuse them."""
        return ()

    def override(self, record: R, override: Mapping[str, Any]) -> R:
        """The record under an operator's override (already checked; an empty one clears what was overridden)."""
        return record

    def set_unhealthy(self, record: R, unhealthy: Any) -> R:
        """A record that `report` returned, with these items unhealthy (item -> reason, any JSON). Raises `InvalidRecord`."""
        raise InvalidRecord(f"{self.name} has no items that could be unhealthy")

    def unhealthy(self, record: R) -> Mapping[str, str]:
        """The items that the node says do not work, with its reasons."""
        return {}

    def excluded(self, record: R) -> Collection[str]:
        """The items that an operator excludes."""
        return ()

    def may_withhold(self, encoded: bytes) -> bool:
        """Whether an encoded record may have excluded or unhealthy items. False is sure, and tells it without decoding."""
        return self.excludes_items

    def withheld(self, record: R, grant: Any) -> tuple[str, ...]:
        """What a grant has of the items that nobody gets because they are excluded or unhealthy."""
        return ()

    def names(self, record: R) -> Collection[str]:
        """The names of the reported items, excluded or not; none where the record is an amount."""
        return ()

    @abstractmethod
    def withdraw(self, record: R) -> R:
        """The record when its inventory is no longer reported: it has no capacity, and its use is kept."""

    @abstractmethod
    def in_use(self, record: R) -> bool:
        """Whether any consumer has an allocation of it."""

    @abstractmethod
    def claim(self, record: R, ask: Any, *, no_worse: bool = False) -> Granted | Shortfall:
        """Claim `ask` (any JSON). With `no_worse`, grant it even over capacity: the consumer had at least as much before."""

    def items(self, record: R) -> int:
        """How many items the inventory of a record has, for example devices; 0 if a record has a fixed size. The rules of a
        log limit them (`Limits.inventory_items`)."""
        return 0

    def claim_reads(self, record: R, ask: Any) -> int:
        """How many items `claim` looks at for this ask, for example devices or CPUs; 0 if the record has a fixed size. The
        rules of a log limit them for each record of the log (`Limits.claim_reads`)."""
        return 0

    def reclaim_reads(self, record: R, ask: Any, before: Sequence[Any]) -> int:
        """As `claim_reads`, for `reclaim`. By default three times what `claim` looks at: what was held, the rest, and as
        `claim` does."""
        return 3 * self.claim_reads(record, ask)

    @abstractmethod
    def release(self, record: R, grant: Any) -> R:
        """Release a grant of `claim`. The grant was encoded to JSON and decoded again."""

    def asks_no_more(self, grants: Sequence[Any], asks: Sequence[Any]) -> bool:
        """Whether `asks` together need no more than a consumer held by `grants`. Then `claim` gets `no_worse`."""
        return False

    def reclaim(
        self, record: R, ask: Any, before: Sequence[Any], *, no_worse: bool = False
    ) -> Granted | Shortfall:
        """Claim `ask` for a consumer that moves or is resized, and keep as much as possible of the grants in `before`: what it
        held of this class here, other than by asks that stay the same. They are released in `record`. For `no_worse` see
        `claim`. Where `claim` grants an ask, this grants it too."""
        return self.claim(record, ask, no_worse=no_worse)

    def grants_no_more(self, before: Sequence[Any], after: Sequence[Any]) -> bool:
        """Whether the grants in `after` together are part of those in `before`. Then a consumer may keep them on a provider
        that takes no new claims."""
        left = list(before)
        for grant in after:
            if grant not in left:
                return all(map(self.is_amount, (*before, *after))) and sum(after) <= sum(before)
            left.remove(grant)
        return True

    @abstractmethod
    def encode(self, record: R) -> bytes:
        """The record as bytes, the same for equal records."""

    @abstractmethod
    def decode(self, data: bytes) -> R:
        """The record from the bytes that `encode` returned."""

    # -- amounts ----------------------------------------------------------------------------------------

    @final
    def is_amount(self, value: Any) -> TypeGuard[int]:
        """Whether an ask or a grant is a plain amount: a number of units, not particular units."""
        return type(value) is int

    @abstractmethod
    def amount_of(self, grant: Any) -> int:
        """The amount of a grant, in units of the column `capacity`. For a plain amount, the grant itself."""

    def amounts_of(self, grant: Any, record: R | None = None) -> Mapping[str, int]:
        """How much usage and quotas count of a grant: unit -> amount. The unit '' is that of the column `capacity`, and the
        others are in `more_units`. `record` is the record that gives it, or None if there is none any more."""
        return {"": self.amount_of(grant)}

    # -- query ------------------------------------------------------------------------------------------

    @abstractmethod
    def check_ask(self, ask: Any) -> None:
        """Raise `UsageError` when the ask is invalid. Called by clients, before anything is sent."""

    @abstractmethod
    def query(self, ask: Any) -> tuple[Term, ...]:
        """Terms over the columns that every provider which could serve `ask` satisfies. Raises `UsageError` when the
        ask is invalid, or assumes that it is valid."""

    def exactness(self, ask: Any) -> Exactness:
        """What the terms of `query(ask)` decide."""
        return Exactness.NEEDS_CLAIM

    def column_deltas(self, ask: Any) -> Mapping[str, int] | None:
        """The change of each column by a claim for `ask`, if it is the same for every record. Readers then count
        reservations without reading the record. None: they must try the ask on the record."""
        return None

    @abstractmethod
    def row(self, record: R) -> tuple[int, ...]:
        """The record's values of `columns`."""

    def project(self, encoded: Sequence[bytes]) -> NDArray[np.int64]:
        """`row` of many encoded records at once: an array of shape (len(columns), len(encoded))."""
        import numpy as np

        table = np.array([self.row(self.decode(data)) for data in encoded], dtype=np.int64)
        return table.reshape(len(encoded), len(self.columns)).T

    def inventory_totals(self, encoded: Sequence[bytes]) -> NDArray[np.int64]:
        """The total and the reserved amount of many encoded records: an array of shape (2, len(encoded)). By default the capacity,
        and nothing reserved."""
        import numpy as np

        totals = np.zeros((2, len(encoded)), dtype=np.int64)
        totals[0] = self.project(encoded)[self.columns.index("capacity")]
        return totals
