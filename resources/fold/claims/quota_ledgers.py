"""The ledger of a limit: how it is divided over the partitions. It lives in the partition of the limit's id.

A share of a partition changes in numbered steps, and every step can come again without effect:

* more: the ledger gives it (`quota.share.planned`), then the partition takes it (`quota.share.set`);
* less: the ledger recalls it (`quota.share.planned`), the partition lowers its share (`quota.share.set`), and the ledger
  books what came back (`quota.share.settled`): what the partition does not hold.

So what a partition has or holds is never more than its ledger says, and the sum of the ledger never grows above the limit.
Where the limit is lowered below the sum, nothing is given until enough was recalled. Who finds a step that is not done, does it:
the number and the amount are in the ledger.

At first a partition has no limit. Such a share is more than any amount: it is recalled to 0, so that the ledger
books what is held there, and while there is one, no other share of the limit is raised.

The projects above projects have one ledger together, in the partition of `PARENTS_ID`. It decides which parent a project
has (`quota.parent.planned`); then each partition counts the project for it (`quota.parent.set`).
"""

from __future__ import annotations

from hashlib import sha256

from msgspec.structs import replace

from vacancy.resources.fold.claims.quotas import is_less
from vacancy.resources.fold.operator_settings import REVISIONS_KEPT
from vacancy.resources.model.errors import InvalidRecord
from vacancy.resources.model.events import QuotaLimitData, QuotaParentData, QuotaPlanData, QuotaScope
from vacancy.resources.state.rows import UNLIMITED, LedgerShare, QuotaLimitRow, QuotaParentRow
from vacancy.resources.state.tables import QUOTA_LIMITS, QUOTA_PARENTS, quota_key
from vacancy.resources.state.transaction import Transaction

PARENTS_ID = "quota-parents"
"""The key of the events that decide which projects are above others."""


def quota_limit_id(scope: QuotaScope) -> str:
    """The id of a limit. Its ledger is in the partition of this id, and the key of the ledger's events is this id."""
    text = f"{scope.consumer_type}\0{scope.unit}\0".encode() + quota_key(scope.project, scope.user)
    return f"quota-{sha256(text).hexdigest()[:32]}"


def fold_limit_set(transaction: Transaction, event_id: str, data: QuotaLimitData) -> None:
    """Set a limit, unless another operator has set this revision already."""
    key = _key(transaction, data)
    old = transaction.get(QUOTA_LIMITS, key)
    revision, known = (0, ()) if old is None else (old.revision, old.events)
    if not _follows(f"the limit {_text(data)}", data.revision, event_id, revision, known):
        return
    row = QuotaLimitRow(
        data.project,
        data.user,
        data.consumer_type,
        data.unit,
        data.limit,
        data.revision,
        (event_id, *known)[:REVISIONS_KEPT],
        data.by_default,
        () if old is None else old.shares,
    )
    transaction.put(QUOTA_LIMITS, key, row)


def fold_parent_planned(transaction: Transaction, event_id: str, data: QuotaParentData) -> None:
    """Decide which project is above a project, '' for none. A parent has no parent itself, so there are no cycles."""
    if transaction.cell != PARENTS_ID:
        raise InvalidRecord(f"the record's key {transaction.cell} is not that of the parents, {PARENTS_ID}")
    row = _parents(transaction, data.project)
    whose = f"the parent of project {data.project}"
    if not _follows(
        whose, data.revision, event_id, row.revision, row.events, f", {row.parent or 'no parent'}"
    ):
        return
    if data.parent and (
        data.parent == data.project or row.children or _parents(transaction, data.parent).parent
    ):
        raise InvalidRecord(
            f"project {data.parent} cannot be the parent of {data.project}: a parent has no parent itself"
        )
    events = (event_id, *row.events)[:REVISIONS_KEPT]
    after = replace(row, parent=data.parent, revision=data.revision, events=events)
    transaction.put(QUOTA_PARENTS, data.project.encode(), after)
    for parent, change in ((row.parent, -1), (data.parent, 1)):
        if parent:
            above = _parents(transaction, parent)
            transaction.put(QUOTA_PARENTS, parent.encode(), replace(above, children=above.children + change))


def _parents(transaction: Transaction, project: str) -> QuotaParentRow:
    return transaction.get(QUOTA_PARENTS, project.encode()) or QuotaParentRow()


