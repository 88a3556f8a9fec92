"""Requests and their outcomes on their way to the log, several to a record.

A request lives in the partition its id hashes to; a record of requests is keyed with that partition's cell.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from time import monotonic
from typing import Any, Literal
from uuid import uuid4

from msgspec import Raw

from vacancy.clients.scheduler.claims import new_ids
from vacancy.clients.scheduler.placement import Status
from vacancy.resources.model import events
from vacancy.resources.model.partitioner import covering_cells, partition_for, partitions_for
from vacancy.resources.model.record import NewRecord

Outcome = Literal["placed", "no_valid_host", "failed", "unknown"]

CLOSED_AS: Mapping[Status, Outcome] = {
    "placed": "placed",
    "no_valid_host": "no_valid_host",
    "lost": "failed",
    "gave_up": "failed",
    "unknown": "unknown",
}
"""How the log calls it."""


class RequestLog:
    """Gathers until `take`. Does nothing unless `recording`."""

    PATIENCE_S = 0.1
    """How long an outcome may wait for others to share a record with."""

    def __init__(self, source: str, partitions: int, recording: bool) -> None:
        self._source = source
        self._cells = covering_cells(partitions)
        self._recording = recording
        self._received: dict[int, list[dict[str, Any]]] = {}
        self._closed: dict[int, list[dict[str, Any]]] = {}
        self._taken_at = monotonic()
        self._any_ids = new_ids()
        self._ids = _HomeIds(self._any_ids, len(self._cells))
        self._homes: dict[str, int] = {}
        """Of requests under way whose ids were made here."""

    def new_id(self) -> str:
        """An id for a request that was given none. Requests that come in together get ids of one home, so that one
        record tells of all."""
        if not self._recording:
            return next(self._any_ids)
        id_, self._homes[id_] = next(self._ids)
        return id_

    def received(self, id_: str, spec: Raw) -> None:
        """A request came in; its spec as JSON."""
        if self._recording:
            self._received.setdefault(self._home(id_), []).append({"id": id_, "spec": spec})

    def closed(
        self,
        id_: str,
        outcome: Outcome,
        *,
        claim: str | None,
        cell: str | None,
        as_of: Raw,
        in_flight: Sequence[str],
        heard_since_ms: int | None,
        reason: str,
    ) -> None:
        """A request ended."""
        if self._recording:
            request: dict[str, Any] = {"id": id_, "outcome": outcome, "as_of": as_of}
            if claim is not None:
                request |= {"claim": claim, "cell": cell}
            if in_flight:
                request["in_flight"] = list(in_flight)
            if heard_since_ms is not None:
                request["heard_since_ms"] = heard_since_ms
            if reason:
                request["reason"] = reason[:1024]
            self._closed.setdefault(self._home(id_), []).append(request)
            self._homes.pop(id_, None)

    def take(self, *, patient: bool = False) -> list[NewRecord]:
        """What was gathered, as entries. Where `patient`, outcomes wait for others, `PATIENCE_S` at most; requests
        never do, so that a claim that is in the log has its request there."""
        entries = list(self._entries(_RECEIVED, self._received))
        if self._received:
            self._received = {}
            self._ids.move_on()
        now = monotonic()
        fullest = max(map(len, self._closed.values()), default=0)
        if not patient or now - self._taken_at >= self.PATIENCE_S or fullest >= events.BATCH_MAX:
            self._taken_at = now
            entries += self._entries(_CLOSED, self._closed)
            self._closed = {}
        return entries

    def _entries(self, type_: str, gathered: dict[int, list[dict[str, Any]]]) -> Iterator[NewRecord]:
        for partition, requests in gathered.items():
            for at in range(0, len(requests), events.BATCH_MAX):
                data = {"requests": requests[at : at + events.BATCH_MAX]}
                yield NewRecord(
                    self._cells[partition], events.encode_plain(type_, uuid4().hex, self._source, data)
                )

    def _home(self, id_: str) -> int:
        made = self._homes.get(id_)
        return partition_for(id_, len(self._cells)) if made is None else made


_RECEIVED = "vacancy.requests.received.v1"
_CLOSED = "vacancy.requests.closed.v1"


class _HomeIds:
    """Ids, each with its home, of which those of one home come one after the other. None is thrown away: an id that is
    made for one home and belongs to another waits until it is that one's turn."""

    AT_ONCE_MAX = 128

    def __init__(self, ids: Iterator[str], partitions: int) -> None:
        self._ids = ids
        self._home = 0
        self._at_once = 4  # whoever places one instance needs one
        self._waiting: list[deque[str]] = [deque() for _ in range(partitions)]

    def __next__(self) -> tuple[str, int]:
        ready = self._waiting[self._home]
        while not ready:
            made = list(islice(self._ids, self._at_once))
            self._at_once = min(4 * self._at_once, self.AT_ONCE_MAX)
            for id_, home in zip(made, partitions_for(made, len(self._waiting)), strict=True):
                self._waiting[home].append(id_)
        return ready.popleft(), self._home

    def move_on(self) -> None:
        """The next ids are of the home whose ids wait longest: so the homes get the same number of requests."""
        self._home = max(range(len(self._waiting)), key=lambda home: len(self._waiting[home]))
