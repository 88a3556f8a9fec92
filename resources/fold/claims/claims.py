"""The events of claims and consumers: verdicts, allocations, releases, confirmations, replacements."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from vacancy.resources.fold.claims.judge import (
    DEADLINE_AHEAD_MS_MAX,
    Acceptance,
    Rejection,
    Rows,
    give_back,
    judge,
)
from vacancy.resources.fold.claims.moves import forget_asks, judge_move, keep_asks, stays_in_groups
from vacancy.resources.fold.claims.quotas import count_accepted, count_ended, judge_quotas
from vacancy.resources.fold.claims.server_groups import add_member, check_memberships, remove_member
from vacancy.resources.fold.nodes.nodes import HOLD
from vacancy.resources.fold.nodes.withdrawals import leave_tree
from vacancy.resources.fold.record_limits import check_claims, parts_weight
from vacancy.resources.model.encoding.canonical_bytes import has_fingerprint
from vacancy.resources.model.errors import InvalidRecord
from vacancy.resources.model.events import (
    Claim,
    ClaimsRequestedData,
    ClaimsRequestedDataV2,
    ConsumerRef,
    ConsumersReleasedData,
    GangRequestedData,
    Release,
    Replacement,
)
from vacancy.resources.model.names import AMOUNT_MAX
from vacancy.resources.model.server_group import group_name
from vacancy.resources.state.rows import AllocationRow, VerdictRow, granted_by_name
from vacancy.resources.state.tables import (
    ALLOCATIONS,
    DEADLINES,
    PROVIDERS,
    VERDICTS,
    deadline_key,
    split_key,
)
from vacancy.resources.state.transaction import RecordFull, Transaction

VERDICT = b"V"
CANCELLED = "cancelled"
GANG_REJECTED = "gang_rejected"


def fold_claims(transaction: Transaction, data: ClaimsRequestedData | ClaimsRequestedDataV2) -> None:
    """Judge each claim of the record, in order and independently."""
    check_claims(transaction.rules, data.claims)
    for claim in data.claims:
        fold_claim(transaction, claim)


def fold_gang(transaction: Transaction, data: GangRequestedData) -> None:
    """Judge the claims of a gang, in order, each after what those before it take. All are accepted, or none is.

    Where one is rejected, its verdict has the reason, and the others are rejected because of it (`gang_rejected`). A gang
    that comes after its deadline is dropped without verdicts, and a repeated one changes nothing. Raises `InvalidRecord`
    where a claim of it was made before in other company or with other content.
    """
    check_claims(transaction.rules, data.claims)
    keys = [transaction.key(claim.id) for claim in data.claims]
    known = [transaction.get(VERDICTS, key) for key in keys]
    made = [row is not None and row.offset >= 0 for row in known]
    if any(made):
        _check_repeated(data.claims, known)
        return
    if data.claims[0].deadline_ms < transaction.time_ms:
        return
    before = transaction.savepoint()
    failed: tuple[Claim, Rejection] | None = None
    for claim, key, row in zip(data.claims, keys, known, strict=True):
        held = transaction.get(ALLOCATIONS, transaction.key(claim.consumer))
        outcome = (
            _judge(transaction, claim, held, replaces=False)
            if row is None
            else Rejection(CANCELLED, taken=row.taken)
        )
        if isinstance(outcome, Rejection):
            failed = claim, outcome
            break
        _write_verdict(transaction, claim, key, outcome)
        write_allocation(transaction, claim, outcome, held)
    if failed is None:
        return
    transaction.roll_back(before)
    of, why = failed
    for claim, key in zip(data.claims, keys, strict=True):
        rejection = why if claim is of else Rejection(GANG_REJECTED, other=of.consumer)
        _write_verdict(transaction, claim, key, rejection)


def _check_repeated(claims: Sequence[Claim], known: Sequence[VerdictRow | None]) -> None:
    """Raise `InvalidRecord` unless all claims of a gang were judged at one record, with the same content."""
    for claim, row in zip(claims, known, strict=True):
        if row is None or row.offset < 0:
            raise InvalidRecord(f"claim {claim.id} is new, and others of its gang were made before")
        if not has_fingerprint(claim, row.fingerprint):
            raise InvalidRecord(
                f"claim {claim.id} was made before with other content, at offset {row.offset}"
            )
    offsets = {row.offset for row in known if row is not None}
    if len(offsets) > 1:
        raise InvalidRecord(f"the claims of the gang were made before, at offsets {sorted(offsets)}")


def fold_replaced(transaction: Transaction, claim: Claim) -> None:
    """Replace a consumer's whole allocation, or change nothing."""
    check_claims(transaction.rules, (claim,))
    fold_claim(transaction, claim, replaces=True)


