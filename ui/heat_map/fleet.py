"""The fleet of one class: its heat map, and the totals of each group."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vacancy.resources.model.errors import UsageError
from vacancy.streams.clocks.clock import wall_ms
from vacancy.ui.heat_map.groups import Grouping, GroupTotals, choices, grouped, totals
from vacancy.ui.heat_map.payload import AMOUNTS, fleet_bytes
from vacancy.ui.nodes import STATES, NodeAmounts, NodeIndex
from vacancy.ui.tables import Tables

MEASURES: Final = {
    "used": "share in use",
    "free": "free",
    "total": "total",
    "reserved": "share reserved",
    "state": "state of the node",
    "staleness": "time since the last report",
}
"""What the heat map may show, and its name for people."""

GROUPS_SHOWN: Final = 1_000


@dataclass(frozen=True)
class Fleet:
    """The nodes with the amounts of class `name`, grouped by `group`. `heard_s` is the time of the last event of each node in
    seconds since 1970 (UTC), `present_ms` the present, `choices` are the groupings that make sense here."""

    name: str
    group: str
    index: NodeIndex
    amounts: NodeAmounts
    heard_s: NDArray[np.int64]
    states: NDArray[np.uint8]
    grouping: Grouping
    totals: list[GroupTotals]
    choices: list[str]
    as_of: dict[int, int]
    as_of_ms: int
    present_ms: int

    @property
    def sum(self) -> GroupTotals:
        """All groups together."""
        parts = [[getattr(one, field) for one in self.totals] for field in GroupTotals.__slots__[1:]]
        return GroupTotals("all", *map(sum, parts))


def present_ms(tables: Tables) -> int:
    """The present of these tables: for tables of the past, their newest log time."""
    newest = tables.reader.newest_ms
    return newest if tables.reader.still else max(newest, wall_ms())


def heard_s(tables: Tables, index: NodeIndex) -> NDArray[np.int64]:
    """The time of the last event of each node in seconds since 1970, UTC; 0 where there was none."""
    return tables.nodes.heard_ms(index) // 1000


def class_name(tables: Tables, wanted: str) -> str:
    """The class to show: the one that was asked for, or the one that most providers have; '' where there is none. Raises
    `UsageError` for a class that no provider has."""
    names = tables.nodes.classes()
    if wanted and wanted not in names:
        raise UsageError(f"no provider has {wanted!r}", do=f"choose one of {', '.join(names[:20])}")
    return wanted or next(iter(names), "")


def fleet(tables: Tables, wanted: str, group: str) -> Fleet:
    """The fleet as of where the tables are. Raises `UsageError` for an unknown class or grouping."""
    index = tables.nodes.index()
    name = class_name(tables, wanted)
    grouping = grouped(tables.nodes, index, group)
    states = tables.nodes.states(index)
    amounts = tables.nodes.amounts(name, index)
    return Fleet(
        name,
        group,
        index,
        amounts,
        heard_s(tables, index),
        states,
        grouping,
        totals(grouping, amounts, states),
        choices(tables.reader.view),
        dict(tables.reader.position),
        tables.reader.newest_ms,
        present_ms(tables),
    )


def as_bytes(found: Fleet, *, redacted: bool) -> bytes:
    """The fleet for the heat map (see `payload`)."""
    header = {
        "class": found.name,
        "group": found.group,
        "groups": group_names(found, redacted=redacted),
        "states": STATES,
        "generation": found.index.generation,
        "as_of": found.as_of,
        "as_of_ms": found.as_of_ms,
        "present_ms": found.present_ms,
        "nodes": len(found.index),
    }
    columns: dict[str, NDArray[Any]] = {name: getattr(found.amounts, name) for name in AMOUNTS}
    columns |= {"heard": found.heard_s, "state": found.states, "group": found.grouping.of}
    return fleet_bytes(header, columns, () if redacted else found.index.names)


def group_names(found: Fleet, *, redacted: bool) -> list[str]:
    """The names of the groups; where names are not shown, their kind and number."""
    names = found.grouping.names
    kind = found.group.partition(":")[0]
    if not redacted or kind == "state":
        return names
    return [f"{kind} {number}" for number in range(1, len(names) + 1)]


def as_json(found: Fleet, *, redacted: bool) -> Mapping[str, Any]:
    """The same for programs: one list for each column."""
    named = dict(zip(found.grouping.names, group_names(found, redacted=redacted), strict=True))
    columns: dict[str, Any] = {name: getattr(found.amounts, name).astype(int).tolist() for name in AMOUNTS}
    columns["heard_s"] = found.heard_s.tolist()
    columns["state"] = [STATES[one] for one in found.states.tolist()]
    columns["group"] = found.grouping.of.tolist()
    if not redacted:
        columns["node"] = found.index.names
        columns["cell"] = [found.index.cells[one] for one in found.index.cell_of.tolist()]
    return {
        "class": found.name,
        "grouping": found.group,
        "groups": list(named.values()),
        "totals": [
            {field: getattr(one, field) for field in GroupTotals.__slots__} | {"name": named[one.name]}
            for one in found.totals
        ],
        "columns": columns,
        "as_of": found.as_of,
        "as_of_ms": found.as_of_ms,
    }
