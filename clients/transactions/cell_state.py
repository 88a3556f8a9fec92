"""What transactions see of a cell: providers with their inventories, consumers with their allocations, custom names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.model.names import CUSTOM_PREFIX
from vacancy.resources.state.rows import AllocationRow, ClassRow, ProviderDetailsRow, ProviderRow
from vacancy.resources.state.tables import (
    ALLOCATIONS,
    CELL_COUNTS,
    CUSTOM_NAMES,
    PROVIDER_DETAILS,
    PROVIDER_NAMES,
    PROVIDERS,
    ClassTable,
    custom_name,
    key,
)

_COUNTED = {"class": "classes", "trait": "traits"}


class InventoryState(NamedTuple):
    """An inventory, as the operator's overrides make it. `allocation_ratio` is a decimal text. `capacity` is what may be in use. Of a
    class that does not count amounts, `total` is the capacity."""

    total: int
    reserved: int
    min_unit: int
    max_unit: int
    step_size: int
    allocation_ratio: str
    used: int
    capacity: int


class ProviderState(NamedTuple):
    """A provider. `generation` counts its changes. `parent` is None for a root. `reported` is False for what is withdrawn and only
    stays because it is in use. Times are ms of log time, 0 if not known."""

    id: str
    name: str
    parent: str | None
    root: str
    generation: int
    inventories: Mapping[str, InventoryState]
    traits: tuple[str, ...]
    aggregates: tuple[str, ...]
    created_ms: int = 0
    changed_ms: int = 0
    reported: bool = True


class ConsumerState(NamedTuple):
    """A consumer. `allocations`: provider -> class -> amount."""

    id: str
    project: str
    user: str
    consumer_type: str
    generation: int
    allocations: Mapping[str, Mapping[str, int]]


class CustomName(NamedTuple):
    """A custom class or trait: the offset and the log time at which it was created; -1 and 0 if it only exists because a
    provider has it."""

    name: str
    offset: int = -1
    created_ms: int = 0


class CellState:
    """Reads one cell of a store. All answers are as of `reader.position`, which `catch_up` moves."""

    def __init__(self, reader: StoreReader, cell: str) -> None:
        self.reader, self.cell = reader, cell

    def catch_up(self) -> Mapping[int, int]:
        """Move to the newest commit. Returns the position: partition -> next offset."""
        self.reader.catch_up()
        return self.reader.position

    # -- providers ------------------------------------------------------------------------------------------

    def provider(self, id_: str) -> ProviderState | None:
        """A provider by its id, or None."""
        row = self.reader.get(PROVIDERS, key(self.cell, id_))
        return None if row is None else self._provider(id_, row)

    def provider_named(self, name: str) -> ProviderState | None:
        """A provider by its name, or None."""
        id_ = self.reader.get(PROVIDER_NAMES, key(self.cell, name))
        found = self.provider(name if id_ is None else id_)
        return found if found is not None and found.name == name else None

    def providers(self) -> Iterator[ProviderState]:
        """All providers of the cell, by id."""
        for id_, row in self.reader.rows_of_cell(PROVIDERS, self.cell):
            yield self._provider(id_, row)

    def tree(self, root: str) -> list[ProviderState]:
        """The providers of a tree, the root first."""
        row = self.reader.get(PROVIDERS, key(self.cell, root))
        there = (self.provider(one) for one in (() if row is None else row.members))
        return [one for one in there if one is not None]

    def _provider(self, id_: str, row: ProviderRow) -> ProviderState:
        details = self.reader.get(PROVIDER_DETAILS, key(self.cell, id_)) or ProviderDetailsRow()
        return ProviderState(
            id=id_,
            name=details.name or id_,
            parent=row.parent,
            root=row.root,
            generation=details.generation,
            inventories={name: found for name in row.classes if (found := self.inventory(id_, name))},
            traits=tuple(sorted(row.traits)),
            aggregates=row.aggregates,
            created_ms=details.created_ms,
            changed_ms=details.changed_ms,
            reported=row.reported,
        )

    def inventory(self, provider: str, name: str) -> InventoryState | None:
        """What a provider has of a class, or None."""
        table = self.reader.registry.table(name)
        row = self.reader.get(table, table.prefix + key(self.cell, provider), cell=self.cell)
        return None if row is None or not row.reported else _inventory(table, row)

    # -- consumers ------------------------------------------------------------------------------------------

    def consumer(self, id_: str) -> ConsumerState | None:
        """A consumer that holds something, or None."""
        row = self.reader.get(ALLOCATIONS, key(self.cell, id_))
        return None if row is None else self._consumer(id_, row)

    def consumers(self, project: str | None = None, user: str | None = None) -> Iterator[ConsumerState]:
        """All consumers of the cell, by id, or those of a project and a user."""
        for id_, row in self.reader.rows_of_cell(ALLOCATIONS, self.cell):
            if project in (None, row.project) and user in (None, row.user):
                yield self._consumer(id_, row)

    def allocations_of(self, provider: str) -> dict[str, dict[str, int]]:
        """Who holds what of a provider: consumer -> class -> amount. It reads all consumers of the cell; `ConsumerIndex` does
        not."""
        found: dict[str, dict[str, int]] = {}
        for id_, row in self.reader.rows_of_cell(ALLOCATIONS, self.cell):
            if any(part.provider == provider for part in row.parts):
                found[id_] = self._amounts(row)[provider]
        return found

    def _consumer(self, id_: str, row: AllocationRow) -> ConsumerState:
        return ConsumerState(
            id_, row.project, row.user, row.consumer_type, row.generation, self._amounts(row)
        )

    def _amounts(self, row: AllocationRow) -> dict[str, dict[str, int]]:
        amounts: dict[str, dict[str, int]] = {}
        for part in row.parts:
            of_provider = amounts.setdefault(part.provider, {})
            resource_class = self.reader.registry.table(part.resource_class).resource_class
            amount = resource_class.amount_of(part.grant)
            of_provider[part.resource_class] = of_provider.get(part.resource_class, 0) + amount
        return amounts

    # -- names ----------------------------------------------------------------------------------------------

    def custom_classes(self) -> list[CustomName]:
        """The custom resource classes of the cell, in the order of their creation."""
        return self._custom_names("class")

    def custom_traits(self) -> list[CustomName]:
        """The custom traits of the cell, in the order of their creation."""
        return self._custom_names("trait")

    def _custom_names(self, kind: str) -> list[CustomName]:
        start = custom_name(kind, "")
        found = {
            id_[len(start) :]: CustomName(id_[len(start) :], row.offset, row.created_ms)
            for id_, row in self.reader.rows_of_cell(CUSTOM_NAMES, self.cell, start)
        }
        used = f"{_COUNTED[kind]} {CUSTOM_PREFIX}"
        for id_, _ in self.reader.rows_of_cell(CELL_COUNTS, self.cell, used):
            name = id_.partition(" ")[2]
            found.setdefault(name, CustomName(name))
        return sorted(found.values(), key=lambda one: (one.offset, one.name))


def _inventory(table: ClassTable, row: ClassRow) -> InventoryState:
    resource_class = table.resource_class
    columns = dict(zip(resource_class.columns, resource_class.row(row.record), strict=True))
    capacity, free = columns["capacity"], columns["free"]
    fields = resource_class.inventory_set(row.record) or {
        "total": capacity,
        "reserved": 0,
        "min_unit": 1,
        "max_unit": max(capacity, 1),
        "step_size": 1,
        "allocation_ratio": "1.0",
    }
    return InventoryState(**fields, used=capacity - free, capacity=capacity)
