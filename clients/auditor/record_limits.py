"""Whether a record keeps to the limits of the rules, before anything of it is judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from vacancy.clients.auditor.event_schema import ReadEvent
from vacancy.clients.auditor.rules_in_force import PROVIDER_TAINTS, AuditedLimits

Data = Mapping[str, Any]


def few_marks(value: bytes, limits: AuditedLimits) -> bool:
    """Whether the value of a record may be parsed at all."""
    return sum(value.count(mark) for mark in (b",", b":", b"[", b"{")) <= limits.record_marks


def keeps_to(limits: AuditedLimits, event: ReadEvent) -> bool:
    """Whether an event keeps to the limits of a record, of a provider and of an operator's settings."""
    check = _CHECKS.get(event.kind)
    return check is None or check(event.data, limits)


def _claims(data: Data, limits: AuditedLimits) -> bool:
    claims = data.get("claims", (data,))
    predicates = sum(len(claim.get("predicates", ())) for claim in claims)
    memberships = sum(len(claim.get("memberships", ())) for claim in claims)
    asks = sum(len(allocation["resources"]) for claim in claims for allocation in claim["allocations"])
    return predicates <= limits.predicates and memberships <= limits.memberships and asks <= limits.asks


def _node(data: Data, limits: AuditedLimits) -> bool:
    confirmed = len(data.get("consumers") or ())
    return confirmed <= limits.consumers_confirmed and all(
        len(provider.get("inventories", ())) <= limits.provider_classes
        and len(provider.get("attributes", ())) <= limits.provider_attributes
        and len(provider.get("traits", ())) <= limits.provider_traits
        for provider in data.get("providers", ())
    )


def _settings(data: Data, limits: AuditedLimits) -> bool:
    facts = data["facts"]
    return (
        len(facts.get("overrides", ())) <= limits.provider_classes
        and len(facts.get("attributes", ())) <= limits.provider_attributes
        and len(facts.get("traits", ())) <= limits.provider_traits
        and len(facts.get("aggregates", ())) <= limits.provider_aggregates
        and len(facts.get("taints", ())) <= PROVIDER_TAINTS
    )


_CHECKS: Final[Mapping[str, Callable[[Data, AuditedLimits], bool]]] = {
    "claims.requested": _claims,
    "claims.requested.v2": _claims,
    "gang.requested": _claims,
    "consumer.replaced.v2": _claims,
    "consumer.replaced.v3": _claims,
    "node.reported": _node,
    "node.reported.v2": _node,
    "node.changed": _node,
    "facts.set": _settings,
    "facts.set.v2": _settings,
}
