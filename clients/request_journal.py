"""Requests and their outcomes on their way to the log, several to a record.

A request lives in the partition its id hashes to; a record of requests is keyed with that partition's cell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal
from uuid import uuid4

from vacancy.resources import events
from vacancy.resources.partitioner import covering_cells, partition_for
from vacancy.resources.record import Entry
from vacancy.resources.request import RequestSpec

Outcome = Literal["placed", "no_valid_host", "failed", "unknown"]


class RequestJournal:
    """Gathers until `take`. Does nothing unless `recording`."""

    def __init__(self, source: str, partitions: int, recording: bool) -> None:
        self._source = source
        self._cells = covering_cells(partitions)
        self._recording = recording
        self._received: dict[int, list[events.ReceivedRequest]] = {}
        self._closed: dict[int, list[events.ClosedRequest]] = {}

    def received(self, id_: str, spec: RequestSpec) -> None:
        """A request came in."""
        if self._recording:
            request = events.ReceivedRequest(id=id_, spec=spec)
            self._received.setdefault(self._home(id_), []).append(request)

    def closed(
        self,
        id_: str,
        outcome: Outcome,
        *,
        claim: str | None,
        cell: str | None,
        as_of: Mapping[int, int],
        in_flight: Sequence[str],
        reason: str,
    ) -> None:
        """A request ended."""
        if self._recording:
            request = events.ClosedRequest(
                id=id_,
                outcome=outcome,
                claim=claim,
                cell=cell,
                as_of={str(partition): offset for partition, offset in as_of.items()},
                in_flight=tuple(in_flight),
                reason=reason[:1024],
            )
            self._closed.setdefault(self._home(id_), []).append(request)

    def take(self) -> list[Entry]:
        """What was gathered, as entries."""
        entries = []
        for partition, received in self._received.items():
            for at in range(0, len(received), events.BATCH_MAX):
                data = events.RequestsReceivedData.model_construct(
                    requests=tuple(received[at : at + events.BATCH_MAX])
                )
                event = events.RequestsReceived.model_construct(
                    id=uuid4().hex, source=self._source, data=data
                )
                entries.append(Entry(self._cells[partition], events.encode(event)))
        for partition, closed in self._closed.items():
            for at in range(0, len(closed), events.BATCH_MAX):
                over = events.RequestsClosedData.model_construct(
                    requests=tuple(closed[at : at + events.BATCH_MAX])
                )
                end = events.RequestsClosed.model_construct(id=uuid4().hex, source=self._source, data=over)
                entries.append(Entry(self._cells[partition], events.encode(end)))
        self._received, self._closed = {}, {}
        return entries

    def _home(self, id_: str) -> int:
        return partition_for(id_, len(self._cells))
