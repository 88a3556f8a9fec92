"""A claim as it is written to the log: what a candidate offers, and what must still be true when the claim is judged."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from itertools import count
from secrets import token_bytes
from typing import Final, NamedTuple

from msgspec import Raw

from vacancy.clients.inspection.provenance import LogEvent, taking_text
from vacancy.clients.request_language.expressions.expression_predicates import expressed
from vacancy.clients.scheduler.placement import PlacementRequest
from vacancy.projections.query.compiled_request import CompiledRequest
from vacancy.projections.query.model import Candidate
from vacancy.projections.query.order import Order
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.projections.view.fleet import FleetView
from vacancy.projections.view.sharing import SHARES
from vacancy.resources.fold.claims.judge import TAINTED
from vacancy.resources.fold.log_time import LEAP_MS_MAX
from vacancy.resources.model.encoding.event_encoding import (
    AllocationWire,
    AnyPredicateWire,
    ClaimWire,
    DecisionWire,
    PredicateWire,
    TolerationWire,
    encode_position,
    membership_wire,
)
from vacancy.resources.model.partitioner import partition_for
from vacancy.resources.model.request import RequestGroup, RequestSpec, tolerations_of
from vacancy.resources.state.rows import VerdictRow
from vacancy.resources.state.tables import key
from vacancy.streams.clocks.log_clock import LogClock

FINAL = frozenset(
    {
        "consumer_exists",
        "consumer_unknown",
        "consumer_changed",
        "cancelled",
        "group_policy_differs",
        "group_full",
        "group_twice",
        "group_in_other_cell",
        "over_quota",
        "quota_full",
    }
)
"""Rejections that every other candidate would get, too. The request ends."""

LATE = frozenset({"deadline_passed", "deadline_too_far"})
"""Rejections because of the claim's deadline. Nobody else took anything: log time was another than the scheduler expected."""

RETRY_SAME_NODE = (
    frozenset({"no_room", "affinity_broken", "anti_affinity_broken", "spread_broken", "record_full"}) | LATE
)
"""Rejections after which the node stays a candidate. The commit that rejected the claim has also brought the cause into the
view, so the next query sees it; those of `LATE` and `record_full` have nothing to do with the node. After other rejections the
request avoids the node."""


_SECRET_BYTES: Final = 12
_SECRET_LENGTH: Final = 16
_IDS_DRAWN: Final = 64
_DIGITS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
"""In ASCII order, so that larger numbers are later keys."""


class ClaimSettings(NamedTuple):
    """How a scheduler claims; see `Scheduler`. `deadline_ms`: how long a claim may wait for its verdict (log time)."""

    source: str
    seed: int
    order: Order
    deadline_ms: int
    attempts: int
    record_requests: bool = True


class ClaimMaker:
    """Makes the claims of one scheduler from candidates."""

    def __init__(
        self, reader: StoreReader, clock: LogClock, *, deadline_ms: int, seed: int, policy: str
    ) -> None:
        self._reader, self._clock = reader, clock
        self.deadline_ms = deadline_ms
        self._seed = seed
        self._policy = policy
        self._position: Mapping[int, int] | None = None
        self._decided = DecisionWire(Raw(b"{}"), seed, policy)

    @classmethod
    def of(cls, reader: StoreReader, clock: LogClock, settings: ClaimSettings) -> ClaimMaker:
        """The maker of a scheduler with these settings."""
        policy = settings.order.name
        return cls(reader, clock, deadline_ms=settings.deadline_ms, seed=settings.seed, policy=policy)

    def make(
        self,
        id_: str,
        candidate: Candidate,
        request: PlacementRequest,
        compiled: CompiledRequest,
        *,
        consumer: str,
        request_id: str,
        checked: bool = True,
    ) -> ClaimWire:
        """The claim on a candidate for a request. Of alternatives, it has the spec of the one that the candidate is for.
        Unless `checked`, nothing must still be true of the providers: the consumer has it from them already."""
        now_ms = self._judged_at_ms(candidate.cell)
        self.as_of()
        tolerations = (
            tuple(TolerationWire(one.key, one.value) for one in tolerations_of(compiled.spec))
            if compiled.tolerated
            else ()
        )
        if compiled.choices:
            compiled = compiled.choices[candidate.choice]
        return ClaimWire(
            id=id_,
            consumer=consumer,
            consumer_type=request.consumer_type,
            project=request.project,
            user=request.user,
            request=request_id,
            spec=compiled.wire,
            allocations=[
                AllocationWire(served.provider, served.resources, served.group)
                for served in candidate.allocations
                if served.resources
            ],
            predicates=predicates(compiled, candidate, self._reader.view) if checked else (),
            memberships=tuple(map(membership_wire, compiled.spec.memberships)),
            deadline_ms=now_ms + self.deadline_ms,
            hold_until_ms=None if request.hold_ms is None else now_ms + request.hold_ms,
            decided=self._decided,
            tolerations=tolerations,
        )

    def _judged_at_ms(self, cell: str) -> int:
        """The log time at which a claim that is sent now will be judged. On a log that was quiet for long, the claim's own
        record moves log time by an hour at most."""
        log_ms = self._reader.log_time_ms(partition_for(cell, self._reader.manifest.partitions))
        return max(log_ms, min(self._clock.now_ms(), log_ms + LEAP_MS_MAX))

    def as_of(self) -> Raw:
        """The position that decisions are made on now, as JSON."""
        position = self._reader.position
        if position is not self._position:
            self._position = position
            self._decided = DecisionWire(encode_position(position), self._seed, self._policy)
        return self._decided.as_of


