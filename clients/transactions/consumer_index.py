"""Which consumers hold something of a provider, and which are of a project, without reading all of them.

The tables have consumers by their ids only. So the index is in memory: it is made of one pass over the consumers of the cell when it
is asked for the first time, and follows the changes of the tables after that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from vacancy.clients.transactions.cell_state import CellState, ConsumerState
from vacancy.resources.model.events import TransactionRequested
from vacancy.resources.model.partitioner import partition_for
from vacancy.resources.state.rows import AllocationRow
from vacancy.resources.state.tables import ALLOCATIONS, key

_UNREAD_MAX: Final = 10_000
"""Changes that an index keeps while nobody asks it. With more than that, and more than it has consumers, it is forgotten."""

Ids = dict[str, dict[str, None]]


class _Entry(NamedTuple):
    """What the index knows of a consumer."""

    project: str
    providers: tuple[str, ...]


class ConsumerIndex:
    """An index of the consumers of a cell. Answers are as of the position of the reader, as those of `CellState`: move it by
    `catch_up` before you ask, as `follow` passes on changes of consumers before their rows can be read.

    It needs about 450 bytes for each consumer once it was asked. Use it from one thread at a time; `close` ends it.
    """

    def __init__(self, state: CellState) -> None:
        self._state = state
        self._cell = state.cell.encode()
        self._entries: dict[str, _Entry] | None = None
        self._by_provider: Ids = {}
        self._by_project: Ids = {}
        self._changed: set[str] = set()
        self._partition = partition_for(self._cell, state.reader.manifest.partitions)
        self._is_fed = False
        """Whether the entries were made under rules that have transactions. Under older rules the worker may be of a build that
        does not pass on changes of consumers: then all of them are read each time."""

        state.reader.watch(self._note)

    def close(self) -> None:
        """Follow the tables no longer."""
        self._state.reader.unwatch(self._note)
        self._forget()

    def holders(self, provider: str) -> Iterator[ConsumerState]:
        """The consumers that hold something of a provider, by id."""
        self._refresh()
        return self._read(self._by_provider.get(provider, {}))

    def of_project(self, project: str) -> Iterator[ConsumerState]:
        """The consumers of a project, by id."""
        self._refresh()
        return self._read(self._by_project.get(project, {}))

    def _read(self, ids: dict[str, None]) -> Iterator[ConsumerState]:
        for id_ in sorted(ids):
            found = self._state.consumer(id_)
            if found is not None:
                yield found

    # -- following the tables -------------------------------------------------------------------------------

    def _note(self, table: str, keys: Sequence[bytes]) -> None:
        if not table:
            self._forget()
        elif table == ALLOCATIONS.name and self._entries is not None:
            for one in keys:
                cell, _, id_ = one.partition(b"\0")
                if cell == self._cell:
                    self._changed.add(id_.decode())
            if len(self._changed) > max(_UNREAD_MAX, len(self._entries)):
                self._forget()

    def _forget(self) -> None:
        self._entries, self._by_provider, self._by_project, self._changed = None, {}, {}, set()

    def _refresh(self) -> None:
        reader, cell = self._state.reader, self._state.cell
        if not self._is_fed:
            self._forget()
        self._is_fed = reader.takes(self._partition, TransactionRequested)
        if self._entries is None:
            self._entries = {}
            for id_, row in reader.rows_of_cell(ALLOCATIONS, cell):
                self._add(self._entries, id_, row)
            return
        changed, self._changed = self._changed, set()
        for id_ in changed:
            self._remove(self._entries, id_)
            found = reader.get(ALLOCATIONS, key(cell, id_))
            if found is not None:
                self._add(self._entries, id_, found)

    def _add(self, entries: dict[str, _Entry], id_: str, row: AllocationRow) -> None:
        providers = tuple(dict.fromkeys(part.provider for part in row.parts))
        entries[id_] = _Entry(row.project, providers)
        self._by_project.setdefault(row.project, {})[id_] = None
        for provider in providers:
            self._by_provider.setdefault(provider, {})[id_] = None

    def _remove(self, entries: dict[str, _Entry], id_: str) -> None:
        entry = entries.pop(id_, None)
        if entry is None:
            return
        _discard(self._by_project, entry.project, id_)
        for provider in entry.providers:
            _discard(self._by_provider, provider, id_)


def _discard(ids: Ids, name: str, id_: str) -> None:
    found = ids[name]
    del found[id_]
    if not found:
        del ids[name]
