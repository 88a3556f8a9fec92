"""What a log held before its rules counted it, and nobody has counted yet: allocations for quotas, and nodes for domains.

Rules version 4 counts each claim for quotas, and each event of a node for the domains over which server groups are spread. What
was there before a log was raised to it is counted by events of its own (`clients.admin.counting`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.model.server_group import kind_of
from vacancy.resources.state.rows import AllocationRow, PartitionRow
from vacancy.resources.state.tables import (
    ALLOCATIONS,
    DOMAIN_NODES,
    NODES,
    PARTITION,
    PROVIDERS,
    QUOTA_AMOUNTS,
    QUOTA_PARENTS,
    split_key,
)

_decode = msgspec.msgpack.Decoder().decode  # rows as lists: only two fields are needed
_OFFSET, _PROJECT = map(AllocationRow.__struct_fields__.index, ("offset", "project"))


class UncountedAllocation(NamedTuple):
    """An allocation that quotas do not count; `data` is its encoded row."""

    partition: int
    key: bytes
    project: str
    data: bytes


class Uncounted(NamedTuple):
    """How many allocations quotas do not count, and the version of the rules whose activation counts them."""

    allocations: int
    version: int

    @property
    def text(self) -> str:
        """A sentence about them, or an empty text if there are none."""
        if not self.allocations:
            return ""
        held = "1 allocation is" if self.allocations == 1 else f"{self.allocations:,} allocations are"
        return (
            f"{held} not counted yet, from before the log had quotas: `vacancy rules activate {self.version}` counts"
            " what is left"
        )


class UncountedNode(NamedTuple):
    """A node in domains, of which nothing was written since its partition counts domains."""

    cell: str
    root: str


def uncounted_allocations(reader: StoreReader) -> Iterator[UncountedAllocation]:
    """The allocations that were granted before their partition counted, and are not counted yet. It reads all allocations of
    the partitions that were raised, and nothing of other partitions."""
    for row in _partitions(reader):
        if not row.quotas_from:
            continue
        marked = {key for key, _ in reader.raw(row.partition, QUOTA_AMOUNTS.family)}
        for key, data in reader.raw(row.partition, ALLOCATIONS.family):
            fields = _decode(data)
            if fields[_OFFSET] < row.quotas_from and key not in marked:
                yield UncountedAllocation(row.partition, key, fields[_PROJECT], data)


def uncounted_nodes(reader: StoreReader) -> Iterator[UncountedNode]:
    """The silent nodes that are in domains: no rule of a server group counts their domains."""
    for row in _partitions(reader):
        if not reader.versions.of(row.rules_version).counts_domains:
            continue
        counted = {key for key, _ in reader.raw(row.partition, DOMAIN_NODES.family)}
        for key, _ in reader.raw(row.partition, NODES.family):
            cell, root = split_key(key)
            provider = None if key in counted else reader.get(PROVIDERS, key, cell=cell)
            if provider is not None and any(map(kind_of, provider.aggregates)):
                yield UncountedNode(cell, root)


def uncounted(reader: StoreReader, project: str | None = None) -> Uncounted:
    """How many allocations quotas do not count: all, or those of a project and of the projects below it."""
    version = max((row.rules_version for row in _partitions(reader)), default=0)
    them = uncounted_allocations(reader)
    if project is None:
        return Uncounted(sum(1 for _ in them), version)
    names = {project, *(key.decode() for _, key, row in reader.scan(QUOTA_PARENTS) if row.parent == project)}
    return Uncounted(sum(one.project in names for one in them), version)


def _partitions(reader: StoreReader) -> list[PartitionRow]:
    return [row for _, _, row in reader.scan(PARTITION)]
