"""Which machine a node is (rules version 4): two machines of one name, and one machine of two names.

A full report may name its machine. The first machine that reports a node is the node. While another one reports the same
name, its events are dropped, and the node takes no new claims until an operator decides (`vacancy.node.adopted.v1`). So two
publishers of one name never replace each other's reports. A machine that reports a second name of the cell is noticed at
once: all of its nodes take no new claims until an operator decides, renames one of them, or retires all but one.

What is held is not touched by any of this.
"""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from vacancy.resources.fold.nodes.node_limits import (
    expire_watched_tombstone,
    fold_bounded_change,
    fold_bounded_report,
    fold_watched_heartbeat,
    fold_watched_retirement,
)
from vacancy.resources.fold.nodes.node_watch import close_until_decided, count_dropped, open_decided
from vacancy.resources.fold.record_limits import check_limit
from vacancy.resources.model.errors import InvalidRecord
from vacancy.resources.model.events import (
    AdoptionData,
    NodeChangedData,
    NodeData,
    NodeReportedData,
    NodeRetired,
    NodeRetiredV2,
    RetirementData,
)
from vacancy.resources.state.rows import MachineNodesRow, MachineRow, NodeRow
from vacancy.resources.state.tables import MACHINE_NODES, MACHINES, NODES
from vacancy.resources.state.transaction import Transaction

REFUSED_KEPT: Final = 8
"""How many machines are kept that an operator decided not to be a node."""

STRANGERS_KEPT: Final = 8
"""How many incarnations are kept whose reports were dropped."""

NO_MACHINE: Final = "-"
"""What a publisher is called that names no machine."""

_UNKNOWN: Final = MachineRow()


def of_incarnation(event: NodeRetired) -> NodeRetiredV2:
    """A retirement of an older form: an event of its incarnation."""
    data = RetirementData.model_construct(
        root=event.data.root, incarnation=event.data.incarnation, sequence=event.data.sequence
    )
    return NodeRetiredV2.model_construct(id=event.id, source=event.source, time=event.time, data=data)


def fold_identified_report(transaction: Transaction, data: NodeReportedData, machine: str | None) -> None:
    """A full report, unless another machine sent it than the one that the node is. `machine` is None where the report names none, as
    those of the older form."""
    key = transaction.key(data.root)
    node, row = transaction.get(NODES, key), transaction.get(MACHINES, key) or _UNKNOWN
    if node is not None and node.retired and data.incarnation in dict(node.incarnations):
        return  # it was retired: only another incarnation brings the node back
    name = machine or NO_MACHINE
    if not _may_report(row, name):
        _drop_report(transaction, key, row, data, name)
        return
    new_name = machine is not None and row.machine != machine
    if new_name:
        names = _nodes_of(transaction, name)
        subject = f"machine {name} would report as"
        count = len({*names, data.root})
        check_limit(
            transaction.rules, subject, count, "nodes", transaction.rules.limits.machine_names, " a cell"
        )
    if row.waiting and node is not None:
        node = _first(transaction, key, node, data.incarnation)
    fold_bounded_report(transaction, data)
    after = transaction.get(NODES, key)
    if after is None or (node is not None and after.incarnations == node.incarnations):
        return  # it was read before, or comes too late
    if new_name or row.waiting or data.incarnation in row.strangers:
        strangers = tuple(one for one in row.strangers if one != data.incarnation)
        name_machine(
            transaction,
            data.root,
            replace(row, machine=machine or row.machine, waiting=False, strangers=strangers),
        )


def fold_identified_change(transaction: Transaction, data: NodeChangedData) -> None:
    """A change of a node, unless it is of an incarnation that another machine opened."""
    if not _is_of_stranger(transaction, data):
        fold_bounded_change(transaction, data)


def fold_identified_heartbeat(transaction: Transaction, data: NodeData) -> None:
    """A heartbeat, unless it is of an incarnation that another machine opened."""
    if not _is_of_stranger(transaction, data):
        fold_watched_heartbeat(transaction, data)