def rejected_root(view: FleetView, spec: RequestSpec, candidate: Candidate, verdict: VerdictRow) -> str:
    """The root of the node that rejected the claim. Of several copies it is that of the provider in the verdict."""
    row = view.row_of.get(key(candidate.cell, verdict.provider))
    if spec.copies == 1 or row is None:
        return candidate.root
    return view.name(int(view.root[row]))[1]


def new_ids() -> Iterator[str]:
    """Ids that are unique and that nobody can guess, of 21 letters and digits: 5 for the place of the id in the order of
    making, then 16 that are made from 96 random bits of the operating system.

    Who knows the id of a claim can release, cancel or replace it. An id does not follow from the ids of the same scheduler
    that are in the log already, or else its next claims could be cancelled before they are made. Bits are drawn for many ids
    at once, which takes less than 0.1 us an id. Those ids have the same beginning, because keys that come one after the other
    and are neighbours cost RocksDB less than keys anywhere in a table.
    """
    process = id_prefix()
    for number in count():
        place = "".join(_DIGITS[number // 62**power % 62] for power in (2, 1, 0))
        secrets = _text_of(_SECRET_BYTES * _IDS_DRAWN)
        for at in range(0, len(secrets), _SECRET_LENGTH):
            yield f"{process}{place}{secrets[at : at + _SECRET_LENGTH]}"


ID_PREFIX: Final = 2
"""Characters of an id that are those of the process: as many as choose a bell."""


@cache
def id_prefix() -> str:
    """What the ids of this process begin with. The worker finds by it whom to wake for a verdict (`changefeed.bells`)."""
    return _text_of(ID_PREFIX)[:ID_PREFIX]


def _text_of(size: int) -> str:
    """Random bytes as letters and digits, six bits each but for a small difference: two letters are twice as frequent."""
    return b64encode(token_bytes(size), altchars=b"Aa").decode()


def rejection_text(verdict: VerdictRow, taken: LogEvent | None = None) -> str:
    """A rejection, for people. `taken` is the event that took the last of it, where the caller looked it up."""
    if verdict.reason == "over_quota":
        used, _, limit = verdict.other.partition("/")
        return (
            f"over quota: {verdict.group}, {verdict.resource_class}: used {used}, asked {verdict.asked}, limit {limit} in this"
            " partition"
        )
    if verdict.reason == TAINTED:
        return f"repelled by taint {verdict.other} on {verdict.provider}, which the request does not tolerate"
    parts = [verdict.reason.replace("_", " ")]
    if verdict.provider:
        parts.append(f"on {verdict.provider}")
    if verdict.resource_class:
        parts.append(f"{verdict.resource_class}: asked {verdict.asked}, available {verdict.available}")
    if verdict.group:
        parts.append(f"group {verdict.group}")
    if verdict.other:
        parts.append(f"because of {verdict.other}")
    if verdict.taken >= 0:
        text = f"last taken at offset {verdict.taken}" if taken is None else taking_text(taken)
        parts.append(text if verdict.resource_class else text.removeprefix("last "))
    return ", ".join(parts)


_Predicate = tuple[str, str, str, bool]
"""(provider, kind, value, negate) of a `PredicateWire`."""


def predicates(request: CompiledRequest, candidate: Candidate, view: FleetView) -> list[AnyPredicateWire]:
    """What must still be true of the chosen providers when the claim is judged."""
    if request.spec.copies == 1:
        return _predicates(request, candidate, view)
    found: list[AnyPredicateWire] = []
    for one in candidate.copies:
        found += [predicate for predicate in _predicates(request, one, view) if predicate not in found]
    return found


def _predicates(request: CompiledRequest, candidate: Candidate, view: FleetView) -> list[AnyPredicateWire]:
    spec = request.spec
    servers: dict[str, list[str]] = {}
    for served in candidate.allocations:
        servers.setdefault(served.group, []).append(served.provider)
    found: list[_Predicate] = []
    compared: list[AnyPredicateWire] = []
    for group in spec.groups:
        providers = servers[group.name]
        for provider in providers if group.where else ():
            row = view.row_of[key(candidate.cell, provider)]
            compared += expressed(request.expressions[group.where], view, row, provider)
        if not group.same_provider:
            found += _collective(group, providers, candidate, view)
            continue
        (provider,) = providers
        found += [(provider, "trait", name, False) for name in group.required]
        found += [(provider, "trait", name, True) for name in group.forbidden]
        found += [(provider, "aggregate", name, True) for name in group.not_member_of]
        if group.any_traits or group.member_of:
            row = view.row_of[key(candidate.cell, provider)]
            traits, aggregates = view.traits.of(row), view.aggregates.of(row)
            found += [(provider, "trait", name, False) for name in _chosen(group.any_traits, traits)]
            found += [(provider, "aggregate", name, False) for name in _chosen(group.member_of, aggregates)]
    found += [(candidate.root, "trait", name, False) for name in spec.root_required]
    found += [(candidate.root, "trait", name, True) for name in spec.root_forbidden]
    if candidate.from_sharing:
        found += _sharing(candidate, view)
    if spec.same_subtree:
        found += _subtrees(spec, servers, candidate, view)
    return [*(PredicateWire(*one) for one in dict.fromkeys(found)), *compared]


def _collective(
    group: RequestGroup, providers: list[str], candidate: Candidate, view: FleetView
) -> Iterator[_Predicate]:
    """Of a group that several serve: what each must have, and what one of them must."""
    rows = {provider: view.row_of[key(candidate.cell, provider)] for provider in providers}
    root = candidate.root
    at_root = view.aggregates.of(view.row_of[key(candidate.cell, root)])
    for wanted in (*((name,) for name in group.required), *group.any_traits):
        has = ((p, name) for p, row in rows.items() for name in wanted if name in view.traits.of(row))
        yield from [(provider, "trait", name, False) for provider, name in has][:1]
    for provider, row in rows.items():
        yield from ((provider, "trait", name, True) for name in group.forbidden)
        for name in group.not_member_of:
            yield provider, "aggregate", name, True
            yield root, "aggregate", name, True
        own = tuple(_chosen(group.member_of, view.aggregates.of(row)))
        if len(own) == len(group.member_of):
            yield from ((provider, "aggregate", name, False) for name in own)
        else:
            yield from ((root, "aggregate", name, False) for name in _chosen(group.member_of, at_root))


def _sharing(candidate: Candidate, view: FleetView) -> Iterator[_Predicate]:
    """A sharing provider serves a tree while it has the trait, and while it and a provider of the tree are in one aggregate."""
    members = view.tree(view.row_of[key(candidate.cell, candidate.root)])
    for provider in candidate.from_sharing:
        aggregates = view.aggregates.of(view.row_of[key(candidate.cell, provider)])
        yield provider, "trait", SHARES, False
        member, name = next((m, n) for m in members for n in aggregates if n in view.aggregates.of(m))
        yield provider, "aggregate", name, False
        yield view.name(member)[1], "aggregate", name, False


def _subtrees(
    spec: RequestSpec, servers: Mapping[str, list[str]], candidate: Candidate, view: FleetView
) -> Iterator[_Predicate]:
    """Of groups in one subtree, who is below whom."""
    for names in spec.same_subtree:
        rows = {view.row_of[key(candidate.cell, servers[name][0])] for name in names}
        top = next(row for row in sorted(rows) if all(row in view.path(other) for other in rows))
        yield from ((view.name(row)[1], "subtree", view.name(top)[1], False) for row in sorted(rows - {top}))


def _chosen(choices: Iterable[Iterable[str]], has: tuple[str, ...]) -> Iterator[str]:
    """Of each choice the first that it has."""
    for some in choices:
        yield from [name for name in some if name in has][:1]
