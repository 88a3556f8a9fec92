"""The events of schedulers, as structs that are encoded to JSON without validation.

A busy scheduler writes thousands of claims a second, and pydantic would take most of its time. Each struct has the
fields and defaults of the model of the same name in `events` (`ClaimWire` of `Claim`); fields at their defaults are left
out. What is encoded here parses to the equal model. The fold validates these events as it validates all others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Raw

from vacancy.resources.model.encoding.trace_context import TraceAttributes
from vacancy.resources.model.server_group import ServerGroupMembership

_encode = msgspec.json.Encoder().encode
_changed = msgspec.structs.replace


class AllocationWire(msgspec.Struct, frozen=True, omit_defaults=True):
    provider: str
    resources: Mapping[str, Any]
    group: str = ""


class PredicateWire(msgspec.Struct, frozen=True, omit_defaults=True):
    provider: str
    kind: str
    value: str | int
    negate: bool = False


class AttributePredicateWire(
    msgspec.Struct, frozen=True, omit_defaults=True, tag_field="kind", tag="attribute"
):
    provider: str
    name: str
    operator: str = "=="
    value: Any = None
    version: bool = False


AnyPredicateWire = PredicateWire | AttributePredicateWire


class MembershipWire(msgspec.Struct, frozen=True, omit_defaults=True):
    group: str
    policy: str
    hard: bool = True
    max_per_node: int = 1
    scope: str | None = None
    max_skew: int | None = None
    """Of `ServerGroupMembershipV2`."""


class TolerationWire(msgspec.Struct, frozen=True, omit_defaults=True):
    key: str
    value: str | None = None


class DecisionWire(msgspec.Struct, frozen=True, omit_defaults=True):
    as_of: Raw
    seed: int = 0
    policy: str = ""


class ClaimWire(msgspec.Struct, frozen=True, omit_defaults=True):
    id: str
    consumer: str
    deadline_ms: int
    allocations: Sequence[AllocationWire]
    consumer_generation: int | None = None
    consumer_type: str = "INSTANCE"
    project: str = "-"
    user: str = "-"
    request: str | None = None
    spec: Raw | None = None
    predicates: Sequence[AnyPredicateWire] = ()
    memberships: Sequence[MembershipWire] = ()
    hold_until_ms: int | None = None
    decided: DecisionWire | None = None
    tolerations: Sequence[TolerationWire] = ()
    """Of `ClaimV2`."""
    spec_at: int | None = None
    """Of `ListedClaim`."""


class ReceivedRequestWire(msgspec.Struct, frozen=True):
    id: str
    spec: Raw


class _RequestWireV2(msgspec.Struct, frozen=True):
    id: str
    spec_at: int


class ClosedRequestWire(msgspec.Struct, frozen=True, omit_defaults=True):
    id: str
    outcome: str
    as_of: Raw | None = None
    claim: str | None = None
    cell: str | None = None
    in_flight: Sequence[str] = ()
    heard_since_ms: int | None = None
    reason: str = ""


class _Claims(msgspec.Struct, frozen=True):
    claims: Sequence[ClaimWire]


class _ClaimsV2(msgspec.Struct, frozen=True, omit_defaults=True):
    claims: Sequence[ClaimWire]
    specs: Sequence[Raw] = ()
    decided: DecisionWire | None = None


class _Requests(msgspec.Struct, frozen=True):
    requests: Sequence[ReceivedRequestWire] | Sequence[ClosedRequestWire]


class _RequestsV2(msgspec.Struct, frozen=True):
    specs: Sequence[Raw]
    requests: Sequence[_RequestWireV2]


class _Event(msgspec.Struct, frozen=True):
    type: str
    id: str
    source: str
    data: _Claims | _ClaimsV2 | _Requests | _RequestsV2
    specversion: str = "1.0"


class _TracedEvent(msgspec.Struct, frozen=True, omit_defaults=True):
    """An `_Event` with the attributes of CloudEvents' extension for distributed tracing, and one of our own (`trace_context`)."""

    specversion: str
    type: str
    id: str
    source: str
    traceparent: str
    data: _Claims | _ClaimsV2
    claimtraces: str = ""