def _follows(
    what: str, revision: int, event_id: str, last: int, events: tuple[str, ...], last_text: str = ""
) -> bool:
    """Whether a revision is the next one: False for the same event again. Raises `InvalidRecord`."""
    if revision <= last:
        if last - revision < len(events) and events[last - revision] != event_id:
            raise InvalidRecord(
                f"{what}: revision {revision} was set by someone else; {last} is the last{last_text}"
            )
        return False
    if revision != last + 1:
        raise InvalidRecord(f"{what}: revision {revision} does not follow {last}")
    return True


def _planned(share: LedgerShare) -> int:
    return share.amount if share.recalled < 0 else share.recalled


def fold_share_planned(transaction: Transaction, data: QuotaPlanData) -> None:
    """Give a partition more of a limit, or recall some of its share."""
    key, row = _ledger(transaction, data)
    if data.partition >= transaction.partition.partitions or not data.project:
        raise InvalidRecord(f"partition {data.partition} has no share of the limit {_text(data)}")
    share = _share(row, data.partition)
    if data.number <= share.number:
        if data.number == share.number and data.amount == _planned(share):
            return
        raise InvalidRecord(f"{_share_text(data)} was changed before, by change {share.number}")
    if data.number != share.number + 1 or share.recalled >= 0:
        why = "is not settled" if share.recalled >= 0 else "is the last"
        raise InvalidRecord(f"{_share_text(data)} cannot follow: change {share.number} {why}")
    if is_less(data.amount, share.amount):
        if share.amount == UNLIMITED and data.amount:
            raise InvalidRecord(
                f"{_share_text(data)} is {data.amount}: a share without a limit is recalled to 0"
            )
        changed = LedgerShare(data.partition, data.number, share.amount, data.amount)
    else:
        _check_sum(row, data, transaction.partition.partitions)
        changed = LedgerShare(data.partition, data.number, data.amount)
    _put_share(transaction, key, row, changed)


def fold_share_settled(transaction: Transaction, data: QuotaPlanData) -> None:
    """Book what came back after a recall: the partition's share is `amount` now."""
    key, row = _ledger(transaction, data)
    share = _share(row, data.partition)
    if (data.number, data.amount, share.recalled) == (share.number, share.amount, -1):
        return
    if data.number < share.number:
        return
    back = share.recalled >= 0 and data.amount >= share.recalled and not is_less(share.amount, data.amount)
    if data.number != share.number or not back:
        raise InvalidRecord(f"{_share_text(data)} settles nothing that was recalled")
    _put_share(transaction, key, row, LedgerShare(data.partition, data.number, data.amount))


def _check_sum(row: QuotaLimitRow, data: QuotaPlanData, partitions: int) -> None:
    """Raise `InvalidRecord` where the shares would exceed the limit. A share without a limit needs a limit that is none."""
    if row.limit == UNLIMITED:
        return
    others = [one.amount for one in row.shares if one.partition != data.partition]
    without = partitions - 1 - len(others) + others.count(UNLIMITED)
    if without:
        raise InvalidRecord(
            f"{_share_text(data)} cannot be given: {without} other partitions have no limit yet"
        )
    if data.amount == UNLIMITED or sum(others) + data.amount > row.limit:
        raise InvalidRecord(
            f"{_share_text(data)} is {data.amount}, others have {sum(others)}, and the limit is {row.limit}"
        )


def _ledger(transaction: Transaction, data: QuotaScope) -> tuple[bytes, QuotaLimitRow]:
    key = _key(transaction, data)
    row = transaction.get(QUOTA_LIMITS, key)
    if row is None:
        raise InvalidRecord(f"there is no limit {_text(data)}")
    return key, row


def _key(transaction: Transaction, data: QuotaScope) -> bytes:
    id_ = quota_limit_id(data)
    if transaction.cell != id_:
        raise InvalidRecord(
            f"the record's key {transaction.cell} is not the id of the limit {_text(data)}, {id_}"
        )
    return id_.encode()


def _share(row: QuotaLimitRow, partition: int) -> LedgerShare:
    return next(
        (one for one in row.shares if one.partition == partition), LedgerShare(partition, 0, UNLIMITED)
    )


def _put_share(transaction: Transaction, key: bytes, row: QuotaLimitRow, share: LedgerShare) -> None:
    others = (one for one in row.shares if one.partition != share.partition)
    transaction.put(QUOTA_LIMITS, key, replace(row, shares=tuple(sorted((*others, share)))))


def _share_text(data: QuotaPlanData) -> str:
    return f"change {data.number} of the share of partition {data.partition} of the limit {_text(data)}"


def _text(data: QuotaScope) -> str:
    scope = f"project {data.project or 'default'}" + (
        "" if data.user is None else f" user {data.user or 'default'}"
    )
    return f"of {data.unit} for {scope}" + (f" type {data.consumer_type}" if data.consumer_type else "")
