"""The events of requests: the request that was received, and its outcome.

A request is in the partition to which its id hashes, so every reader can find it.
"""

from __future__ import annotations

from msgspec.structs import replace

from vacancy.resources.model.errors import InvalidRecord
from vacancy.resources.model.events import (
    ReceivedRequestV2,
    RequestsClosedData,
    RequestsReceived,
    RequestsReceivedData,
    RequestsReceivedDataV2,
    RequestsReceivedV2,
)
from vacancy.resources.model.partitioner import partition_for
from vacancy.resources.model.request import RequestSpec, RequestSpecV2, plain_fields
from vacancy.resources.state.rows import RequestRow
from vacancy.resources.state.tables import DEADLINES, REQUESTS, deadline_key
from vacancy.resources.state.transaction import Transaction

REQUEST = b"R"
REQUEST_KEPT_MS = 24 * 3600 * 1000
"""How long a request stays readable after it was received, in log time."""


def without_alternatives(event: RequestsReceived) -> RequestsReceivedV2:
    """The newest form of requests that have neither alternatives nor preferences."""
    requests = [
        ReceivedRequestV2.model_construct(id=one.id, spec=_newest(one.spec)) for one in event.data.requests
    ]
    data = RequestsReceivedDataV2.model_construct(requests=tuple(requests))
    return RequestsReceivedV2.model_construct(id=event.id, source=event.source, time=event.time, data=data)


def _newest(spec: RequestSpec) -> RequestSpecV2:
    return RequestSpecV2.model_construct(**plain_fields(spec))


def fold_received(transaction: Transaction, data: RequestsReceivedData | RequestsReceivedDataV2) -> None:
    """Record requests. Raises `InvalidRecord` if one belongs to another partition."""
    for request in data.requests:
        _check_home(transaction, request.id)
        key = request.id.encode()
        if transaction.get(REQUESTS, key) is None:
            transaction.put(
                REQUESTS, key, RequestRow(transaction.rules.spec_bytes(request.spec), transaction.time_ms)
            )
            transaction.put(DEADLINES, deadline_key(transaction.time_ms + REQUEST_KEPT_MS, REQUEST, key), b"")


def fold_closed(transaction: Transaction, data: RequestsClosedData) -> None:
    """Record the outcomes of requests. Only the first outcome of a request counts. Raises `InvalidRecord` if one belongs to
    another partition."""
    for request in data.requests:
        key = request.id.encode()
        row = transaction.get(REQUESTS, key)
        if row is None:  # the requests that are here were checked when they were received
            _check_home(transaction, request.id)
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


def _check_home(transaction: Transaction, request: str) -> None:
    """The id of a request determines its partition: so its key has no cell. Raises `InvalidRecord` if it is another one."""
    home = partition_for(request, transaction.partition.partitions)
    if home != transaction.partition.partition:
        raise InvalidRecord(
            f"request {request} belongs to partition {home}, not to {transaction.partition.partition}"
        )
