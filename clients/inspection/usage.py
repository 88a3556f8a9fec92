"""Usage: what consumers hold, added up by class."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import msgspec

from vacancy.clients.inspection.cell_moves import CellMove, cell_moves
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.model.errors import UsageError
from vacancy.resources.model.names import unit_name
from vacancy.resources.state.rows import AllocationRow
from vacancy.resources.state.tables import ALLOCATIONS, ClassTable

By = Literal["project", "user", "type"]
"""What consumers are grouped by."""

_decode = msgspec.msgpack.Decoder().decode  # rows as lists: only a few fields are needed
_FIELDS = AllocationRow.__struct_fields__
_GROUPED_BY = tuple(map(_FIELDS.index, ("project", "user", "consumer_type")))
_PARTS = _FIELDS.index("parts")

_RECORDS_KEPT = 4_096

GROUPINGS: tuple[str, ...] = get_args(By)


class HeldInCells(NamedTuple):
    """A consumer that holds something in several cells, as during a move between them."""

    consumer: str
    cells: list[str]


class UsageAnswer(NamedTuple):
    """The usage of all, or of each group, by name. `in_two_cells` are those of these consumers that hold something in more
    than one cell, by name. `open_moves` are all moves between cells that have not ended."""

    usages: list[Usage]
    in_two_cells: list[HeldInCells]
    open_moves: list[CellMove]


@dataclass(frozen=True, slots=True)
class Usage:
    """What some consumers hold together. `name` is their project, user or type; '' if they are not grouped.

    `usages` is class -> amount, in the units of the class's capacity: devices are counted, shares of devices added up. A
    class that counts in more units (`ResourceClass.more_units`) has an entry for each: `NUMA_CELL` has its vCPUs,
    `NUMA_CELL.memory_mb` its memory.
    """

    name: str
    consumers: int
    usages: dict[str, int]


def usage(
    reader: StoreReader,
    *,
    project: str | None = None,
    user: str | None = None,
    consumer_type: str | None = None,
    by: str | None = None,
) -> UsageAnswer:
    """What consumers hold, by class, as of the newest commit: of one project, user or type, if one is named.

    One usage for each project, user or type with `by`, by name; else one for all, as OpenStack Placement's
    `GET /usages` answers. A consumer that holds something in two cells counts twice. It reads all allocations: about
    a second for 100,000. Raises `UsageError` for another `by`.
    """
    if by not in (None, *GROUPINGS):
        raise UsageError(f"usage cannot be grouped by {by!r}", do=f"choose one of {', '.join(GROUPINGS)}")
    reader.catch_up()
    wanted = (project, user, consumer_type)
    count = GrantCounter(reader)
    amounts: dict[str, Counter[str]] = {}
    consumers: Counter[str] = Counter()
    first_cell: dict[bytes, bytes] = {}
    several: dict[bytes, list[bytes]] = {}
    if by is None:
        amounts[""] = Counter()
    asked = [(at, one) for at, one in zip(_GROUPED_BY, wanted, strict=True) if one is not None]
    group_at = None if by is None else _GROUPED_BY[GROUPINGS.index(by)]
    for partition in range(reader.manifest.partitions):
        for key, data in reader.raw(partition, ALLOCATIONS.family):
            row = _decode(data)
            if asked and any(row[at] != one for at, one in asked):
                continue
            name = "" if group_at is None else row[group_at]
            consumers[name] += 1
            cell, _, consumer = key.partition(b"\0")
            if (other := first_cell.setdefault(consumer, cell)) != cell:
                several.setdefault(consumer, [other]).append(cell)
            to = amounts.setdefault(name, Counter())
            for provider, resource_class, _, grant in row[_PARTS]:
                for unit, amount in count.amounts(key, provider, resource_class, grant).items():
                    to[unit] += amount
    return UsageAnswer(
        [Usage(name, consumers[name], dict(sorted(amounts[name].items()))) for name in sorted(amounts)],
        [
            HeldInCells(consumer.decode(), sorted(cell.decode() for cell in cells))
            for consumer, cells in sorted(several.items())
        ],
        cell_moves(reader),
    )


class GrantCounter:
    """Counts grants with the units of their classes. Where a class needs the record of the provider, it is read, and the last
    few thousand of them are kept."""

    def __init__(self, reader: StoreReader) -> None:
        self._reader = reader
        self._tables: dict[str, ClassTable] = {}
        self._records: dict[bytes, Any] = {}

    def amounts(
        self, allocation_key: bytes, provider: str, resource_class: str, grant: Any
    ) -> dict[str, int]:
        """Name of the unit -> amount of one grant of the consumer whose allocation has this key."""
        table = self._tables.get(resource_class)
        if table is None:
            table = self._tables[resource_class] = self._reader.registry.table(resource_class)
        of, record = table.resource_class, None
        if of.amounts_need_record and not of.is_amount(grant):
            cell = allocation_key.partition(b"\0")[0]
            row_key = table.prefix + cell + b"\0" + provider.encode()
            slot = resource_class.encode() + b"\0" + row_key
            if slot not in self._records:
                row = self._reader.get(table, row_key, cell=cell.decode())
                if len(self._records) >= _RECORDS_KEPT:
                    self._records.clear()
                self._records[slot] = None if row is None else row.record
            record = self._records[slot]
        return {
            unit_name(resource_class, unit): amount for unit, amount in of.amounts_of(grant, record).items()
        }
