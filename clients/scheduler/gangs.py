"""Placing a gang: several requests, like or unlike, that are placed together in one cell or not at all.

All claims of a gang are one record, and the fold accepts all of them or none. So there is no state in which a part of
the gang holds something, also if others claim at the same time or a process is killed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, NamedTuple

from msgspec.structs import replace

from vacancy.clients.scheduler.claims import (
    FINAL,
    RETRY_SAME_NODE,
    ClaimMaker,
    ClaimSettings,
    new_ids,
    rejected_root,
    rejection_text,
)
from vacancy.clients.scheduler.log_time import LogTime
from vacancy.clients.scheduler.log_writer import LogWriter
from vacancy.clients.scheduler.needed_rules import check_request, check_rules
from vacancy.clients.scheduler.observer import RequestWatch, SchedulerObserver, watches_of
from vacancy.clients.scheduler.pipeline import REASON_MAX, PollPacing
from vacancy.clients.scheduler.placement import Outcome, PlacementRequest, Rejected, Status, settle_first
from vacancy.clients.scheduler.store_query import StoreQuery
from vacancy.projections.query.compiled_request import CompiledRequest
from vacancy.projections.query.gang import PLACES_MAX, TRIALS_MAX, FoundGang, GangMember, find_gang
from vacancy.projections.query.model import Candidate
from vacancy.resources.fold.claims.claims import GANG_REJECTED
from vacancy.resources.model.encoding.event_encoding import ClaimWire, ClosedRequestWire
from vacancy.resources.model.errors import (
    ClaimLost,
    NoValidHost,
    OutcomeUnknown,
    SearchGivenUp,
    UsageError,
)
from vacancy.resources.model.events import BATCH_MAX, GangRequested
from vacancy.resources.state.rows import AllocationRow, VerdictRow, granted_by_name
from vacancy.resources.state.tables import ALLOCATIONS, VERDICTS, key


class Member(NamedTuple):
    """A request of a gang: what was asked, the id of the request, its home partition, its consumer, and who watches it."""

    request: PlacementRequest
    compiled: CompiledRequest
    id: str
    home: int
    consumer: str
    avoid: set[str]
    watches: tuple[RequestWatch, ...] = ()


class _Sent(NamedTuple):
    """The claims of a gang, and the places that they are for."""

    cell: str
    claims: Sequence[ClaimWire]
    places: Sequence[Candidate]


class GangPlacement:
    """Places gangs for one scheduler. See `Scheduler.place_gang`. `fetch_quota` fetches the share that a claim lacked, and
    `check_new` raises for a consumer that holds something. `observers` watch the members."""

    def __init__(
        self,
        writer: LogWriter,
        query: StoreQuery,
        settings: ClaimSettings,
        log_time: LogTime,
        *,
        fetch_quota: Callable[[Rejected], bool],
        check_new: Callable[[str, str], None],
        observers: Sequence[SchedulerObserver] = (),
    ) -> None:
        self._observers = observers
        self._writer, self._query, self._settings = writer, query, settings
        self._reader = query.reader
        self._log_time = log_time
        self._fetch_quota, self._check_new = fetch_quota, check_new
        self._ids = new_ids()
        self._pacing = PollPacing()
        self._maker = ClaimMaker.of(query.reader, log_time.clock, settings)

    def place(
        self, requests: Sequence[PlacementRequest], timeout_s: float, max_staleness_s: float | None
    ) -> list[Outcome]:
        """The outcomes of all members, in their order. All are placed, or it raises."""
        started = time.monotonic()
        compiled = self._checked(requests)
        self._reader.follow()
        self._log_time.bring_up(timeout_s / 2)
        members = [self._accept(request, one) for request, one in zip(requests, compiled, strict=True)]
        since_ms = self._query.present.heard_since_ms(max_staleness_s)
        try:
            return self._attempts(members, started, timeout_s, since_ms)
        finally:
            for watch in (watch for one in members for watch in one.watches):
                watch.abandoned()  # does nothing where the outcome is known
            self._writer.flush(timeout_s)

    def _checked(self, requests: Sequence[PlacementRequest]) -> list[CompiledRequest]:
        """The requests, compiled. Raises `UsageError` unless they can be one gang in this log."""
        if not 2 <= len(requests) <= BATCH_MAX:
            raise UsageError(
                f"a gang of {len(requests)} requests is invalid",
                do=f"place 2 to {BATCH_MAX} requests together",
            )
        names = [one.consumer for one in requests if one.consumer is not None]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise UsageError(f"consumer {twice} is in the gang twice", do="give each member another consumer")
        compiled = [self._query.compile(one.spec) for one in requests]
        for number, one in enumerate(compiled, 1):
            if one.spec.copies > 1:
                raise UsageError(
                    f"member {number} of the gang asks for {one.spec.copies} copies",
                    do="name each of them as a member of its own",
                )
        check_rules(
            self._reader,
            lambda rules: GangRequested in rules.event_models,
            "placing several consumers together needs",
        )
        for one in compiled:
            if one.choices or one.needs or one.spec.memberships:
                check_request(self._reader, one, recorded=self._settings.record_requests)
        return compiled

    def _accept(self, request: PlacementRequest, compiled: CompiledRequest) -> Member:
        id_, home = self._writer.received(request.id, compiled.wire, has_choices=bool(compiled.choices))
        consumer = request.consumer or next(self._ids)
        watches = watches_of(self._observers, request, compiled, consumer)
        return Member(request, compiled, id_, home, consumer, set(), watches)

    def _attempts(
        self, members: Sequence[Member], started: float, timeout_s: float, since_ms: int | None
    ) -> list[Outcome]:
        lost, reason = 0, ""
        while True:
            self._reader.follow()
            asked = time.perf_counter()
            found = find_gang(
                self._reader.view,
                [GangMember(one.compiled, one.consumer, one.avoid) for one in members],
                order=self._settings.order,
                rng=self._query.rng,
                heard_since_ms=since_ms,
            )
            query_ms = (time.perf_counter() - asked) * 1e3
            for watch in members[0].watches:
                watch.queried(query_ms / 1e3, self._reader.newest_ms)
            if not found.places:
                raise self._none_found(members, found, reason)
            left_s = max(0.0, started + timeout_s - time.monotonic())
            sent = self._claims(members, found.places)
            claims = [sent.claims[number] for number in found.turns]
            unavailable = self._writer.send(gangs={sent.cell: claims}, timeout_s=left_s)
            if unavailable is not None:
                self._close(members, "failed", reason=f"no claim was sent: {unavailable}")
                raise ClaimLost(f"no claim was sent: {unavailable}", where=self._where, do="try again")
            sent_at = time.monotonic()
            verdicts = self._wait(sent, started + timeout_s)
            self._show_verdicts(members, sent, verdicts, time.monotonic() - sent_at)
            if not verdicts:
                raise self._unknown(members, sent)
            if all(one.accepted for one in verdicts):
                self._close(members, "placed", sent)
                took_ms = (time.monotonic() - started) * 1e3
                return self._outcomes(members, sent, verdicts, lost, took_ms, query_ms)
            lost += 1
            reason = self._rejected(members, sent, verdicts, final=lost >= self._settings.attempts)
            if time.monotonic() - started > timeout_s:
                self._close(members, "failed", reason=reason)
                raise ClaimLost(
                    f"no time left after {lost} claims, the last one: {reason}", where=self._where
                )

    def _show_verdicts(
        self, members: Sequence[Member], sent: _Sent, verdicts: Sequence[VerdictRow], waited_s: float
    ) -> None:
        for member, claim, verdict in zip(members, sent.claims, verdicts, strict=False):
            for watch in member.watches:
                watch.decided(claim.id, "accepted" if verdict.accepted else verdict.reason, waited_s)

    @property
    def _where(self) -> str:
        return f"store {self._reader.path}"

    def _claims(self, members: Sequence[Member], places: Sequence[Candidate]) -> _Sent:
        claims = [
            self._maker.make(
                next(self._ids), place, one.request, one.compiled, consumer=one.consumer, request_id=one.id
            )
            for one, place in zip(members, places, strict=True)
        ]
        deadline_ms = claims[0].deadline_ms
        for member, claim, place in zip(members, claims, places, strict=True):
            for watch in member.watches:
                watch.claimed(claim.id, place.cell, place.root)
        return _Sent(places[0].cell, [replace(one, deadline_ms=deadline_ms) for one in claims], places)

    def _wait(self, sent: _Sent, until: float) -> list[VerdictRow]:
        """The verdicts of all claims of a gang, or none if they did not come in time."""
        wanted = [key(sent.cell, claim.id) for claim in sent.claims]
        found: dict[bytes, VerdictRow] = {}

        def receive(verdicts: Sequence[tuple[bytes, bytes]]) -> None:
            found.update((of, VERDICTS.decode(data)) for of, data in verdicts if of in wanted)

        started = time.monotonic()
        with self._reader.listening(receive):
            self._reader.follow()
            while len(found) < len(wanted) and time.monotonic() < until:
                time.sleep(self._pacing.pause_s(time.monotonic() - started))
                self._reader.follow()
        if len(found) < len(wanted):
            return self._looked_up(sent, wanted)
        self._pacing.note(time.monotonic() - started)
        return [found[one] for one in wanted]

    def _looked_up(self, sent: _Sent, wanted: Sequence[bytes]) -> list[VerdictRow]:
        """The verdicts by the tables: they, or what the consumers hold."""
        self._reader.catch_up()
        verdicts = [self._reader.get(VERDICTS, one) for one in wanted]
        known = [one for one in verdicts if one is not None]
        if len(known) == len(wanted):
            return known
        held = [self._held(sent.cell, claim) for claim in sent.claims]
        accepted = [row for row in held if row is not None]
        if len(accepted) < len(wanted):
            return []
        return [
            VerdictRow(
                True,
                "",
                row.offset,
                sent.claims[0].deadline_ms,
                b"",
                grants=granted_by_name(row.parts),
            )
            for row in accepted
        ]

    def _held(self, cell: str, claim: ClaimWire) -> AllocationRow | None:
        row = self._reader.get(ALLOCATIONS, key(cell, claim.consumer))
        return row if row is not None and row.claim == claim.id else None

    def _rejected(
        self, members: Sequence[Member], sent: _Sent, verdicts: Sequence[VerdictRow], *, final: bool
    ) -> str:
        """Why the gang was rejected. Notes what the next attempt must avoid. Raises where there is none."""
        at = next(n for n, one in enumerate(verdicts) if not one.accepted and one.reason != GANG_REJECTED)
        member, verdict = members[at], verdicts[at]
        reason = f"{member.consumer}: {rejection_text(verdict)}"
        if verdict.reason == "over_quota":
            fetched = False
            try:
                fetched = self._fetch_quota(Rejected(sent.cell, verdict))
            finally:
                if not fetched:
                    self._close(members, "failed", reason=reason)
            return reason
        if verdict.reason in FINAL or final:
            self._close(members, "failed", reason=reason)
            if verdict.reason == "consumer_exists":
                self._check_new(member.consumer, reason)
            raise ClaimLost(f"the gang was rejected because of {reason}", where=self._where, do="try again")
        if verdict.reason not in RETRY_SAME_NODE:
            spec = member.compiled.spec
            member.avoid.add(rejected_root(self._reader.view, spec, sent.places[at], verdict))
        return reason

    def _none_found(self, members: Sequence[Member], found: FoundGang, reason: str) -> Exception:
        """The error where there are no places for all."""
        if found.gave_up:
            text = (
                f"the search was given up in {found.gave_up} cells, after {TRIALS_MAX:,} trials in one or {PLACES_MAX}"
                " places of a member: not searched further"
            )
            self._close(members, "failed", reason=text, status="gave_up")
            return SearchGivenUp(text, self._where)
        if reason:
            self._close(members, "failed", reason=reason)
            return ClaimLost(
                f"the gang was rejected because of {reason}, and no other places are left",
                where=self._where,
                do="try again",
            )
        if found.placeless is None:
            text = "each member of the gang fits by itself, but they do not fit together in any one cell"
            do = "a gang is placed in one cell: request less, release or add resources there, or place smaller gangs"
            explain = None
        else:
            member = members[found.placeless]
            text = (
                f"nothing that matches member {found.placeless + 1} of the gang ({member.consumer}) has room"
            )
            do = "request less, or release or add resources"

            def explain() -> object:
                return self._query.explain(member.compiled, newest=False)

        self._close(members, "failed", reason=text, status="no_valid_host")
        return NoValidHost(f"no valid host: {text}", where=self._where, do=do, explain=explain)

    def _unknown(self, members: Sequence[Member], sent: _Sent) -> OutcomeUnknown:
        self._close(members, "unknown", sent, reason="no verdict came in time")
        claim = sent.claims[0]
        return OutcomeUnknown(
            f"no verdict on the gang of {', '.join(one.consumer for one in members)} yet; all of them are placed, or none",
            where=self._where,
            do=f"{settle_first(sent.cell, claim.consumer, claim.id, claim.deadline_ms)}, and do not place them again before",
        )

    def _outcomes(
        self,
        members: Sequence[Member],
        sent: _Sent,
        verdicts: Sequence[VerdictRow],
        lost: int,
        claim_ms: float,
        query_ms: float,
    ) -> list[Outcome]:
        return [
            Outcome(
                "placed",
                member.id,
                member.consumer,
                cell=sent.cell,
                root=place.root,
                claim=claim.id,
                allocations=place.allocations,
                grants=verdict.grants,
                groups=len(claim.memberships),
                as_of=self._reader.position,
                deadline_ms=claim.deadline_ms,
                lost_claims=lost,
                claim_ms=claim_ms,
                query_ms=query_ms,
            )
            for member, place, claim, verdict in zip(members, sent.places, sent.claims, verdicts, strict=True)
        ]

    def _close(
        self,
        members: Sequence[Member],
        outcome: Literal["placed", "failed", "unknown"],
        sent: _Sent | None = None,
        *,
        reason: str = "",
        status: Status | None = None,
    ) -> None:
        """Record how the requests of all members ended. `status` is what observers get, where it says more than `outcome`."""
        for number, member in enumerate(members):
            claim = sent.claims[number].id if sent else None
            cell = sent.cell if sent else None
            self._writer.closed(
                member.home,
                ClosedRequestWire(
                    member.id,
                    outcome,
                    self._maker.as_of(),
                    claim=claim,
                    cell=cell,
                    reason=reason[:REASON_MAX],
                ),
            )
            if member.watches:
                shown: Status = status or ("lost" if outcome == "failed" else outcome)
                ended = Outcome(
                    shown, member.id, member.consumer, cell=cell or "", claim=claim or "", reason=reason
                )
                for watch in member.watches:
                    watch.ended(ended, partial(self._query.explain, member.compiled, nearest=0, newest=False))
