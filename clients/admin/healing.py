"""What would correct the findings of an audit: the events, and appending them (`vacancy audit --heal`).

Only that is released which a node has held without running it, by the id of its claim: a newer claim of the consumer stays.
It is not released where the node says that it runs nothing at all, unless an operator names the node: what reports may be
broken. Nor where another node runs the consumer: it was moved outside of the log, and what it uses there is not known. What
runs and holds nothing is never claimed: nobody said how much it uses. A move between cells is ended where its claim is confirmed,
so that nothing is left but the release of the source, and no node there says that it runs the consumer.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from uuid import uuid4

from vacancy.clients.inspection.consumer_audit import ConsumerAudit, HeldNotRunning, HeldTwice
from vacancy.clients.runtime.folded_log import FoldedLog
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.model import events
from vacancy.resources.model.record import NewRecord
from vacancy.resources.state.tables import NODE_RUNNING, key
from vacancy.streams.log import Log

_SOURCE = "/operator"
_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class LeftAlone:
    """A finding that no event corrects, or none without a decision: what it is, why, and what an operator can do."""

    what: str
    why: str
    do: str


@dataclass(frozen=True, slots=True)
class Healing:
    """The releases that correct findings, the moves between cells to end (`CellMoves.resume`), and what is left alone."""

    releases: list[HeldNotRunning]
    moves: list[HeldTwice]
    left: list[LeftAlone]

    def records(self) -> list[NewRecord]:
        """The records to append: each releases one consumer, so that none is refused for another."""
        return [NewRecord(one.cell, events.encode(_release(one))) for one in self.releases]


def _release(one: HeldNotRunning) -> events.ConsumersReleased:
    release = events.Release(consumer=one.consumer, claim=one.claim)
    data = events.ConsumersReleasedData(releases=(release,))
    return events.ConsumersReleased(id=uuid4().hex, source=_SOURCE, data=data)


def plan_healing(found: ConsumerAudit, reader: StoreReader, *, node: str | None = None) -> Healing:
    """What would correct these findings. `node` is the one that the operator named, if any."""
    releases: list[HeldNotRunning] = []
    left: list[LeftAlone] = []
    idle = Counter(one.node for one in found.held_not_running)
    twice = {one.consumer for one in found.held_twice}
    for one in found.held_not_running:
        row = reader.get(NODE_RUNNING, key(one.cell, one.node))
        what = f"{one.consumer} holds something of {one.node}"
        if one.consumer in twice:
            continue  # below
        if one.elsewhere:
            do = f"place it there: `vacancy move {one.consumer} --to {one.elsewhere[0]}`"
            left.append(LeftAlone(what, f"it runs on {', '.join(one.elsewhere)}", do))
        elif (row is None or not row.consumers) and node != one.node:
            why = f"{one.node} says that it runs nothing, and {idle[one.node]} consumers hold something of it"
            do = f"if that is so: `vacancy audit --node {one.node} --heal`"
            left.append(LeftAlone(what, why, do))
        else:
            releases.append(one)
    for running in found.running_not_held:
        what = f"{running.consumer} runs on {running.node}"
        if running.held_on:
            do = f"`vacancy move {running.consumer} --to {running.node}`, or stop it there"
            why = f"it holds something of {', '.join(running.held_on)} instead"
        else:
            do = "stop it there, or place it with what it uses: `vacancy place`"
            why = "nobody said how much it uses"
        left.append(LeftAlone(what, why, do))
    moves = [two for two in found.held_twice if two.decided and not two.in_source]
    left += [_left_twice(two) for two in found.held_twice if two not in moves]
    for over in found.over_capacity:
        what = f"{over.used} of {over.capacity} {over.resource_class} of {over.provider} are held"
        left.append(LeftAlone(what, "it has less than it had", "move some of its consumers: `vacancy move`"))
    return Healing(releases, moves, left)


def _left_twice(two: HeldTwice) -> LeftAlone:
    what = f"{two.consumer} holds something in cells {', '.join(two.claims)}"
    if not two.move:
        runs = f"; it runs on {', '.join(two.running)}" if two.running else ""
        do = f"release the other one: `vacancy release {two.consumer} --cell NAME`"
        return LeftAlone(what, f"no move between them is open{runs}", do)
    if two.in_source:
        why = f"the move between them is confirmed, and {', '.join(two.in_source)} still runs it"
        return LeftAlone(what, why, f"stop it there, then `vacancy settle {two.consumer}`")
    do = f"`vacancy settle {two.consumer}` finishes the move, `--undo` undoes it"
    return LeftAlone(what, f"a move between them is open: {two.reason}", do)


def heal(log: Log, reader: StoreReader, healing: Healing, *, timeout_s: float = 10.0) -> int:
    """Append the releases, and wait for what the fold makes of them. Returns how many there were.

    `timeout_s` is for each 64 records. Raises as `FoldedLog.write` does; then some of them may be in the log, and the next
    audit shows what is left.
    """
    records = healing.records()
    for first in range(0, len(records), _AT_ONCE):
        some = records[first : first + _AT_ONCE]
        FoldedLog(log, reader, timeout_s=timeout_s).write(some, "the releases", "`vacancy audit`")
    return len(records)
