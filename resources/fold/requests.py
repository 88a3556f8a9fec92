"""The events of requests: the request that was received, and its outcome.

A request is in the partition to which its id hashes, so every reader can find it.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from vacancy.resources.model.errors import InvalidRecord
from vacancy.resources.model.events import (
    RequestsClosedData,
    RequestsReceivedData,
    RequestsReceivedDataV2,
)
from vacancy.resources.model.partitioner import partitions_for
from vacancy.resources.state.rows import RequestRow
from vacancy.resources.state.tables import DEADLINES, REQUESTS, deadline_key
from vacancy.resources.state.transaction import Transaction

REQUEST = b"R"
REQUEST_KEPT_MS = 24 * 3600 * 1000
"""How long a request stays readable after it was received, in log time."""


def fold_received(transaction: Transaction, data: RequestsReceivedData) -> None:
    """Record requests. Raises `InvalidRecord` if one belongs to another partition."""
    _check_homes(transaction, [one.id for one in data.requests])
    for request in data.requests:
        _receive(transaction, request.id, transaction.rules.spec_bytes(request.spec))


def fold_received_alike(transaction: Transaction, data: RequestsReceivedDataV2) -> None:
    """As `fold_received`, of requests that share specs."""
    _check_homes(transaction, [one.id for one in data.requests])
    specs = [transaction.rules.spec_bytes(one) for one in data.specs]
    for request in data.requests:
        _receive(transaction, request.id, specs[request.spec_at])


def _receive(transaction: Transaction, request: str, spec: bytes) -> None:
    key = request.encode()
    if transaction.get(REQUESTS, key) is None:
        transaction.put(REQUESTS, key, RequestRow(spec, transaction.time_ms))
        transaction.put(DEADLINES, deadline_key(transaction.time_ms + REQUEST_KEPT_MS, REQUEST, key), b"")


def fold_closed(transaction: Transaction, data: RequestsClosedData) -> None:
    """Record the outcomes of requests. Only the first outcome of a request counts. Raises `InvalidRecord` if one belongs to
    another partition."""
    for request in data.requests:
        key = request.id.encode()
        row = transaction.get(REQUESTS, key)
        if row is None:  # the requests that are here were checked when they were received
            _check_homes(transaction, [request.id])
            continue
        if row.outcome:
            continue
        closed = replace(
            row,
            outcome=request.outcome,
            claim=request.claim,
            cell=request.cell,
            as_of=dict(request.as_of),
            in_flight=request.in_flight,
            reason=request.reason,
        )
        transaction.put(REQUESTS, key, closed)


def expire_request(transaction: Transaction, _at_ms: int, key: bytes) -> None:
    """Delete a request that was received `REQUEST_KEPT_MS` ago."""
    transaction.delete(REQUESTS, key)


def _check_homes(transaction: Transaction, requests: Sequence[str]) -> None:
    """The id of a request determines its partition: so its key has no cell. Raises `InvalidRecord` if one is of another."""
    here = transaction.partition
    for request, home in zip(requests, partitions_for(requests, here.partitions), strict=True):
        if home != here.partition:
            raise InvalidRecord(f"request {request} belongs to partition {home}, not to {here.partition}")
