"""A claim as it stands in the log: what a candidate offers, and what must still be true when it is judged."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from itertools import count
from typing import Any, NamedTuple
from uuid import uuid4

from msgspec import Raw

from vacancy.clients.inspection.provenance import LogEvent, taking_text
from vacancy.clients.request_language.expression_predicates import expressed
from vacancy.clients.scheduler.placement import PlacementRequest
from vacancy.projections.query.compiled_request import CompiledRequest
from vacancy.projections.query.engine import Candidate
from vacancy.projections.ranking.orders import Order
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.projections.view.fleet import FleetView
from vacancy.projections.view.sharing import SHARES
from vacancy.resources.fold.log_time import LEAP_MS_MAX
from vacancy.resources.model import events
from vacancy.resources.model.partitioner import partition_for
from vacancy.resources.model.record import NewRecord
from vacancy.resources.model.request import RequestGroup, RequestSpec
from vacancy.resources.state.rows import VerdictRow
from vacancy.resources.state.tables import key

_TYPE = "vacancy.claims.requested.v1"

FINAL = frozenset(
    {
        "consumer_exists",
        "consumer_unknown",
        "consumer_changed",
        "deadline_too_far",
        "cancelled",
        "group_policy_differs",
        "group_full",
        "group_twice",
        "group_in_other_cell",
    }
)
"""Rejections that no other candidate would change."""

TOLD = frozenset({"no_room", "affinity_broken", "anti_affinity_broken", "deadline_passed"})
"""Rejections that need no avoiding of the node: the same commit has brought the reason into the view, and the next query
keeps clear of it; or the log was late, which is not the node's fault."""


class ClaimSettings(NamedTuple):
    """How a scheduler claims; see `Scheduler`."""

    source: str
    seed: int
    order: Order
    deadline_ms: int
    attempts: int
    record_requests: bool


class ClaimSent(NamedTuple):
    """What is remembered of a claim, and the claim as it stands in the log."""

    id: str
    consumer: str
    deadline_ms: int
    wire: dict[str, Any]


class ClaimMaker:
    """Makes claims of candidates, for one scheduler. `deadline_ms` is how long they may wait for a verdict."""

    def __init__(self, reader: StoreReader, *, deadline_ms: int, seed: int, policy: str) -> None:
        self._reader = reader
        self._deadline_ms = deadline_ms
        self._seed = seed
        self._policy = policy
        self._seen: Mapping[int, int] | None = None
        self._seen_wire = Raw()

    def make(
        self,
        id_: str,
        candidate: Candidate,
        request: PlacementRequest,
        compiled: CompiledRequest,
        *,
        consumer: str,
        request_id: str,
    ) -> ClaimSent:
        """The claim of a candidate for a request."""
        now_ms = self._judged_at_ms(candidate.cell)
        deadline_ms = now_ms + self._deadline_ms
        wire: dict[str, Any] = {
            "id": id_,
            "consumer": consumer,
            "consumer_type": request.consumer_type,
            "project": request.project,
            "user": request.user,
            "request": request_id,
            "spec": compiled.wire,
            "allocations": [
                {"provider": served.provider, "resources": served.resources, "group": served.group}
                for served in candidate.allocations
                if served.resources
            ],
            "predicates": predicates(compiled, candidate, self._reader.view),
            "deadline_ms": deadline_ms,
            "decided": {"as_of": self.as_of(), "seed": self._seed, "policy": self._policy},
        }
        if compiled.spec.memberships:
            wire["memberships"] = [
                one.model_dump(mode="json", exclude_defaults=True) for one in compiled.spec.memberships
            ]
        if request.hold_ms is not None:
            wire["hold_until_ms"] = now_ms + request.hold_ms
        return ClaimSent(id_, consumer, deadline_ms, wire)

    def _judged_at_ms(self, cell: str) -> int:
        """The log time at which a claim sent now will be judged. On a log that was quiet for long, the claim's own
        record moves log time by an hour and no more."""
        log_ms = self._reader.log_time_ms(partition_for(cell, self._reader.manifest.partitions))
        return max(log_ms, min(int(time.time() * 1000), log_ms + LEAP_MS_MAX))

    def as_of(self) -> Raw:
        """The position that is decided on now, as it stands in the log."""
        position = self._reader.position
        if position is not self._seen:
            self._seen, self._seen_wire = position, events.encode_data(position)
        return self._seen_wire