class _Specs:
    """The specs of a record, each of them once."""

    def __init__(self) -> None:
        self.raw: list[Raw] = []
        self._places: dict[bytes, int] = {}

    def place(self, spec: Raw) -> int:
        """The place of a spec, which is added if it is not there."""
        place = self._places.setdefault(bytes(spec), len(self.raw))
        if place == len(self.raw):
            self.raw.append(spec)
        return place


def encode_claims(
    id_: str,
    source: str,
    claims: Sequence[ClaimWire],
    *,
    newest: bool = False,
    contexts: TraceAttributes | None = None,
) -> bytes:
    """One record's value: `events.ClaimsRequested` with up to `events.BATCH_MAX` claims, or `events.ClaimsRequestedV2` where
    the log allows it (`newest`), or where one of them has a field that only that form has. `contexts` are the trace contexts of
    the claims, where there are any."""
    if not newest:
        for claim in claims:  # a loop: a generator would take five times as long
            if claim.tolerations or (
                claim.memberships and any(one.max_skew is not None for one in claim.memberships)
            ):
                break
        else:
            return _claims_event("vacancy.claims.requested.v1", id_, source, _Claims(claims), contexts)
    specs, decided = _Specs(), claims[0].decided
    listed = [
        _changed(
            one,
            spec=None,
            spec_at=None if one.spec is None else specs.place(one.spec),
            decided=None if one.decided is decided else one.decided,
        )
        for one in claims
    ]
    data = _ClaimsV2(listed, specs.raw, decided)
    return _claims_event("vacancy.claims.requested.v2", id_, source, data, contexts)


def encode_gang(
    id_: str, source: str, claims: Sequence[ClaimWire], contexts: TraceAttributes | None = None
) -> bytes:
    """One record's value: `events.GangRequested` with 2 to `events.BATCH_MAX` claims. For `contexts` see `encode_claims`."""
    return _claims_event("vacancy.gang.requested.v1", id_, source, _Claims(claims), contexts)


def _claims_event(
    type_: str, id_: str, source: str, data: _Claims | _ClaimsV2, contexts: TraceAttributes | None
) -> bytes:
    if contexts is None:
        return _encode(_Event(type_, id_, source, data))
    return _encode(_TracedEvent("1.0", type_, id_, source, contexts.traceparent, data, contexts.claimtraces))


def encode_received(
    id_: str, source: str, requests: Sequence[ReceivedRequestWire], *, newest: bool = False
) -> bytes:
    """One record's value: `events.RequestsReceived` with up to `events.BATCH_MAX` requests, or `events.RequestsReceivedV2`
    (`newest`)."""
    if not newest:
        return _encode(_Event("vacancy.requests.received.v1", id_, source, _Requests(requests)))
    specs = _Specs()
    placed = [_RequestWireV2(one.id, specs.place(one.spec)) for one in requests]
    return _encode(_Event("vacancy.requests.received.v2", id_, source, _RequestsV2(specs.raw, placed)))


def encode_closed(id_: str, source: str, requests: Sequence[ClosedRequestWire]) -> bytes:
    """One record's value: `events.RequestsClosed` with up to `events.BATCH_MAX` requests."""
    return _encode(_Event("vacancy.requests.closed.v1", id_, source, _Requests(requests)))


def encode_position(position: Mapping[int, int]) -> Raw:
    """A position (partition -> next offset) as the `as_of` of claims and closed requests, encoded once for many."""
    return Raw(_encode(position))


def membership_wire(one: ServerGroupMembership) -> MembershipWire:
    """A membership as a claim carries it."""
    wire = MembershipWire(one.group, one.policy, one.hard, one.max_per_node, one.scope)
    rule = one.rule
    return _changed(wire, max_skew=rule.max_per_node) if rule.spreads else wire
