"""What rules version 3 watches of a node: events that two writers send in its name, and what closes the node meanwhile.

An event of a node that was not read before and comes too late is a *conflict*: a repetition it cannot be, so somebody else
sent the events that were read in its place. It changes nothing, but it is counted, and the node takes no new claims until
`CONTESTED_MS` of log time after the last conflict.
"""

from __future__ import annotations

from msgspec.structs import replace

from vacancy.resources.model.events import NodeData
from vacancy.resources.state.rows import UNTIL_DECIDED, ContestedRow, NodeRow, NodeWatchRow
from vacancy.resources.state.tables import CONTESTED, DEADLINES, NODE_WATCHES, NODES, deadline_key
from vacancy.resources.state.transaction import Transaction

CONTESTED_MS = 15 * 60 * 1000
"""How long a node stays closed after the last conflict, in log time. A full report of its publisher comes every 10 minutes,
so a node that two publishers report stays closed."""

GAPS_KEPT = 8
"""How many gaps are kept of an incarnation. Of more, the two lowest become one, with what lies between them."""

CONTEST = b"C"

_NOTHING = NodeWatchRow()
Gaps = tuple[tuple[int, int], ...]


def is_conflict(node: NodeRow | None, watch: NodeWatchRow | None, data: NodeData) -> bool:
    """Whether an event comes too late and was not read before."""
    if node is None:
        return False
    for number, (incarnation, last) in enumerate(node.incarnations):
        if incarnation == data.incarnation:
            if data.sequence > last:
                return number > 0
            gaps = dict(watch.gaps).get(incarnation, ()) if watch is not None else ()
            return any(first <= data.sequence <= end for first, end in gaps)
    return False


def note_conflict(transaction: Transaction, node: NodeRow, data: NodeData, *, report: bool) -> None:
    """Count a conflict, and close the node until some time after it."""
    key, now_ms = transaction.key(data.root), transaction.time_ms
    row = transaction.get(CONTESTED, key)
    current, last = node.incarnations[0]
    if data.incarnation == current:
        reason = f"sequence {data.sequence} of incarnation {current} came after sequence {last}"
    else:
        reason = f"sequence {data.sequence} of incarnation {data.incarnation} came after incarnation {current} was opened"
    if row is not None and row.until_ms == UNTIL_DECIDED:
        dropped_reports = row.dropped_reports + report
        new = replace(
            row, dropped=row.dropped + 1, dropped_reports=dropped_reports, offset=transaction.offset
        )
        transaction.put(CONTESTED, key, replace(new, time_ms=now_ms))
        return
    if row is not None and row.until_ms:
        transaction.delete(DEADLINES, deadline_key(row.until_ms, CONTEST, key))
    until_ms = now_ms + CONTESTED_MS
    new = ContestedRow(
        until_ms=until_ms,
        since_ms=row.since_ms if row is not None and row.until_ms else now_ms,
        dropped=(row.dropped if row is not None else 0) + 1,
        dropped_reports=(row.dropped_reports if row is not None else 0) + report,
        offset=transaction.offset,
        time_ms=now_ms,
        reason=reason,
        incarnation=current,
        other=data.incarnation,
    )
    transaction.put(CONTESTED, key, new)
    transaction.put(DEADLINES, deadline_key(until_ms, CONTEST, key), b"")
    close_node(transaction, key, contested_until_ms=until_ms)


def expire_contest(transaction: Transaction, at_ms: int, key: bytes) -> None:
    """End the time for which a conflict closed a node."""
    row = transaction.get(CONTESTED, key)
    if row is not None and row.until_ms == at_ms:
        transaction.put(CONTESTED, key, replace(row, until_ms=0))
        close_node(transaction, key, contested_until_ms=0)


def forget_node(transaction: Transaction, key: bytes) -> None:
    """Delete what is watched of a node that is forgotten."""
    transaction.delete(CONTESTED, key)
    transaction.delete(NODE_WATCHES, key)


def close_node(
    transaction: Transaction,
    key: bytes,
    *,
    contested_until_ms: int | None = None,
    withdrawing: bool | None = None,
) -> None:
    """Set or end one of the two causes that close a node. With the last of them it is again what it would have been."""
    node = transaction.get(NODES, key)
    if node is None:
        return
    watch = transaction.get(NODE_WATCHES, key) or _NOTHING
    complete = watch.complete if watch.closes else node.complete
    new = NodeWatchRow(
        watch.gaps,
        complete,
        watch.contested_until_ms if contested_until_ms is None else contested_until_ms,
        watch.withdrawing if withdrawing is None else withdrawing,
    )
    _put_watch(transaction, key, watch, new if new.closes else NodeWatchRow(watch.gaps))
    if node.complete != (complete and not new.closes):
        transaction.put(NODES, key, replace(node, complete=complete and not new.closes))


