"""Which names a view keeps columns of, so that its memory stays within a bound.

A view counts about how many bytes its columns use (`Meter`). When that is more than the bound, the names that the fewest
rows have lose their columns: they are left out. A name that is left out is still in the store. A query that asks for it
raises `NamesLeftOut`, because its answer could be wrong. Aggregates are never left out: sharing providers and server
groups depend on them, and only operators set them.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Final, NamedTuple

FLOOR_MB: Final = 256
PROVIDER_BYTES: Final = 4096
"""The bound that is used unless one is set: `FLOOR_MB`, and this for each provider."""

KEPT_PERCENT: Final = 90
"""How much of the bound is used after names were left out."""

EXPANDED_SHARE: Final = 16
"""What makes queries for rare names faster (`Meter.expand`) uses at most one byte in this number of the bound."""

LOADING: Final = 2
"""While a store is loaded, columns may use this many times the bound: which names are rare is known only at the end."""

SHARES: Final = "MISC_SHARES_VIA_AGGREGATE"
"""The trait of sharing providers."""

_EXAMPLES = 5


class ColumnsMemory(NamedTuple):
    """About how many bytes the columns of a view use, the bound, how many names were left out because of it since the
    view was loaded, and some of these names."""

    bytes: int
    bytes_max: int
    left_out: int = 0
    examples: tuple[str, ...] = ()


class LeftOut:
    """The names of one kind that are left out. After names were left out, no new name comes in until the view is loaded
    again: so nothing grows with names that come and go."""

    def __init__(self) -> None:
        self._names: set[str] = set()
        """While the store is loaded: those that must not come in again, with fewer rows than they have."""
        self.is_closed = False

    def add(self, names: Iterable[str]) -> None:
        """Leave these names out while the store is loaded."""
        self._names.update(names)

    def close(self) -> None:
        """No new name comes in."""
        self.is_closed = True
        self._names.clear()

    @property
    def is_empty(self) -> bool:
        """Whether any name may come in."""
        return not self.is_closed and not self._names

    def admits(self, name: str, known: Container[str]) -> bool:
        """Whether a name has columns (`known`) or may get some."""
        return name in known or not (self.is_closed or name in self._names)

    def admitted(self, names: tuple[str, ...], known: Container[str]) -> tuple[str, ...]:
        """Those of these names that have columns or may get some."""
        return names if self.is_empty else tuple(name for name in names if self.admits(name, known))


def bytes_max(providers: int, memory_mb: int | None) -> int:
    """The bound of a view with that number of providers. `memory_mb` is the setting, None where there is none."""
    return FLOOR_MB * 2**20 + PROVIDER_BYTES * providers if memory_mb is None else memory_mb * 2**20


def rarest(names: Iterable[tuple[int, str, str, int]], excess: int) -> dict[str, list[str]]:
    """Of (number of rows, kind, name, bytes) those with the fewest rows, as many as use `excess` bytes: kind -> names."""
    found: dict[str, list[str]] = {}
    for _, kind, name, size in sorted(names):
        if excess <= 0:
            break
        found.setdefault(kind, []).append(name)
        excess -= size
    return found


def examples(before: tuple[str, ...], names: Iterable[str]) -> tuple[str, ...]:
    """Some names to show, the newest last."""
    return (*before, *names)[-_EXAMPLES:]