def refuse_replaced(_transaction: Transaction, _claim: Claim) -> None:
    """Refuse the form of a replacement that does not name the claim that it replaces. Raises `InvalidRecord`."""
    raise InvalidRecord(
        "a replacement names the claim that it replaces: use vacancy.consumer.replaced.v2, with `replaces`"
    )


def fold_releases(transaction: Transaction, data: ConsumersReleasedData) -> None:
    """Release the allocations of consumers, as many parts as one record may give back (`Limits.released_parts`)."""
    limits = transaction.rules.limits
    parts = 0
    for release in data.releases:
        held = transaction.get(ALLOCATIONS, transaction.key(release.consumer))
        if held is not None and held.claim == release.claim:
            weight = parts_weight(held, limits.group_weight)
            if parts and parts + weight > limits.released_parts:
                transaction.dead.append(
                    f"releasing {release.consumer} would make the record give back {parts + weight:,} parts of"
                    f" allocations, and rules version {transaction.rules.version} allows {limits.released_parts:,} a"
                    " record: release it with another record"
                )
                continue
            parts += weight
        fold_release(transaction, release)


def fold_claim(transaction: Transaction, claim: Claim, *, replaces: bool = False) -> None:
    """Judge one claim. Write its verdict and, if it is accepted, its allocation.

    A claim that comes after its deadline is dropped without a verdict: its scheduler sees from log time that it was late.
    A repeated claim changes nothing. A claim with a known id and other content is a dead letter.
    """
    key = transaction.key(claim.id)
    known = transaction.get(VERDICTS, key)
    if known is not None and known.offset >= 0:
        if not has_fingerprint(claim, known.fingerprint):
            transaction.dead.append(
                f"claim {claim.id} was made before with other content, at offset {known.offset}"
            )
        return
    if claim.deadline_ms < transaction.time_ms:
        return
    held = transaction.get(ALLOCATIONS, transaction.key(claim.consumer))
    standing: Claim | Rejection = claim
    if replaces and transaction.rules.keeps_grants:
        standing = stays_in_groups(transaction, claim, held)
    outcome: Acceptance | Rejection
    if known is not None:
        outcome = Rejection(CANCELLED, taken=known.taken)
    elif isinstance(standing, Rejection):
        outcome = standing
    else:
        outcome = _judge(transaction, standing, held, replaces=replaces)
    _write_verdict(transaction, claim, key, outcome)
    if isinstance(outcome, Acceptance) and not isinstance(standing, Rejection):
        write_allocation(transaction, standing, outcome, held)


def _judge(
    transaction: Transaction, claim: Claim, held: AllocationRow | None, *, replaces: bool
) -> Acceptance | Rejection:
    if replaces:
        if held is None:
            return Rejection("consumer_unknown")
        if isinstance(claim, Replacement) and claim.replaces != held.claim:
            return Rejection("consumer_changed", available=held.generation, taken=held.offset)
    elif held is not None:
        return Rejection("consumer_exists", available=held.generation, taken=held.offset)
    try:
        if held is not None and transaction.rules.keeps_grants:
            outcome = judge_move(transaction, claim, held)
        else:
            outcome = judge(transaction, claim, held)
        if claim.memberships and isinstance(outcome, Acceptance):
            outcome = check_memberships(transaction, claim) or outcome
        if isinstance(outcome, Acceptance) and transaction.rules.counts_quotas:
            outcome = judge_quotas(transaction, claim, held, outcome)
    except RecordFull as full:
        return Rejection("record_full", asked=full.reads, available=transaction.rules.limits.claim_reads)
    return outcome