def close_until_decided(transaction: Transaction, key: bytes, reason: str, other: str = "") -> None:
    """Close a node until an operator decides which machine it is. `other` is the incarnation of the event that shows it."""
    node, row = transaction.get(NODES, key), transaction.get(CONTESTED, key)
    if node is None:
        return
    if row is not None and row.until_ms not in (0, UNTIL_DECIDED):
        transaction.delete(DEADLINES, deadline_key(row.until_ms, CONTEST, key))
    incarnation = node.incarnations[0][0]
    new = ContestedRow(
        until_ms=UNTIL_DECIDED,
        since_ms=row.since_ms if row is not None and row.until_ms else transaction.time_ms,
        dropped=row.dropped if row is not None else 0,
        dropped_reports=row.dropped_reports if row is not None else 0,
        offset=transaction.offset,
        time_ms=transaction.time_ms,
        reason=reason,
        incarnation=incarnation,
        other=other or incarnation,
    )
    transaction.put(CONTESTED, key, new)
    close_node(transaction, key, contested_until_ms=UNTIL_DECIDED)


def open_decided(transaction: Transaction, key: bytes) -> None:
    """End what `close_until_decided` began, if it did."""
    row = transaction.get(CONTESTED, key)
    if row is not None and row.until_ms == UNTIL_DECIDED:
        transaction.put(CONTESTED, key, replace(row, until_ms=0))
        close_node(transaction, key, contested_until_ms=0)


def count_dropped(transaction: Transaction, key: bytes, data: NodeData, reason: str, *, report: bool) -> None:
    """Count an event of a node that was dropped because another machine sent it. This closes nothing."""
    node, row = transaction.get(NODES, key), transaction.get(CONTESTED, key)
    if row is None:
        incarnation = data.incarnation if node is None else node.incarnations[0][0]
        row = ContestedRow(0, transaction.time_ms, 0, 0, transaction.offset, 0, reason, incarnation, "")
    new = replace(
        row,
        dropped=row.dropped + 1,
        dropped_reports=row.dropped_reports + report,
        offset=transaction.offset,
        time_ms=transaction.time_ms,
        other=data.incarnation,
    )
    transaction.put(CONTESTED, key, new)


def mark_incomplete(transaction: Transaction, key: bytes) -> None:
    """Keep a node closed until its next full report."""
    node, watch = transaction.get(NODES, key), transaction.get(NODE_WATCHES, key)
    if node is not None and node.complete:
        transaction.put(NODES, key, replace(node, complete=False))
    if watch is not None and watch.closes:
        transaction.put(NODE_WATCHES, key, replace(watch, complete=False))


def watch_event(transaction: Transaction, before: NodeRow | None, data: NodeData, *, sound: bool) -> None:
    """After an event was applied: note the numbers that it jumped over, and keep a closed node closed. `sound` is whether
    the event makes the node complete whatever came before it."""
    key = transaction.key(data.root)
    node = transaction.get(NODES, key)
    if node is None or node is before:
        return
    watch = transaction.get(NODE_WATCHES, key) or _NOTHING
    known = dict(before.incarnations) if before is not None else {}
    last = known.get(data.incarnation, 0)
    contiguous = data.sequence == last + 1
    gaps = watch.gaps
    if not contiguous or (gaps and data.incarnation not in known):
        gaps = _with_gap(gaps, node, data.incarnation, (last + 1, data.sequence - 1))
    complete = sound or (watch.complete and contiguous)
    if watch.closes:
        _put_watch(transaction, key, watch, replace(watch, gaps=gaps, complete=complete))
        if node.complete:
            transaction.put(NODES, key, replace(node, complete=False))
    elif gaps != watch.gaps:
        _put_watch(transaction, key, watch, NodeWatchRow(gaps))


def _with_gap(
    gaps: tuple[tuple[str, Gaps], ...], node: NodeRow, incarnation: str, gap: tuple[int, int]
) -> tuple[tuple[str, Gaps], ...]:
    """The gaps of the incarnations that the node still knows, with one more unless it is empty."""
    there = dict(gaps)
    first, last = gap
    if first <= last:
        mine = (*there.get(incarnation, ()), gap)
        if len(mine) > GAPS_KEPT:
            mine = ((mine[0][0], mine[1][1]), *mine[2:])
        there[incarnation] = mine
    return tuple((name, there[name]) for name, _ in node.incarnations if name in there)


def _put_watch(transaction: Transaction, key: bytes, old: NodeWatchRow, new: NodeWatchRow) -> None:
    if new == _NOTHING:
        if old is not _NOTHING:
            transaction.delete(NODE_WATCHES, key)
    elif new != old:
        transaction.put(NODE_WATCHES, key, new)
