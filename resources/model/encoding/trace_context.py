"""The trace contexts of claims in an event: attributes beside `data`, which no rule reads.

`traceparent` is that of CloudEvents' extension for distributed tracing, a W3C trace context. As a record has the claims of many
requests, `claimtraces` has the context of each: in the order of the claims, separated by spaces, `-` for a claim without one. It is
left out where the record has one claim.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from vacancy.resources.model.names import is_id

TRACE_MARK: Final = b'"traceparent":'
"""What the value of every event with a trace context contains."""

NO_CONTEXT: Final = "-"

CLAIMS_MAX: Final = 64
"""The most claims of a record (`events.BATCH_MAX`). A record with more is refused, and of none of them is anything written."""

_is_context = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}").fullmatch
"""Ids of zeros only are invalid."""


class TraceAttributes(NamedTuple):
    """The attributes of an event with traced claims. `claimtraces` is '' for a single claim."""

    traceparent: str
    claimtraces: str


class _Claim(msgspec.Struct, gc=False):
    id: str


class _Data(msgspec.Struct, gc=False):
    claims: list[_Claim]


class _Event(msgspec.Struct, gc=False):
    data: _Data
    traceparent: str
    claimtraces: str = ""


_decode = msgspec.json.Decoder(_Event).decode


def trace_attributes(contexts: Sequence[str | None]) -> TraceAttributes | None:
    """The attributes of a record, of the contexts of its claims in their order; None where none has one. `traceparent` is the first
    of them."""
    first = next((one for one in contexts if one), None)
    if first is None:
        return None
    several = " ".join(one or NO_CONTEXT for one in contexts) if len(contexts) > 1 else ""
    return TraceAttributes(first, several)


def claim_contexts(value: bytes) -> Mapping[str, str]:
    """Claim -> its trace context, of the traced claims in a record's value. Anybody may write a record: what is not of this form
    counts as not traced."""
    if TRACE_MARK not in value:
        return {}
    try:
        event = _decode(value)
    except (msgspec.DecodeError, RecursionError):
        return {}
    claims = event.data.claims
    contexts = event.claimtraces.split(" ") if event.claimtraces else [event.traceparent]
    if len(contexts) != len(claims) or len(claims) > CLAIMS_MAX:
        return {}
    return {
        claim.id: context
        for claim, context in zip(claims, contexts, strict=True)
        if is_id(claim.id) and _is_context(context)
    }
