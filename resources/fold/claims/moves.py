"""Moves and resizes under rules that keep grants (`RuleSet.keeps_grants`), and updates of a consumer's project, user or type.

An ask that a consumer had before, on the same provider, keeps its grant: nothing of it is released, so no other ask and no
other consumer can get it. Whether it is the same ask is decided by a hash of it (`ALLOCATION_ASKS`): first for the same
request group, then for any group of the claim. A changed ask is granted by `ResourceClass.reclaim`, which keeps what it can.
What a consumer holds already is allowed on a closed provider too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Any, Final, NamedTuple

from msgspec.structs import replace

from vacancy.resources.classes.resource_class import Shortfall
from vacancy.resources.fold.claims.judge import (
    Acceptance,
    Rejection,
    Rows,
    Slot,
    check_claim,
    closed_rejection,
    give_back,
    grants_by_slot,
    no_more_than_held,
)
from vacancy.resources.fold.claims.quotas import change_account
from vacancy.resources.model.encoding.canonical_bytes import ask_bytes
from vacancy.resources.model.errors import InvalidRecord
from vacancy.resources.model.events import (
    Allocation,
    Claim,
    ConsumerReplacedV2,
    ConsumerReplacedV3,
    ConsumerUpdate,
    ReplacementV3,
)
from vacancy.resources.model.server_group import MEMBERSHIPS_MAX, AffinityRule, group_name, membership_of
from vacancy.resources.state.rows import AllocationPart, AllocationRow, ClassRow
from vacancy.resources.state.tables import ALLOCATION_ASKS, ALLOCATIONS, GROUPS
from vacancy.resources.state.transaction import Transaction

_HASH_BYTES: Final = 8


def without_leaving(event: ConsumerReplacedV2) -> ConsumerReplacedV3:
    """A replacement of the form before: its consumer leaves no group."""
    fields = {name: getattr(event.data, name) for name in type(event.data).model_fields}
    data = ReplacementV3.model_construct(**fields)
    return ConsumerReplacedV3.model_construct(id=event.id, source=event.source, time=event.time, data=data)


class _Ask(NamedTuple):
    """One ask of a claim: of one class, on one provider, for one request group."""

    allocation: Allocation
    name: str
    ask: Any

    @property
    def slot(self) -> Slot:
        return self.allocation.provider, self.name


def judge_move(transaction: Transaction, claim: Claim, held: AllocationRow) -> Acceptance | Rejection:
    """Judge a claim that replaces `held`, at its place in the log. Raises `RecordFull`."""
    wrong = check_claim(transaction, claim, held)
    if wrong is not None:
        return wrong
    asks = list(_asks(claim))
    kept = _unchanged(transaction, claim.consumer, asks, held)
    move = _Move(transaction, claim, held, kept.values())
    move.compare([one for at, one in enumerate(asks) if at not in kept])
    parts: list[AllocationPart] = []
    for at, one in enumerate(asks):
        if at in kept:
            parts.append(held.parts[kept[at]]._replace(group=one.allocation.group))
            continue
        outcome = move.grant(one)
        if isinstance(outcome, Rejection):
            return outcome
        parts.append(outcome)
    return move.closed_at_end() or Acceptance(tuple(parts), move.rows)


class _Move:
    """The changed asks of a claim: `rows` are the class rows after those that were granted."""

    def __init__(
        self, transaction: Transaction, claim: Claim, held: AllocationRow, kept: Iterable[int]
    ) -> None:
        self._transaction, self._claim = transaction, claim
        stays = frozenset(kept)
        given_back = [part for at, part in enumerate(held.parts) if at not in stays]
        self.rows: Rows = {}
        give_back(transaction, given_back, self.rows)
        self._before = grants_by_slot(given_back)
        self._after: dict[Slot, list[Any]] = {}
        self._closed: dict[Slot, Rejection] = {}
        self._no_worse: frozenset[Slot] = frozenset()

    def compare(self, asks: Iterable[_Ask]) -> None:
        """Find out which of these asks together are for no more than what is given back."""
        slots = [
            Allocation.model_construct(provider=one.allocation.provider, resources={one.name: one.ask})
            for one in asks
            if one.slot in self._before
        ]
        self._no_worse = no_more_than_held(self._transaction, slots, self._before)

    def grant(self, one: _Ask) -> AllocationPart | Rejection:
        """Grant an ask, if it fits. On a closed provider it is decided at the end whether it is only what was held."""
        transaction, slot = self._transaction, one.slot
        provider, name = slot
        row = transaction.provider(provider)
        if row is None:
            return Rejection("provider_unknown", provider)
        before = self._before.get(slot)
        no_worse = slot in self._no_worse
        closed = None if no_worse else closed_rejection(transaction, self._claim, provider, row)
        if closed is not None:
            if before is None:
                return closed
            self._closed[slot] = closed
        try:
            table = transaction.class_table(name)
        except InvalidRecord:
            return Rejection("class_unknown", provider, name)
        resource_class = table.resource_class
        found = self.rows.get((table, provider)) or transaction.class_row(table, provider)
        if found is None:
            return Rejection(
                "no_inventory", provider, name, one.ask if resource_class.is_amount(one.ask) else 1
            )
        if before is None:
            transaction.read(resource_class.claim_reads(found.record, one.ask))
            outcome = resource_class.claim(found.record, one.ask)
        else:
            transaction.read(resource_class.reclaim_reads(found.record, one.ask, before))
            outcome = resource_class.reclaim(found.record, one.ask, before, no_worse=no_worse)
        if isinstance(outcome, Shortfall):
            if closed is not None:
                return closed
            taken = (transaction.class_row(table, provider) or found).taken
            return Rejection(outcome.reason, provider, name, outcome.asked, outcome.available, taken)
        self.rows[table, provider] = ClassRow(
            outcome.record, transaction.offset, found.changed, found.reported
        )
        self._after.setdefault(slot, []).append(outcome.grant)
        return AllocationPart(provider, name, one.allocation.group, outcome.grant)

    def closed_at_end(self) -> Rejection | None:
        """The rejection of the first closed provider of which the consumer would hold something that it did not hold."""
        for slot, closed in self._closed.items():
            resource_class = self._transaction.class_table(slot[1]).resource_class
            if not resource_class.grants_no_more(self._before[slot], self._after[slot]):
                return closed
        return None


def _asks(claim: Claim) -> Iterable[_Ask]:
    for allocation in claim.allocations:
        for name, ask in allocation.resources.items():
            yield _Ask(allocation, name, ask)


def _unchanged(
    transaction: Transaction, consumer: str, asks: Iterable[_Ask], held: AllocationRow
) -> dict[int, int]:
    """The asks that the consumer has a grant by name for: number of the ask -> number of the part."""
    hashes = transaction.get(ALLOCATION_ASKS, transaction.key(consumer)) or ()
    if len(hashes) != len(held.parts):
        return {}
    parts: dict[tuple[Slot, bytes], list[int]] = {}
    for at, (part, ask_hash) in enumerate(zip(held.parts, hashes, strict=True)):
        if ask_hash:
            parts.setdefault(((part.provider, part.resource_class), ask_hash), []).append(at)
    if not parts:
        return {}
    slots = {slot for slot, _ in parts}
    wanted = {
        number: (one.slot, _ask_hash(one.ask), one.allocation.group)
        for number, one in enumerate(asks)
        if one.slot in slots
    }
    kept: dict[int, int] = {}
    for of_any_group in (False, True):
        for number, (slot, ask_hash, group) in wanted.items():
            free = parts.get((slot, ask_hash), ())
            found = next((at for at in free if of_any_group or held.parts[at].group == group), None)
            if number not in kept and found is not None:
                kept[number] = found
                parts[slot, ask_hash].remove(found)
    return kept


def _ask_hash(ask: Any) -> bytes:
    return blake2b(ask_bytes(ask), digest_size=_HASH_BYTES).digest()


def keep_asks(transaction: Transaction, claim: Claim, parts: Sequence[AllocationPart], *, had: bool) -> None:
    """Write what an accepted claim asked for, where it was granted by name. `had`: the consumer may have a row already."""
    for part in parts:  # a loop: most claims are granted amounts only
        if type(part.grant) is not int:
            break
    else:
        if had:
            transaction.delete(ALLOCATION_ASKS, transaction.key(claim.consumer))
        return
    hashes = tuple(
        b"" if type(part.grant) is int else _ask_hash(one.ask)
        for one, part in zip(_asks(claim), parts, strict=True)
    )
    transaction.put(ALLOCATION_ASKS, transaction.key(claim.consumer), hashes)


def forget_asks(transaction: Transaction, key: bytes, held: AllocationRow) -> None:
    """Delete what an allocation that ends had asked for."""
    if any(type(part.grant) is not int for part in held.parts):
        transaction.delete(ALLOCATION_ASKS, key)


def stays_in_groups(transaction: Transaction, claim: Claim, held: AllocationRow | None) -> Claim | Rejection:
    """The claim with the memberships that its consumer has and does not leave. `held` is what it has."""
    if held is None or not held.groups or not isinstance(claim, ReplacementV3):
        return claim
    named = {group_name(one.group) for one in claim.memberships}
    left = frozenset(claim.leaves)
    stays = []
    for name in held.groups:
        group, row = f"{transaction.cell}/{name}", transaction.get(GROUPS, transaction.key(name))
        if name not in named and group not in left and row is not None:
            rule = AffinityRule(row.policy, row.hard, row.max_per_node, row.scope)
            stays.append(membership_of(group, rule))
    memberships = (*claim.memberships, *stays)
    if len(memberships) > MEMBERSHIPS_MAX:
        return Rejection("too_many_groups", asked=len(memberships), available=MEMBERSHIPS_MAX)
    return claim.model_copy(update={"memberships": memberships})


def fold_updated(transaction: Transaction, data: ConsumerUpdate) -> None:
    """Change the project, the user or the type of a consumer. Raises `InvalidRecord` if it holds nothing by that claim, or if
    a quota does not allow it."""
    refused = judge_update(transaction, data)
    if refused is not None:
        raise InvalidRecord(
            f"consumer {data.consumer} was not updated: {refused.reason}, {refused.resource_class}: asked {refused.asked},"
            f" available {refused.available}, {refused.group}"
        )


def judge_update(transaction: Transaction, data: ConsumerUpdate) -> Rejection | None:
    """Make the change of `fold_updated`, or return why a quota does not allow it. Raises `InvalidRecord` if the consumer holds
    nothing by that claim."""
    key = transaction.key(data.consumer)
    held = transaction.get(ALLOCATIONS, key)
    if held is None or held.claim != data.claim:
        raise InvalidRecord(
            f"consumer {data.consumer} holds nothing by claim {data.claim}: it was not updated"
        )
    after = replace(
        held,
        project=held.project if data.project is None else data.project,
        user=held.user if data.user is None else data.user,
        consumer_type=held.consumer_type if data.consumer_type is None else data.consumer_type,
    )
    if after == held:
        return None
    refused = change_account(transaction, key, held, after)
    if refused is None:
        transaction.put(ALLOCATIONS, key, replace(after, generation=held.generation + 1))
    return refused