def fold_retired_incarnation(transaction: Transaction, data: RetirementData) -> None:
    """The retirement of an incarnation. It changes nothing if the node is retired, or if another incarnation is open."""
    key = transaction.key(data.root)
    node, row = transaction.get(NODES, key), transaction.get(MACHINES, key) or _UNKNOWN
    if data.incarnation in row.strangers:
        return
    known = {} if node is None else dict(node.incarnations)
    if node is None or data.incarnation not in known:
        raise InvalidRecord(f"node {data.root}: no full report opened incarnation {data.incarnation}")
    if node.retired or data.incarnation != node.incarnations[0][0]:
        return
    if row.waiting and data.sequence is not None:
        return  # a machine that is not the node any more
    sequence = known[data.incarnation] + 1 if data.sequence is None else data.sequence
    fold_watched_retirement(
        transaction,
        NodeData.model_construct(root=data.root, incarnation=data.incarnation, sequence=sequence),
    )
    after = transaction.get(NODES, key)
    if after is not None and after.retired:
        name_machine(transaction, data.root, MachineRow(refused=row.refused))


def fold_adopted(transaction: Transaction, data: AdoptionData) -> None:
    """An operator's decision: the machine is this node. What other machines report under its name is dropped, and what the
    machine reports under other names of the cell."""
    machine = data.machine
    if data.cell not in (None, transaction.cell):
        for root in _nodes_of(transaction, machine):
            _give_up_machine(transaction, root, machine)
        return
    key = transaction.key(data.root)
    node, row = transaction.get(NODES, key), transaction.get(MACHINES, key) or _UNKNOWN
    if node is None or node.retired:
        raise InvalidRecord(
            f"node {data.root} is not there: the machine of its next full report will be the node"
        )
    refused = dict.fromkeys(
        name for name in (row.machine or NO_MACHINE, row.other, *row.refused) if name not in ("", machine)
    )
    for root in _nodes_of(transaction, machine):
        if root != data.root:
            _give_up_machine(transaction, root, machine)
    if row.machine != machine:
        row = replace(_with_stranger(transaction, data.root, row), machine=machine, waiting=True)
    name_machine(transaction, data.root, replace(row, other="", refused=tuple(refused)[:REFUSED_KEPT]))


def expire_identified_tombstone(transaction: Transaction, at_ms: int, key: bytes) -> None:
    """Delete a node that was retired long ago, and what was decided of its machine."""
    expire_watched_tombstone(transaction, at_ms, key)
    if transaction.get(NODES, key) is None and transaction.get(MACHINES, key) is not None:
        transaction.delete(MACHINES, key)


def name_machine(transaction: Transaction, root: str, row: MachineRow) -> None:
    """Write which machine a node is, and close or open all nodes that this concerns."""
    key = transaction.key(root)
    before = transaction.get(MACHINES, key) or _UNKNOWN
    if row != before:
        if row == _UNKNOWN:
            transaction.delete(MACHINES, key)
        else:
            transaction.put(MACHINES, key, row)
    concerned = {root: None}
    if row.machine != before.machine:
        for machine, there in ((before.machine, False), (row.machine, True)):
            if machine:
                names = [name for name in _nodes_of(transaction, machine) if name != root]
                concerned |= dict.fromkeys(names)
                _put_nodes(transaction, machine, (*names, root) if there else tuple(names))
    for name in concerned:
        _close_or_open(transaction, name)


def machine_of(transaction: Transaction, root: str) -> MachineRow:
    """Which machine a node is."""
    return transaction.get(MACHINES, transaction.key(root)) or _UNKNOWN


def _may_report(row: MachineRow, machine: str) -> bool:
    """Whether a full report of this machine counts."""
    if machine in row.refused:
        return False
    if row.machine:
        return machine == row.machine
    return not row.waiting or machine != NO_MACHINE


