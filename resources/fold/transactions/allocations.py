"""What a transaction does with consumers: what they hold is given back, and what it lists is granted, all or nothing.

Amounts are judged by the resource classes, as those of claims are (`ResourceClass.claim`). Where the consumers of the transaction
together ask for no more of an inventory than they held of it, an ask may exceed the capacity.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from vacancy.resources.classes.resource_class import Shortfall
from vacancy.resources.fold.claims.claims import end_consumer, write_allocation, write_rows
from vacancy.resources.fold.claims.judge import (
    Acceptance,
    Rejection,
    Rows,
    Slot,
    give_back,
    grants_by_slot,
    no_more_than_held,
    provider_rejection,
)
from vacancy.resources.fold.claims.moves import stays_in_groups
from vacancy.resources.fold.claims.quotas import AccountChange, CountedChanges, count_changes, judge_changes
from vacancy.resources.fold.claims.server_groups import check_memberships
from vacancy.resources.fold.record_limits import check_limit, parts_weight
from vacancy.resources.fold.transactions.refusal import Refused
from vacancy.resources.model.errors import InvalidRecord
from vacancy.resources.model.events import Allocation, Claim, ReplacementV3
from vacancy.resources.model.transactions import ABSENT, ANY, ConsumerChange, TransactionData
from vacancy.resources.state.rows import AllocationPart, AllocationRow, ClassRow
from vacancy.resources.state.tables import ALLOCATIONS
from vacancy.resources.state.transaction import Transaction

_ALLOCATION: Final = Allocation.model_construct(provider="", resources={})
_CLAIM: Final = ReplacementV3.model_construct(id="", consumer="", allocations=(), deadline_ms=0, replaces="")
"""Copies of these are made for each consumer: to construct a model takes four times as long."""


class Holder(NamedTuple):
    """A consumer of a transaction: what it held, and the claim that stands for what it holds afterwards (None: nothing)."""

    change: ConsumerChange
    held: AllocationRow | None
    claim: Claim | None


def holders_of(transaction: Transaction, data: TransactionData) -> list[Holder]:
    """The consumers of a transaction, if they are as it says. Raises `Refused` and `InvalidRecord`."""
    limits = transaction.rules.limits
    asks = sum(len(asked) for one in data.consumers for asked in one.allocations.values())
    check_limit(transaction.rules, "the record has", asks, "asks", limits.asks, " a record")
    holders, parts = [], 0
    for change in data.consumers:
        held = transaction.get(ALLOCATIONS, transaction.key(change.consumer))
        rejection = _check_generation(change, held)
        if rejection is not None:
            raise Refused(rejection, change.consumer)
        parts += 0 if held is None else parts_weight(held, limits.group_weight)
        if parts > limits.released_parts:  # at once: each of the others may have as many parts
            raise Refused(Rejection("record_full", asked=parts, available=limits.released_parts))
        holders.append(Holder(change, held, _claim(transaction, data, change, held)))
    return holders


def _check_generation(change: ConsumerChange, held: AllocationRow | None) -> Rejection | None:
    expected = change.generation
    if expected == ANY:
        return None
    if held is None:
        return None if expected == ABSENT else Rejection("consumer_unknown", asked=int(expected))
    if expected == ABSENT:
        return Rejection("consumer_exists", available=held.generation, taken=held.offset)
    if expected != held.generation:
        return Rejection(
            "consumer_changed", asked=int(expected), available=held.generation, taken=held.offset
        )
    return None


def _claim(
    transaction: Transaction, data: TransactionData, change: ConsumerChange, held: AllocationRow | None
) -> Claim | None:
    """The claim that stands for what a consumer holds afterwards, with the server groups that it is in."""
    if not change.allocations:
        return None
    claim: Claim = _CLAIM.model_copy(
        update={
            "id": data.id,
            "consumer": change.consumer,
            "consumer_type": change.consumer_type,
            "project": change.project,
            "user": change.user,
            "request": None if held is None else held.request,
            "allocations": tuple(
                _ALLOCATION.model_copy(update={"provider": provider, "resources": resources})
                for provider, resources in change.allocations.items()
            ),
            "deadline_ms": data.deadline_ms,
            "replaces": "" if held is None else held.claim,
        }
    )
    if held is None or not held.groups:
        return claim
    standing = stays_in_groups(transaction, claim, held)
    if isinstance(standing, Rejection):
        raise Refused(standing, change.consumer)
    return standing


class Grants:
    """The allocations of a transaction, step by step. `rows` are the class rows as they are after the steps so far."""

    def __init__(self, transaction: Transaction, holders: Sequence[Holder]) -> None:
        self._transaction, self._holders = transaction, holders
        self.rows: Rows = {}
        self._parts: list[tuple[AllocationPart, ...]] = []

    def give_back(self) -> None:
        """Give back all that the consumers hold."""
        for holder in self._holders:
            if holder.held is not None:
                give_back(self._transaction, holder.held.parts, self.rows)

    def grant(self) -> None:
        """Grant what they are to hold. Raises `Refused` and `RecordFull`."""
        allocations = [one for holder in self._holders if holder.claim for one in holder.claim.allocations]
        held = [part for holder in self._holders if holder.held for part in holder.held.parts]
        no_worse: frozenset[Slot] = frozenset()
        if held and allocations:
            no_worse = no_more_than_held(self._transaction, allocations, grants_by_slot(held))
        for holder in self._holders:
            parts: list[AllocationPart] = []
            if holder.claim is not None:
                before = {} if holder.held is None else grants_by_slot(holder.held.parts)
                for allocation in holder.claim.allocations:
                    outcome = self._allocate(holder.claim, allocation, before, no_worse)
                    if isinstance(outcome, Rejection):
                        raise Refused(outcome, holder.change.consumer)
                    parts += outcome
            self._parts.append(tuple(parts))

    def _allocate(
        self,
        claim: Claim,
        allocation: Allocation,
        before: dict[Slot, list[Any]],
        no_worse: frozenset[Slot],
    ) -> list[AllocationPart] | Rejection:
        rejection = provider_rejection(self._transaction, claim, allocation, no_worse)
        if rejection is not None:
            return rejection
        provider = allocation.provider
        parts = []
        for name, ask in allocation.resources.items():
            slot = (provider, name)
            part = self._grant(slot, ask, before.get(slot), no_worse=slot in no_worse)
            if isinstance(part, Rejection):
                return part
            parts.append(part)
        return parts

    def _grant(
        self, slot: Slot, ask: Any, before: list[Any] | None, *, no_worse: bool
    ) -> AllocationPart | Rejection:
        """Grant one ask, if it fits."""
        transaction, (provider, name) = self._transaction, slot
        try:
            table = transaction.class_table(name)
        except InvalidRecord:
            return Rejection("class_unknown", provider, name)
        resource_class = table.resource_class
        there = self.rows.get((table, provider)) or transaction.class_row(table, provider)
        if there is None:
            return Rejection("no_inventory", provider, name, ask if resource_class.is_amount(ask) else 1)
        if type(ask) is not int:
            ask = transaction.rules.known_ask(resource_class, ask)
        if table.counts_reads:
            count = resource_class.claim_reads if before is None else resource_class.reclaim_reads
            transaction.read(count(there.record, ask, *(() if before is None else (before,))))
        outcome: Any = resource_class.check_units(there.record, ask)
        for may_exceed in (False, True) if no_worse else (False,):
            if isinstance(outcome, Shortfall) and not may_exceed:
                break
            if before is None:
                outcome = resource_class.claim(there.record, ask, no_worse=may_exceed)
            else:
                outcome = resource_class.reclaim(there.record, ask, before, no_worse=may_exceed)
            if not isinstance(outcome, Shortfall):
                break
        if isinstance(outcome, Shortfall):
            taken = (transaction.class_row(table, provider) or there).taken
            return Rejection(outcome.reason, provider, name, outcome.asked, outcome.available, taken)
        self.rows[table, provider] = ClassRow(
            outcome.record, transaction.offset, there.changed, there.reported
        )
        return AllocationPart(provider, name, "", outcome.grant)

    def write(self) -> tuple[AllocationPart, ...]:
        """Write what the consumers hold, if server groups and quotas allow it. Returns what was granted. Raises `Refused` and
        `RecordFull`."""
        transaction = self._transaction
        counted: CountedChanges = []
        if transaction.rules.counts_quotas and self._holders:
            changes = [
                AccountChange(holder.change.consumer, holder.held, holder.claim, parts)
                for holder, parts in zip(self._holders, self._parts, strict=True)
            ]
            judged = judge_changes(transaction, changes, self.rows)
            if isinstance(judged, Rejection):
                raise Refused(judged)
            counted = judged
        for holder, parts in zip(self._holders, self._parts, strict=True):
            self._write_holder(holder, parts)
        count_changes(transaction, counted)
        write_rows(transaction, self.rows)
        return tuple(part for parts in self._parts for part in parts)

    def _write_holder(self, holder: Holder, parts: tuple[AllocationPart, ...]) -> None:
        transaction, consumer = self._transaction, holder.change.consumer
        if holder.claim is None:
            if holder.held is not None:
                end_consumer(transaction, consumer, holder.held)
            return
        if holder.claim.memberships:
            rejection = check_memberships(transaction, holder.claim)
            if rejection is not None:
                raise Refused(rejection, consumer)
        write_allocation(transaction, holder.claim, Acceptance(parts, {}), holder.held)
