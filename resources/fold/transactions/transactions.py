"""The event `transaction.requested`: it is judged whole, at its place in the log, and its verdict is recorded as that of a claim.

Everything is tried in order on the changes of the record, and undone at the first thing that fails: names, what must be true of
providers and consumers, places and names of providers, what consumers give back, inventories, what consumers get, inventories that
go, providers that go. So only the state at the end must be sound: a transaction may move what is held between inventories of which
some are new and others go.
"""

from __future__ import annotations

from vacancy.resources.fold.claims.claims import CANCELLED, VERDICT, bounded_rejection
from vacancy.resources.fold.claims.judge import DEADLINE_AHEAD_MS_MAX, Rejection
from vacancy.resources.fold.nodes.cell_names import count_names
from vacancy.resources.fold.nodes.withdrawals import (
    is_withdrawing,
    settle_class,
    settle_leaving,
    settle_provider,
)
from vacancy.resources.fold.transactions.allocations import Grants, holders_of
from vacancy.resources.fold.transactions.names import change_name
from vacancy.resources.fold.transactions.providers import (
    Dropped,
    change_provider,
    check_provider,
    delete_provider,
    drop_inventories,
    set_inventories,
)
from vacancy.resources.fold.transactions.refusal import Refused, invalid
from vacancy.resources.model.encoding.canonical_bytes import transaction_fingerprint
from vacancy.resources.model.errors import InvalidRecord
from vacancy.resources.model.transactions import TransactionData
from vacancy.resources.state.rows import AllocationPart, VerdictRow, granted_by_name
from vacancy.resources.state.tables import ALLOCATIONS, DEADLINES, VERDICTS, deadline_key
from vacancy.resources.state.transaction import RecordFull, Transaction


def fold_transaction(transaction: Transaction, data: TransactionData) -> None:
    """Do all of a transaction, or nothing, and write its verdict.

    As with claims: one that comes after its deadline is dropped without a verdict, a repeated one changes nothing, and one with a
    known id and other content is a dead letter.
    """
    key = transaction.key(data.id)
    known = transaction.get(VERDICTS, key)
    fingerprint = transaction_fingerprint(data)
    if known is not None and known.offset >= 0:
        if known.fingerprint != fingerprint:
            raise InvalidRecord(
                f"transaction {data.id} was made before with other content, at offset {known.offset}"
            )
        return
    if data.deadline_ms < transaction.time_ms:
        return
    deadline_ms = min(data.deadline_ms, transaction.time_ms + DEADLINE_AHEAD_MS_MAX)
    refused = Refused(Rejection(CANCELLED, taken=known.taken)) if known is not None else None
    parts: tuple[AllocationPart, ...] = ()
    if refused is None:
        outcome = _try(transaction, data)
        if isinstance(outcome, Refused):
            refused = outcome
        else:
            parts = outcome
    row = VerdictRow(True, "", transaction.offset, deadline_ms, fingerprint, grants=granted_by_name(parts))
    if refused is not None:
        transaction.raises = {}
        why = bounded_rejection(refused.rejection)
        row = VerdictRow(
            False, why[0], transaction.offset, deadline_ms, fingerprint, refused.consumer, *why[1:]
        )
    transaction.put(VERDICTS, key, row)
    transaction.put(DEADLINES, deadline_key(deadline_ms, VERDICT, key), b"")


def _try(transaction: Transaction, data: TransactionData) -> tuple[AllocationPart, ...] | Refused:
    """Do all of it, or undo what was done and return why not."""
    if data.deadline_ms > transaction.time_ms + DEADLINE_AHEAD_MS_MAX:
        return Refused(
            Rejection(
                "deadline_too_far",
                asked=data.deadline_ms - transaction.time_ms,
                available=DEADLINE_AHEAD_MS_MAX,
            )
        )
    try:
        _settle_withdrawn(transaction, data)
    except InvalidRecord as error:
        return invalid(error.what)
    before, counted = transaction.savepoint(), dict(transaction.trees.counted)
    try:
        return _apply(transaction, data)
    except Refused as error:
        refused = error
    except InvalidRecord as error:
        refused = invalid(error.what)
    except RecordFull as full:
        limit = transaction.rules.limits.claim_reads
        refused = Refused(Rejection("record_full", asked=full.reads, available=limit))
    transaction.roll_back(before)
    transaction.trees.counted = counted
    return refused


def _settle_withdrawn(transaction: Transaction, data: TransactionData) -> None:
    """Withdraw what is still to be withdrawn of what the transaction is about. This stays also if it is refused. Raises
    `InvalidRecord` if the record would withdraw too much."""
    if not is_withdrawing(transaction):
        return
    for change in data.providers:
        settle_leaving(transaction, change.provider)
        settle_provider(transaction, change.provider)
    parts = 0
    for consumer in data.consumers:
        held = transaction.get(ALLOCATIONS, transaction.key(consumer.consumer))
        parts += 0 if held is None else len(held.parts)
        if parts > transaction.rules.limits.released_parts:
            return  # it will be refused
        for part in held.parts if held is not None else ():
            settle_class(transaction, part.provider, part.resource_class)
        for provider, resources in consumer.allocations.items():
            for name in resources:
                settle_class(transaction, provider, name)


def _apply(transaction: Transaction, data: TransactionData) -> tuple[AllocationPart, ...]:
    """Do all of it. Raises `Refused`, `InvalidRecord` and `RecordFull`; then the caller undoes what was done."""
    for name in data.names:
        change_name(transaction, name)
    for change in data.providers:
        check_provider(transaction, change)
    holders = holders_of(transaction, data)
    for change in data.providers:
        if change.op != "delete":
            change_provider(transaction, data.id, change)
    grants = Grants(transaction, holders)
    grants.give_back()
    dropped: Dropped = []
    for change in data.providers:
        if change.inventories is not None and change.op != "delete":
            dropped += set_inventories(transaction, change.provider, change.inventories, grants.rows)
    if data.providers:
        count_names(transaction, limited=True)
    grants.grant()
    drop_inventories(transaction, dropped, grants.rows)
    for change in data.providers:
        if change.op == "delete":
            delete_provider(transaction, data.id, change.provider, grants.rows)
    transaction.raises = {
        transaction.key(change.provider): change.raises for change in data.providers if change.raises
    }
    return grants.write()
