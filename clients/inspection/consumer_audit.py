"""What is held compared with what nodes say that they run (`vacancy audit`). Nothing here writes.

A node is judged by its last list (`node.running`). Consumers that are starting or stopping are left out for a grace period of
log time: an allocation may be that much younger than the list, and a consumer may have left a list that long ago.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from vacancy.clients.inspection.cell_moves import cell_moves
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.model.partitioner import partition_for
from vacancy.resources.state.rows import AllocationRow, NodeRunningRow
from vacancy.resources.state.tables import (
    ALLOCATIONS,
    NODE_RUNNING,
    NODES,
    PROVIDERS,
    key,
    split_key,
)

GRACE_MS = 300_000
STALE_MS = 3_600_000
"""A list of consumers that is older than this, in log time, is not compared."""

TimeOf = Callable[[int, int], int | None]
"""The timestamp of the record of a partition at an offset, in ms since 1970; None where it cannot be read."""


@dataclass(frozen=True, slots=True)
class HeldNotRunning:
    """A consumer that holds something of a node that says that it does not run it. `offset` is that of its claim, at `held_ms`
    (None: not known). `left_ms` is the time of the first list without it, 0 if it was on none. `said_offset` and `said_ms` are
    of the node's last list. `elsewhere` are nodes that say that they run it."""

    node: str
    cell: str
    consumer: str
    claim: str
    partition: int
    offset: int
    held_ms: int | None
    left_ms: int
    said_offset: int
    said_ms: int
    elsewhere: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class RunningNotHeld:
    """A consumer that a node runs, since `since_ms`, and that holds nothing of it. `held_on` are the nodes of which it holds
    something; none: it was never claimed, or it was released."""

    node: str
    cell: str
    consumer: str
    partition: int
    since_ms: int
    said_offset: int
    held_on: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class HeldTwice:
    """A consumer that holds something in several cells. `claims` are its claims, by cell. `move` is the open move between cells
    that it is in, `reason` what that waits for; "" where there is none. `decided`: its claim in the destination is confirmed,
    so only the release of the source is left. `running` are the nodes that say that they run it, `in_source` those of the
    cell that it leaves."""

    consumer: str
    claims: dict[str, str]
    move: str = ""
    reason: str = ""
    decided: bool = False
    running: list[str] = field(default_factory=list)
    in_source: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class OverCapacity:
    """A provider of which more is held than it has. `offset` is that of the event that last changed its inventory."""

    provider: str
    cell: str
    resource_class: str
    capacity: int
    used: int
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class ConsumerAudit:
    """What was found. `judged` are the nodes whose lists were compared; `stale` those whose last list is too old; `silent`
    counts the nodes that never said what they run."""

    judged: int
    stale: list[str]
    silent: int
    held_not_running: list[HeldNotRunning]
    running_not_held: list[RunningNotHeld]
    held_twice: list[HeldTwice]
    over_capacity: list[OverCapacity]
    position: dict[int, int]

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not (self.held_not_running or self.running_not_held or self.held_twice or self.over_capacity)


class _Holdings:
    """What is held, by node and by consumer."""

    def __init__(self, reader: StoreReader) -> None:
        self._roots: dict[bytes, str] = {}
        self._reader = reader
        self.of_node: dict[bytes, dict[str, AllocationRow]] = defaultdict(dict)
        self.cells: dict[str, dict[str, AllocationRow]] = defaultdict(dict)
        self.nodes: dict[str, list[str]] = defaultdict(list)
        for _, name, row in reader.scan(ALLOCATIONS):
            cell, consumer = split_key(name)
            self.cells[consumer][cell] = row
            for root in sorted({self._root(cell, part.provider) for part in row.parts}):
                self.of_node[key(cell, root)][consumer] = row
                self.nodes[consumer].append(root)

    def _root(self, cell: str, provider: str) -> str:
        name = key(cell, provider)
        if name not in self._roots:
            row = self._reader.get(PROVIDERS, name)
            self._roots[name] = provider if row is None else row.root
        return self._roots[name]


def audit_consumers(
    reader: StoreReader, time_of: TimeOf, *, node: str | None = None, grace_ms: int = GRACE_MS
) -> ConsumerAudit:
    """Compare what is held with what nodes run; with `node`, only of that node. `time_of` is asked for what was found only."""
    reader.catch_up()
    held = _Holdings(reader)
    lists, stale = _lists(reader, node)
    runners: _Runners = defaultdict(list)
    for _, name, row in reader.scan(NODE_RUNNING):
        for consumer, _ in row.consumers:
            runners[consumer].append(split_key(name))
    return ConsumerAudit(
        len(lists),
        sorted(split_key(name)[1] for name in stale),
        max(0, _nodes(reader, node) - len(lists) - len(stale)),
        sorted(
            _held_not_running(reader, held, lists, runners, time_of, grace_ms),
            key=lambda one: (one.node, one.consumer),
        ),
        sorted(_running_not_held(reader, held, lists, grace_ms), key=lambda one: (one.node, one.consumer)),
        sorted(_held_twice(reader, held, runners, node, time_of, grace_ms), key=lambda one: one.consumer),
        sorted(_over_capacity(reader, node), key=lambda one: (one.provider, one.resource_class)),
        dict(reader.position),
    )


