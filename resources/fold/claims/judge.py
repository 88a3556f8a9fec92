"""Judges claims: whether a claim fits at its place in the log. The first claim in the log wins.

`judge` writes nothing. It returns the rows to write, or the reason of the rejection.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from msgspec.structs import replace

from vacancy.resources.classes.resource_class import Shortfall
from vacancy.resources.fold.nodes.provider_tree import path_to_root
from vacancy.resources.fold.nodes.withdrawals import is_withdrawing, settle_class
from vacancy.resources.model.attributes import holds
from vacancy.resources.model.errors import InvalidRecord
from vacancy.resources.model.events import Allocation, AnyPredicate, AttributePredicate, Claim, ClaimV2
from vacancy.resources.model.taints import first_repelling, tolerated_of
from vacancy.resources.state.rows import AllocationPart, AllocationRow, ClassRow, ProviderRow, why_closed
from vacancy.resources.state.tables import NODES, ClassTable
from vacancy.resources.state.transaction import Transaction

DEADLINE_AHEAD_MS_MAX = 10 * 60 * 1000
"""The longest time from log time to the deadline of a claim."""

TAINTED = "taint_not_tolerated"
"""The reason of a rejection for a taint, which the rejection names as `other`."""

Slot = tuple[str, str]
"""A provider and a class."""

Rows = dict[tuple[ClassTable, str], ClassRow]
"""Class rows after the claim, by (table, provider)."""


class Rejection(NamedTuple):
    """Why a claim is rejected. `taken` is the offset of the event that took the missing resources, or -1. For the other
    fields see `rows.VerdictRow`."""

    reason: str
    provider: str = ""
    resource_class: str = ""
    asked: int = 0
    available: int = 0
    taken: int = -1
    group: str = ""
    other: str = ""


class Acceptance(NamedTuple):
    """The result of a claim that fits: the parts of its allocation, the class rows after it, and what it changes of the
    amounts that quotas count (`fold.claims.quotas.Counted`; None if nothing is counted)."""

    parts: tuple[AllocationPart, ...]
    rows: Rows
    counted: Any = None


def judge(transaction: Transaction, claim: Claim, held: AllocationRow | None) -> Acceptance | Rejection:
    """Judge one claim at its place in the log.

    `held` is the current allocation of its consumer. If the claim replaces it, it is released first. Asks for no more
    than was held are then allowed even on a provider that is over capacity or closed. Raises `RecordFull`.
    """
    wrong = check_claim(transaction, claim, held)
    if wrong is not None:
        return wrong
    rows: Rows = {}
    no_worse: frozenset[Slot] = frozenset()
    if held is not None:
        give_back(transaction, held.parts, rows)
        no_worse = no_more_than_held(transaction, claim.allocations, grants_by_slot(held.parts))
    parts: list[AllocationPart] = []
    for allocation in claim.allocations:
        outcome = _allocate(transaction, claim, allocation, no_worse, rows)
        if isinstance(outcome, Rejection):
            return outcome
        parts.extend(outcome)
    return Acceptance(tuple(parts), rows)


def check_claim(transaction: Transaction, claim: Claim, held: AllocationRow | None) -> Rejection | None:
    """What is judged before the resources: the deadline, what the consumer holds, the predicates."""
    if claim.deadline_ms > transaction.time_ms + DEADLINE_AHEAD_MS_MAX:
        return Rejection(
            "deadline_too_far", asked=claim.deadline_ms - transaction.time_ms, available=DEADLINE_AHEAD_MS_MAX
        )
    if claim.hold_until_ms is not None and claim.hold_until_ms < transaction.time_ms:
        return Rejection("hold_is_past")
    return _check_consumer(claim, held) or _check_predicates(transaction, claim.predicates)


def give_back(transaction: Transaction, parts: Iterable[AllocationPart], rows: Rows) -> None:
    """Release these parts in `rows`. What is still to be withdrawn of them is withdrawn first."""
    withdrawing = is_withdrawing(transaction)
    for part in parts:
        if withdrawing:
            settle_class(transaction, part.provider, part.resource_class)
        table = transaction.class_table(part.resource_class)
        slot = (table, part.provider)
        row = rows.get(slot) or transaction.class_row(table, part.provider)
        if row is not None:
            rows[slot] = replace(row, record=table.resource_class.release(row.record, part.grant))


def _check_consumer(claim: Claim, held: AllocationRow | None) -> Rejection | None:
    expected = claim.consumer_generation
    if held is None:
        return None if expected is None else Rejection("consumer_unknown", asked=expected)
    if expected is None:
        return Rejection("consumer_exists", available=held.generation, taken=held.offset)
    if expected != held.generation:
        return Rejection("consumer_changed", asked=expected, available=held.generation, taken=held.offset)
    return None


def _check_predicates(transaction: Transaction, predicates: Iterable[AnyPredicate]) -> Rejection | None:
    attributes: dict[str, dict[str, str | int | bool]] = {}
    for predicate in predicates:
        row = transaction.provider(predicate.provider)
        if row is None:
            return Rejection("provider_unknown", predicate.provider)
        if isinstance(predicate, AttributePredicate):
            held = attributes.get(predicate.provider)
            if held is None:
                held = attributes[predicate.provider] = row.attributes
            found = held.get(predicate.name)
            if not holds(found, predicate.operator, predicate.value, version=predicate.version):
                return Rejection("attribute_changed", predicate.provider, taken=row.changed)
            continue
        if predicate.kind == "generation":
            generation = transaction.generation(predicate.provider, row)
            if (generation == predicate.value) == predicate.negate:
                return Rejection(
                    "provider_changed", predicate.provider, available=generation, taken=generation
                )
            continue
        if predicate.kind == "trait":
            has = predicate.value in row.reported_traits or predicate.value in row.operator_traits
        elif predicate.kind == "subtree":
            has = _is_below(transaction, predicate.provider, predicate.value)
        else:
            has = predicate.value in row.aggregates
        if has == predicate.negate:
            return Rejection(f"{predicate.kind}_changed", predicate.provider, taken=row.changed)
    return None


def _is_below(transaction: Transaction, provider: str, top: str | int) -> bool:
    """Whether a provider is `top`, or below it. The answer is kept for the other claims of the record, of which none moves
    a provider."""
    found = transaction.below.get((provider, top))
    if found is None:
        found = False
        for id_ in path_to_root(provider, transaction.parent):
            transaction.read(1)
            if id_ == top:
                found = True
                break
        transaction.below[provider, top] = found
    return found


def grants_by_slot(parts: Iterable[AllocationPart]) -> dict[Slot, list[Any]]:
    """The grants of these parts, by provider and class."""
    grants: dict[Slot, list[Any]] = {}
    for part in parts:
        grants.setdefault((part.provider, part.resource_class), []).append(part.grant)
    return grants


def no_more_than_held(
    transaction: Transaction, allocations: Iterable[Allocation], grants: Mapping[Slot, list[Any]]
) -> frozenset[Slot]:
    """The slots for which the allocations ask no more than these grants gave."""
    asks: dict[Slot, list[Any]] = {}
    for allocation in allocations:
        for name, ask in allocation.resources.items():
            asks.setdefault((allocation.provider, name), []).append(ask)
    return frozenset(
        slot
        for slot, asked in asks.items()
        if slot in grants
        and transaction.class_table(slot[1]).resource_class.asks_no_more(grants[slot], asked)
    )


def _allocate(
    transaction: Transaction, claim: Claim, allocation: Allocation, no_worse: frozenset[Slot], rows: Rows
) -> list[AllocationPart] | Rejection:
    provider = allocation.provider
    rejection = provider_rejection(transaction, claim, allocation, no_worse)
    if rejection is not None:
        return rejection
    parts = []
    for name, wanted in allocation.resources.items():
        ask: Any = wanted
        try:
            table = transaction.class_table(name)
        except InvalidRecord:
            return Rejection("class_unknown", provider, name)
        slot = (table, provider)
        held = rows.get(slot) or transaction.class_row(table, provider)
        if held is None:
            asked = ask if table.resource_class.is_amount(ask) else 1
            return Rejection("no_inventory", provider, name, asked)
        if type(ask) is not int:
            ask = transaction.rules.known_ask(table.resource_class, ask)
        if table.counts_reads:
            transaction.read(table.resource_class.claim_reads(held.record, ask))
        kept = bool(no_worse) and (provider, name) in no_worse
        outcome = table.resource_class.claim(held.record, ask, no_worse=kept)
        if isinstance(outcome, Shortfall):
            before = (
                transaction.class_row(table, provider) or held
            )  # not `held`: this claim itself may have written it
            return Rejection(outcome.reason, provider, name, outcome.asked, outcome.available, before.taken)
        rows[slot] = ClassRow(outcome.record, transaction.offset, held.changed, held.reported)
        parts.append(AllocationPart(provider, name, allocation.group, outcome.grant))
    return parts


def provider_rejection(
    transaction: Transaction, claim: Claim, allocation: Allocation, no_worse: frozenset[Slot]
) -> Rejection | None:
    """The rejection of an allocation whose provider is unknown, or does not take it. A closed provider keeps what is in `no_worse`."""
    provider = allocation.provider
    row = transaction.provider(provider)
    if row is None:
        return Rejection("provider_unknown", provider)
    if no_worse and all((provider, name) in no_worse for name in allocation.resources):
        return None
    return closed_rejection(transaction, claim, provider, row)


def closed_rejection(
    transaction: Transaction, claim: Claim, provider: str, row: ProviderRow
) -> Rejection | None:
    """The rejection of a new claim on a provider that is closed or repels it, or None if the provider takes it."""
    root = row if row.root == provider else transaction.provider(row.root)
    closed = why_closed(transaction.get(NODES, transaction.key(row.root)), row, root)
    if closed is None:
        if row.taints or (root is not None and root.taints):
            return _repelled(claim, provider, (row,) if root is row else (row, root))
        return None
    if closed.reason == "incomplete":
        return Rejection("node_incomplete", provider)
    reason = "provider_disabled" if closed.reason == "disabled" else "provider_retired"
    return Rejection(reason, provider, taken=closed.by.changed)


def _repelled(claim: Claim, provider: str, rows: Iterable[ProviderRow | None]) -> Rejection | None:
    """The rejection of a claim that does not tolerate the taints of these rows: the provider, and the root of its tree. What
    it costs is bounded by the asks of a record, the taints of a provider and the tolerations of a claim."""
    tolerated = tolerated_of(claim.tolerations) if isinstance(claim, ClaimV2) else ()
    for row in rows:
        if row is not None and row.taints:
            taint = first_repelling(row.taints, tolerated)
            if taint is not None:
                return Rejection(TAINTED, provider, taken=row.changed, other=taint.text)
    return None
