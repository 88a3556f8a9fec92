"""Moves, resizes and updates of consumers that hold something, and the evacuation of a node.

Each is one record: the fold replaces the whole allocation of the consumer, or changes nothing. While the consumer runs on two
nodes, it can hold both (`move` with `keep`); a move to one of them then ends the other.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any, NamedTuple
from uuid import uuid4

from msgspec.structs import replace
from pydantic import ValidationError

from vacancy.clients.inspection.lookup import check_nodes, provider_cell, show_provider
from vacancy.clients.inspection.lookup import find as find_rows
from vacancy.clients.runtime.folded_log import FoldedLog, RecordRefused
from vacancy.clients.scheduler.claims import FINAL, LATE, ClaimMaker, ClaimSettings, rejection_text
from vacancy.clients.scheduler.moves.consumer_places import ConsumerPlaces, Place, Wish, judged_update
from vacancy.clients.scheduler.moves.holdings import (
    Asked,
    Holding,
    NothingHeld,
    account_of,
    also_tolerating,
    asked_of,
    held_by_row,
    holding_of,
    memberships_held,
    root_of,
    with_memberships,
    without_trees,
)
from vacancy.clients.scheduler.needed_rules import check_request, check_rules
from vacancy.clients.scheduler.observer import MoveKind, MoveWatches, SchedulerObserver, watched_move
from vacancy.clients.scheduler.placement import Outcome, PlacementRequest, Rejected, settle_first
from vacancy.clients.scheduler.store_query import StoreQuery
from vacancy.projections.diagnostics.summary import explain
from vacancy.projections.query.budget import SearchBudget, gave_up_text
from vacancy.projections.query.model import ServedGroup
from vacancy.projections.view.fleet import FleetView
from vacancy.projections.view.reservations import Reservation
from vacancy.resources.model import events
from vacancy.resources.model.errors import (
    ClaimLost,
    InvalidRecord,
    NoValidHost,
    OutcomeUnknown,
    OverQuota,
    SearchGivenUp,
    UsageError,
    VacancyError,
)
from vacancy.resources.model.names import check_consumer_type, check_id
from vacancy.resources.model.record import NewRecord
from vacancy.resources.model.request import Ask, RequestSpec
from vacancy.resources.model.server_group import MEMBERSHIPS_MAX, group_name, spread_membership
from vacancy.resources.state.rows import VerdictRow, granted_by_name
from vacancy.resources.state.tables import ALLOCATIONS, PARTITION, PARTITION_KEY, VERDICTS, key
from vacancy.resources.state.transaction import Changes as RowChanges
from vacancy.streams.log import Log

Changes = Mapping[str, Ask | None]
"""Class -> what is asked for of it now; None: nothing any more."""


class Moved(NamedTuple):
    """What became of one consumer in an evacuation: `to` is the node that it is on now (or would be), '' if it stays; then
    `error` has the reason."""

    consumer: str
    cell: str
    to: str
    error: VacancyError | None = None


class Moves:
    """Moves consumers for one scheduler. `fetch_quota` as `Scheduler.fetch_quota`, `bring_up` as `LogTime.bring_up`."""

    def __init__(
        self,
        log: Log,
        query: StoreQuery,
        settings: ClaimSettings,
        *,
        bring_up: Callable[[float], None],
        fetch_quota: Callable[[Rejected], bool],
        observers: Sequence[SchedulerObserver] = (),
    ) -> None:
        self._observers = observers
        self._log, self._query, self._reader = log, query, query.reader
        self._settings = settings
        self._bring_up, self._fetch_quota = bring_up, fetch_quota
        self._maker = ClaimMaker.of(query.reader, log.clock, settings)

    # -- what can be asked --------------------------------------------------------------------------------------

    def move(
        self,
        consumer: str,
        *,
        to: str | None = None,
        not_nodes: Collection[str] = (),
        cell: str | None = None,
        keep: bool = False,
        tolerate: Collection[str] = (),
        timeout_s: float,
        max_staleness_s: float | None = None,
    ) -> Outcome:
        """See `Scheduler.move`."""
        held = self._held(consumer, cell, timeout_s)
        for node in not_nodes:
            self._check_node(held, node)
        wish = self._to_move(held, to, frozenset(not_nodes), keep=keep, tolerate=tolerate)
        return self._replace("move", held, wish, timeout_s, max_staleness_s)

    def resize(
        self,
        consumer: str,
        resources: Changes,
        groups: Mapping[str, Changes],
        *,
        elsewhere: bool = False,
        cell: str | None = None,
        tolerate: Collection[str] = (),
        timeout_s: float,
        max_staleness_s: float | None = None,
    ) -> Outcome:
        """See `Scheduler.resize`."""
        held = self._held(consumer, cell, timeout_s)
        asked = asked_of(self._reader, self._log, held)
        self._check_one_place(held, asked)
        spec = also_tolerating(resized(asked.spec, resources, groups), tolerate)
        spec = self._in_its_groups(held, spec)
        one_node = asked.spec.copies == 1 and not elsewhere
        wish = Wish(
            account_of(held),
            self._query.compile(spec),
            asked,
            to=node_of(self._reader, held, asked.served) if one_node else None,
            stay=not elsewhere,
        )
        return self._replace("resize", held, wish, timeout_s, max_staleness_s)

    def replace(
        self,
        placement: PlacementRequest,
        *,
        cell: str | None = None,
        leaves: Collection[str] = (),
        timeout_s: float,
        max_staleness_s: float | None = None,
    ) -> Outcome:
        """See `Scheduler.replace`."""
        held = self._held(placement.consumer or "", cell, timeout_s)
        spec = self._query.compile(placement.spec).spec
        try:
            asked = asked_of(self._reader, self._log, held)
        except UsageError:  # retention has removed its claim; the fold still keeps what is the same
            asked = held_by_row(held.row, spec)
        stays = [one for one in memberships_held(self._reader, held) if one.group not in leaves]
        compiled = self._query.compile(with_memberships(spec, stays))
        left = tuple(one for one in leaves if group_name(one) in held.row.groups)
        wish = Wish(placement, compiled, asked, leaves=left)
        return self._replace("replace", held, wish, timeout_s, max_staleness_s)

    def evacuate(
        self,
        node: str,
        *,
        cell: str | None = None,
        dry_run: bool = False,
        tolerate: Collection[str] = (),
        timeout_s: float,
        max_staleness_s: float | None = None,
    ) -> Iterator[Moved]:
        """See `Scheduler.evacuate`."""
        self._reader.catch_up()
        cell = cell or provider_cell(self._reader, node)
        tree = show_provider(self._reader, node, cell=cell)
        if tree.root != node:
            raise UsageError(
                f"{node} is a part of node {tree.root}", where=f"cell {cell}", do=f"evacuate {tree.root}"
            )
        consumers = sorted({one.consumer for one in tree.holdings})
        plan = _Plan() if dry_run else None
        try:
            for consumer in consumers:
                yield self._moved_off(consumer, cell, node, plan, tolerate, timeout_s, max_staleness_s)
        finally:
            for one in plan.reserved if plan is not None else ():
                self._reader.view.unreserve(one)

    def update(
        self,
        consumer: str,
        *,
        project: str | None = None,
        user: str | None = None,
        consumer_type: str | None = None,
        cell: str | None = None,
        timeout_s: float,
        wait: bool = True,
    ) -> list[str]:
        """See `Scheduler.update`."""
        for what, name in (("project", project), ("user", user)):
            if name is not None:
                check_id(what, name)
        check_consumer_type(consumer_type or "")
        folded = FoldedLog(self._log, self._reader, timeout_s=timeout_s, wait=wait)
        found = [
            Holding(consumer, at, row)
            for at, row in find_rows(self._reader, ALLOCATIONS, consumer)
            if cell in (None, at)
        ]
        if not found:
            holding_of(self._reader, consumer, cell)
        check_rules(
            self._reader,
            lambda rules: events.ConsumerUpdated in rules.event_models,
            "changes of a consumer's project, user or type need",
        )
        for held in found:
            self._update(folded, held, {"project": project, "user": user, "consumer_type": consumer_type})
        return [held.cell for held in found]

    # -- steps --------------------------------------------------------------------------------------------------

    def _held(self, consumer: str, cell: str | None, timeout_s: float) -> Holding:
        self._bring_up(timeout_s / 2)
        self._reader.catch_up()
        return holding_of(self._reader, consumer, cell)

    def _to_move(
        self,
        held: Holding,
        to: str | None,
        not_nodes: frozenset[str],
        *,
        keep: bool,
        tolerate: Collection[str],
    ) -> Wish:
        """The wish for the same request on another node, or on `to`, or on none of `not_nodes`."""
        asked = asked_of(self._reader, self._log, held)
        check_nodes(self._reader, not_nodes)
        if to in not_nodes:
            raise UsageError(f"{to} is the node to move to, and is left out", do="name it once")
        if to is None and not not_nodes:
            not_nodes = frozenset(root_of(self._reader, held.cell, part.provider) for part in held.row.parts)
        if keep:
            self._check_one_place(held, asked)
            if asked.spec.copies > 1:
                raise UsageError(
                    f"{held.consumer} has {asked.spec.copies} copies, and only a consumer of one can hold two places at once",
                    do="move it without keeping what it holds",
                )
            not_nodes |= {node_of(self._reader, held, asked.served)}
            if to in not_nodes:
                raise UsageError(f"{held.consumer} is on {to} already", do="give another node")
        spec = self._in_its_groups(held, also_tolerating(asked.spec, tolerate))
        compiled = self._query.compile(spec)
        if to is not None:
            self._check_node(held, to)
        return Wish(account_of(held, held.row.request), compiled, asked, to, not_nodes, keep)

    def _in_its_groups(self, held: Holding, spec: RequestSpec) -> RequestSpec:
        """The request in the server groups that the consumer is in now, and not tied to the tree where it was placed."""
        free = without_trees(spec).model_copy(update={"memberships": ()})
        return with_memberships(free, memberships_held(self._reader, held))

    def _check_one_place(self, held: Holding, asked: Asked) -> None:
        if len(asked.halves) > 1:
            nodes = [node_of(self._reader, held, asked.half(number)) for number in asked.halves]
            raise UsageError(
                f"{held.consumer} holds places on {' and '.join(nodes)} at once: a move is under way",
                where=f"cell {held.cell}",
                do=f"end it with `vacancy move {held.consumer} --to {nodes[-1]}`, or undo it with `--to {nodes[0]}`",
            )

    def _check_node(self, held: Holding, node: str) -> None:
        if (
            root_of(self._reader, held.cell, node) == node
            and key(held.cell, node) in self._reader.view.row_of
        ):
            return
        raise UsageError(
            f"{node!r} is not a node of cell {held.cell}, where {held.consumer} is",
            where=f"store {self._reader.path}",
            do="see `vacancy show nodes`; a node of another cell is named with its cell: --to-cell",
        )

    def _replace(
        self, kind: MoveKind, held: Holding, wish: Wish, timeout_s: float, max_staleness_s: float | None
    ) -> Outcome:
        """Claim a place for a consumer, and the next one where another claim was first."""
        with watched_move(self._observers, kind, held.consumer) as watch:
            return self._claim_until_placed(held, wish, timeout_s, max_staleness_s, watch)

    def _claim_until_placed(
        self,
        held: Holding,
        wish: Wish,
        timeout_s: float,
        max_staleness_s: float | None,
        watch: MoveWatches,
    ) -> Outcome:
        check_request(self._reader, wish.compiled, recorded=False)
        started, lost = time.monotonic(), 0
        folded = FoldedLog(self._log, self._reader, timeout_s=timeout_s)
        for attempt in count(1):
            self._reader.catch_up()
            place = self._place(held, wish, max_staleness_s)
            if _is_as_before(held, place):
                break
            watch.claimed(place.replacement.id, held.cell, place.candidate.root)
            made_s = time.monotonic()
            verdict = self._claim(folded, held, place)
            reason = "accepted" if verdict is None or verdict.accepted else verdict.reason
            watch.decided(place.replacement.id, reason, time.monotonic() - made_s)
            if verdict is None or verdict.accepted:
                return self._outcome(held, wish, place, place.replacement.id, started, lost)
            rejected = Rejected(held.cell, verdict)
            fetched = verdict.reason == "over_quota" and self._fetch_quota(rejected)
            lost += not fetched
            no_time = time.monotonic() - started > timeout_s
            if attempt == self._settings.attempts or no_time or (verdict.reason in FINAL and not fetched):
                raise self._lost(held, rejected, lost)
        return self._outcome(held, wish, place, held.row.claim, started, lost)

    def _lost(self, held: Holding, rejected: Rejected, lost: int) -> ClaimLost:
        late = rejected.verdict.reason in LATE
        return ClaimLost(
            f"{held.consumer} was not moved: {lost} claims were lost, the last one: {rejection_text(rejected.verdict)}",
            where=f"cell {held.cell}, store {self._reader.path}",
            do="check the clocks of this host and of the log, then try again" if late else "try again",
        )

    def _place(
        self, held: Holding, wish: Wish, max_staleness_s: float | None, planned: RowChanges | None = None
    ) -> Place:
        """The best place. Raises `NoValidHost` and others where there is none."""
        places, budget = ConsumerPlaces(self._query, self._maker, held, wish, planned), SearchBudget()
        since_ms = self._query.present.heard_since_ms(max_staleness_s)
        found = places.places(1, self._settings.order, since_ms, budget)
        if found:
            return found[0]
        where = f"cell {held.cell}, store {self._reader.path}"
        if places.other_grants:
            raise UsageError(
                f"{places.other_grants} would give {held.consumer} other devices or CPUs for what it asks as before, by the"
                " rules of this log; rules version 4 keeps them",
                where=where,
                do="raise the rules with `vacancy rules activate 4`",
            )
        last = places.rejected
        if last is not None and last.reason in FINAL:
            raise ClaimLost(
                f"{held.consumer} was not moved: {rejection_text(last)}", where=where, do="try again"
            )
        if budget.gave_up:
            raise SearchGivenUp(gave_up_text(budget.gave_up), where)
        which = (
            f" on {wish.to}"
            if wish.to
            else f" besides {', '.join(sorted(wish.not_nodes))}"
            if wish.not_nodes
            else ""
        )
        refused = "" if last is None else f"; the last place was refused: {rejection_text(last)}"
        raise NoValidHost(
            f"no valid host for {held.consumer}: nothing that matches has room{which}{refused}",
            where=where,
            do="release or add resources, or allow other nodes",
            explain=lambda: explain(places.view, wish.compiled, heard_since_ms=since_ms, among=places.trees),
        )

    def _claim(self, folded: FoldedLog, held: Holding, place: Place) -> VerdictRow | None:
        """Write a replacement and wait for its verdict. None: it was accepted, and its verdict is no longer kept."""
        claim = place.replacement
        subject, look = f"the move of {held.consumer}", f"`vacancy show consumer {held.consumer}`"
        entry = NewRecord(held.cell, events.encode(self._event(held.cell, claim)))
        try:
            folded.write([entry], subject, look)
        except OutcomeUnknown as error:
            raise OutcomeUnknown(
                error.what,
                where=error.where,
                do=f"{settle_first(held.cell, held.consumer, claim.id, claim.deadline_ms)}, and do not move it again before",
            ) from error
        verdict = self._reader.get(VERDICTS, key(held.cell, claim.id))
        if verdict is not None:
            return verdict
        row = self._reader.get(ALLOCATIONS, key(held.cell, held.consumer))
        if row is not None and row.claim == claim.id:
            return None
        return VerdictRow(False, "deadline_passed", -1, claim.deadline_ms, b"")

    def _event(self, cell: str, claim: events.ReplacementV3) -> events.Event:
        """The replacement in the oldest form that says all of it."""
        id_, source = uuid4().hex, self._settings.source
        row = self._reader.get(PARTITION, PARTITION_KEY, cell=cell)
        rules = self._reader.versions.of(row.rules_version) if row else None
        newest = claim.leaves or claim.tolerations or spread_membership(claim.memberships) is not None
        if newest and rules is not None and events.ConsumerReplacedV3 in rules.event_models:
            return events.ConsumerReplacedV3(id=id_, source=source, data=claim)
        fields = {name: getattr(claim, name) for name in events.Replacement.model_fields}
        return events.ConsumerReplacedV2(
            id=id_, source=source, data=events.Replacement.model_construct(**fields)
        )

    def _outcome(
        self, held: Holding, wish: Wish, place: Place, claim: str, started: float, lost: int
    ) -> Outcome:
        row = self._reader.get(ALLOCATIONS, key(held.cell, held.consumer))
        known = row is not None and row.claim == claim
        grants = granted_by_name(row.parts if row is not None and known else ())
        return Outcome(
            status="placed",
            request=wish.placement.id or "",
            consumer=held.consumer,
            cell=held.cell,
            root=place.candidate.root,
            claim=claim,
            allocations=tuple(
                ServedGroup(one.provider, dict(one.resources), one.group)
                for one in place.replacement.allocations
            ),
            grants=grants,
            groups=len(row.groups) if row is not None and known else MEMBERSHIPS_MAX,
            as_of=self._reader.position,
            deadline_ms=place.replacement.deadline_ms,
            lost_claims=lost,
            claim_ms=(time.monotonic() - started) * 1e3,
        )

    def _moved_off(
        self,
        consumer: str,
        cell: str,
        node: str,
        plan: _Plan | None,
        tolerate: Collection[str],
        timeout_s: float,
        max_staleness_s: float | None,
    ) -> Moved:
        """Move one consumer off a node; with a plan only look for a place, and add it to the plan."""
        try:
            held = self._held(consumer, cell, timeout_s)
            wish = self._to_move(held, None, frozenset((node,)), keep=False, tolerate=tolerate)
            if plan is None:
                outcome = self._replace("evacuate", held, wish, timeout_s, max_staleness_s)
                return Moved(consumer, cell, self._new_node(held, outcome.allocations, outcome.root))
            place = self._place(held, wish, max_staleness_s, plan.rows)
            plan.add(self._reader.view, held, place)
            found = place.candidate
            return Moved(consumer, cell, self._new_node(held, found.allocations, found.root))
        except NothingHeld:
            return Moved(consumer, cell, "", None)  # it was released meanwhile
        except VacancyError as error:
            if isinstance(error, NoValidHost):
                _ = error.explanation  # as long as the tables are those of the search
            return Moved(consumer, cell, "", error)

    def _new_node(self, held: Holding, served: Iterable[ServedGroup], root: str) -> str:
        """The first node that the consumer was not on before, or else the `root`."""
        before = {root_of(self._reader, held.cell, part.provider) for part in held.row.parts}
        roots = (root_of(self._reader, held.cell, one.provider) for one in served)
        return next((one for one in roots if one not in before), root)

    def _update(self, folded: FoldedLog, held: Holding, changes: Mapping[str, str | None]) -> None:
        subject, look = f"the change of {held.consumer}", f"`vacancy show consumer {held.consumer}`"
        try:
            data = events.ConsumerUpdate.model_validate(
                {"consumer": held.consumer, "claim": held.row.claim, **changes}
            )
        except ValidationError as error:
            raise _usage_error(error) from None
        event = events.ConsumerUpdated(id=uuid4().hex, source=self._settings.source, data=data)
        for attempt in count(1):
            self._fetch_for(held, data)
            try:
                folded.write([NewRecord(held.cell, events.encode(event))], subject, look)
            except RecordRefused as error:
                if "over_quota" not in error.reason and "quota_full" not in error.reason:
                    raise
                if attempt < self._settings.attempts and "over_quota" in error.reason:
                    continue  # another one took it meanwhile
                raise OverQuota(
                    error.reason,
                    where=f"partition {error.at.partition}, offset {error.at.offset}",
                    do="release something, or raise the limit with `vacancy quota set`",
                ) from error
            return

    def _fetch_for(self, held: Holding, data: events.ConsumerUpdate) -> None:
        """Fetch the shares of limits that a change needs in its partition. Raises `OverQuota` where a limit is in use."""
        for _ in range(self._settings.attempts):
            self._reader.catch_up()
            try:
                refused = judged_update(self._reader, held.cell, data)
            except InvalidRecord:
                return  # it is released, or was replaced: the fold refuses the change
            if refused is None or refused.reason != "over_quota":
                return
            verdict = VerdictRow(False, refused.reason, -1, 0, b"", held.consumer, "", *refused[2:])
            self._fetch_quota(Rejected(held.cell, verdict))


class _Plan:
    """The places of an evacuation that is only planned: the rows that the fold would write, and what is reserved for them in the
    view."""

    def __init__(self) -> None:
        self.rows: RowChanges = {}
        self.reserved: list[Reservation] = []

    def add(self, view: FleetView, held: Holding, place: Place) -> None:
        """The next consumer is placed after this one."""
        for table, rows in place.changes.items():
            self.rows.setdefault(table, {}).update(rows)
        if place.stays:
            return
        has = {(part.provider, part.group, part.resource_class) for part in held.row.parts}
        for served in place.candidate.allocations:
            row = view.row_of[key(held.cell, served.provider)]
            self.reserved += [
                view.reserve(row, name, ask)
                for name, ask in served.resources.items()
                if (served.provider, served.group, name) not in has
            ]


def node_of(reader: Any, held: Holding, served: Collection[ServedGroup]) -> str:
    """The node that serves a place: the root that most of its groups are on."""
    roots = [root_of(reader, held.cell, one.provider) for one in served]
    return max(dict.fromkeys(roots), key=roots.count)


def resized(spec: RequestSpec, resources: Changes, groups: Mapping[str, Changes]) -> RequestSpec:
    """A request with other amounts. `resources` are of the group that asks for the class now, or of the unnamed one.

    Raises `UsageError` where several groups ask for it, or a group is not there.
    """
    wanted: dict[str, dict[str, Ask | None]] = {name: dict(some) for name, some in groups.items()}
    known = {group.name: group for group in spec.groups}
    for name, ask in resources.items():
        having = [group.name for group in spec.groups if name in group.resources]
        home = having or ([""] if "" in known else list(known))
        if len(home) > 1:
            raise UsageError(
                f"{name} may be of the groups {', '.join(map(repr, home))}",
                do=f"choose one, as in --group {home[-1] or home[0]}={name}:AMOUNT",
            )
        wanted.setdefault(home[0], {})[name] = ask
    unknown = sorted(wanted.keys() - known.keys())
    if unknown:
        raise UsageError(
            f"the request has no group {unknown[0]!r}", do=f"its groups are {', '.join(map(repr, known))}"
        )
    changed = []
    for group in spec.groups:
        merged = {**group.resources, **wanted.get(group.name, {})}
        left = {name: ask for name, ask in merged.items() if ask is not None}
        if left or not group.resources:
            changed.append(group.model_copy(update={"resources": left}))
    fields = {name: getattr(spec, name) for name in type(spec).model_fields}
    try:
        return type(spec).model_validate({**fields, "groups": tuple(changed)})
    except ValidationError as error:
        raise _usage_error(error) from None


def _usage_error(error: ValidationError) -> UsageError:
    first = error.errors(include_url=False, include_context=False)[0]
    return UsageError(
        f"{first['msg']}", where=".".join(str(part) for part in first["loc"]), do="correct the request"
    )


def _is_as_before(held: Holding, place: Place) -> bool:
    """Whether a replacement would change nothing."""
    after, row = place.after, held.row
    if after is None or place.replacement.leaves:
        return False
    same = replace(after, claim=row.claim, generation=row.generation, offset=row.offset, request=row.request)
    return place.stays and same == row
