"""What one record may ask for (`resources/model/limits.py`), decided right after parsing and before anything is judged."""

from __future__ import annotations

from collections.abc import Iterable

from vacancy.resources.model.encoding.event_encoding import ClaimWire
from vacancy.resources.model.errors import InvalidRecord
from vacancy.resources.model.events import Claim
from vacancy.resources.model.limits import NAMED_PART_WEIGHT
from vacancy.resources.state.rows import AllocationRow, granted_by_name
from vacancy.resources.state.rule_set import RuleSet

MARKS = (b",", b":", b"[", b"{")

_RECORD = "the record has"
_A_RECORD = " a record"


def check_bytes(rules: RuleSet, value: bytes) -> None:
    """Check what can be counted before a record is parsed. Raises `InvalidRecord`."""
    limits = rules.limits
    if len(value) > limits.record_bytes:
        raise InvalidRecord(f"the record is larger than {limits.record_bytes} bytes")
    if len(value) > limits.record_marks:
        marks = sum(map(value.count, MARKS))
        check_limit(rules, _RECORD, marks, "marks (, : [ {)", limits.record_marks, _A_RECORD)


def claim_weights(claims: Iterable[Claim | ClaimWire]) -> tuple[int, int, int]:
    """The numbers of predicates, memberships and asks of claims together."""
    predicates = memberships = asks = 0
    for claim in claims:
        predicates += len(claim.predicates)
        memberships += len(claim.memberships)
        for allocation in claim.allocations:
            asks += len(allocation.resources)
    return predicates, memberships, asks


def check_claims(rules: RuleSet, claims: Iterable[Claim]) -> None:
    """Check the number of predicates, memberships and asks of a record. Raises `InvalidRecord`."""
    predicates, memberships, asks = claim_weights(claims)
    limits = rules.limits
    check_limit(rules, _RECORD, predicates, "predicates", limits.predicates, _A_RECORD)
    check_limit(rules, _RECORD, memberships, "memberships in server groups", limits.memberships, _A_RECORD)
    check_limit(rules, _RECORD, asks, "asks", limits.asks, _A_RECORD)


def over_limit(
    rules: RuleSet, subject: str, number: int, what: str, limit: int, per: str = ""
) -> InvalidRecord:
    """The error for more of something than the rules allow: `the record has` 65,536 `predicates`, and rules version 3 allows
    1,024` a record`. `subject` starts the sentence and `per` ends it."""
    return InvalidRecord(
        f"{subject} {number:,} {what}, and rules version {rules.version} allows {limit:,}{per}"
    )


def check_limit(rules: RuleSet, subject: str, number: int, what: str, limit: int, per: str = "") -> None:
    """Raise `over_limit` if there is more of something than the rules allow."""
    if number > limit:
        raise over_limit(rules, subject, number, what, limit, per)


def check_items(rules: RuleSet, items: int, resource_class: str) -> None:
    """Check the number of items of an inventory. Raises `InvalidRecord`."""
    limit = rules.limits.inventory_items
    if items > limit:
        raise over_limit(rules, f"{resource_class}: the inventory has", items, "items", limit)


def parts_weight(held: AllocationRow, group_weight: int) -> int:
    """The parts of an allocation, as `Limits.released_parts` and `Limits.expiries` count them: a part that was granted by
    name (devices, CPUs) counts as `NAMED_PART_WEIGHT` parts, and a server group of its consumer as `group_weight`
    (`Limits.group_weight`)."""
    named = len(granted_by_name(held.parts)) * (NAMED_PART_WEIGHT - 1)
    return len(held.parts) + named + len(held.groups) * group_weight
