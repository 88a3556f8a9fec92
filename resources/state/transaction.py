"""A transaction over the state: the rows before a record, and the changes of the record.

No row is changed in place. If the record is invalid, its changes are dropped and the state stays as it was.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol, TypeVar

from vacancy.resources.classes.registry import Registry
from vacancy.resources.model.limits import NO_LIMIT
from vacancy.resources.state.rows import ClassRow, PartitionRow, ProviderRow, WithdrawalRow
from vacancy.resources.state.rule_set import RulesVersions
from vacancy.resources.state.tables import PROVIDERS, ClassTable, Table

Row = TypeVar("Row")

Changes = dict[Table[Any], dict[bytes, Any]]
"""The changes of one record: table -> key -> the new row, or None if the row is deleted."""


class RecordFull(Exception):
    """The claims of a record would read more than `Limits.claim_reads`: that much."""

    def __init__(self, reads: int) -> None:
        super().__init__(reads)
        self.reads = reads


class State(Protocol):
    """A partition's tables before the record. An implementation must return rows equal to those that were put."""

    def get(self, table: Table[Row], key: bytes) -> Row | None:
        """The row, or None."""
        ...

    def due(self, until_ms: int, most: int = NO_LIMIT) -> Iterable[bytes]:
        """Keys of `DEADLINES` up to and including `until_ms`, ascending: the first `most` of them. The caller deletes all
        that are returned, or the first of them."""
        ...


class PendingWithdrawal:
    """What is still to be withdrawn of a tree, while a record is folded (see `WithdrawalRow`). `new` is whether it has no
    row yet."""

    __slots__ = ("at_ms", "classes", "new", "providers", "stepped")

    def __init__(self, row: WithdrawalRow | None, at_ms: int) -> None:
        self.new = row is None
        self.stepped = False
        self.at_ms = at_ms if row is None else row.at_ms
        self.providers: dict[str, int] = {} if row is None else dict(row.providers)
        self.classes: dict[str, tuple[int, tuple[str, ...]]] = (
            {} if row is None else {id_: (offset, names) for id_, offset, names in row.classes}
        )


class Savepoint(NamedTuple):
    """What `Transaction.roll_back` restores: the changes, and what they moved within the record."""

    changes: Changes
    dead: int


class TreeWork:
    """What the rules note of trees while a record is folded, and write at its end (`fold.nodes.withdrawals.settle_trees`).

    `leaving` are providers that leave a tree, by (cell, root): provider -> the offset of the event that made it leave.
    `pending` are withdrawals that were read or changed, by (cell, root). `withdrawn` counts the inventories and providers
    that were withdrawn, `unreported` the withdrawn members of a tree that stay because they are in use. `counted` are
    the provider rows whose names `fold.nodes.cell_names` has counted.
    """

    __slots__ = ("counted", "leaving", "pending", "unreported", "withdrawn")

    def __init__(self) -> None:
        self.leaving: dict[tuple[str, str], dict[str, int]] = {}
        self.pending: dict[tuple[str, str], PendingWithdrawal] = {}
        self.counted: dict[bytes, ProviderRow | None] = {}
        self.withdrawn = 0
        self.unreported = 0


