"""What operators decide of nodes and machines: which machine a node is, and that a node has another name.

Both need rules version 4. A fold sees the nodes of one cell. Where a machine is a node in other cells, too, an adoption writes
an event to each of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple
from uuid import uuid4

from pydantic import ValidationError

from vacancy.clients.admin.operator import SOURCE
from vacancy.clients.inspection.lookup import NotFound, provider_cell, provider_cells, show_provider
from vacancy.clients.runtime.folded_log import FoldedLog
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.model import events
from vacancy.resources.model.errors import UsageError
from vacancy.resources.model.record import NewRecord
from vacancy.resources.state.rows import MachineRow
from vacancy.resources.state.tables import (
    MACHINES,
    NODES,
    PARTITION,
    PARTITION_KEY,
    PROVIDERS,
    key,
    split_key,
)
from vacancy.streams.log import Log


class AdoptedNode(NamedTuple):
    """A node and the machine that it is from now on. `waits`: it takes no claims before this machine's next full report.
    `others` are the other nodes that this machine was: they keep what is held of them, and take claims again when another
    machine reports them. `applied` is False if nobody waited for the store."""

    node: str
    cell: str
    machine: str
    waits: bool
    others: tuple[str, ...] = ()
    applied: bool = True


class RenamedNode(NamedTuple):
    """A node that has another name. `providers`: old id -> new id. `consumers` hold something of it."""

    node: str
    to: str
    cell: str
    providers: Mapping[str, str]
    consumers: tuple[str, ...]
    applied: bool = True


def adopt(
    log: Log,
    reader: StoreReader,
    node: str,
    machine: str | None = None,
    *,
    cell: str | None = None,
    timeout_s: float = 10.0,
    wait: bool = True,
) -> AdoptedNode:
    """Decide that a machine is this node from now on. `machine` is None for the one that the node is now.

    Other nodes that are the same machine, in any cell, give it up. The command may be repeated. Raises `NotFound`, `UsageError`, and as `FoldedLog` does.
    """
    folded = FoldedLog(log, reader, timeout_s=timeout_s, wait=wait)
    cell = _node_cell(reader, node, cell)
    _check_rules(reader, cell, "vacancy provider adopt")
    row = reader.get(MACHINES, key(cell, node)) or MachineRow()
    chosen = machine or row.machine
    if not chosen:
        raise UsageError(
            f"it is not known which machine node {node} is",
            where=f"cell {cell}",
            do="name the machine: `vacancy provider adopt NODE --machine MACHINE`",
        )
    try:
        data = events.AdoptionData(root=node, machine=chosen)
    except ValidationError:
        raise UsageError(
            f"{chosen!r} is not the identity of a machine", where="--machine", do="see `vacancy status`"
        ) from None
    others = [
        (there, name)
        for there, name in (
            split_key(at) for _, at, found in reader.scan(MACHINES) if found.machine == chosen
        )
        if (there, name) != (cell, node)
    ]
    adopted = {cell: data}
    adopted |= {there: data.model_copy(update={"cell": cell}) for there, _ in others if there != cell}
    entries = [
        NewRecord(there, events.encode(events.NodeAdopted(id=uuid4().hex, source=SOURCE, data=one)))
        for there, one in adopted.items()
    ]
    folded.write(entries, f"the adoption of {node}", _look(node))
    now = reader.get(MACHINES, key(cell, node)) or MachineRow()
    waits = now.waiting if wait else chosen != row.machine or row.waiting
    return AdoptedNode(node, cell, chosen, waits, tuple(sorted(name for _, name in others)), applied=wait)


def rename(
    log: Log,
    reader: StoreReader,
    node: str,
    to: str,
    *,
    providers: Mapping[str, str] | None = None,
    cell: str | None = None,
    timeout_s: float = 10.0,
    wait: bool = True,
) -> RenamedNode:
    """Give a node another name, with all that is held of it. `providers` maps old ids of its parts to new ones; others that
    start with the node's old name get the new one, and the rest keep theirs.

    If the new name is live in another cell, that cannot be one event: UsageError tells how to bring it into the node's cell.
    Raises `NotFound`, `UsageError`, and as `FoldedLog` does.
    """
    folded = FoldedLog(log, reader, timeout_s=timeout_s, wait=wait)
    cell = _node_cell(reader, node, cell)
    _check_rules(reader, cell, "vacancy provider rename")
    elsewhere = [other for other in provider_cells(reader, to) if other != cell]
    if elsewhere:
        raise UsageError(
            f"node {to} reports in cell {elsewhere[0]}, and what is held of {node} is in cell {cell}: no event reaches both",
            where=f"store {reader.path}",
            do=f"publish it there, `vacancy publish --root {to} --cell {cell} --move-cell` on its machine, then rename again",
        )
    tree = show_provider(reader, node, cell=cell)
    row = reader.get(PROVIDERS, key(cell, node))
    members = (row.members if row is not None else ()) or (node,)
    given = dict(providers or {})
    names = {id_: given.get(id_) or _renamed(id_, node, to) for id_ in members}
    consumers = tuple(sorted({one.consumer for one in tree.holdings}))
    try:
        data = events.RenameData(root=node, to=to, providers=names, consumers=consumers)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        raise UsageError(f"node {node} cannot be renamed to {to!r}: {first['msg']}") from None
    event = events.NodeRenamed(id=uuid4().hex, source=SOURCE, data=data)
    folded.write([NewRecord(cell, events.encode(event))], f"the new name of {node}", _look(to))
    return RenamedNode(node, to, cell, names, consumers, applied=wait)


def _renamed(provider: str, node: str, to: str) -> str:
    """The new name of a part: `node-1:gpu0` follows its node."""
    rest = provider.removeprefix(node)
    return to + rest if rest != provider and not rest[:1].isalnum() else provider


def _node_cell(reader: StoreReader, node: str, cell: str | None) -> str:
    """The cell of a node. Raises `NotFound`, and `UsageError` for a provider that is not a node."""
    found = cell or provider_cell(reader, node)
    row = reader.get(PROVIDERS, key(found, node))
    if row is None or reader.get(NODES, key(found, row.root)) is None:
        raise NotFound(f"there is no node {node!r} in cell {found}", do="omit --cell, or give another cell")
    if row.root != node:
        raise UsageError(f"{node} is a part of node {row.root}", where=f"cell {found}", do=f"name {row.root}")
    return found


def _check_rules(reader: StoreReader, cell: str, command: str) -> None:
    """Raise `UsageError` before anything is sent where the cell's rules do not have machines."""
    partition = reader.get(PARTITION, PARTITION_KEY, cell=cell)
    version = partition.rules_version if partition is not None else 0
    if version not in reader.versions or MACHINES not in reader.versions.of(version).tables:
        raise UsageError(
            f"cell {cell} follows rules version {version}, and `{command}` needs version 4",
            where=f"store {reader.path}",
            do="raise the rules with `vacancy rules activate 4`",
        )


def _look(node: str) -> str:
    return f"`vacancy show provider {node}`"
