"""The tables: their names, their column families, and how keys and rows become bytes.

A key is the cell, a NUL byte and an id (`key`). So a partition can hold several cells, and each cell is one key range.
A class table has one row for each provider: a head with the same fields for all classes, then the record of the class.
"""

from __future__ import annotations

import struct
from typing import Any, Generic, TypeVar

import msgspec

from vacancy.resources.classes.resource_class import ResourceClass
from vacancy.resources.state.rows import (
    AllocationRow,
    CellMoveRow,
    ClassRow,
    ContestedRow,
    CustomNameRow,
    DeadLetterRow,
    DomainNodeRow,
    DomainRow,
    MachineNodesRow,
    MachineRow,
    NodeKeysRow,
    NodeRow,
    NodeRunningRow,
    NodeWatchRow,
    OperatorSettingsRow,
    PartitionRow,
    ProposalAnswerRow,
    ProposalsRow,
    ProviderDetailsRow,
    ProviderRow,
    QuotaLimitRow,
    QuotaParentRow,
    QuotaRow,
    RequestRow,
    ServerGroupRow,
    SigningRow,
    VerdictRow,
    WithdrawalRow,
)

Row = TypeVar("Row")

CUSTOM_FAMILY = "custom_quantities"
DEAD_LETTER_BYTES = 16_384
DEAD_LETTERS_MAX = 1_000
"""Dead letters that are kept for each partition. The table is a ring (`dead_letter_key`), so which ones are kept depends
only on the log."""

_HEAD = struct.Struct("<2q?")
_DEADLINE = struct.Struct(">Q")
_encode = msgspec.msgpack.Encoder(order="deterministic").encode


class Table(Generic[Row]):
    """One table. `fed` is whether its changes are in the change feed. `prefix` separates tables of one column family."""

    def __init__(self, name: str, row_type: type[Row], *, fed: bool = False) -> None:
        self.name = name
        self.family = name
        self.prefix = b""
        self.fed = fed
        self._decoder = msgspec.msgpack.Decoder(row_type)

    def __repr__(self) -> str:
        return f"<table {self.name}>"

    def encode(self, row: Row) -> bytes:
        """The row as bytes, the same for equal rows."""
        return _encode(row)

    def decode(self, data: bytes) -> Row:
        """The row from the bytes that `encode` returned."""
        return self._decoder.decode(data)


class GrownTable(Table[Row]):
    """A table whose rows, arrays of up to 15 fields, got the last field in a later version of the rules. Where it is empty, it
    is left out, so that rows of earlier versions have the same bytes as before."""

    def __init__(self, name: str, row_type: type[Row], *, last: str, fed: bool = False) -> None:
        super().__init__(name, row_type, fed=fed)
        self._last = last

    def encode(self, row: Row) -> bytes:
        data = _encode(row)
        return data if getattr(row, self._last) else bytes((data[0] - 1,)) + data[1:-1]


class ClassTable(Table[ClassRow]):
    """The table of one resource class. A row's encoding is a head of `HEAD_BYTES`, then the class's record."""

    HEAD_BYTES = _HEAD.size

    def __init__(self, resource_class: ResourceClass[Any], *, family: str, prefix: bytes = b"") -> None:
        self.name = resource_class.name
        self.resource_class = resource_class
        self.family = family
        self.prefix = prefix
        self.fed = True
        self.counts_reads = type(resource_class).claim_reads is not ResourceClass.claim_reads
        """Whether what a claim reads of a record has to be counted: it does not have a fixed size."""
        self._encode_record = resource_class.encode
        self._decode_record = resource_class.decode

    def encode(self, row: ClassRow) -> bytes:
        return _HEAD.pack(row.taken, row.changed, row.reported) + self._encode_record(row.record)

    def decode(self, data: bytes) -> ClassRow:
        taken, changed, reported = _HEAD.unpack_from(data)
        return ClassRow(self._decode_record(data[_HEAD.size :]), taken, changed, reported)


class _Marks(Table[bytes]):
    """A table whose keys contain all data; its rows are empty."""

    def encode(self, row: bytes) -> bytes:
        return row

    def decode(self, data: bytes) -> bytes:
        return data


PARTITION = GrownTable("partition", PartitionRow, last="quotas_from")
NODES = Table("nodes", NodeRow, fed=True)
PROVIDERS = GrownTable("providers", ProviderRow, last="taints", fed=True)
FACTS = GrownTable("facts", OperatorSettingsRow, last="taints")
ALLOCATIONS = Table("allocations", AllocationRow, fed=True)
GROUPS = Table("groups", ServerGroupRow, fed=True)
VERDICTS = Table("verdicts", VerdictRow, fed=True)
REQUESTS = Table("requests", RequestRow)
DEADLINES = _Marks("deadlines", bytes)
DEAD_LETTERS = Table("dead_letters", DeadLetterRow)
CONTESTED = Table("contested", ContestedRow)
NODE_WATCHES = Table("node_watches", NodeWatchRow)
WITHDRAWALS = Table("withdrawals", WithdrawalRow)
CELL_COUNTS = Table("cell_counts", int)
"""Numbers of a cell: `CELL 00 KIND NAME`. `fold.nodes.cell_names`, `fold.nodes.withdrawals` and `fold.nodes.domains` write them."""
MACHINES = Table("machines", MachineRow, fed=True)
MACHINE_NODES = Table("machine_nodes", MachineNodesRow)
PROPOSALS = Table("rules_proposals", ProposalsRow)
"""One row, at `PARTITION_KEY`."""

PROPOSAL_ANSWERS = Table("rules_answers", ProposalAnswerRow)