def fold_release(transaction: Transaction, release: Release) -> None:
    """Release the allocation of a claim. If the claim is not in the log yet, cancel it instead."""
    key = transaction.key(release.consumer)
    held = transaction.get(ALLOCATIONS, key)
    if held is not None and held.claim == release.claim:
        _end_allocation(transaction, release.consumer, held)
        if held.hold_until_ms:
            transaction.delete(DEADLINES, deadline_key(held.hold_until_ms, HOLD, key))
        return
    deadline_ms = release.deadline_ms
    claim_key = transaction.key(release.claim)
    if (
        deadline_ms is None
        or deadline_ms < transaction.time_ms
        or transaction.get(VERDICTS, claim_key) is not None
    ):
        return
    deadline_ms = min(deadline_ms, transaction.time_ms + DEADLINE_AHEAD_MS_MAX)
    row = VerdictRow(False, CANCELLED, -1, deadline_ms, b"", release.consumer, taken=transaction.offset)
    transaction.put(VERDICTS, claim_key, row)
    transaction.put(DEADLINES, deadline_key(deadline_ms, VERDICT, claim_key), b"")


def fold_confirmed(transaction: Transaction, data: ConsumerRef) -> None:
    """Confirm an allocation: it no longer ends at `hold_until_ms`."""
    key = transaction.key(data.consumer)
    held = transaction.get(ALLOCATIONS, key)
    if held is not None and held.claim == data.claim and held.hold_until_ms:
        transaction.delete(DEADLINES, deadline_key(held.hold_until_ms, HOLD, key))
        transaction.put(ALLOCATIONS, key, replace(held, hold_until_ms=0))


def expire_hold(transaction: Transaction, at_ms: int, key: bytes) -> None:
    """End an allocation that was not confirmed in time."""
    held = transaction.get(ALLOCATIONS, key)
    if held is None or held.hold_until_ms != at_ms:
        return
    transaction.ended += parts_weight(held, transaction.rules.limits.group_weight)
    cell, consumer = split_key(key)
    _end_allocation(transaction.in_cell(cell), consumer, held)


def _end_allocation(transaction: Transaction, consumer: str, held: AllocationRow) -> None:
    """Give back what a consumer of the transaction's cell holds, and delete all rows that are about it but its deadline."""
    key = transaction.key(consumer)
    rows: Rows = {}
    give_back(transaction, held.parts, rows)
    write_rows(transaction, rows)
    if transaction.rules.counts_quotas:
        count_ended(transaction, key, held)
    _forget_consumer(transaction, consumer, held)


def end_consumer(transaction: Transaction, consumer: str, held: AllocationRow) -> None:
    """Delete all rows that are about what a consumer holds, its deadline too. The caller gives it back and counts it."""
    _forget_consumer(transaction, consumer, held)
    if held.hold_until_ms:
        key = transaction.key(consumer)
        transaction.delete(DEADLINES, deadline_key(held.hold_until_ms, HOLD, key))


def _forget_consumer(transaction: Transaction, consumer: str, held: AllocationRow) -> None:
    key = transaction.key(consumer)
    transaction.delete(ALLOCATIONS, key)
    if transaction.rules.keeps_grants:
        forget_asks(transaction, key, held)
    if held.groups:
        remove_member(transaction, consumer, held.groups)


