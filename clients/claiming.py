"""A claim as it stands in the log: what a candidate offers, and what must still be true when it is judged."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from vacancy.clients.placement import PlacementRequest
from vacancy.projections.candidates import Candidate
from vacancy.projections.store_reader import StoreReader
from vacancy.projections.view import View
from vacancy.resources import events
from vacancy.resources.log_time import LEAP_MS_MAX
from vacancy.resources.partitioner import partition_for
from vacancy.resources.record import Entry
from vacancy.resources.request import RequestSpec
from vacancy.resources.rows import VerdictRow
from vacancy.resources.tables import key

_TYPE = "vacancy.claims.requested.v1"


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
        self._seen: Mapping[int, int] = {}
        self._seen_wire: dict[str, int] = {}

    def make(
        self,
        id_: str,
        candidate: Candidate,
        request: PlacementRequest,
        *,
        consumer: str,
        request_id: str,
        spec: dict[str, Any],
    ) -> ClaimSent:
        """The claim of a candidate for a request, whose `spec` is given as JSON too."""
        now_ms = self._judged_at_ms(candidate.cell)
        deadline_ms = now_ms + self._deadline_ms
        wire: dict[str, Any] = {
            "id": id_,
            "consumer": consumer,
            "consumer_type": request.consumer_type,
            "project": request.project,
            "user": request.user,
            "request": request_id,
            "spec": spec,
            "allocations": [served._asdict() for served in candidate.allocations if served.resources],
            "predicates": _predicates(request.spec, candidate, self._reader.view),
            "deadline_ms": deadline_ms,
            "decided": {"as_of": self._as_of(), "seed": self._seed, "policy": self._policy},
        }
        if request.hold_ms is not None:
            wire["hold_until_ms"] = now_ms + request.hold_ms
        return ClaimSent(id_, consumer, deadline_ms, wire)

    def _judged_at_ms(self, cell: str) -> int:
        """The log time at which a claim sent now will be judged. On a log that was quiet for long, the claim's own
        record moves log time by an hour and no more."""
        log_ms = self._reader.log_time_ms(partition_for(cell, self._reader.manifest.partitions))
        return max(log_ms, min(int(time.time() * 1000), log_ms + LEAP_MS_MAX))

    def _as_of(self) -> dict[str, int]:
        """The position claims are decided on, as it stands on the wire."""
        position = self._reader.position
        if position is not self._seen:
            self._seen, self._seen_wire = position, {str(p): offset for p, offset in position.items()}
        return self._seen_wire


def claim_entries(
    claims: Mapping[str, list[dict[str, Any]]], source: str, new_id: Iterator[str]
) -> Iterator[Entry]:
    """Claims by cell, as entries of up to 64."""
    for cell, ready in claims.items():
        for at in range(0, len(ready), events.BATCH_MAX):
            data = {"claims": ready[at : at + events.BATCH_MAX]}
            yield Entry(cell, events.encode_plain(_TYPE, next(new_id), source, data))


def told(verdict: VerdictRow) -> str:
    """A rejection, for people."""
    parts = [verdict.reason.replace("_", " ")]
    if verdict.provider:
        parts.append(f"on {verdict.provider}")
    if verdict.resource_class:
        parts.append(f"{verdict.resource_class}: asked {verdict.asked}, available {verdict.available}")
    if verdict.taken >= 0:
        parts.append(f"last taken at offset {verdict.taken}")
    return ", ".join(parts)


def _predicates(spec: RequestSpec, candidate: Candidate, view: View) -> list[dict[str, Any]]:
    """What must still be true of the chosen providers when the claim is judged."""
    servers = {served.group: served.provider for served in candidate.allocations}
    found: list[tuple[str, str, str, bool]] = []
    for group in spec.groups:
        provider = servers[group.name]
        found += [(provider, "trait", name, False) for name in group.required]
        found += [(provider, "trait", name, True) for name in group.forbidden]
        found += [(provider, "aggregate", name, True) for name in group.not_member_of]
        if group.any_traits or group.member_of:
            row = view.row_of[key(candidate.cell, provider)]
            traits, aggregates = view.traits.of(row), view.aggregates.of(row)
            found += [(provider, "trait", name, False) for name in _chosen(group.any_traits, traits)]
            found += [(provider, "aggregate", name, False) for name in _chosen(group.member_of, aggregates)]
    return [
        {"provider": provider, "kind": kind, "value": value, "negate": negate}
        for provider, kind, value, negate in dict.fromkeys(found)
    ]


def _chosen(choices: Iterable[Iterable[str]], has: tuple[str, ...]) -> Iterator[str]:
    """Of each choice the first that it has."""
    for some in choices:
        yield from [name for name in some if name in has][:1]
