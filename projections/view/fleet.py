"""The columnar view: the data that a scheduler selects on, in memory, one array for each property.

Each row is one provider. The view itself assigns the row numbers. The view applies the entries of the store's change
feed. It reads single rows of the tables only to apply the scheduler's own claims that have no verdict yet.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from vacancy.projections.view.admission import (
    EXPANDED_SHARE,
    KEPT_PERCENT,
    LOADING,
    SHARES,
    ColumnsMemory,
    LeftOut,
    bytes_max,
    examples,
    rarest,
)
from vacancy.projections.view.attribute_columns import AttributeColumns, attributes_of
from vacancy.projections.view.cache import ViewCache
from vacancy.projections.view.columns import BitColumns, ClassColumns, Meter, grown, trait_names
from vacancy.projections.view.duplicate_roots import DuplicateRoots
from vacancy.projections.view.group_members import GroupMembers
from vacancy.projections.view.reservations import Reservation, Reservations
from vacancy.projections.view.sparse_rows import Bools, Ints, SparseRows
from vacancy.projections.view.taint_rows import TaintRows
from vacancy.resources.classes.registry import Registry
from vacancy.resources.classes.resource_class import Exactness, Granted, ResourceClass
from vacancy.resources.fold.nodes.provider_tree import path_to_root
from vacancy.resources.state.rows import ClassRow, NodeRow, ProviderRow
from vacancy.resources.state.tables import GROUPS, MACHINES, NODES, PROVIDERS, ClassTable, split_key

_EXACT = Exactness.EXACT
_FIRST_SIZE = 16
_WASTE_MIN = 4096
_WASTE_SHARE = 4
"""A view with more rows than the first number, of which providers have fewer than one in the second, should be reloaded."""

_FEW = 12
"""Up to this number of rows, setting them one by one is faster than setting them as arrays."""


class FleetView:
    """Arrays with one slot for each row.

    `root` and `parent` hold row numbers. A root is its own root and parent. The root is also the parent of a provider
    that is no longer reported. `open` is whether a provider accepts new claims. `heard_ms` (of roots) is the log time of
    the node's last event. `cell` is the number that `cells` maps the cell to. `classes` has the columns of each
    resource class. `taints` are the taints of the few rows that have any. Traits and aggregates are bool columns, attributes are typed columns. `members` maps a root's row to the
    rows of its tree if the tree has more than one provider.

    Columns use about `memory_mb` at most (`admission`; None: in proportion to the fleet). `memory` is what they use.

    `read` returns a class row from the store, for checks that columns cannot decide. `reservations` are the resources of
    claims without a verdict. `version` increases with each change.
    """

    def __init__(
        self,
        registry: Registry,
        read: Callable[[ClassTable, bytes], ClassRow | None],
        memory_mb: int | None = None,
    ) -> None:
        self._registry = registry
        self._read = read
        self._memory_mb = memory_mb
        self._loading = True
        self._left_out_examples: tuple[str, ...] = ()
        self.left_out = 0
        """How many names were left out since the view was loaded, so that the columns stay within their bound."""
        self.size = 0
        self.row_of: dict[bytes, int] = {}
        self.keys: list[bytes] = []
        self.cells: dict[bytes, int] = {}
        self._cell_sizes: Counter[int] = Counter()
        self._free_cells: list[int] = []
        self.cell: Ints = np.zeros(_FIRST_SIZE, dtype=np.int64)
        self.root: Ints = np.zeros(_FIRST_SIZE, dtype=np.int64)
        self.parent: Ints = np.zeros(_FIRST_SIZE, dtype=np.int64)
        self.open: Bools = np.zeros(_FIRST_SIZE, dtype=np.bool_)
        self.heard_ms: Ints = np.zeros(_FIRST_SIZE, dtype=np.int64)
        self.version = 0
        self.layout = 0
        """Increases when a row is added or removed, moves to another tree, or changes its traits or aggregates."""
        self._offered: Bools = np.zeros(_FIRST_SIZE, dtype=np.bool_)
        self._node_open: Bools = np.zeros(_FIRST_SIZE, dtype=np.bool_)
        self.meter = Meter()
        self.classes: dict[str, ClassColumns] = {}
        self._frequent: set[str] = set()
        """The classes that have arrays."""
        self._rare_of: dict[int, set[str]] = {}
        """Row -> the classes with sparse columns that it has."""
        self.traits = BitColumns(self.meter)
        self.aggregates = BitColumns(self.meter)
        self.attributes = AttributeColumns(self.meter)
        self._classes_left_out = LeftOut()
        self.members: dict[int, list[int]] = {}
        self._duplicates = DuplicateRoots()
        self._machines: dict[bytes, bytes] = {}
        """Root -> the machine that it is, where a report named it."""
        self._same_machine = DuplicateRoots()
        self.groups = GroupMembers()
        self.taints = TaintRows()
        self._free_rows: list[int] = []
        self.reservations = Reservations()
        self.derived = ViewCache()

    # -- queries and reservations ----------------------------------------------------------------------------------------

    def name(self, row: int) -> tuple[str, str]:
        """(cell, provider id) of a row."""
        return split_key(self.keys[row])

    @property
    def clashes(self) -> dict[str, set[int]]:
        """The rows of each root that is live in several cells. Such a root is a candidate in none of them."""
        return {root.decode(): rows for root, rows in self._duplicates.clashes.items()}

    @property
    def machine_clashes(self) -> dict[str, set[int]]:
        """The rows of the live roots that are one machine, by the machine. Such a root is no candidate."""
        return {machine.decode(): rows for machine, rows in self._same_machine.clashes.items()}

    def open_roots(self) -> Bools:
        """By row, whether it is the root of a node that takes new claims, also where no query may choose it because it is in
        `clashes`."""
        size = self.size
        found: Bools = self._offered[:size] & self._node_open[:size] & (self.root[:size] == np.arange(size))
        return found

    def tree(self, row: int) -> list[int]:
        """The rows of a root's tree."""
        return self.members.get(row) or [row]

    def path(self, row: int) -> list[int]:
        """The rows of a provider and its ancestors, starting with the provider."""
        parents = self.parent

        def parent_of(at: int) -> int | None:
            return above if (above := int(parents[at])) != at else None

        return list(path_to_root(row, parent_of))

    def class_row(self, row: int, name: str) -> ClassRow | None:
        """A provider's row of one class in the store, or None."""
        table = self._registry.table(name)
        return self._read(table, table.prefix + self.keys[row])

    def record(self, row: int, name: str) -> Any | None:
        """A provider's record of one class after all reservations on it, or None if it has no record."""
        found = self.class_row(row, name)
        if found is None:
            return None
        record = found.record
        for taken in self.reservations.of(row, name):
            outcome = self._registry.table(name).resource_class.claim(record, taken.ask)
            if isinstance(outcome, Granted):
                record = outcome.record
        return record

    def reserve(self, row: int, name: str, ask: Any) -> Reservation:
        """Count `ask` as used until `unreserve`: a claim for it has no verdict yet."""
        resource_class = self._resource_class(name)
        exact = resource_class.exactness(ask) is _EXACT
        reserved = Reservation(self.keys[row], name, ask, resource_class.column_deltas(ask), exact)
        self._reserve(row, reserved)
        return reserved

    def _reserve(self, row: int, reserved: Reservation) -> None:
        self.version += 1
        self.reservations.add(row, reserved)
        self._count(row, reserved, 1)

    def unreserve(self, reserved: Reservation) -> None:
        """Remove a reservation whose claim has a verdict: the store now contains what the claim uses."""
        self.version += 1
        row = self.row_of.get(reserved.key)
        if row is None or not self.reservations.remove(row, reserved):
            return  # the provider was removed in the meantime, and may have been added again
        if reserved.exact:
            self._count(row, reserved, -1)
        else:
            self._refresh(
                row, reserved.name
            )  # the columns may come from a record that included this reservation

    def restore_reservations(self, reservations: Iterable[Reservation]) -> None:
        """Reserve these in a view that was reloaded."""
        for reserved in reservations:
            if (
                row := self.row_of.get(reserved.key)
            ) is not None:  # else the provider was removed in the meantime
                self._reserve(row, reserved)

    def _count(self, row: int, taken: Reservation, times: int) -> None:
        if taken.deltas is None:
            self._refresh(row, taken.name)
        elif (columns := self.classes.get(taken.name)) is not None:
            columns.add(row, taken.deltas, times)

    def _resource_class(self, name: str) -> ResourceClass[Any]:
        columns = self.classes.get(name)
        return self._registry.table(name).resource_class if columns is None else columns.resource_class

    def _count_reservations(self, row: int, name: str) -> None:
        """Count the reservations of a row whose columns were just set from the store."""
        here = self.reservations.of(row, name)
        if any(taken.deltas is None for taken in here):
            self._refresh(row, name)
            return
        for taken in here:
            self._count(row, taken, 1)

    def _refresh(self, row: int, name: str) -> None:
        record = self.record(row, name)
        if record is not None:
            if (columns := self._columns(name)) is not None:
                self._set_class(columns, row, record)
        elif name in self.classes:
            self._clear_class(self.classes[name], row)

    # -- loading and updates --------------------------------------------------------------------------------------------

    def load_providers(self, items: list[tuple[bytes, bytes]]) -> None:
        """Load providers of a partition, in one or more calls. All of them come before its nodes and classes."""
        keys = [key for key, _ in items]
        providers = [PROVIDERS.decode(data) for _, data in items]
        rows = self._new_rows(keys)
        self.attributes.set_new(rows, map(attributes_of, providers), len(self.root))
        self._offered[rows] = [provider.open for provider in providers]
        by_traits: dict[tuple[str, ...], list[int]] = defaultdict(list)
        by_aggregates: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for row, key, provider in zip(rows, keys, providers, strict=True):
            if provider.parent is not None or len(provider.members) > 1:
                self._place(row, key, provider)
            if provider.taints:
                self.taints.set(row, provider.taints)
            by_traits[trait_names(provider)].append(row)
            by_aggregates[provider.aggregates].append(row)
        self.traits.set_new(by_traits, len(self.root))
        self.aggregates.set_new(by_aggregates, len(self.root))
        self.derived.clear()
        self._keep_within_bound()

    def load_machines(self, items: Iterable[tuple[bytes, bytes]]) -> None:
        """Load which machines the nodes of a partition are, before its nodes."""
        for key, data in items:
            if machine := MACHINES.decode(data).machine:
                self._machines[key] = machine.encode()

    def load_nodes(self, chunks: Iterable[list[tuple[bytes, bytes]]]) -> None:
        """Load all nodes of a partition, chunk by chunk, after its providers."""
        self.version += 1
        for items in chunks:
            self._load_nodes(items)
        self._reopen_all()

    def _load_nodes(self, items: list[tuple[bytes, bytes]]) -> None:
        known = [(key, self.row_of[key], NODES.decode(data)) for key, data in items if key in self.row_of]
        ids = [key[key.index(b"\0") + 1 :] for key, _, _ in known]
        rows = np.array([row for _, row, _ in known], dtype=np.int64)
        self.heard_ms[rows] = [node.heard_ms for _, _, node in known]
        self._node_open[rows] = [node.open for _, _, node in known]
        for id_, (key, row, node) in zip(ids, known, strict=True):
            if not node.open or self._duplicates.is_duplicate(id_, row) or key in self._machines:
                self._find_clash(key, row, node.open)

    def load_class(self, table: ClassTable, keys: list[bytes], encoded: list[bytes]) -> None:
        """Load rows of a class. `keys` have no table prefix, `encoded` records have no row head."""
        self.version += 1
        if keys:
            try:
                rows = np.fromiter(map(self.row_of.__getitem__, keys), dtype=np.int64, count=len(keys))
            except KeyError:
                rows = np.fromiter(map(self._row, keys), dtype=np.int64, count=len(keys))
            if (columns := self._columns(table.name)) is not None:
                self._set_class_rows(columns, rows, encoded)
                self._keep_within_bound()

    def loaded(self) -> None:
        """The whole store is loaded. From now on, names that are left out stay so until a view is loaded again."""
        self._loading = False
        self._keep_within_bound()
        if self.left_out:
            self._close()

    def feed(self, table: str, keys: list[bytes], values: list[bytes | None]) -> None:
        """Apply the after-images of one table and one commit. None means that the row was deleted."""
        self.version += 1
        if table == PROVIDERS.name:
            for key, data in zip(keys, values, strict=True):
                self._feed_provider(key, data)
        elif table == NODES.name:
            for key, data in zip(keys, values, strict=True):
                if (row := self._set_node(key, None if data is None else NODES.decode(data))) is not None:
                    self._reopen(row)
        elif table == MACHINES.name:
            for key, data in zip(keys, values, strict=True):
                self._set_machine(key, b"" if data is None else MACHINES.decode(data).machine.encode())
        elif table == GROUPS.name:
            self.groups.feed(zip(keys, values, strict=True))
        else:
            self._feed_class(self._registry.table(table), keys, values)
        self._keep_within_bound()

    def _feed_provider(self, key: bytes, data: bytes | None) -> None:
        if data is None:
            if (gone := self.row_of.get(key)) is not None:
                self._drop(gone, key)
            return
        provider = PROVIDERS.decode(data)
        row = self._row(key)
        self._place(row, key, provider)
        traits_changed = self.traits.set(row, trait_names(provider), len(self.root))
        if self.aggregates.set(row, provider.aggregates, len(self.root)) or traits_changed:
            self.derived.clear()
            self.layout += 1
        if self.attributes.set(row, attributes_of(provider), len(self.root)):
            self.derived.clear()
        self.taints.set(row, provider.taints)
        self.open[row] = False
        self._reopen(int(self.root[row]))

    def _feed_class(self, table: ClassTable, keys: list[bytes], values: list[bytes | None]) -> None:
        skip, head = len(table.prefix), table.HEAD_BYTES
        own = [key[skip:] for key in keys] if skip else keys
        rows: list[Any] = list(map(self.row_of.get, own))
        if None in values or None in rows:
            rows, values = self._clear_gone(table.name, own, values)
        columns = self._columns(table.name) if rows else None
        if columns is None:
            return
        encoded = [data[head:] for data in values if data is not None]
        self._set_class_rows(columns, np.array(rows, dtype=np.int64), encoded)
        for row in self.reservations.among(rows, table.name):
            self._count_reservations(row, table.name)

    def _clear_gone(
        self, name: str, keys: list[bytes], values: list[bytes | None]
    ) -> tuple[list[int], list[bytes | None]]:
        """Clear the columns of deleted rows. Returns the other rows with their values; rows that are new are added."""
        left: dict[int, bytes | None] = {}
        for key, data in zip(keys, values, strict=True):
            if data is not None:
                left[self._row(key)] = data
            elif (gone := self.row_of.get(key)) is not None and name in self.classes:
                self._clear_class(self.classes[name], gone)
        return list(left), list(left.values())

    # -- classes ------------------------------------------------------------------------------------------------

    def _columns(self, name: str) -> ClassColumns | None:
        """The columns of a class, or None if it is left out."""
        found = self.classes.get(name)
        if found is None and self._classes_left_out.admits(name, self.classes):
            resource_class = self._registry.table(name).resource_class
            found = self.classes[name] = ClassColumns(resource_class, len(self.root), self.meter)
            self.derived.clear()
        return found

    def _set_class(self, columns: ClassColumns, row: int, record: Any) -> None:
        form = columns.arrays
        if columns.set_one(row, record) and columns.sparse is not None:
            self._rare_of.setdefault(row, set()).add(columns.resource_class.name)
        self._note_form(columns, form)

    def _set_class_rows(self, columns: ClassColumns, rows: Ints, encoded: list[bytes]) -> None:
        if len(rows) <= _FEW:
            decode = columns.resource_class.decode
            for row, data in zip(rows.tolist(), encoded, strict=True):
                self._set_class(columns, row, decode(data))
            return
        form = columns.arrays
        for row in columns.set_many(rows, encoded).tolist():
            self._rare_of.setdefault(row, set()).add(columns.resource_class.name)
        self._note_form(columns, form)

    def _clear_class(self, columns: ClassColumns, row: int) -> None:
        form = columns.arrays
        if columns.clear(row):
            self._no_longer_rare(row, columns.resource_class.name)
        self._note_form(columns, form)
        if not columns.count:
            self._drop_class(columns)

    def _drop_class(self, columns: ClassColumns) -> None:
        """Drop the columns of a class that no row has, or that is left out."""
        name = columns.resource_class.name
        for row in columns.rows.tolist():
            self._no_longer_rare(row, name)
        columns.forget()
        del self.classes[name]
        self._frequent.discard(name)
        self.derived.clear()

    def _note_form(self, columns: ClassColumns, before: object) -> None:
        """After a change of a class's columns: queries keep the arrays that they read."""
        if columns.arrays is before:
            return
        self.derived.clear()
        name = columns.resource_class.name
        if columns.sparse is None:
            self._frequent.add(name)
            if isinstance(before, SparseRows):
                for row in before.rows.tolist():
                    self._no_longer_rare(row, name)
        else:
            self._frequent.discard(name)
            for row in columns.rows.tolist():
                self._rare_of.setdefault(row, set()).add(name)

    def _no_longer_rare(self, row: int, name: str) -> None:
        names = self._rare_of.get(row)
        if names is not None:
            names.discard(name)
            if not names:
                del self._rare_of[row]

    # -- memory -------------------------------------------------------------------------------------------------

    @property
    def memory(self) -> ColumnsMemory:
        """What the columns use, and what is left out."""
        most = bytes_max(len(self.row_of), self._memory_mb)
        used = self.meter.bytes + self.meter.expanded_bytes
        return ColumnsMemory(used, most, self.left_out, self._left_out_examples)

    @property
    def is_wasteful(self) -> bool:
        """Whether most rows have no provider, because the fleet has shrunk: a view that is loaded again uses less."""
        return self.size > max(_WASTE_MIN, _WASTE_SHARE * len(self.row_of))

    def may_be_left_out(self, kind: str, name: str) -> bool:
        """Whether a name has no columns, and names are left out. `kind`: class, trait or attribute."""
        known: Any = {
            "class": self.classes,
            "trait": self.traits.arrays,
            "attribute": self.attributes.columns,
        }
        return self.left_out > 0 and name not in known[kind]

    def _keep_within_bound(self) -> None:
        used, most = self.meter.bytes, bytes_max(len(self.row_of), self._memory_mb)
        self.meter.set_room(min(most // EXPANDED_SHARE, most * KEPT_PERCENT // 100 - used))
        if self._loading:
            most *= LOADING
        if used > most:
            self._leave_out(used - most * KEPT_PERCENT // 100)

    def _leave_out(self, excess: int) -> None:
        """Drop the columns of the rarest names, as many as use `excess` bytes."""
        traits, attributes = self.traits, self.attributes
        every = [(one.count, "class", name, one.nbytes) for name, one in self.classes.items()]
        every += [(count, "trait", n, traits.nbytes(n)) for n, count in traits.counts.items() if n != SHARES]
        every += [(one.count, "attribute", name, one.nbytes) for name, one in attributes.columns.items()]
        gone = rarest(every, excess)
        for name in gone.get("class", ()):
            self._drop_class(self.classes[name])
        traits.drop(gone.get("trait", ()))
        attributes.drop(gone.get("attribute", ()))
        for left_out, kind in self._left_out_by_kind():
            left_out.add(gone.get(kind, ()))
        for kind, names in gone.items():
            self.left_out += len(names)
            self._left_out_examples = examples(self._left_out_examples, (f"{kind} {name}" for name in names))
        self.layout += 1
        self.derived.clear()
        if not self._loading:
            self._close()

    def _close(self) -> None:
        for left_out, _ in self._left_out_by_kind():
            left_out.close()

    def _left_out_by_kind(self) -> tuple[tuple[LeftOut, str], ...]:
        return (
            (self._classes_left_out, "class"),
            (self.traits.left_out, "trait"),
            (self.attributes.left_out, "attribute"),
        )

    # -- rows ---------------------------------------------------------------------------------------------------

    def _row(self, key: bytes) -> int:
        row = self.row_of.get(key)
        if row is not None:
            return row
        if self._free_rows:
            row = self._free_rows.pop()
            self.keys[row] = key
        else:
            row = self.size
            self.size += 1
            self.keys.append(key)
            if row >= len(self.root):
                self._grow(2 * len(self.root))
        self.row_of[key] = row
        self.root[row] = self.parent[row] = row
        self.cell[row] = self._cell(key)
        self.layout += 1
        return row

    def _cell(self, key: bytes) -> int:
        """The number of the cell of one more row."""
        name = key[: key.index(b"\0")]
        number = self.cells.get(name)
        if number is None:
            number = self.cells[name] = self._free_cells.pop() if self._free_cells else len(self.cells)
            self.derived.clear()
        self._cell_sizes[number] += 1
        return number

    def _leave_cell(self, row: int) -> None:
        number = int(self.cell[row])
        self._cell_sizes[number] -= 1
        if not self._cell_sizes[number]:
            del self._cell_sizes[number], self.cells[self.keys[row][: self.keys[row].index(b"\0")]]
            self._free_cells.append(number)
            self.derived.clear()

    def _new_rows(self, keys: list[bytes]) -> Sequence[int]:
        """The rows of the keys that are loaded. A key already has a row if a provider that was loaded earlier refers to it."""
        if not self.row_of.keys().isdisjoint(keys):
            self._new_rows([key for key in keys if key not in self.row_of])
            return [self.row_of[key] for key in keys]
        first, end = self.size, self.size + len(keys)
        if end > len(self.root):
            self._grow(max(end, 2 * len(self.root)))
        self.keys.extend(keys)
        self.row_of.update(zip(keys, range(first, end), strict=True))
        self.root[first:end] = self.parent[first:end] = np.arange(first, end)
        self.cell[first:end] = np.fromiter(map(self._cell, keys), dtype=np.int64, count=len(keys))
        self.size = end
        self.layout += 1
        return range(first, end)

    def _grow(self, size: int) -> None:
        self.root, self.heard_ms = grown(self.root, size), grown(self.heard_ms, size)
        self.parent, self.cell = grown(self.parent, size), grown(self.cell, size)
        self.open = grown(self.open, size)
        self._offered, self._node_open = grown(self._offered, size), grown(self._node_open, size)
        for of_class in self.classes.values():
            form = of_class.arrays
            of_class.grow(size)
            if of_class.sparse is not None:
                self._note_form(of_class, form)
        self.traits.grow(size)
        self.aggregates.grow(size)
        self.attributes.grow(size)
        self.derived.clear()

    def _place(self, row: int, key: bytes, provider: ProviderRow) -> None:
        cell = key[: key.index(b"\0") + 1]
        self._offered[row] = provider.open
        before = self.root[row], self.parent[row], self.members.get(row)
        if provider.parent is None:
            self.root[row] = self.parent[row] = row
            if len(provider.members) > 1:
                self.members[row] = [self._row(cell + member.encode()) for member in provider.members]
                self.root[self.members[row]] = row
            else:
                self.members.pop(row, None)
        else:
            self.root[row] = self._row(cell + provider.root.encode())
            # A provider that is no longer reported but still in use may have lost its parent.
            at = provider.parent if provider.reported else provider.root
            self.parent[row] = self._row(cell + at.encode())
            self.members.pop(row, None)
        if before != (self.root[row], self.parent[row], self.members.get(row)):
            self.layout += 1
            self.derived.clear()

    def _drop(self, row: int, key: bytes) -> None:
        self._offered[row] = self._node_open[row] = self.open[row] = False
        self._find_clash(key, row, False)
        self.heard_ms[row] = 0
        self.taints.set(row, ())
        traits_changed = self.traits.set(row, (), len(self.root))
        if self.aggregates.set(row, (), len(self.root)) or traits_changed:
            self.derived.clear()
        if self.attributes.set(row, {}, len(self.root)):
            self.derived.clear()
        for name in (*self._frequent, *self._rare_of.get(row, ())):
            self._clear_class(self.classes[name], row)
        self.reservations.drop(row)
        self._leave_cell(row)
        self.members.pop(row, None)
        self.root[row] = self.parent[row] = row
        del self.row_of[key]
        self._free_rows.append(row)
        self.layout += 1

    # -- nodes --------------------------------------------------------------------------------------------------

    def _set_node(self, key: bytes, node: NodeRow | None) -> int | None:
        """Apply a node's row. Returns the root's row if its tree must be opened or closed."""
        row = self.row_of.get(key)
        if row is None:
            return None
        is_open = node is not None and node.open
        self.heard_ms[row] = 0 if node is None else node.heard_ms
        self._find_clash(key, row, is_open)
        if self._node_open[row] == is_open:
            return None
        self._node_open[row] = is_open
        return row

    def _set_machine(self, key: bytes, machine: bytes) -> None:
        """Apply which machine a node is."""
        before, row = self._machines.pop(key, b""), self.row_of.get(key)
        if machine:
            self._machines[key] = machine
        if row is None or machine == before:
            return
        changed = self._same_machine.update(before, row, False) if before else set()
        if machine:
            changed |= self._same_machine.update(machine, row, bool(self._node_open[row]))
        for other in {row, *changed}:
            self._reopen(other)

    def _find_clash(self, key: bytes, row: int, is_open: bool) -> None:
        changed = self._duplicates.update(key[key.index(b"\0") + 1 :], row, is_open)
        if machine := self._machines.get(key):
            changed = changed | self._same_machine.update(machine, row, is_open)
        for other in changed:
            self._reopen(other)

    def _reopen(self, root_row: int) -> None:
        """Recompute which rows of a tree accept new claims."""
        if self.root[root_row] != root_row:
            return  # this node became a part of another node's tree
        tree = self.members.get(root_row)
        is_open = bool(self._node_open[root_row] and self._offered[root_row])
        if (
            is_open
            and self._duplicates.clashes
            and self.keys[root_row].partition(b"\0")[2] in self._duplicates.clashes
        ):
            is_open = False
        if (
            is_open
            and self._same_machine.clashes
            and self._machines.get(self.keys[root_row]) in self._same_machine.clashes
        ):
            is_open = False
        if tree is None:
            self.open[root_row] = is_open
        else:
            self.open[tree] = self._offered[tree] & is_open

    def _reopen_all(self) -> None:
        size = self.size
        roots = self.root[:size]
        self.open[:size] = self._offered[:size] & self._node_open[roots] & self._offered[roots]
        for rows in (*self._duplicates.clashes.values(), *self._same_machine.clashes.values()):
            for row in rows:
                self._reopen(row)