_Lists = dict[bytes, tuple[int, NodeRunningRow]]
_Runners = dict[str, list[tuple[str, str]]]
"""Consumer -> (cell, node) of those that say that they run it."""


def _lists(reader: StoreReader, node: str | None) -> tuple[_Lists, _Lists]:
    """(lists that count, stale lists), each by the key of the node."""
    lists: _Lists = {}
    stale: _Lists = {}
    for partition, name, row in reader.scan(NODE_RUNNING):
        if node in (None, split_key(name)[1]):
            old = reader.log_time_ms(partition) - row.heard_ms > STALE_MS
            (stale if old else lists)[name] = (partition, row)
    return lists, stale


def _nodes(reader: StoreReader, node: str | None) -> int:
    return sum(not row.retired and node in (None, split_key(name)[1]) for _, name, row in reader.scan(NODES))


def _held_not_running(
    reader: StoreReader,
    held: _Holdings,
    lists: _Lists,
    runners: _Runners,
    time_of: TimeOf,
    grace_ms: int,
) -> Iterator[HeldNotRunning]:
    for name, (partition, row) in lists.items():
        cell, node = split_key(name)
        runs, left = dict(row.consumers), dict(row.left)
        for consumer, allocation in held.of_node.get(name, {}).items():
            if consumer in runs or allocation.hold_until_ms:
                continue  # an unconfirmed hold ends by itself
            left_ms = left.get(consumer, 0)
            if left_ms and reader.log_time_ms(partition) - left_ms < grace_ms:
                continue
            held_ms = time_of(partition, allocation.offset)
            if held_ms is None or row.heard_ms - held_ms < grace_ms:
                continue
            yield HeldNotRunning(
                node,
                cell,
                consumer,
                allocation.claim,
                partition,
                allocation.offset,
                held_ms,
                left_ms,
                row.offset,
                row.heard_ms,
                _names(runners, consumer),
            )


def _running_not_held(
    reader: StoreReader, held: _Holdings, lists: _Lists, grace_ms: int
) -> Iterator[RunningNotHeld]:
    for name, (partition, row) in lists.items():
        cell, node = split_key(name)
        here, now_ms = held.of_node.get(name, {}), reader.log_time_ms(partition)
        for consumer, since_ms in row.consumers:
            if consumer not in here and now_ms - since_ms >= grace_ms:
                yield RunningNotHeld(
                    node, cell, consumer, partition, since_ms, row.offset, held.nodes.get(consumer, [])
                )


def _held_twice(
    reader: StoreReader,
    held: _Holdings,
    runners: _Runners,
    node: str | None,
    time_of: TimeOf,
    grace_ms: int,
) -> Iterator[HeldTwice]:
    moves = {move.consumer: move for move in cell_moves(reader)}
    for consumer, cells in held.cells.items():
        if len(cells) < 2 or node not in (None, *held.nodes[consumer]):
            continue
        made = [_made_ms(reader, cell, row, time_of) for cell, row in cells.items()]
        if reader.newest_ms - max(made) < grace_ms:
            continue
        claims = {cell: row.claim for cell, row in sorted(cells.items())}
        move = moves.get(consumer)
        if move is None:
            yield HeldTwice(consumer, claims, running=_names(runners, consumer))
            continue
        there = cells.get(move.destination)
        yield HeldTwice(
            consumer,
            claims,
            move.id,
            move.reason,
            there is not None and there.claim == move.id and not there.hold_until_ms,
            _names(runners, consumer),
            _names(runners, consumer, move.source),
        )


def _names(runners: _Runners, consumer: str, cell: str | None = None) -> list[str]:
    """The nodes that run a consumer, of all cells or of one."""
    return sorted(node for where, node in runners.get(consumer, []) if cell in (None, where))


def _made_ms(reader: StoreReader, cell: str, row: AllocationRow, time_of: TimeOf) -> int:
    """When an allocation of a cell was made; 0 where that is not known."""
    partition = partition_for(cell.encode(), reader.manifest.partitions)
    return time_of(partition, row.offset) or 0


def _over_capacity(reader: StoreReader, node: str | None) -> Iterator[OverCapacity]:
    for partition, name, provider in reader.scan(PROVIDERS):
        cell, id_ = split_key(name)
        if node not in (None, provider.root):
            continue
        for class_name in provider.classes:
            table = reader.registry.table(class_name)
            row = reader.get(table, table.prefix + name, cell=cell)
            if row is None:
                continue
            of = table.resource_class
            columns = dict(zip(of.columns, of.row(row.record), strict=True))
            capacity, free = int(columns["capacity"]), int(columns["free"])
            if free < 0:
                yield OverCapacity(id_, cell, class_name, capacity, capacity - free, partition, row.changed)
