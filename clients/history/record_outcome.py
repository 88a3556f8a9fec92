"""What the fold made of one record, as far as the tables of a store still say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vacancy.clients.history.record_view import parse_event
from vacancy.clients.history.row_changes import rejection_text
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.model import events
from vacancy.resources.model.errors import InvalidRecord
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import Record
from vacancy.resources.state.tables import (
    DEAD_LETTERS,
    DEAD_LETTERS_MAX,
    PARTITION,
    PARTITION_KEY,
    VERDICTS,
)


@dataclass(frozen=True, slots=True)
class ClaimOutcome:
    """How a claim of a record was judged. `accepted` None: the tables have no verdict of it from this record, because its
    deadline has passed since, it came after it, or it was judged at another record. `reason` is one line for people."""

    claim: str
    consumer: str
    accepted: bool | None
    reason: str


@dataclass(frozen=True, slots=True)
class RecordOutcome:
    """What the fold made of a record. `state`: `waiting` is not folded by this store yet; `refused` is a dead letter, as a whole
    or in part, for `reasons`; `applied` is neither; `unknown` is so old that the tables no longer keep its dead letter, if
    there was one."""

    state: Literal["applied", "refused", "waiting", "unknown"]
    reasons: tuple[str, ...] = ()
    claims: tuple[ClaimOutcome, ...] = ()


def record_outcome(reader: StoreReader, record: Record) -> RecordOutcome:
    """What the fold made of a record, as far as the store's tables say. Raises `StoreError`."""
    reader.catch_up()
    if reader.position.get(record.partition, 0) <= record.offset:
        return RecordOutcome("waiting")
    letters = [DEAD_LETTERS.decode(row) for _, row in reader.raw(record.partition, DEAD_LETTERS.family)]
    reasons = tuple(row.reason for row in letters if row.offset == record.offset)
    if reasons:
        return RecordOutcome("refused", reasons, tuple(_claims(reader, record)))
    here = covering_cells(reader.manifest.partitions)[record.partition]
    partition = reader.get(PARTITION, PARTITION_KEY, cell=here)
    lost = partition is not None and partition.dead_letters > DEAD_LETTERS_MAX
    if lost and record.offset <= min(row.offset for row in letters):
        return RecordOutcome("unknown", claims=tuple(_claims(reader, record)))
    return RecordOutcome("applied", claims=tuple(_claims(reader, record)))


def _claims(reader: StoreReader, record: Record) -> list[ClaimOutcome]:
    try:
        event = parse_event(record.value)
    except InvalidRecord:
        return []
    return [_claim(reader, record, claim) for claim in events.claims_of(event)]


def _claim(reader: StoreReader, record: Record, claim: events.Claim) -> ClaimOutcome:
    place = record.key + b"\0" + claim.id.encode()
    row = reader.get(VERDICTS, place)
    if row is None:
        reason = "no verdict is kept: it is kept until the deadline of the claim"
        return ClaimOutcome(claim.id, claim.consumer, None, reason)
    if row.offset != record.offset:
        return ClaimOutcome(claim.id, claim.consumer, None, f"it was judged at offset {row.offset}")
    reason = "" if row.accepted else rejection_text(row)
    return ClaimOutcome(claim.id, claim.consumer, row.accepted, reason)