def _drop_report(
    transaction: Transaction, key: bytes, row: MachineRow, data: NodeReportedData, machine: str
) -> None:
    """Count the report of another machine, and close the node unless an operator refused that machine."""
    strangers = (data.incarnation, *(name for name in row.strangers if name != data.incarnation))
    new = replace(row, strangers=strangers[:STRANGERS_KEPT])
    decided = machine in row.refused or row.waiting
    if not decided:
        new = replace(new, other=machine)
    if new != row:
        transaction.put(MACHINES, key, new)
    if not decided:
        _close_or_open(transaction, data.root, data.incarnation)
    count_dropped(transaction, key, data, f"machine {machine} reports as {data.root}", report=True)


def _is_of_stranger(transaction: Transaction, data: NodeData) -> bool:
    """Whether an event is of an incarnation whose report was dropped, or of a machine that is not the node any more. Then it
    is counted."""
    key = transaction.key(data.root)
    row = transaction.get(MACHINES, key)
    if row is None or not (row.waiting or data.incarnation in row.strangers):
        return False
    count_dropped(transaction, key, data, f"another machine sends as {data.root}", report=False)
    return True


def _give_up_machine(transaction: Transaction, root: str, machine: str) -> None:
    """The machine of this node is another node now."""
    row = _with_stranger(transaction, root, machine_of(transaction, root))
    refused = (machine, *(name for name in row.refused if name != machine))[:REFUSED_KEPT]
    name_machine(transaction, root, replace(row, machine="", refused=refused, waiting=True))


def _with_stranger(transaction: Transaction, root: str, row: MachineRow) -> MachineRow:
    """The row with the node's newest incarnation among the strangers: the machine that opened it is not the node any more."""
    node = transaction.get(NODES, transaction.key(root))
    if node is None:
        return row
    current = node.incarnations[0][0]
    strangers = (current, *(name for name in row.strangers if name != current))
    return replace(row, strangers=strangers[:STRANGERS_KEPT])


def _first(transaction: Transaction, key: bytes, node: NodeRow, incarnation: str) -> NodeRow:
    """The node with this incarnation as its newest one, if it knows it: its machine is the node again."""
    known = dict(node.incarnations)
    if incarnation not in known or node.incarnations[0][0] == incarnation:
        return node
    others = [one for one in node.incarnations if one[0] != incarnation]
    node = replace(node, incarnations=((incarnation, known[incarnation]), *others))
    transaction.put(NODES, key, node)
    return node


def _nodes_of(transaction: Transaction, machine: str) -> tuple[str, ...]:
    row = transaction.get(MACHINE_NODES, transaction.key(machine))
    return () if row is None else row.roots


def _put_nodes(transaction: Transaction, machine: str, roots: tuple[str, ...]) -> None:
    key = transaction.key(machine)
    if roots:
        transaction.put(MACHINE_NODES, key, MachineNodesRow(roots))
    else:
        transaction.delete(MACHINE_NODES, key)


def _close_or_open(transaction: Transaction, root: str, other: str = "") -> None:
    """Close a node if its machine is in doubt, else open it if it was closed for that."""
    key = transaction.key(root)
    node, row = transaction.get(NODES, key), machine_of(transaction, root)
    reason = _doubt(transaction, root, row) if node is not None and not node.retired else ""
    if reason:
        close_until_decided(transaction, key, reason, other)
    else:
        open_decided(transaction, key)


def _doubt(transaction: Transaction, root: str, row: MachineRow) -> str:
    """What is in doubt about a node's machine, or an empty text."""
    if row.waiting and row.machine:
        return f"{root} is machine {row.machine} from now on, which has not reported yet"
    if row.waiting:
        return f"the machine that was {root} is another node now"
    if row.other:
        known = f"machine {row.machine}" if row.machine else "a machine that is not known"
        return f"machine {row.other} reports as {root}, which is {known}"
    if row.machine and len(names := _nodes_of(transaction, row.machine)) > 1:
        return f"machine {row.machine} reports as {' and '.join(names)}"
    return ""
