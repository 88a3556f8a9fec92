"""Moves a consumer from one cell to another, step by step, and resumes moves that somebody else left open.

What comes next is read from the tables of the two cells (`fold.claims.cell_moves`), so it does not matter who did the last step, or
whether he was killed after it. Two that resume one move do the same steps, and each has an effect once.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from typing import Final, Literal
from uuid import uuid4

from vacancy.clients.inspection.cell_moves import CellMove, cell_moves, described
from vacancy.clients.inspection.lookup import check_nodes
from vacancy.clients.runtime.folded_log import FoldedLog, RecordRefused
from vacancy.clients.scheduler.claims import ClaimMaker, new_ids, rejection_text
from vacancy.clients.scheduler.moves.holdings import Holding, holding_of
from vacancy.clients.scheduler.needed_rules import check_rules
from vacancy.clients.scheduler.placement import PlacementRequest
from vacancy.clients.scheduler.settlement import OpenClaim, settle
from vacancy.clients.scheduler.store_query import AnyRequest, StoreQuery
from vacancy.projections.query.budget import SearchBudget
from vacancy.projections.query.model import Candidate
from vacancy.resources.model import events
from vacancy.resources.model.encoding.event_encoding import encode_claims
from vacancy.resources.model.errors import ClaimLost, NoValidHost, OutcomeUnknown, UsageError, VacancyError
from vacancy.resources.model.partitioner import partition_for
from vacancy.resources.model.record import NewRecord
from vacancy.resources.state.rows import AllocationRow, CellMoveRow
from vacancy.resources.state.tables import (
    ALLOCATIONS,
    CELL_MOVES,
    VERDICTS,
    key,
)
from vacancy.streams.log import AppendedAt, Log

SOURCE: Final = "/cell-move"
HOLD_MS: Final = 600_000
"""How long the destination is held for a move that nobody resumes, where nothing else is asked for."""

_SEARCHED: Final = 4096
_LOOK: Final = "`vacancy settle`"


class CellMoves:
    """Moves between cells, for one scheduler or one command. Creating one raises `UsageError` where the log's rules have none.

    `deadline_ms`: how long the claim may wait for its verdict (log time). `timeout_s` is for each move.
    """

    def __init__(
        self, log: Log, query: StoreQuery, *, deadline_ms: int = 60_000, timeout_s: float = 30.0
    ) -> None:
        self._log, self._query, self._reader = log, query, query.reader
        self._timeout_s, self._ids = timeout_s, new_ids()
        self._maker = ClaimMaker(query.reader, log.clock, deadline_ms=deadline_ms, seed=0, policy="cell-move")
        self._reader.catch_up()
        check_rules(
            self._reader, lambda rules: events.CellMoveBegun in rules.event_models, "moves between cells need"
        )

    # -- moving ---------------------------------------------------------------------------------------------------

    def move(
        self,
        consumer: str,
        request: AnyRequest,
        *,
        source: str | None = None,
        cell: str | None = None,
        to: str | None = None,
        not_nodes: Collection[str] = (),
        hold_ms: int = HOLD_MS,
        waits: bool = False,
        attempts: int = 8,
    ) -> CellMove:
        """Move a consumer to a place for `request` in another cell: `cell`, or any if None; only to the node `to` if given, and
        to none of `not_nodes`. `source` is the cell that it leaves, if it holds something in several.

        With `waits` it returns as soon as both are held: the move goes on once the claim there is confirmed, by `vacancy
        confirm` or the node's report, and is undone after `hold_ms` of log time otherwise. Another move of the consumer that
        is open is resumed first. Raises `NoValidHost`, `ClaimLost`, `UsageError`, and as `FoldedLog` does.
        """
        check_nodes(self._reader, not_nodes)
        self.resume_open(consumer)
        _, source, held = self._source(consumer, source)
        compiled = self._query.compile(request)
        placement = PlacementRequest(
            compiled,
            consumer=consumer,
            project=held.project,
            user=held.user,
            consumer_type=held.consumer_type,
            hold_ms=max(hold_ms, self._maker.deadline_ms),
        )
        avoid, why = set(not_nodes), ""
        for _ in range(attempts):
            candidate = self._candidate(placement, source, cell, to, avoid)
            if candidate is None:
                break
            move = self._begin(consumer, source, held, placement, candidate, waits)
            if move.status != "undone":
                return move
            avoid.add(candidate.root)
            why = move.reason
        if why:
            raise ClaimLost(
                f"consumer {consumer} stays in cell {source}: {why}",
                where=f"store {self._reader.path}",
                do="try again",
            )
        raise NoValidHost(
            f"no valid host for {consumer} in another cell than {source}",
            where=f"store {self._reader.path}",
            do="see `vacancy candidates`, and name another cell or node",
            explain=lambda: self._query.explain(compiled, newest=False),
        )

    def _source(self, consumer: str, cell: str | None) -> Holding:
        """What the consumer holds in the cell that it leaves. Raises as `holding_of` does, and `UsageError` for a member of server
        groups."""
        held = holding_of(self._reader, consumer, cell)
        if held.row.groups:
            raise UsageError(
                f"consumer {consumer} is in server groups of cell {held.cell}: {', '.join(held.row.groups)};"
                " a server group is in one cell",
                where=f"cell {held.cell}",
                do="move it within the cell, or place it again in the other cell without the groups",
            )
        return held

    def _candidate(
        self, placement: PlacementRequest, source: str, cell: str | None, to: str | None, avoid: set[str]
    ) -> Candidate | None:
        self._reader.follow()
        compiled = self._query.compile(placement.spec)
        cells = [cell] if cell is not None else sorted(one.decode() for one in self._reader.view.cells)
        for one in cells:
            if one == source:
                continue
            found = self._query.search(
                compiled,
                limit=1 if to is None else _SEARCHED,
                order=self._query.order,
                heard_since_ms=None,
                budget=SearchBudget(),
                cell=one,
                avoid=avoid,
            )
            for candidate in found:
                if to in (None, candidate.root):
                    return candidate
        return None

    def _begin(
        self,
        consumer: str,
        source: str,
        held: AllocationRow,
        placement: PlacementRequest,
        candidate: Candidate,
        waits: bool,
    ) -> CellMove:
        id_ = next(self._ids)
        compiled = self._query.compile(placement.spec)
        claim = self._maker.make(
            id_, candidate, placement, compiled, consumer=consumer, request_id=held.request or id_
        )
        begun = events.CellMoveBegunData(
            move=id_,
            consumer=consumer,
            source=events.CellMoveHalf(cell=source, claim=held.claim),
            destination=candidate.cell,
            deadline_ms=claim.deadline_ms,
            hold_until_ms=claim.hold_until_ms or 0,
            waits=waits,
        )
        folded = FoldedLog(self._log, self._reader, timeout_s=self._timeout_s)
        subject = f"the move of {consumer} to cell {candidate.cell}"
        event = events.CellMoveBegun(id=uuid4().hex, source=SOURCE, data=begun)
        folded.write([NewRecord(id_, events.encode(event))], subject, _LOOK)
        folded.write([NewRecord(candidate.cell, encode_claims(uuid4().hex, SOURCE, [claim]))], subject, _LOOK)
        return self.resume(id_)

    def resume_open(self, consumer: str) -> None:
        """Resume the moves of a consumer that are open. Raises `UsageError` where one stays open: it waits for somebody else."""
        for one in cell_moves(self._reader, consumer):
            ended = self.resume(one.id)
            if ended.status == "open":
                raise UsageError(
                    f"consumer {consumer} is being moved to cell {ended.destination} already: {ended.reason}",
                    where=f"move {ended.id}",
                    do=f"confirm it, undo it with `vacancy settle {consumer} --undo`, or release one half with"
                    f" `vacancy release {consumer} --cell NAME`",
                )

    # -- resuming -------------------------------------------------------------------------------------------------

    def resume_all(self, *, undo: bool = False) -> Iterator[CellMove]:
        """Resume all open moves, one after the other."""
        for one in cell_moves(self._reader):
            yield self.resume(one.id, undo=undo)

    def resume(self, move: str, *, undo: bool = False) -> CellMove:
        """Do what is left of a move, until it has ended or waits for somebody else. With `undo`, a claim that is not confirmed
        is withdrawn. Raises `VacancyError` for an unknown move, and as `FoldedLog` does."""
        folded = FoldedLog(self._log, self._reader, timeout_s=self._timeout_s)
        give_up_at = time.monotonic() + self._timeout_s
        self._read_all(folded, move)
        while True:
            self._reader.catch_up()
            row = self._reader.get(CELL_MOVES, move.encode(), cell=move)
            if row is None:
                raise VacancyError(
                    f"there is no move {move}", where=f"store {self._reader.path}", do="see `vacancy usage`"
                )
            if row.outcome:
                return described(self._reader, move, row, self._rejection(move, row))
            waits_for = self._step(folded, move, row, undo)
            if waits_for:
                return described(self._reader, move, row, waits_for)
            if time.monotonic() > give_up_at:
                raise OutcomeUnknown(
                    f"the move of {row.consumer} to cell {row.destination} is not done yet",
                    where=f"move {move}",
                    do="check that `vacancy worker` runs, then go on with `vacancy settle`",
                )

    def _read_all(self, folded: FoldedLog, move: str) -> None:
        """Wait until the store has read what the log has of a move now: of itself, and of both cells. So what a cell does not
        show was released, and not only unread."""
        ends = self._log.end()
        subject = f"move {move}"

        def read(*cells: str) -> None:
            partitions = {partition_for(cell, self._log.partitions) for cell in cells}
            folded.wait_for([AppendedAt(at, ends[at] - 1, 0) for at in partitions], subject, _LOOK)

        read(move)
        row = self._reader.get(CELL_MOVES, move.encode(), cell=move)
        if row is not None:
            read(row.source, row.destination)

    def _step(self, folded: FoldedLog, move: str, row: CellMoveRow, undo: bool) -> str:
        """The next step of an open move. Returns what it waits for, '' if the step was done."""
        here = self._reader.get(ALLOCATIONS, key(row.source, row.consumer))
        there = self._reader.get(ALLOCATIONS, key(row.destination, row.consumer))
        subject = f"the move of {row.consumer} to cell {row.destination}"
        if there is not None and there.claim == move:
            if there.hold_until_ms and (undo or here is None or here.claim != row.claim):
                return self._withdraw(folded, move, row, subject)
            if there.hold_until_ms and row.waits:
                return f"the claim in {row.destination} is not confirmed"
            if there.hold_until_ms:
                ref = events.ConsumerRef(consumer=row.consumer, claim=move)
                event = events.ConsumerConfirmed(id=uuid4().hex, source=SOURCE, data=ref)
                folded.write([NewRecord(row.destination, events.encode(event))], subject, _LOOK)
                return ""
            if here is not None and here.claim == row.claim:
                release = events.Release(consumer=row.consumer, claim=row.claim)
                data = events.ConsumersReleasedData(releases=(release,))
                released = events.ConsumersReleased(id=uuid4().hex, source=SOURCE, data=data)
                folded.write([NewRecord(row.source, events.encode(released))], subject, _LOOK)
                return ""
        elif not self._is_decided(move, row):
            return self._withdraw(folded, move, row, subject)
        if here is not None and there is not None:
            return f"it was resized or placed again meanwhile: release one half with `vacancy release {row.consumer} --cell NAME`"
        if there is not None and there.hold_until_ms:
            # It was resized while it was a hold, and the source was released by hand: it may still end.
            return f"the claim in {row.destination} is not confirmed"
        outcome: Literal["finished", "undone", "released"] = (
            "finished" if there is not None else "undone" if here is not None else "released"
        )
        ended = events.CellMoveEndedData(move=move, outcome=outcome)
        event_ended = events.CellMoveEnded(id=uuid4().hex, source=SOURCE, data=ended)
        with suppress(RecordRefused):  # somebody else has ended it, and the table has how
            folded.write([NewRecord(move, events.encode(event_ended))], subject, _LOOK)
        return ""

    def _withdraw(self, folded: FoldedLog, move: str, row: CellMoveRow, subject: str) -> str:
        data = events.CellMoveWithdrawnData(move=move, consumer=row.consumer, deadline_ms=row.deadline_ms)
        event = events.CellMoveWithdrawn(id=uuid4().hex, source=SOURCE, data=data)
        folded.write([NewRecord(row.destination, events.encode(event))], subject, _LOOK)
        return ""

    def _is_decided(self, move: str, row: CellMoveRow) -> bool:
        """Whether the claim of a move, which holds nothing now, cannot be accepted any more."""
        wanted = OpenClaim(row.consumer, row.deadline_ms, move, row.destination)
        return settle(self._reader, wanted).status != "unknown"

    def _rejection(self, move: str, row: CellMoveRow) -> str:
        verdict = self._reader.get(VERDICTS, key(row.destination, move))
        return "" if verdict is None or verdict.accepted else rejection_text(verdict)