QUOTAS = Table("quotas", QuotaRow)
"""Not by cell: the key is that of a scope (`quota_key`)."""

QUOTA_AMOUNTS = Table("quota_amounts", dict[str, int])
"""What an allocation counts, by unit, where its grants do not say it (`ResourceClass.amounts_need_record`), and of each that
was counted later than it was granted (`fold.claims.quotas`)."""

QUOTA_LIMITS = Table("quota_limits", QuotaLimitRow)
"""The ledgers of limits, in the partitions of their ids (`quota_limit_id`)."""

QUOTA_PARENTS = Table("quota_parents", QuotaParentRow)
"""The projects above projects, by project: one ledger of all of them (`quota_ledgers.PARENTS_ID`)."""

ALLOCATION_ASKS = Table("allocation_asks", tuple[bytes, ...])
"""For each part of an allocation, a hash of what was asked for; empty where an amount was granted (`fold.claims.moves`). There is a
row only if something was granted by name."""

CELL_MOVES = Table("cell_moves", CellMoveRow)
"""Not by cell: the key is the id of a move, in the partition of that id."""

DOMAINS = Table("domains", DomainRow)
"""The aggregates of a cell in which nodes take new claims (`fold.nodes.domains`)."""

DOMAIN_SLOTS = Table("domain_slots", str)
"""The lists of these aggregates by kind: `CELL 00 KIND NUMBER` is the name of one. `CELL_COUNTS` has their lengths."""

DOMAIN_NODES = Table("domain_nodes", DomainNodeRow)

DOMAIN_TABLES: tuple[Table[Any], ...] = (DOMAINS, DOMAIN_SLOTS, DOMAIN_NODES)

NODE_RUNNING = Table("node_running", NodeRunningRow)

PROVIDER_DETAILS = Table("provider_details", ProviderDetailsRow, fed=True)
PROVIDER_NAMES = Table("provider_names", str)
"""Which provider has a name: `CELL 00 NAME`. A provider whose id is its name has no row."""

CUSTOM_NAMES = Table("custom_names", CustomNameRow, fed=True)
"""Custom classes and traits that transactions created: `CELL 00 KIND NAME`, with the kinds `class` and `trait`."""

TRANSACTION_TABLES: tuple[Table[Any], ...] = (PROVIDER_DETAILS, PROVIDER_NAMES, CUSTOM_NAMES)
"""The tables that rules version 6 adds."""

SIGNING = Table("signing", SigningRow)
"""One row, at `PARTITION_KEY`: who signs in this partition. Without it, nobody does."""

NODE_KEYS = Table("node_keys", NodeKeysRow)

SIGNING_TABLES: tuple[Table[Any], ...] = (SIGNING, NODE_KEYS)
"""The tables that rules version 7 adds."""

QUOTA_TABLES: tuple[Table[Any], ...] = (QUOTAS, QUOTA_AMOUNTS, QUOTA_LIMITS, QUOTA_PARENTS)

TABLES_1: tuple[Table[Any], ...] = (
    PARTITION,
    NODES,
    PROVIDERS,
    FACTS,
    ALLOCATIONS,
    GROUPS,
    VERDICTS,
    REQUESTS,
    DEADLINES,
    DEAD_LETTERS,
)
"""The tables of rules version 1, except those of the classes. A later version adds its tables at the end."""

NODE_TABLES_3: tuple[Table[Any], ...] = (CONTESTED, NODE_WATCHES, WITHDRAWALS, CELL_COUNTS)
"""The tables that rules version 3 adds for nodes."""

NODE_TABLES_4: tuple[Table[Any], ...] = (MACHINES, MACHINE_NODES)
"""The tables that rules version 4 adds for nodes."""

PARTITION_KEY = b""


def key(cell: str, id_: str) -> bytes:
    """The key of an id in a cell."""
    return f"{cell}\0{id_}".encode()


def split_key(data: bytes) -> tuple[str, str]:
    """(cell, id) of a key."""
    cell, _, id_ = data.partition(b"\0")
    return cell.decode(), id_.decode()


def deadline_key(at_ms: int, kind: bytes, subject: bytes) -> bytes:
    """The key of a deadline at log time `at_ms`. `kind` is one byte, `subject` a key. Keys sort by time."""
    return _DEADLINE.pack(at_ms) + kind + subject


def split_deadline(data: bytes) -> tuple[int, bytes, bytes]:
    """(at_ms, kind, subject) of a deadline's key."""
    return _DEADLINE.unpack_from(data)[0], data[8:9], data[9:]


def quota_key(project: str, user: str | None = None) -> bytes:
    """The key of a project's row, or of a user's in a project. The project '' is that of the defaults."""
    return (project if user is None else f"{project}\0{user}").encode()


def domain_count_name(kind: str) -> str:
    """The name in `CELL_COUNTS` of the number of domains of a kind."""
    return f"domains {kind}"


def domain_slot_name(kind: str, slot: int) -> str:
    """The name in `DOMAIN_SLOTS` of a place in the list of the domains of a kind."""
    return f"{kind} {slot}"


def custom_name(kind: str, name: str) -> str:
    """The id in `CUSTOM_NAMES` of a class or a trait."""
    return f"{kind} {name}"


def answer_key(proposal: int, store: str) -> bytes:
    """The key of a store's answer to the proposal at this offset."""
    return _DEADLINE.pack(proposal) + store.encode()


def dead_letter_key(number: int) -> bytes:
    """The place in the ring of the dead letter with this number."""
    return struct.pack(">I", number % DEAD_LETTERS_MAX)
