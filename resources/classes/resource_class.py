"""ResourceClass: what a kind of resource is, how it is written, and how it is asked for.

Ed Leafe, "Distributed Data and Nova" (2016): a resource class should encapsulate what the resource is, and know
how to write its state to the store and how to generate the query that selects it. Here each class keeps one
immutable record per provider, and has

* the write: `report`, `override` and `withdraw` make records of events; `claim` and `release` use them;
* the query: `columns` names int64 columns that readers keep in memory, `project` fills them, and `query` turns
  an ask into terms over them. What columns cannot say is left to `claim`, tried on the few that survive.

The fold and the query engine know nothing else of any class. See docs/adding-a-resource-class.md.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, NamedTuple, TypeVar

from vacancy.resources.model.errors import InvalidRecord, UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

R = TypeVar("R")

Operator = Literal[">=", "<=", "==", "!=", "divides", "all_bits", "any_bits"]


class Term(NamedTuple):
    """One comparison of a column with a number. `divides`: the column divides `value` without remainder.
    `all_bits`, `any_bits`: the column has all, or any, of the bits of `value`."""

    column: str
    operator: Operator
    value: int


class Granted(NamedTuple):
    """A claim that fits: the record after it, and what was granted (JSON; `release` takes it back)."""

    record: Any
    grant: Any


class Shortfall(NamedTuple):
    """A claim that does not fit: why (a word for programs), how much was asked, and how much there is."""

    reason: str
    asked: int
    available: int


class ResourceClass(ABC, Generic[R]):
    """One kind of resource. Instances are stateless and pure; records are immutable values."""

    name: str
    columns: ClassVar[tuple[str, ...]]
    """Names of the int64 columns that readers keep, a column a property that queries and weighers use.
    One of them is `free`, another `capacity`: amounts that orders and reports can compare."""

    index_columns: ClassVar[tuple[str, ...]] = ()
    """Those of `columns` that serve queries alone and tell people nothing."""

    exact_in_columns: ClassVar[bool] = False
    """True where the terms of `query` say all of every ask: then survivors need no trial claim."""

    # -- write ------------------------------------------------------------------------------------------

    @abstractmethod
    def report(self, inventory: Mapping[str, Any], old: R | None) -> R:
        """The record after a node reported this inventory. Use in `old` is kept, even where it no longer
        fits. Raises `InvalidRecord` when the inventory cannot be meant."""

    def check_override(self, override: Mapping[str, Any]) -> None:
        """Raise `InvalidRecord` when an operator's override cannot be meant."""
        if override:
            raise InvalidRecord(f"{self.name} has nothing that an operator can override")

    def override(self, record: R, override: Mapping[str, Any]) -> R:
        """The record under an operator's override (checked; empty: none)."""
        return record

    @abstractmethod
    def withdraw(self, record: R) -> R:
        """The record once its inventory is no longer reported: nothing to give, use kept."""

    @abstractmethod
    def in_use(self, record: R) -> bool:
        """Whether anyone holds any of it."""

    @abstractmethod
    def claim(self, record: R, ask: Any, *, no_worse: bool = False) -> Granted | Shortfall:
        """Take `ask` (JSON). With `no_worse`, grant it even over capacity: the consumer held as much before."""

    @abstractmethod
    def release(self, record: R, grant: Any) -> R:
        """Give back what `claim` granted."""

    def covers(self, grants: Sequence[Any], asks: Sequence[Any]) -> bool:
        """Whether what a consumer held is at least what it now asks for (see `claim`'s `no_worse`)."""
        return False

    @abstractmethod
    def encode(self, record: R) -> bytes:
        """The record as bytes, the same for equal records."""

    @abstractmethod
    def decode(self, data: bytes) -> R:
        """What `encode` wrote."""

    # -- query ------------------------------------------------------------------------------------------

    @abstractmethod
    def check_ask(self, ask: Any) -> None:
        """Raise `UsageError` when the ask cannot be meant. Called at the edges, before anything is sent."""

    def narrowed(self, amount: int, where: dict[str, Any]) -> Any:
        """The ask for an amount of what has these attributes (see `comparison`). Raises `UsageError` where nothing of
        this class has attributes."""
        raise UsageError(f"{self.name} has no attributes to choose by", do=f"write {self.name}:{amount}")

    @abstractmethod
    def query(self, ask: Any) -> tuple[Term, ...]:
        """Terms over the columns that every provider which could serve `ask` satisfies."""

    def is_exact(self, ask: Any) -> bool:
        """Whether the terms of `query(ask)` say all: whatever satisfies them grants the ask, were it the next. True
        of all asks with `exact_in_columns`; of some it may be true without."""
        return self.exact_in_columns

    @abstractmethod
    def row(self, record: R) -> tuple[int, ...]:
        """The record's values of `columns`."""

    def moves(self, ask: Any) -> Mapping[str, int] | None:
        """By how much a claim for `ask` moves the columns, where that is the same whatever the record: readers
        then count claims under way without reading the record. None: they must try it on the record."""
        return None

    def project(self, encoded: Sequence[bytes]) -> NDArray[np.int64]:
        """`row` of many encoded records at once: an array of shape (len(columns), len(encoded))."""
        import numpy as np

        table = np.array([self.row(self.decode(data)) for data in encoded], dtype=np.int64)
        return table.reshape(len(encoded), len(self.columns)).T