class Transaction:
    """The changes of one record over a state, with the data of the record that rules need: cell, offset, log time."""

    __slots__ = (
        *("_generations", "_keys", "_parents", "below", "cell", "changes", "claim_reads", "dead", "ended"),
        *(
            "groups",
            "must_sign",
            "offset",
            "partition",
            "raises",
            "registry",
            "rules",
            "state",
            "time_ms",
            "trees",
        ),
        "versions",
    )

    def __init__(
        self,
        state: State,
        registry: Registry,
        versions: RulesVersions,
        partition: PartitionRow,
        cell: str,
        offset: int,
        time_ms: int,
    ) -> None:
        self.state = state
        self.registry = registry
        self.versions = versions
        self.rules = versions.of(partition.rules_version)
        """The rules in force before this record. They apply to it."""

        self.partition = partition
        self.cell = cell
        self.offset = offset
        self.time_ms = time_ms
        self.changes: Changes = {}
        self.trees = TreeWork()

        self._keys: dict[str, bytes] = {}
        self.dead: list[str] = []
        """The reasons why parts of the record are dead letters. The other parts stay valid."""

        self.claim_reads = 0
        """What the claims of this record have read of large rows (`Limits.claim_reads`)."""

        self.ended = 0
        """The parts of allocations that ended with their deadlines at this record, in units of `Limits.expiries`."""

        self.must_sign = False
        """Whether the record is of a node that must sign, and has (`fold.signatures`)."""

        self.raises: dict[bytes, int] | None = None
        """By how much the event itself raises the generations of providers (by their keys), or None where the rule for all
        other events holds (`fold.transactions.generations`)."""

        self.groups: dict[Any, Any] = {}
        """What `server_groups` has counted at this record."""

        self._generations: dict[str, tuple[ProviderRow, int]] = {}
        self._parents: dict[str, str | None] = {}
        self.below: dict[tuple[str, str | int], bool] = {}
        """(provider, another one) -> whether it is the other one or below it, as far as claims of this record asked."""

    def in_cell(self, cell: str) -> Transaction:
        """A transaction for another cell of the partition. Both share the same changes."""
        other = Transaction(
            self.state, self.registry, self.versions, self.partition, cell, self.offset, self.time_ms
        )
        other.changes = self.changes
        other.trees = self.trees
        return other

    def key(self, id_: str) -> bytes:
        """The key of an id in this record's cell."""
        found = self._keys.get(id_)
        if found is None:
            found = self._keys[id_] = f"{self.cell}\0{id_}".encode()
        return found

    def get(self, table: Table[Row], key: bytes) -> Row | None:
        """The row with the changes of this record, or None."""
        changed = self.changes.get(table)
        if changed is not None and key in changed:
            found: Row | None = changed[key]
            return found
        return self.state.get(table, key)

    def put(self, table: Table[Row], key: bytes, row: Row) -> None:
        """Write a row."""
        changed = self.changes.get(table)
        if changed is None:
            self.changes[table] = {key: row}
        else:
            changed[key] = row

    def delete(self, table: Table[Any], key: bytes) -> None:
        """Delete a row, if there is one."""
        self.changes.setdefault(table, {})[key] = None

    # -- a record or several claims, all or nothing ----------------------------------------------------------------------------

    def savepoint(self) -> Savepoint:
        """The changes of this record so far. What claims read after that stays counted."""
        return Savepoint({table: dict(rows) for table, rows in self.changes.items()}, len(self.dead))

    def roll_back(self, to: Savepoint) -> None:
        """Undo all changes since `to`, and forget what was computed from them, but for what is noted of trees: claims change
        none, and of an invalid record it is not written."""
        self.changes.clear()
        self.changes.update(to.changes)
        del self.dead[to.dead :]
        self.groups.clear()
        self._generations.clear()

    # -- look-ups of several rules ---------------------------------------------------------------------------

    def provider(self, id_: str) -> ProviderRow | None:
        """The provider with that id in this cell, or None."""
        return self.get(PROVIDERS, self.key(id_))

    def class_table(self, name: str) -> ClassTable:
        """The table of a class that this log's rules allow. Raises `InvalidRecord` or `Halt`."""
        return self.registry.allowed(name, self.rules.classes, self.partition.classes)

    def class_row(self, table: ClassTable, provider: str) -> ClassRow | None:
        """A provider's row of one class, or None."""
        key = self.key(provider)
        return self.get(table, table.prefix + key if table.prefix else key)

    def put_class_row(self, table: ClassTable, provider: str, row: ClassRow) -> None:
        """Write a provider's row of one class."""
        if row.changed == self.offset and self._generations:
            self._generations.clear()
        self.put(table, table.prefix + self.key(provider), row)

    def delete_class_row(self, table: ClassTable, provider: str) -> None:
        """Delete a provider's row of one class."""
        self._generations.clear()
        self.delete(table, table.prefix + self.key(provider))

    def generation(self, provider: str, row: ProviderRow) -> int:
        """A provider's generation: the offset of the event that last changed its inventory, traits or operator settings.

        Usage and heartbeats do not change it. The event at this offset explains the current state. It is computed once for
        all claims of a record: only a change of an inventory or of `row` makes another one.
        """
        known = self._generations.get(provider)
        if known is not None and known[0] is row:
            return known[1]
        self.read(len(row.classes))
        newest = row.changed
        for name in row.classes:
            found = self.class_row(self.class_table(name), provider)
            if found is not None:
                newest = max(newest, found.changed)
        self._generations[provider] = row, newest
        return newest

    def parent(self, provider: str) -> str | None:
        """A provider's parent, or None for a root and for an unknown provider. It is looked up once for all claims of a
        record, of which none moves a provider."""
        parents = self._parents
        if provider in parents:
            return parents[provider]
        row = self.provider(provider)
        found = parents[provider] = None if row is None else row.parent
        return found

    def read(self, entries: int) -> None:
        """Count what a claim reads of large rows. Raises `RecordFull` where the record's claims would read too much."""
        reads = self.claim_reads + entries
        if reads > self.rules.limits.claim_reads:
            raise RecordFull(reads)
        self.claim_reads = reads
