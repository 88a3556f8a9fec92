"""The scheduler's client: find candidates, claim one, receive the verdict.

It reads the store of its own host and writes to the log. It is for one thread.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Final, Self, TypedDict, Unpack

from vacancy.clients.inspection.provenance import EventLookup
from vacancy.clients.runtime import garbage_collector
from vacancy.clients.runtime.folded_log import RecordRefused, SameLogCheck
from vacancy.clients.scheduler.claims import LATE, ClaimSettings, id_prefix, rejection_text
from vacancy.clients.scheduler.log_time import LogTime
from vacancy.clients.scheduler.log_writer import LIMITS, LogWriter
from vacancy.clients.scheduler.observer import SchedulerObserver, trace_parents, watched_move
from vacancy.clients.scheduler.pipeline import Pipeline, PollPacing
from vacancy.clients.scheduler.placement import Outcome, PlacementRequest, Rejected, settle_first
from vacancy.clients.scheduler.releases import WeighedRelease, release_records
from vacancy.clients.scheduler.settlement import OpenClaim, Settlement, latest_deadline_ms, settle
from vacancy.clients.scheduler.store_query import AnyRequest, Candidates, StoreQuery
from vacancy.projections.query.compiled_request import CompiledRequest
from vacancy.projections.query.order import Order
from vacancy.projections.ranking.orders import RANDOM
from vacancy.resources.classes.registry import Registry
from vacancy.resources.fold.record_limits import parts_weight
from vacancy.resources.model import events
from vacancy.resources.model.errors import (
    ClaimLost,
    ConsumerExists,
    LogUnavailable,
    NoValidHost,
    OutcomeUnknown,
    OverQuota,
    SearchGivenUp,
    UsageError,
    VacancyError,
)
from vacancy.resources.model.limits import LIMITS_4, NAMED_PART_WEIGHT
from vacancy.resources.model.names import CONSUMER_TYPE_MAX, check_consumer_type, check_id, is_id
from vacancy.resources.model.partitioner import partition_for
from vacancy.resources.model.request import Ask
from vacancy.resources.state.rows import AllocationRow
from vacancy.resources.state.tables import DEAD_LETTERS
from vacancy.streams.log import AppendedAt, Log

if TYPE_CHECKING:
    from vacancy.clients.inspection.cell_moves import CellMove
    from vacancy.clients.inspection.why_not import WhyNot
    from vacancy.clients.metrics.scheduler_metrics import SchedulerMetrics
    from vacancy.clients.scheduler.moves.moves import Moved, Moves
    from vacancy.clients.tracing.scheduler_tracing import SchedulerTracing
    from vacancy.projections.diagnostics.summary import Explanation
    from vacancy.streams.settings import Settings

HOLD_MS_MAX: Final = 366 * 24 * 3600 * 1000
"""How long something can be held without being confirmed: a year."""

_SHARES_FETCHED: Final = 32
"""How often a placement may fetch shares of limits: others may take them first."""

_COLLECT_FROM_ROWS: Final = 1000
"""Providers in the view from which it pays to collect garbage before the collector is spared."""


class SchedulerOptions(TypedDict, total=False):
    """The options of a `Scheduler`, with the defaults that it gives them."""

    name: str
    seed: int | None
    order: Order | str
    deadline_s: float
    attempts: int
    record_requests: bool
    spare_collector: bool
    view_memory_mb: int | None
    metrics: SchedulerMetrics | None
    tracing: SchedulerTracing | None


class Scheduler:
    """Places requests on the nodes of the store at `store`, with claims in `log`.

    `name` identifies it in the log. `seed` makes its choices repeatable. `order`, an `Order` or the name of one, is the
    order of candidates. `deadline_s`: how long a claim may wait for its verdict, in log time, at most 600. `attempts`:
    claims made for one request before it counts as lost. `record_requests`: whether requests and their outcomes are
    written to the log. `spare_collector`: keep Python's garbage collector of this process from the objects of the view
    until `close`; without that, one query in some thousand waits tens of milliseconds for it at 100,000 nodes.
    `view_memory_mb` bounds the memory of the columns (`StoreReader`). `metrics` counts its requests in a registry of
    prometheus_client, `tracing` makes OpenTelemetry spans of them; both watch `place`, `place_many` and `place_gang`.

    Opening raises `StoreError` where the store cannot be read. Before the first record is written, the log is compared with
    the store's: methods that write raise `StoreMismatch` for another log.
    """

    def __init__(
        self,
        log: Log,
        store: Path,
        registry: Registry,
        *,
        name: str = "scheduler",
        seed: int | None = None,
        order: Order | str = RANDOM,
        deadline_s: float = 60.0,
        attempts: int = 32,
        record_requests: bool = True,
        spare_collector: bool = True,
        view_memory_mb: int | None = None,
        metrics: SchedulerMetrics | None = None,
        tracing: SchedulerTracing | None = None,
    ) -> None:
        self.log = log
        watching = (one for one in (metrics, tracing) if one is not None)
        self._observers: tuple[SchedulerObserver, ...] = tuple(one.observer(name) for one in watching)
        self.query = StoreQuery(
            store, registry, order=order, seed=seed, view_memory_mb=view_memory_mb, clock=log.clock
        )
        self.reader = self.query.reader
        self._owns_log = False
        self._settings = ClaimSettings(
            source=f"/scheduler/{name}",
            seed=seed or 0,
            order=self.query.order,
            deadline_ms=int(deadline_s * 1000),
            attempts=attempts,
            record_requests=record_requests,
        )
        self._same_log = SameLogCheck(log, self.reader)
        self._writer = LogWriter(
            log,
            self._settings.source,
            record_requests=record_requests,
            same_log=self._same_log,
            takes=self.reader.takes,
            trace_parent_of=trace_parents(self._observers),
        )
        self._log_time = LogTime(log, self.reader, self._same_log)
        self._pacing = PollPacing(self.reader.bell(id_prefix()))
        self._restore_collector: Callable[[], None] | None = None
        if spare_collector:
            collect = self.reader.view.size >= _COLLECT_FROM_ROWS
            self._restore_collector = garbage_collector.spare_collector(collect=collect)

    @classmethod
    def from_settings(
        cls,
        settings: Settings | None = None,
        *,
        timeout_s: float | None = None,
        log: Log | None = None,
        **options: Unpack[SchedulerOptions],
    ) -> Self:
        """A scheduler on the log and the store in `settings`: those in force (`load_settings`: the environment,
        `./vacancy.toml`, the defaults) where None are given. `close` closes both.

        `timeout_s` is how long to wait for the log, if that is less than in the settings. A `log` that is open already is used
        in its place, and closed likewise. Raises `UsageError` for
        invalid settings, `LogError` and `StoreError` where the log or the store cannot be opened, `LogUnavailable` where
        the log does not answer.
        """
        from vacancy.clients.runtime.bootstrap import installed_registry
        from vacancy.clients.tracing.switch import scheduler_tracing
        from vacancy.streams.log import open_log
        from vacancy.streams.settings import load_settings

        used = load_settings() if settings is None else settings
        if log is None:
            log = open_log(used.log, timeout_s, **used.kafka)
        try:
            options = {"view_memory_mb": used.view_memory_mb, **options}
            if used.tracing and "tracing" not in options:
                options["tracing"] = scheduler_tracing()
            made = cls(log, used.store, installed_registry(), **options)
        except BaseException:
            log.close()
            raise
        made._owns_log = True
        return made

    # -- questions ----------------------------------------------------------------------------------------------

    def compile(self, request: AnyRequest) -> CompiledRequest:
        """See `StoreQuery.compile`."""
        return self.query.compile(request)

    def candidates(
        self,
        request: AnyRequest,
        *,
        limit: int = 10,
        order: Order | str | None = None,
        max_staleness_s: float | None = None,
        consumer: str | None = None,
        cell: str | None = None,
        prefer_cell: str | None = None,
        not_nodes: Collection[str] = (),
    ) -> Candidates:
        """See `StoreQuery.candidates`. What this scheduler's own claims in flight ask for counts as used."""
        return self.query.candidates(
            request,
            limit=limit,
            order=order,
            max_staleness_s=max_staleness_s,
            consumer=consumer,
            cell=cell,
            prefer_cell=prefer_cell,
            not_nodes=not_nodes,
        )

    def explain(
        self, request: AnyRequest, *, max_staleness_s: float | None = None, nearest: int | None = None
    ) -> Explanation:
        """See `StoreQuery.explain`."""
        return self.query.explain(request, max_staleness_s=max_staleness_s, nearest=nearest)

    def why_not(self, request: AnyRequest, node: str, *, max_staleness_s: float | None = None) -> WhyNot:
        """See `StoreQuery.why_not`; the log names who took the last of what is short."""
        return self.query.why_not(request, node, log=self.log, max_staleness_s=max_staleness_s)

    def allocations(self, consumer: str) -> list[tuple[str, AllocationRow]]:
        """See `StoreQuery.allocations`."""
        return self.query.allocations(consumer)

    # -- changing what is placed ----------------------------------------------------------------------------------

    def move(
        self,
        consumer: str,
        *,
        to: str | None = None,
        not_nodes: Collection[str] = (),
        cell: str | None = None,
        keep: bool = False,
        tolerate: Collection[str] = (),
        timeout_s: float = 10.0,
        max_staleness_s: float | None = None,
    ) -> Outcome:
        """Move a consumer to another node of its cell, with the same request: to the node `to`, to any but `not_nodes`, or,
        without both, to any but those that it is on. It stays in its server groups. Waits for the verdict, and tries the next
        place where another claim was first. Where it is as wanted already, nothing is sent.

        With `keep` it holds both places afterwards, while a guest is copied. A move `to` one of the two nodes ends the other
        place, and keeps what was granted on that node: to the new one to finish, to the old one to undo it. `cell` chooses one
        of several cells in which it holds something.

        The tolerations of its request go with it. `tolerate` names more taints (`KEY` or `KEY=VALUE`) that it tolerates, and
        goes on to tolerate in later moves.

        Raises as `place` does (`NoValidHost`, `SearchGivenUp`, `ClaimLost`, `OutcomeUnknown`, `OverQuota`, `RecordRefused`,
        `UsageError`), and `NothingHeld`. On a log with rules below version 4, `UsageError` where it would be granted other
        devices for what it asks as before.
        """
        return self._moves(timeout_s).move(
            consumer,
            to=to,
            not_nodes=not_nodes,
            cell=cell,
            keep=keep,
            tolerate=tolerate,
            timeout_s=timeout_s,
            max_staleness_s=max_staleness_s,
        )

    def resize(
        self,
        consumer: str,
        resources: Mapping[str, Ask | None] = MappingProxyType({}),
        *,
        groups: Mapping[str, Mapping[str, Ask | None]] = MappingProxyType({}),
        elsewhere: bool = False,
        cell: str | None = None,
        tolerate: Collection[str] = (),
        timeout_s: float = 10.0,
        max_staleness_s: float | None = None,
    ) -> Outcome:
        """Change what a consumer asks for: class -> the new ask, None for nothing any more. All other asks of its request stay,
        and so do their grants. `groups` has the changes by request group, where several ask for one class. It stays on its
        node, unless `elsewhere` allows others. `tolerate` as for `move`. Raises as `move`."""
        return self._moves(timeout_s).resize(
            consumer,
            resources,
            groups,
            elsewhere=elsewhere,
            cell=cell,
            tolerate=tolerate,
            timeout_s=timeout_s,
            max_staleness_s=max_staleness_s,
        )

    def replace(
        self,
        placement: PlacementRequest,
        *,
        cell: str | None = None,
        leaves: Collection[str] = (),
        timeout_s: float = 10.0,
        max_staleness_s: float | None = None,
    ) -> Outcome:
        """Give a consumer that holds something what another request asks for, in its cell, where it is if that is possible.
        `leaves` are server groups (`CELL/NAME`) that it leaves; it stays in all others. Raises as `move`."""
        check_placement(placement)
        return self._moves(timeout_s).replace(
            placement, cell=cell, leaves=leaves, timeout_s=timeout_s, max_staleness_s=max_staleness_s
        )

    def evacuate(
        self,
        node: str,
        *,
        cell: str | None = None,
        dry_run: bool = False,
        tolerate: Collection[str] = (),
        timeout_s: float = 10.0,
        max_staleness_s: float | None = None,
    ) -> Iterator[Moved]:
        """Move every consumer off a node, one after the other, each to another node of the cell; what cannot be moved stays,
        with its error. `timeout_s` is for each. With `dry_run`, only find the places. `tolerate` as for `move`. Raises `NotFound` for
        an unknown node, `UsageError` for a part of a node."""
        return self._moves(timeout_s).evacuate(
            node,
            cell=cell,
            dry_run=dry_run,
            tolerate=tolerate,
            timeout_s=timeout_s,
            max_staleness_s=max_staleness_s,
        )

    def update(
        self,
        consumer: str,
        *,
        project: str | None = None,
        user: str | None = None,
        consumer_type: str | None = None,
        cell: str | None = None,
        timeout_s: float = 10.0,
        wait: bool = True,
    ) -> list[str]:
        """Change the project, the user or the type of a consumer; None: it stays. What it holds stays. Returns the cells where
        it holds something; all are changed, or `cell` only. Raises `NothingHeld`, `OverQuota`, `RecordRefused`,
        `OutcomeUnknown`, and `UsageError` on a log with rules below version 4."""
        return self._moves(timeout_s).update(
            consumer,
            project=project,
            user=user,
            consumer_type=consumer_type,
            cell=cell,
            timeout_s=timeout_s,
            wait=wait,
        )

    def move_to_cell(
        self,
        consumer: str,
        *,
        cell: str | None = None,
        to: str | None = None,
        not_nodes: Collection[str] = (),
        source: str | None = None,
        tolerate: Collection[str] = (),
        hold_s: float = 600.0,
        waits: bool = False,
        timeout_s: float = 30.0,
    ) -> CellMove:
        """Move a consumer to another cell, with the same request: to `cell`, or to any other; to the node `to`, if given, and to
        none of `not_nodes`. `source` chooses one of several cells in which it holds something. `tolerate` as for `move`.

        It is one operation that anybody can resume after a kill: see docs/moves-between-cells.md. With `waits` it returns as
        soon as both places are held. The move goes on once the claim is confirmed, and is undone after `hold_s` seconds of log
        time otherwise. Raises as `CellMoves.move` does, and `UsageError` where the log no longer has the consumer's request.
        """
        from vacancy.clients.scheduler.moves.cell_moves import CellMoves
        from vacancy.clients.scheduler.moves.holdings import (
            also_tolerating,
            asked_of,
            holding_of,
            without_trees,
        )

        moves = CellMoves(self.log, self.query, deadline_ms=self._settings.deadline_ms, timeout_s=timeout_s)
        moves.resume_open(consumer)
        held = holding_of(self.reader, consumer, source)
        spec = also_tolerating(asked_of(self.reader, self.log, held).spec, tolerate)
        with watched_move(self._observers, "move to cell", consumer):
            return moves.move(
                consumer,
                without_trees(spec),  # a tree is in one cell
                source=held.cell,
                cell=cell,
                to=to,
                not_nodes=not_nodes,
                hold_ms=int(hold_s * 1000),
                waits=waits,
            )

    def _moves(self, timeout_s: float) -> Moves:
        from vacancy.clients.scheduler.moves.moves import Moves

        return Moves(
            self.log,
            self.query,
            self._settings,
            bring_up=self._log_time.bring_up,
            fetch_quota=lambda rejected: self.fetch_quota(rejected, timeout_s=timeout_s),
            observers=self._observers,
        )

    # -- placing ------------------------------------------------------------------------------------------------

    def place(
        self,
        request: PlacementRequest | AnyRequest,
        *,
        timeout_s: float = 10.0,
        max_staleness_s: float | None = None,
    ) -> Outcome:
        """Claim a place and wait for the verdict. Where the claim was rejected, try the next candidate. `max_staleness_s`
        leaves out nodes that have not been heard from for so long.

        The outcome is written to the log after this returns, within 0.5 s or at `close`. Raises `NoValidHost` (its
        `explanation` has the reasons), `SearchGivenUp`, `ClaimLost`, `OutcomeUnknown`, `RecordRefused` where the claim is a dead
        letter, `ConsumerExists` where the consumer holds something in the cell of the claim, `OverQuota` where a limit of
        its project or user is reached in all partitions, or `UsageError` where the request is invalid.
        """
        for _ in range(_SHARES_FETCHED):
            outcomes = self.place_many(
                [request], in_flight=1, timeout_s=timeout_s, max_staleness_s=max_staleness_s
            )
            outcome = next(outcomes)
            outcomes.close()
            if outcome.status == "placed":
                return outcome
            if not (outcome.rejected and self.fetch_quota(outcome.rejected, timeout_s=timeout_s)):
                break
        if outcome.rejected is not None and outcome.rejected.verdict.reason == "consumer_exists":
            self.check_new(outcome.consumer, self._rejection(outcome))
        if outcome.status == "unknown":
            self._check_refused(outcome)
        compiled = self.compile(request.spec if isinstance(request, PlacementRequest) else request)

        def explain() -> Explanation:
            return self.query.explain(compiled, max_staleness_s=max_staleness_s, newest=False)

        raise _error(outcome, self.reader.path, explain, self._rejection(outcome))

    def _check_refused(self, outcome: Outcome) -> None:
        """Raise `RecordRefused` if the record of a claim without a verdict became a dead letter: no verdict will come."""
        self.reader.catch_up()
        partition = partition_for(outcome.cell, self.log.partitions)
        for _, data in self.reader.raw(partition, DEAD_LETTERS.family):
            row = DEAD_LETTERS.decode(data)
            if outcome.claim.encode() in row.value:
                at = AppendedAt(partition, row.offset, row.timestamp_ms)
                raise RecordRefused(f"claim {outcome.claim} of {outcome.consumer}", row.reason, at)

    def fetch_quota(self, rejected: Rejected, *, timeout_s: float = 10.0, in_gang: bool = False) -> bool:
        """Fetch the share of a limit that a claim lacked in its partition, from partitions that do not use theirs.
        `in_gang`: what its verdict says is used may be of claims before it that were rejected with it.

        Returns False for another rejection. Raises `OverQuota` where the whole limit is in use.
        """
        cell, verdict = rejected
        if verdict.reason != "over_quota":
            return False
        from vacancy.clients.scheduler.quotas import Quotas, scope_of

        scope, quotas = scope_of(verdict), Quotas(self.log, self.reader, timeout_s=timeout_s)
        partition = partition_for(cell, self.reader.manifest.partitions)
        used, _, limit = verdict.other.partition("/")
        asked = verdict.asked
        if in_gang and (known := quotas.limit(scope)) is not None:
            asked += int(used) - sum(one.used for one in known.shares if one.partition == partition)
        if quotas.fetch(scope, partition, asked):
            return True
        found = quotas.limit(scope)
        if found is not None:
            used, limit = str(found.used), str(found.limit)
        raise OverQuota(
            f"over quota: {verdict.group}, {verdict.resource_class}: used {used}, asked {asked}, limit {limit}",
            where=f"store {self.reader.path}",
            do="release something, or raise the limit with `vacancy quota set`",
        )

    def check_new(self, consumer: str, rejection: str = "") -> None:
        """Raise `ConsumerExists` if the consumer holds something in any cell. The fold decides that only in the cell of a
        claim: consumers are unique in a cell, and a move between cells holds something in both. `rejection` is its text, if
        the fold has rejected a claim for that."""
        held = self.allocations(consumer)
        if held:
            parts = ", ".join(_held_text(cell, row) for cell, row in held)
            parts += f"; {rejection}" if rejection else ""
            raise ConsumerExists(
                f"consumer {consumer} exists: it holds {parts}",
                where=f"store {self.reader.path}",
                do=f"change it with `vacancy move {consumer}`, `vacancy resize {consumer}` or `vacancy place --replace`, give it"
                f" back with `vacancy release {consumer}`, or place another consumer; `vacancy show consumer {consumer}`"
                " shows it",
            )

    def _rejection(self, outcome: Outcome) -> str:
        """Why the last claim was rejected, with the event that took the last of what was asked for."""
        if outcome.rejected is None or outcome.rejected.verdict.taken < 0:
            return outcome.reason
        cell, verdict = outcome.rejected
        self.reader.catch_up()
        taken = EventLookup(self.reader, self.log).taking(
            cell, verdict.taken, verdict.provider, verdict.resource_class
        )
        return rejection_text(verdict, taken)

    def place_many(
        self,
        requests: Iterable[PlacementRequest | AnyRequest | None],
        *,
        in_flight: int = 64,
        timeout_s: float = 30.0,
        max_staleness_s: float | None = None,
    ) -> Generator[Outcome, None, None]:
        """Place many requests, with up to `in_flight` claims in flight at once. Claims that are ready together share a
        record. Outcomes come as they are known, not in order; `Outcome.status` has the result of each. `max_staleness_s` as
        for `place`. After the last outcome it waits until the log has confirmed all, `timeout_s` at most.

        Raises `UsageError` when it reaches an invalid request; nothing of that request is sent.
        """
        pipeline = Pipeline(
            self._writer,
            self.query,
            self._settings,
            self._pacing,
            in_flight,
            timeout_s,
            self._log_time,
            max_staleness_s,
            self._observers,
        )

        def compiled() -> Iterator[tuple[PlacementRequest, CompiledRequest] | None]:
            for request in requests:
                if request is None:
                    yield None
                    continue
                placement = request if isinstance(request, PlacementRequest) else PlacementRequest(request)
                check_placement(placement)
                asked = self.compile(placement.spec)
                if asked.choices or asked.needs or asked.spec.memberships:
                    self._check_rules(asked)
                yield placement, asked

        return pipeline.run(compiled())

    def place_gang(
        self,
        requests: Sequence[PlacementRequest | AnyRequest],
        *,
        timeout_s: float = 10.0,
        max_staleness_s: float | None = None,
    ) -> list[Outcome]:
        """Place 2 to 64 requests, like or unlike, together in one cell: all of them, or none. Where the gang was rejected, try
        other places. Each is a consumer of its own. The search finds places for all if there are any, in any order of
        asking, as far as `projections.query.gang` searches; else it raises `SearchGivenUp`.

        Returns the outcomes in the order of the requests; all are `placed`. Needs rules version 4. Raises as `place`; where
        it raises anything but `OutcomeUnknown`, nothing is held.
        """
        from vacancy.clients.scheduler.gangs import GangPlacement

        placements = [one if isinstance(one, PlacementRequest) else PlacementRequest(one) for one in requests]
        for one in placements:
            check_placement(one)
        gang = GangPlacement(
            self._writer,
            self.query,
            self._settings,
            self._log_time,
            fetch_quota=lambda rejected: self.fetch_quota(rejected, timeout_s=timeout_s, in_gang=True),
            check_new=self.check_new,
            observers=self._observers,
        )
        return gang.place(placements, timeout_s, max_staleness_s)

    def _check_rules(self, request: CompiledRequest) -> None:
        from vacancy.clients.scheduler.needed_rules import check_request

        check_request(self.reader, request, recorded=self._settings.record_requests)

    def settle(
        self, claimed: Outcome | str, *, deadline_ms: int | None = None, timeout_s: float = 120.0
    ) -> Settlement:
        """Find out how a claim ended whose outcome is not known: the claim of an `unknown` outcome, or, for a consumer, any
        claim that was ever sent for it. Place the consumer again only if the answer is `void`.

        For a consumer `deadline_ms` is the latest deadline (log time) that such a claim can have. The default is that of
        a claim which a scheduler like this one sends now. So a restarted scheduler that knows only the consumers it may
        have claimed for waits that long at most. See `settlement.settle`.
        """
        if isinstance(claimed, Outcome):
            open_claim = OpenClaim(claimed.consumer, claimed.deadline_ms, claimed.claim, claimed.cell)
        else:
            with contextlib.suppress(LogUnavailable):
                self._log_time.measure(timeout_s)
            self.reader.catch_up()
            latest = deadline_ms or latest_deadline_ms(
                self.reader, self._settings.deadline_ms, self.log.clock
            )
            open_claim = OpenClaim(claimed, latest)
        log: Log | None = self.log
        with contextlib.suppress(LogUnavailable):
            self._same_log.check(timeout_s)
        if not self._same_log.done:
            log = None
        return settle(self.reader, open_claim, log=log, timeout_s=timeout_s)

    def release(self, consumers: Iterable[str | Outcome], *, timeout_s: float = 30.0) -> int:
        """Release what these consumers hold: consumer ids, or the outcomes of their placements. Returns how many held
        something. The log has the releases when this returns; the tables follow.
        """
        by_cell: dict[str, list[WeighedRelease]] = {}
        for consumer in consumers:
            if isinstance(consumer, Outcome):
                release = events.Release(
                    consumer=consumer.consumer, claim=consumer.claim, deadline_ms=consumer.deadline_ms or None
                )
                weighed = WeighedRelease(release, _outcome_weight(consumer))
                by_cell.setdefault(consumer.cell, []).append(weighed)
                continue
            for cell, row in self.allocations(consumer):
                release = events.Release(consumer=consumer, claim=row.claim)
                by_cell.setdefault(cell, []).append(
                    WeighedRelease(release, parts_weight(row, LIMITS_4.group_weight))
                )
        entries = release_records(by_cell, self._settings.source)
        if entries:
            self._same_log.check(timeout_s)
            self.log.append(entries, timeout_s)
        return sum(map(len, by_cell.values()))

    def close(self) -> None:
        """Send the outcomes that are not in the log yet, and close the store, and the log if `from_settings` opened it."""
        self._writer.close()
        self._pacing.close()
        self.query.close()
        if self._restore_collector is not None:
            self._restore_collector()
        if self._owns_log:
            self.log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _held_text(cell: str, row: AllocationRow) -> str:
    """What a consumer holds in a cell, for people: `1 VCPU of node-1 in cell c1 by claim 5f0c…`."""
    parts: dict[str, list[str]] = {}
    for part in row.parts:
        amount = f"{part.grant} " if isinstance(part.grant, int) else ""
        parts.setdefault(part.provider, []).append(f"{amount}{part.resource_class}")
    held = " and ".join(f"{', '.join(some)} of {provider}" for provider, some in parts.items())
    return f"{held} in cell {cell} by claim {row.claim}"