def expire_verdict(transaction: Transaction, at_ms: int, key: bytes) -> None:
    """Delete a verdict. It was readable until its claim's deadline."""
    verdict = transaction.get(VERDICTS, key)
    # A claim that comes after its cancellation replaces the verdict row, but not the deadline of the cancellation.
    if verdict is not None and verdict.deadline_ms == at_ms:
        transaction.delete(VERDICTS, key)


def _write_verdict(
    transaction: Transaction, claim: Claim, key: bytes, outcome: Acceptance | Rejection
) -> None:
    fingerprint = transaction.rules.fingerprint(claim)
    deadline_ms = min(claim.deadline_ms, transaction.time_ms + DEADLINE_AHEAD_MS_MAX)
    if isinstance(outcome, Acceptance):
        particular = granted_by_name(outcome.parts)
        row = VerdictRow(
            True, "", transaction.offset, deadline_ms, fingerprint, claim.consumer, grants=particular
        )
    else:
        outcome = bounded_rejection(outcome)
        row = VerdictRow(
            False, outcome[0], transaction.offset, deadline_ms, fingerprint, claim.consumer, *outcome[1:]
        )
    transaction.put(VERDICTS, key, row)
    transaction.put(DEADLINES, deadline_key(deadline_ms, VERDICT, key), b"")


def bounded_rejection(outcome: Rejection) -> Rejection:
    """A rejection that a row can hold."""
    return outcome._replace(asked=_bounded(outcome.asked), available=_bounded(outcome.available))


def _bounded(amount: int) -> int:
    """The amount within the range that a row can hold: an ask may have any number of digits."""
    return max(-AMOUNT_MAX, min(amount, AMOUNT_MAX))


def write_allocation(
    transaction: Transaction, claim: Claim, accepted: Acceptance, before: AllocationRow | None
) -> None:
    """Write what the claim got, in place of what its consumer had before."""
    write_rows(transaction, accepted.rows)
    key = transaction.key(claim.consumer)
    if accepted.counted is not None:
        count_accepted(transaction, key, accepted.counted)
    if transaction.rules.keeps_grants:
        keep_asks(transaction, claim, accepted.parts, had=before is not None)
    if before is not None and before.hold_until_ms:
        transaction.delete(DEADLINES, deadline_key(before.hold_until_ms, HOLD, key))
    row = AllocationRow(
        claim=claim.id,
        generation=before.generation + 1 if before else 1,
        consumer_type=claim.consumer_type,
        project=claim.project,
        user=claim.user,
        request=claim.request,
        parts=accepted.parts,
        offset=transaction.offset,
        hold_until_ms=claim.hold_until_ms or 0,
        groups=tuple(group_name(one.group) for one in claim.memberships) if claim.memberships else (),
    )
    if before is not None and before.groups:
        remove_member(transaction, claim.consumer, before.groups)
    if claim.memberships:
        add_member(transaction, claim)
    transaction.put(ALLOCATIONS, key, row)
    if claim.hold_until_ms:
        transaction.put(DEADLINES, deadline_key(claim.hold_until_ms, HOLD, key), b"")


def write_rows(transaction: Transaction, rows: Rows) -> None:
    """Write class rows. The row of a withdrawn class is deleted together with its last allocation."""
    for (table, provider), row in rows.items():
        if row.reported or table.resource_class.in_use(row.record):
            transaction.put_class_row(table, provider, row)
        else:
            transaction.delete_class_row(table, provider)
            _drop_class(transaction, provider, table.name)


def _drop_class(transaction: Transaction, provider: str, name: str) -> None:
    row = transaction.provider(provider)
    if row is None:
        return
    classes = tuple(other for other in row.classes if other != name)
    if classes or row.reported or len(row.members) > 1:
        transaction.put(
            PROVIDERS, transaction.key(provider), replace(row, classes=classes, changed=transaction.offset)
        )
        return
    transaction.delete(PROVIDERS, transaction.key(provider))
    if row.root != provider:
        leave_tree(transaction, row.root, provider)