def claim_entries(
    claims: Mapping[str, list[dict[str, Any]]], source: str, new_id: Iterator[str]
) -> Iterator[NewRecord]:
    """Claims by cell, as entries of up to 64."""
    for cell, ready in claims.items():
        for at in range(0, len(ready), events.BATCH_MAX):
            data = {"claims": ready[at : at + events.BATCH_MAX]}
            yield NewRecord(cell, events.encode_plain(_TYPE, next(new_id), source, data))


def refused_root(view: FleetView, spec: RequestSpec, candidate: Candidate, verdict: VerdictRow) -> str:
    """The root that took no claim: of several copies, that of the provider which the verdict names."""
    row = view.row_of.get(key(candidate.cell, verdict.provider))
    if spec.copies == 1 or row is None:
        return candidate.root
    return view.name(int(view.root[row]))[1]


def new_ids() -> Iterator[str]:
    """Ids of our own: this pipeline's, and a number. Short ones are cheap to hash, to send and to keep."""
    own = uuid4().hex[:16]
    for number in count(1):
        yield f"{own}-{number:x}"


def told(verdict: VerdictRow, taken: LogEvent | None = None) -> str:
    """A rejection, for people; `taken` is the event that took the last of it, where somebody looked it up."""
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


_Fact = tuple[str, str, str, bool]
"""(provider, kind, value, negate) of a predicate."""


def predicates(request: CompiledRequest, candidate: Candidate, view: FleetView) -> list[dict[str, Any]]:
    """What must still be true of the chosen providers when the claim is judged."""
    if request.spec.copies == 1:
        return _predicates(request, candidate, view)
    found: list[dict[str, Any]] = []
    for one in candidate.copies:
        found += [predicate for predicate in _predicates(request, one, view) if predicate not in found]
    return found


def _predicates(request: CompiledRequest, candidate: Candidate, view: FleetView) -> list[dict[str, Any]]:
    spec = request.spec
    servers: dict[str, list[str]] = {}
    for served in candidate.allocations:
        servers.setdefault(served.group, []).append(served.provider)
    found: list[_Fact] = []
    compared: list[dict[str, Any]] = []
    for group in spec.groups:
        providers = servers[group.name]
        for provider in providers if group.where else ():
            row = view.row_of[key(candidate.cell, provider)]
            compared += expressed(request.expressions[group.where], view, row, provider)
        if not group.same_provider:
            found += _together(group, providers, candidate, view)
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
    if candidate.borrowed:
        found += _borrowed(candidate, view)
    if spec.same_subtree:
        found += _below(spec, servers, candidate, view)
    flat = [
        {"provider": provider, "kind": kind, "value": value, "negate": negate}
        for provider, kind, value, negate in dict.fromkeys(found)
    ]
    return flat + compared


def _together(
    group: RequestGroup, providers: list[str], candidate: Candidate, view: FleetView
) -> Iterator[_Fact]:
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


def _borrowed(candidate: Candidate, view: FleetView) -> Iterator[_Fact]:
    """A sharing provider lends as long as it says so, and as it and somebody of the tree are in one aggregate."""
    members = view.tree(view.row_of[key(candidate.cell, candidate.root)])
    for provider in candidate.borrowed:
        aggregates = view.aggregates.of(view.row_of[key(candidate.cell, provider)])
        yield provider, "trait", SHARES, False
        member, name = next((m, n) for m in members for n in aggregates if n in view.aggregates.of(m))
        yield provider, "aggregate", name, False
        yield view.name(member)[1], "aggregate", name, False


def _below(
    spec: RequestSpec, servers: Mapping[str, list[str]], candidate: Candidate, view: FleetView
) -> Iterator[_Fact]:
    """Of groups in one subtree, who is below whom."""
    for names in spec.same_subtree:
        rows = {view.row_of[key(candidate.cell, servers[name][0])] for name in names}
        top = next(row for row in sorted(rows) if all(row in _path(view, other) for other in rows))
        yield from ((view.name(row)[1], "subtree", view.name(top)[1], False) for row in sorted(rows - {top}))


def _path(view: FleetView, row: int) -> list[int]:
    """A provider and those above it."""
    path = [row]
    while (above := int(view.parent[path[-1]])) != path[-1]:
        path.append(above)
    return path


def _chosen(choices: Iterable[Iterable[str]], has: tuple[str, ...]) -> Iterator[str]:
    """Of each choice the first that it has."""
    for some in choices:
        yield from [name for name in some if name in has][:1]