def _outcome_weight(outcome: Outcome) -> int:
    """The parts of an outcome's allocation as the rules count them. Where the verdict is not known, any part may have been
    granted by name, and so may all be where the allocations are not known."""
    parts = sum(len(served.resources) for served in outcome.allocations)
    if not parts:
        return LIMITS.released_parts
    named = len(outcome.grants) if outcome.status == "placed" else parts
    return parts + (NAMED_PART_WEIGHT - 1) * named + LIMITS_4.group_weight * outcome.groups


def check_placement(request: PlacementRequest) -> None:
    """Raise `UsageError` where the log would refuse the claim. It would refuse the whole record, other claims included."""
    for what, name in (
        ("consumer", request.consumer),
        ("request", request.id),
        ("project", request.project),
        ("user", request.user),
    ):
        if name is not None and not is_id(name):
            check_id(what, name)
    if len(request.consumer_type) > CONSUMER_TYPE_MAX:
        check_consumer_type(request.consumer_type)
    if request.hold_ms is not None and not 1 <= request.hold_ms <= HOLD_MS_MAX:
        raise UsageError(f"a hold of {request.hold_ms} ms is invalid", do=f"give 1 to {HOLD_MS_MAX} ms")


def _error(outcome: Outcome, store: Path, explain: Callable[[], Explanation], rejection: str) -> VacancyError:
    where = f"request {outcome.request}, store {store}"
    if outcome.status == "no_valid_host":
        return NoValidHost(
            f"no valid host: {outcome.reason}",
            where=where,
            do="request less, or release or add resources",
            explain=explain,
        )
    if outcome.status == "gave_up":
        return SearchGivenUp(outcome.reason, where)
    if outcome.status == "lost":
        lost = outcome.lost_claims - outcome.late_claims
        others = f"{lost} claims were lost to others, the last one: " if lost else ""
        late = outcome.rejected is not None and outcome.rejected.verdict.reason in LATE
        do = "check the clocks of this host and of the log, then try again" if late else "try again"
        return ClaimLost(f"{others}{rejection}", where=where, do=do)
    return OutcomeUnknown(
        f"no verdict on claim {outcome.claim} yet: {outcome.reason}",
        where=where,
        do=f"{settle_first(outcome.cell, outcome.consumer, outcome.claim, outcome.deadline_ms)}, and do not place it again"
        " before",
    )
