"""Who signs, as the tables have it: keys of operators, which nodes must sign, keys of nodes."""

from __future__ import annotations

from typing import NamedTuple

from vacancy.clients.inspection.answers import SigningSummary
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.fold.signatures import must_sign
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.signatures import SigningScope
from vacancy.resources.state.rows import SigningRow
from vacancy.resources.state.tables import NODE_KEYS, NODES, PARTITION_KEY, SIGNING, split_key


class PartitionSigning(NamedTuple):
    """Who signs in a partition. `revision` 0: nothing was ever set."""

    partition: int
    revision: int
    operators: tuple[str, ...]
    required: tuple[SigningScope, ...]


class NodeSigning(NamedTuple):
    """How a node signs. `keys` are its public keys; `last` is the highest number that one of them has signed, 0 for none."""

    node: str
    cell: str
    keys: tuple[str, ...]
    required: bool
    last: int


class SigningState(NamedTuple):
    """Who signs: by partition, and by node. Nodes that need no signature and have no key are not listed."""

    log: str
    partitions: tuple[PartitionSigning, ...]
    nodes: tuple[NodeSigning, ...]


def signing_state(reader: StoreReader) -> SigningState:
    """Who signs, as the store has it."""
    policies = {
        partition: reader.get(SIGNING, PARTITION_KEY, cell=cell)
        for partition, cell in cells_of(reader).items()
    }
    partitions = tuple(
        PartitionSigning(partition, 0, (), ()) if row is None else partition_signing(partition, row)
        for partition, row in policies.items()
    )
    keys = {split_key(at): row for _, at, row in reader.scan(NODE_KEYS)}
    names = {split_key(at): partition for partition, at, _ in reader.scan(NODE_KEYS)}
    names |= {split_key(at): partition for partition, at, row in reader.scan(NODES) if not row.retired}
    nodes = []
    for (cell, node), partition in sorted(names.items()):
        row = keys.get((cell, node))
        required = must_sign(policies.get(partition), cell, node)
        if required or (row is not None and row.keys):
            known = row.keys if row is not None else ()
            last = max((max(one.last, one.running) for one in known), default=0)
            nodes.append(NodeSigning(node, cell, tuple(one.public.hex() for one in known), required, last))
    return SigningState(reader.manifest.log, partitions, tuple(nodes))


def signing_summary(reader: StoreReader) -> SigningSummary | None:
    """How far nodes sign, or None where no operator has a key."""
    policies = {
        partition: row
        for partition, cell in cells_of(reader).items()
        if (row := reader.get(SIGNING, PARTITION_KEY, cell=cell)) is not None
    }
    if not any(row.operators for row in policies.values()):
        return None
    keys = {one.public for row in policies.values() for one in row.operators}
    nodes = [one for one in signing_state(reader).nodes if one.required]
    return SigningSummary(len(keys), len(nodes), sum(not one.keys for one in nodes))


def partition_signing(partition: int, row: SigningRow) -> PartitionSigning:
    """Who signs in a partition, from its row."""
    return PartitionSigning(
        partition,
        row.revision,
        tuple(one.public.hex() for one in row.operators),
        tuple(SigningScope(cell=cell, node=node) for cell, node in row.required),
    )


def cells_of(reader: StoreReader) -> dict[int, str]:
    """Partition -> a cell of it."""
    return dict(enumerate(covering_cells(reader.manifest.partitions)))
