"""Submit transactions: append the event, and wait until this host's tables have it and its verdict."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Final, NamedTuple
from uuid import uuid4

from pydantic import ValidationError

from vacancy.clients.runtime.folded_log import RecordRefused, SameLogCheck, refusal_of
from vacancy.clients.scheduler.log_time import LogTime
from vacancy.clients.scheduler.needed_rules import check_rules
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.fold.log_time import LEAP_MS_MAX
from vacancy.resources.model.encoding.canonical_bytes import transaction_fingerprint
from vacancy.resources.model.errors import LogUnavailable, OutcomeUnknown, UsageError
from vacancy.resources.model.events import TransactionRequested, encode
from vacancy.resources.model.partitioner import partition_for
from vacancy.resources.model.record import NewRecord
from vacancy.resources.model.transactions import (
    ConsumerChange,
    NameChange,
    ProviderChange,
    TransactionData,
)
from vacancy.resources.state.rows import VerdictRow
from vacancy.resources.state.tables import VERDICTS, key
from vacancy.streams.log import AppendedAt, Log

LATE: Final = "late"
"""The reason of a transaction that came after its deadline. The log has no verdict of it."""

_DEADLINE_MS: Final = 60_000
"""The time from the present in log time to the deadline of a transaction, beside the timeout."""

_AGAIN: Final = "submit it again with the same id within a minute: it is done once"

_POLL_S: Final = 0.0005
_POLL_MAX_S: Final = 0.01


class TransactionOutcome(NamedTuple):
    """How a transaction was judged. The fields from `reason` to `other` say which precondition failed, as those of a verdict
    (`rows.VerdictRow`): `taken` is the offset of the event that broke it, -1 if it is not known. `offset` is its place in the log, and
    `position` (partition -> next offset) one at which the tables have it."""

    id: str
    accepted: bool
    offset: int
    position: Mapping[int, int]
    reason: str = ""
    consumer: str = ""
    provider: str = ""
    resource_class: str = ""
    asked: int = 0
    available: int = 0
    taken: int = -1
    group: str = ""
    other: str = ""


class TransactionClient:
    """Submits transactions for one cell. `reader` is of a store on this host, and is caught up past each of them: who reads it
    after `submit` sees what was done. Any thread may call it; there is one transaction at a time.
    """

    def __init__(self, log: Log, reader: StoreReader, *, cell: str, source: str = "/transactions") -> None:
        self._log, self._reader, self._cell, self._source = log, reader, cell, source
        self._partition = partition_for(cell.encode(), log.partitions)
        self._lock = Lock()
        self._same_log = SameLogCheck(log, reader)
        self._log_time = LogTime(log, reader, self._same_log)
        self._unknown: tuple[str, int] | None = None
        """The id and the deadline of the last transaction whose outcome is not known: it is sent again as it was."""

    def submit(
        self,
        *,
        names: Sequence[NameChange] = (),
        providers: Sequence[ProviderChange] = (),
        consumers: Sequence[ConsumerChange] = (),
        transaction_id: str | None = None,
        timeout_s: float = 10.0,
    ) -> TransactionOutcome:
        """Do all of this, or nothing. `transaction_id` is made here where none is given.

        Submitted again with the same id and content, it is done once, and the outcome is that of the first time. The tables
        keep that for a minute of log time. Later, look at what it should have changed before you try again.

        Raises `LogUnavailable` where the log does not answer: it does not have the transaction, and never will. Raises
        `OutcomeUnknown` where the log may have it, and the tables did not show it within `timeout_s`; `RecordRefused` where the
        fold did not judge it; `UsageError` for what is invalid, and where the log's rules have no transactions.
        """
        with self._lock:
            give_up_at = time.monotonic() + timeout_s
            self._same_log.check(timeout_s)
            self._check_rules()
            self._log_time.bring_up(_left_s(give_up_at))
            data = self._data(transaction_id or uuid4().hex, names, providers, consumers, timeout_s)
            known = None if transaction_id is None else self._known(data)
            if known is not None:
                return known
            event = TransactionRequested(id=uuid4().hex, source=self._source, data=data)
            receipt = self._log.send([NewRecord(self._cell, encode(event))], _left_s(give_up_at))
            sent = data.id, data.deadline_ms
            again, self._unknown = sent == self._unknown, sent
            try:
                (at,) = receipt.wait(_left_s(give_up_at))
            except LogUnavailable as error:
                raise OutcomeUnknown(
                    f"the log did not report whether it has transaction {data.id}: {error.what}",
                    where=error.where,
                    do=_AGAIN,
                ) from error
            self._wait_for(data, at, give_up_at)
            self._unknown = None
            return self._outcome(data, at, again=again)

    def _check_rules(self) -> None:
        if not self._reader.takes(self._partition, TransactionRequested):
            self._reader.catch_up()
        if not self._reader.takes(self._partition, TransactionRequested):
            check_rules(self._reader, lambda rules: rules.has_transactions, "transactions need")

    def _data(
        self,
        id_: str,
        names: Sequence[NameChange],
        providers: Sequence[ProviderChange],
        consumers: Sequence[ConsumerChange],
        timeout_s: float,
    ) -> TransactionData:
        log_ms = self._reader.log_time_ms(self._partition)
        now_ms = max(log_ms, min(self._log_time.clock.now_ms(), log_ms + LEAP_MS_MAX))
        deadline_ms = now_ms + int(timeout_s * 1000) + _DEADLINE_MS
        if self._unknown is not None and self._unknown[0] == id_:
            deadline_ms = self._unknown[1]
        try:
            return TransactionData(
                id=id_,
                deadline_ms=deadline_ms,
                names=tuple(names),
                providers=tuple(providers),
                consumers=tuple(consumers),
            )
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            raise UsageError(
                f"the transaction is invalid: {first['msg']}", where=".".join(map(str, first["loc"]))
            ) from None

    def _known(self, data: TransactionData) -> TransactionOutcome | None:
        """The outcome of this transaction, if the tables have one of the same content."""
        self._reader.catch_up()
        row = self._reader.get(VERDICTS, key(self._cell, data.id))
        if row is None or row.offset < 0 or not _is_of(row, data):
            return None
        return _outcome(data.id, row, self._reader.position)

    def _outcome(self, data: TransactionData, at: AppendedAt, *, again: bool) -> TransactionOutcome:
        """Read the verdict of a record that the tables have. `again`: an earlier record has perhaps the same content."""
        row = self._reader.get(VERDICTS, key(self._cell, data.id))
        position = self._reader.position
        if row is not None and (row.offset == at.offset or (row.offset >= 0 and _is_of(row, data))):
            return _outcome(data.id, row, position)
        reason = refusal_of(self._reader, at)
        if reason is not None:
            raise RecordRefused(f"transaction {data.id}", reason, at)
        if again or at.timestamp_ms <= data.deadline_ms:
            raise OutcomeUnknown(
                f"not known: the tables no longer have the verdict of transaction {data.id}",
                where=f"{self._reader.path}, partition {at.partition}, offset {at.offset}",
                do="look at what it should have changed before you try again",
            )
        return TransactionOutcome(data.id, False, at.offset, position, LATE)

    def _wait_for(self, data: TransactionData, at: AppendedAt, give_up_at: float) -> None:
        pause_s = _POLL_S
        while True:
            self._reader.follow()
            if self._reader.position.get(at.partition, 0) > at.offset:
                self._reader.catch_up()  # rows of tables that are not fed, too
                if self._reader.position.get(at.partition, 0) > at.offset:
                    return
            if time.monotonic() > give_up_at:
                raise OutcomeUnknown(
                    f"not known yet: the log has transaction {data.id}, but the store has not read that far",
                    where=f"{self._reader.path}, partition {at.partition}, offset {at.offset}",
                    do=f"check that `vacancy worker` runs, then {_AGAIN}",
                )
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, _POLL_MAX_S)


def _left_s(give_up_at: float) -> float:
    return max(0.0, give_up_at - time.monotonic())


def _is_of(row: VerdictRow, data: TransactionData) -> bool:
    """Whether a verdict is of a transaction of this content, whatever its deadline was."""
    content = data.model_copy(update={"deadline_ms": row.deadline_ms})
    return row.fingerprint == transaction_fingerprint(content)


def _outcome(id_: str, row: VerdictRow, position: Mapping[int, int]) -> TransactionOutcome:
    return TransactionOutcome(
        id_,
        row.accepted,
        row.offset,
        position,
        row.reason,
        row.consumer,
        row.provider,
        row.resource_class,
        row.asked,
        row.available,
        row.taken,
        row.group,
        row.other,
    )
