"""Logs for tests of a node's publisher: create them, make them fail, and fold them."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from tests.support.models.memory_state import MemoryState
from vacancy.resources.classes.registry import Registry
from vacancy.resources.fold.fold import fold
from vacancy.resources.model.errors import LogUnavailable
from vacancy.resources.model.events import (
    LogOpened,
    LogOpenedData,
    NodeChanged,
    NodeHeartbeat,
    NodeReported,
    NodeRetired,
    ProviderReport,
    encode,
    parse,
)
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import NewRecord, Record
from vacancy.resources.state.tables import DEAD_LETTERS, NODES, PROVIDERS, Table, key
from vacancy.resources.state.transaction import Row
from vacancy.streams.log import AppendedAt, Log, create_log

ROOT = "node-1"
NodeEvent = NodeReported | NodeChanged | NodeHeartbeat | NodeRetired


def make_log(url: str, partitions: int = 1) -> Log:
    """Create a log at `url` and open it."""
    log = str(uuid.uuid4())
    openings = [
        LogOpened(
            id=str(uuid.uuid4()),
            source="tests",
            data=LogOpenedData(log=log, partition=p, partitions=partitions),
        )
        for p in range(partitions)
    ]
    return create_log(
        url,
        partitions,
        [
            NewRecord(cell, encode(event))
            for cell, event in zip(covering_cells(partitions), openings, strict=True)
        ],
    )


def memory_log(partitions: int = 1) -> Log:
    return make_log(f"memory://{uuid.uuid4()}", partitions)


def records(log: Log) -> list[Record]:
    return [record for p in range(log.partitions) for record in log.read(p, 0, 1_000_000)]


def node_events(log: Log) -> list[NodeEvent]:
    """The events of nodes, in the order of the log."""
    found = (parse(record.value) for record in records(log))
    return [event for event in found if isinstance(event, NodeEvent)]


def numbers(log: Log) -> list[tuple[str, int]]:
    """(incarnation, sequence) of the events of nodes, in the order of the log."""
    return [(event.data.incarnation, event.data.sequence) for event in node_events(log)]


def node(memory_mib: int, *parts: str) -> tuple[ProviderReport, ...]:
    """A node with some memory, and child providers with one NUMA core each."""
    children = (
        ProviderReport(id=f"{ROOT}:{part}", parent=ROOT, inventories={"NUMA_CORE": {"total": 1}})
        for part in parts
    )
    return (ProviderReport(id=ROOT, inventories={"MEMORY_MB": {"total": memory_mib}}), *children)


class Tables:
    """All partitions of a log, folded."""

    def __init__(self, log: Log) -> None:
        self.registry = Registry()
        self._states = [MemoryState() for _ in range(log.partitions)]
        for record in records(log):
            state = self._states[record.partition]
            state.commit(fold(state, record, self.registry))

    def all(self, table: Table[Row]) -> dict[bytes, Row]:
        """The rows of one table in every partition."""
        rows = (row for state in self._states for row in state.items())
        return {key: table.decode(encoded) for name, key, encoded in rows if name == table.name}

    @property
    def dead_letters(self) -> list[str]:
        return [row.reason for row in self.all(DEAD_LETTERS).values()]

    def tree(self, cell: str) -> dict[str, int]:
        """The providers of ROOT in a cell -> their memory or cores."""
        found = {}
        for place, row in self.all(PROVIDERS).items():
            where, _, provider = place.decode().partition("\0")
            if where == cell and row.reported:
                (name,) = row.classes
                class_row = self.all(self.registry.table(name))[place]
                found[provider] = class_row.record.total
        return found

    def node(self, cell: str) -> Any:
        """The row of ROOT in a cell."""
        return self.all(NODES).get(key(cell, ROOT))


def as_tree(providers: Sequence[ProviderReport]) -> dict[str, Any]:
    """The answer of `Tables.tree` after a report of `providers`."""
    return {
        provider.id: inventory["total"]
        for provider in providers
        for inventory in provider.inventories.values()
    }


class UnreliableLog:
    """A log that fails on request.

    `down`: append nothing and fail. `lose_answers`: append everything and fail. `take`: append this many entries of the
    next append and fail. `take_last`: append only the last entry and fail.
    """

    def __init__(self, log: Log) -> None:
        self._log = log
        self.url, self.name, self.partitions = log.url, log.name, log.partitions
        self.down = self.lose_answers = False
        self.take: int | None = None
        self.take_last = False

    def append(self, entries: Sequence[NewRecord], timeout_s: float = 30.0) -> list[AppendedAt]:
        if self.down:
            raise LogUnavailable("the test took the log away")
        if self.take is not None:
            taken, self.take = self.take, None
            self._log.append(entries[:taken], timeout_s)
            raise LogUnavailable("the test took the log away half-way")
        if self.take_last:
            self.take_last = False
            self._log.append(entries[-1:], timeout_s)
            raise LogUnavailable("the test lost the first of it")
        landed = self._log.append(entries, timeout_s)
        if self.lose_answers:
            raise LogUnavailable("the test lost the log's answer")
        return landed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)
