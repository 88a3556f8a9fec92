"""Quotas in a partition: what each project and each user holds, and the share of a limit that it may hold here.

What is held is always counted, for each project and for each user that is not '-', whether there is a limit or not. So a
limit that is set later is right at once for what is held already, and no record ever has to count allocations. The row of
a project counts the projects below it too; a project has at most one parent, and a parent has none.

A log that was raised from rules without quotas has allocations that were not counted: those before
`PartitionRow.quotas_from`. What is not counted is not subtracted where it ends. `fold_counted` counts it later: then the row
in `QUOTA_AMOUNTS` says how much, and marks it as counted.

A limit over all partitions is divided into shares (`fold.claims.quota_ledgers`). A claim is judged by the share of its own
partition, after everything else: it is rejected with `over_quota` if it raises an amount above a share. A claim that lowers
what is held, or leaves it as it is, passes also where more is held than the share.

A project that has no share of its own, where the project '' has one (the default), has a share of 0: who meets that
fetches some from the ledger.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from msgspec.structs import replace

from vacancy.resources.fold.claims.judge import Acceptance, Rejection, Rows
from vacancy.resources.fold.record_limits import parts_weight
from vacancy.resources.model.errors import InvalidRecord
from vacancy.resources.model.events import Claim, QuotaCountedData, QuotaParentData, QuotaShareData
from vacancy.resources.model.names import AMOUNT_MAX, unit_name
from vacancy.resources.state.rows import (
    UNLIMITED,
    AllocationPart,
    AllocationRow,
    QuotaRow,
    QuotaShare,
)
from vacancy.resources.state.tables import ALLOCATIONS, QUOTA_AMOUNTS, QUOTAS, quota_key
from vacancy.resources.state.transaction import Transaction

NOBODY = "-"
"""The user of a consumer that names none. No user's row counts it."""

_ENTRIES_READ = 4
"""How many entries of a row count as one in `Limits.claim_reads`, where a transaction changes it."""

_EMPTY = QuotaRow()
_PROJECT_DEFAULTS, _USER_DEFAULTS = quota_key(""), quota_key("", "")
"""The keys of the limits of projects, and of users, that have none of their own."""

Amounts = dict[str, int]
"""Unit -> amount (`unit_name`)."""

Delta = dict[tuple[str, str], int]
"""(consumer type, unit) -> by how much the amount that is held changes."""


Entries = tuple[tuple[str, str, int], ...]
"""(consumer type, unit, amount), sorted, without amounts of 0."""


class Changed(NamedTuple):
    """By how much an event changes what a row counts; `below` is the part of it that projects below this one hold."""

    total: Delta
    below: Delta


class Counted(NamedTuple):
    """What an event changes of what quotas count. `rows` are the rows that count it, by their keys, as they are after it.
    `special` are the amounts of the allocation after it, if its grants alone do not say them. `had_special` is whether there
    are such before it."""

    rows: dict[bytes, QuotaRow]
    special: Amounts | None
    had_special: bool = False


def judge_quotas(
    transaction: Transaction, claim: Claim, held: AllocationRow | None, accepted: Acceptance
) -> Acceptance | Rejection:
    """Judge a claim that fits by the quotas of its project and its user. `held` is what it replaces."""
    amounts, special = _amounts_granted(transaction, accepted)
    if held is None:
        raised = _raised_without_limits(transaction, claim, amounts)
        if raised is not None:
            counted = Counted(raised, amounts if special else None)
            return Acceptance(accepted.parts, accepted.rows, counted)
    deltas: dict[bytes, Changed] = {}
    uncounted: dict[bytes, Changed] = {}
    had_special = False
    _add(transaction, deltas, (claim.project, claim.user, claim.consumer_type), amounts, 1)
    if held is not None:
        account = (held.project, held.user, held.consumer_type)
        before = _amounts_held(transaction, transaction.key(claim.consumer), held)
        if before is None:
            _add(transaction, uncounted, account, _amounts(transaction, held.parts, {})[0], 1)
        else:
            had_special = before[1]
            _add(transaction, deltas, account, before[0], -1)
    rows = _judged(transaction, deltas, uncounted)
    if isinstance(rows, Rejection):
        return rows
    return accepted._replace(counted=Counted(rows, amounts if special else None, had_special))


class AccountChange(NamedTuple):
    """What a transaction changes of one consumer: what it held, and what it holds afterwards (`claim` None: nothing) in `parts`."""

    consumer: str
    held: AllocationRow | None
    claim: Claim | None
    parts: tuple[AllocationPart, ...]


CountedChanges = list[tuple[bytes, Counted]]
"""What several consumers change of what quotas count, by their keys of `ALLOCATIONS`. The first has the rows of all."""


def judge_changes(
    transaction: Transaction, changes: Iterable[AccountChange], rows: Rows
) -> CountedChanges | Rejection:
    """Judge what consumers hold afterwards, all of them together, by the quotas of their projects and users. `rows` are the class
    rows afterwards."""
    changes = list(changes)
    if len(changes) == 1 and changes[0].held is None and (claim := changes[0].claim) is not None:
        amounts, is_special = _amounts_granted(transaction, Acceptance(changes[0].parts, rows))
        raised = _raised_without_limits(transaction, claim, amounts)
        if raised is not None:
            counted = Counted(raised, amounts if is_special else None)
            return [(transaction.key(claim.consumer), counted)]
    deltas: dict[bytes, Changed] = {}
    uncounted: dict[bytes, Changed] = {}
    found: CountedChanges = []
    seen: set[bytes] = set()
    for one in changes:
        key, special, had_special = transaction.key(one.consumer), None, False
        if one.claim is not None:
            _read_rows(transaction, one.claim.project, one.claim.user, seen)
        if one.held is not None:
            _read_rows(transaction, one.held.project, one.held.user, seen)
        if one.claim is not None:
            amounts, is_special = _amounts_granted(transaction, Acceptance(one.parts, rows))
            account = (one.claim.project, one.claim.user, one.claim.consumer_type)
            _add(transaction, deltas, account, amounts, 1)
            special = amounts if is_special else None
        if one.held is not None:
            account = (one.held.project, one.held.user, one.held.consumer_type)
            before = _amounts_held(transaction, key, one.held)
            if before is None:
                _add(transaction, uncounted, account, _amounts(transaction, one.held.parts, {})[0], 1)
            else:
                had_special = before[1]
                _add(transaction, deltas, account, before[0], -1)
        found.append((key, Counted({}, special, had_special)))
    judged = _judged(transaction, deltas, uncounted)
    if isinstance(judged, Rejection):
        return judged
    if found:
        found[0] = (found[0][0], found[0][1]._replace(rows=judged))
    return found


def _read_rows(transaction: Transaction, project: str, user: str, seen: set[bytes]) -> None:
    """Count what is read of the rows that count a consumer (`Limits.claim_reads`): a row once, four of its entries as one. Raises
    `RecordFull`."""
    keys = [quota_key(project), quota_key(project, user)]
    row = transaction.get(QUOTAS, keys[0])
    if row is not None and row.parent:
        keys.append(quota_key(row.parent))
    for key in keys:
        if key not in seen:
            seen.add(key)
            found = transaction.get(QUOTAS, key) or _EMPTY
            transaction.read((_entries(found) + len(found.below)) // _ENTRIES_READ)


def count_changes(transaction: Transaction, counted: CountedChanges) -> None:
    """Count what `judge_changes` allowed."""
    for key, one in counted:
        _apply(transaction, key, one)


def count_accepted(transaction: Transaction, key: bytes, counted: Counted) -> None:
    """Count an accepted claim of the consumer with this key of `ALLOCATIONS`."""
    _apply(transaction, key, counted)


def count_ended(transaction: Transaction, key: bytes, held: AllocationRow) -> None:
    """Count an allocation that ends."""
    counted = _amounts_held(transaction, key, held)
    if counted is None:
        return
    amounts, special = counted
    deltas: dict[bytes, Changed] = {}
    _add(transaction, deltas, (held.project, held.user, held.consumer_type), amounts, -1)
    rows = {
        row_key: _with(transaction.get(QUOTAS, row_key) or _EMPTY, changed)
        for row_key, changed in deltas.items()
    }
    _apply(transaction, key, Counted(rows, None, special))


def change_account(
    transaction: Transaction, key: bytes, held: AllocationRow, after: AllocationRow
) -> Rejection | None:
    """Count a consumer that keeps what it holds for another project, user or type, unless that is over a quota there."""
    counted = _amounts_held(transaction, key, held)
    if counted is None:
        return None
    amounts, special = counted
    deltas: dict[bytes, Changed] = {}
    _add(transaction, deltas, (held.project, held.user, held.consumer_type), amounts, -1)
    _add(transaction, deltas, (after.project, after.user, after.consumer_type), amounts, 1)
    rows = _judged(transaction, deltas)
    if isinstance(rows, Rejection):
        return rows
    _apply(transaction, key, Counted(rows, amounts if special else None, special))
    return None


# -- events -------------------------------------------------------------------------------------------------------


def fold_counted(transaction: Transaction, data: QuotaCountedData) -> None:
    """Count what these consumers hold, as far as it was not counted yet, whatever the limits. A consumer that holds nothing, or
    is counted, changes nothing, so the event can be repeated.

    What is not counted is a dead letter: where a row has no room (`quota_full`), and more parts of allocations than one record
    may count (`Limits.counted_parts`).
    """
    limits = transaction.rules.limits
    parts = 0
    for consumer in data.consumers:
        key = transaction.key(consumer)
        held = transaction.get(ALLOCATIONS, key)
        if held is None or held.offset >= transaction.partition.quotas_from:
            continue
        if transaction.get(QUOTA_AMOUNTS, key) is not None:
            continue
        weight = parts_weight(held, 0)
        if parts and parts + weight > limits.counted_parts:
            transaction.dead.append(
                f"counting {consumer} would make the record count {parts + weight:,} parts of allocations, and rules"
                f" version {transaction.rules.version} allows {limits.counted_parts:,} a record: count it with another"
                " record"
            )
            continue
        parts += weight
        amounts = _amounts(transaction, held.parts, {})[0]
        deltas: dict[bytes, Changed] = {}
        _add(transaction, deltas, (held.project, held.user, held.consumer_type), amounts, 1)
        rows = _judged(transaction, deltas, limited=False)
        if isinstance(rows, Rejection):
            transaction.dead.append(
                f"consumer {consumer} is not counted: {rows.reason}, {rows.group}: {rows.asked:,} asked,"
                f" {rows.available:,} available"
            )
            continue
        _apply(transaction, key, Counted(rows, amounts))


def fold_share_set(transaction: Transaction, data: QuotaShareData) -> None:
    """Set a share in this partition. It may be less than what is held: then nothing more is granted until enough was released.
    An older number changes nothing."""
    key = quota_key(data.project, data.user)
    row = transaction.get(QUOTAS, key) or _EMPTY
    before = _share(row, data.consumer_type, data.unit)
    if before is not None and data.number <= before.number:
        return
    kept = [one for one in row.shares if one is not before]
    new = QuotaShare(data.consumer_type, data.unit, data.amount, data.number)
    after = replace(row, shares=tuple(sorted((*kept, new))))
    if before is None and _entries(after) > transaction.rules.limits.quota_entries:
        raise InvalidRecord(
            f"quotas of {_scope_text(key, '')} have {_entries(after):,} entries, and rules version"
            f" {transaction.rules.version} allows {transaction.rules.limits.quota_entries:,}"
        )
    transaction.put(QUOTAS, key, after)


def fold_parent_set(transaction: Transaction, data: QuotaParentData) -> None:
    """Set the project above a project, as the ledger of parents has it. What it holds counts for the new parent from now on,
    and no longer for the old. What projects below it hold does not: while the partitions follow the ledger, a project may
    have both, and all sums are right at each step."""
    key = quota_key(data.project)
    row = transaction.get(QUOTAS, key) or _EMPTY
    if data.revision <= row.parent_revision:
        if data.revision == row.parent_revision and data.parent != row.parent:
            raise InvalidRecord(
                f"the parent of project {data.project}: revision {data.revision} was set by someone else"
            )
        return
    own = {(kind, unit): amount for kind, unit, amount in row.used}
    for kind, unit, amount in row.below:
        own[kind, unit] -= amount
    if row.parent != data.parent:
        _check_parent(transaction, data, own)
        for parent, sign in ((row.parent, -1), (data.parent, 1)):
            if parent:
                _move_child(transaction, quota_key(parent), own, sign)
    transaction.put(QUOTAS, key, replace(row, parent=data.parent, parent_revision=data.revision))


def _check_parent(transaction: Transaction, data: QuotaParentData, own: Delta) -> None:
    if data.parent == data.project:
        raise InvalidRecord(f"project {data.project} cannot be its own parent")
    above = transaction.get(QUOTAS, quota_key(data.parent)) or _EMPTY
    full = _full(transaction, above, _with(above, Changed(own, {})), own) if data.parent else None
    if full is not None:
        raise InvalidRecord(f"project {data.parent} cannot count {data.project} too: {full.reason}")


def _move_child(transaction: Transaction, key: bytes, own: Delta, sign: int) -> None:
    above = transaction.get(QUOTAS, key) or _EMPTY
    delta = {slot: sign * amount for slot, amount in own.items()}
    after = _with(above, Changed(delta, delta))
    _put(transaction, key, replace(after, children=above.children + sign))


def is_less(amount: int, other: int) -> bool:
    """Whether an amount of a share or a limit is less than another one. No limit is more than any amount."""
    return amount != UNLIMITED and (other == UNLIMITED or amount < other)


# -- amounts ------------------------------------------------------------------------------------------------------


def _amounts_granted(transaction: Transaction, accepted: Acceptance) -> tuple[Amounts, bool]:
    """What an allocation counts, and whether its grants alone do not say that."""
    amounts, special = _amounts(transaction, accepted.parts, accepted.rows)
    return amounts, special and amounts != _amounts(transaction, accepted.parts, None)[0]


def _amounts_held(transaction: Transaction, key: bytes, held: AllocationRow) -> tuple[Amounts, bool] | None:
    """What an allocation counts: what it counted when it was granted, whatever the node has reported since. And whether
    there is a row that says it. None if it is not counted."""
    if held.offset < transaction.partition.quotas_from:
        later = transaction.get(QUOTA_AMOUNTS, key)
        return None if later is None else (later, True)
    amounts, special = _amounts(transaction, held.parts, None)
    row = transaction.get(QUOTA_AMOUNTS, key) if special else None
    return (amounts, False) if row is None else (row, True)


def _amounts(
    transaction: Transaction, parts: Iterable[AllocationPart], rows: Rows | None
) -> tuple[Amounts, bool]:
    """The amounts of grants, and whether those of some depend on the record that gave them."""
    amounts: Amounts = {}
    special = False
    for part in parts:
        name, grant = part.resource_class, part.grant
        if type(grant) is int:
            amounts[name] = amounts.get(name, 0) + grant
            continue
        table = transaction.class_table(name)
        special = special or table.resource_class.amounts_need_record
        row = None if rows is None else rows.get((table, part.provider))
        if row is None and rows is not None:
            row = transaction.class_row(table, part.provider)
        of_grant = table.resource_class.amounts_of(grant, None if row is None else row.record)
        for unit, amount in of_grant.items():
            slot = unit_name(name, unit)
            amounts[slot] = amounts.get(slot, 0) + amount
    return amounts, special


def _add(
    transaction: Transaction,
    deltas: dict[bytes, Changed],
    account: tuple[str, str, str],
    amounts: Mapping[str, int],
    sign: int,
) -> None:
    """Add the amounts of one consumer to what changes in the rows that count it. `account` is its project, user and type."""
    project, user, consumer_type = account
    own = quota_key(project)
    changed: list[Delta] = [deltas.setdefault(own, Changed({}, {})).total]
    row = transaction.get(QUOTAS, own)
    if row is not None and row.parent:
        changed += deltas.setdefault(quota_key(row.parent), Changed({}, {}))
    if user != NOBODY:
        changed.append(deltas.setdefault(quota_key(project, user), Changed({}, {})).total)
    for delta in changed:
        for unit, amount in amounts.items():
            slot = (consumer_type, unit)
            delta[slot] = delta.get(slot, 0) + sign * amount


# -- verdicts -----------------------------------------------------------------------------------------------------


def _judged(
    transaction: Transaction,
    deltas: Mapping[bytes, Changed],
    uncounted: Mapping[bytes, Changed] | None = None,
    *,
    limited: bool = True,
) -> dict[bytes, QuotaRow] | Rejection:
    """The rows after these amounts were added, or why they may not be added. `uncounted` is what ends at the same time, and
    no row has counted: a claim for no more than that is not over a quota. Without `limited`, no share counts."""
    rows = {}
    for key, changed in deltas.items():
        row, delta = transaction.get(QUOTAS, key) or _EMPTY, changed.total
        after = _with(row, changed)
        if after == row:
            continue
        rows[key] = after
        refused = _full(transaction, row, after, delta)
        if refused is not None:
            return refused._replace(group=_scope_text(key, ""))
        if limited:
            ends = uncounted[key].total if uncounted and key in uncounted else {}
            refused = _over_quota(transaction, key, row, delta, ends)
        if refused is not None:
            return refused
    return rows


def _raised_without_limits(
    transaction: Transaction, claim: Claim, amounts: Amounts
) -> dict[bytes, QuotaRow] | None:
    """The rows after a new consumer was added, where nothing limits any of them; else None. It is what `_judged` returns, for
    the claims that are nearly all of them."""
    keys = [(quota_key(claim.project), _PROJECT_DEFAULTS)]
    if claim.user != NOBODY:
        keys.append((quota_key(claim.project, claim.user), _USER_DEFAULTS))
    rows = {}
    for key, defaults in keys:
        row = transaction.get(QUOTAS, key) or _EMPTY
        if row.shares or row.parent or row.children or transaction.get(QUOTAS, defaults) is not None:
            return None
        used = list(row.used)
        for unit, amount in amounts.items():
            slot = (claim.consumer_type, unit)
            at = bisect_left(used, (*slot, -AMOUNT_MAX))
            if at == len(used) or used[at][:2] != slot or used[at][2] > AMOUNT_MAX - amount or not amount:
                return None
            used[at] = (*slot, used[at][2] + amount)
        rows[key] = QuotaRow(tuple(used), (), "", row.parent_revision)
    return rows


def _over_quota(
    transaction: Transaction, key: bytes, row: QuotaRow, delta: Delta, uncounted: Delta
) -> Rejection | None:
    """The rejection of amounts that raise what is held above a share, or None. `uncounted` ends at the same time."""
    defaults = None if row.children else transaction.get(QUOTAS, quota_key("", "" if b"\0" in key else None))
    if not row.shares and defaults is None:
        return None
    ends = _totals(uncounted) if uncounted else {}
    for (kind, unit), asked in sorted(_totals(delta).items()):
        limit = _limit(row, defaults, kind, unit)
        if asked > ends.get((kind, unit), 0) and limit is not None:
            used = _used(row, kind, unit)
            if used + asked > limit:
                text = _scope_text(key, kind)
                return Rejection(
                    "over_quota", "", unit, asked, limit - used, group=text, other=f"{used}/{limit}"
                )
    return None


def _totals(delta: Delta) -> Delta:
    """The amounts of each consumer type, and of all types together."""
    totals: Delta = {}
    for (kind, unit), amount in delta.items():
        for slot in {(kind, unit), ("", unit)}:  # one where the type is empty
            totals[slot] = totals.get(slot, 0) + amount
    return totals


def _limit(row: QuotaRow, defaults: QuotaRow | None, kind: str, unit: str) -> int | None:
    """How much may be held in this partition, or None if there is no limit."""
    share = _share(row, kind, unit)
    if share is None and defaults is not None:
        default = _share(defaults, kind, unit)
        return None if default is None or default.amount == UNLIMITED else 0
    return None if share is None or share.amount == UNLIMITED else share.amount


def _full(transaction: Transaction, row: QuotaRow, after: QuotaRow, delta: Delta) -> Rejection | None:
    """The rejection of what a row cannot count: an amount that is too large for a row, or too many entries."""
    for slot, amount in delta.items():
        if amount > 0 and (held := _held(row, slot)) + amount > AMOUNT_MAX:
            return Rejection("quota_full", "", slot[1], amount, AMOUNT_MAX - held)
    limit = transaction.rules.limits.quota_entries
    if len(after.used) > len(row.used) and _entries(after) > limit:
        return Rejection("quota_full", asked=_entries(after), available=limit)
    return None


def _held(row: QuotaRow, slot: tuple[str, str]) -> int:
    at = bisect_left(row.used, (*slot, -AMOUNT_MAX))
    return row.used[at][2] if at < len(row.used) and row.used[at][:2] == slot else 0


def _scope_text(key: bytes, consumer_type: str) -> str:
    """A scope as rejections name it: `project p`, `project p user u`, `project p type MIGRATION`."""
    project, separator, user = key.decode().partition("\0")
    text = f"project {project}" + (f" user {user}" if separator else "")
    return f"{text} type {consumer_type}" if consumer_type else text


# -- rows ---------------------------------------------------------------------------------------------------------


def _apply(transaction: Transaction, key: bytes, counted: Counted) -> None:
    for row_key, row in counted.rows.items():
        _put(transaction, row_key, row)
    if counted.special is not None:
        transaction.put(QUOTA_AMOUNTS, key, counted.special)
    elif counted.had_special:
        transaction.delete(QUOTA_AMOUNTS, key)


def _put(transaction: Transaction, key: bytes, row: QuotaRow) -> None:
    if row == _EMPTY:
        transaction.delete(QUOTAS, key)
    else:
        transaction.put(QUOTAS, key, row)


def _with(row: QuotaRow, changed: Changed) -> QuotaRow:
    """The row with these amounts added."""
    if not changed.below:
        return replace(row, used=_added(row.used, changed.total))
    return replace(row, used=_added(row.used, changed.total), below=_added(row.below, changed.below))


def _added(entries: Entries, delta: Delta) -> Entries:
    """The entries with these amounts added. A row has many entries, and a consumer changes few of them."""
    found = list(entries)
    for slot, amount in delta.items():
        at = bisect_left(found, (*slot, -AMOUNT_MAX))
        known = at < len(found) and found[at][:2] == slot
        after = amount + (found[at][2] if known else 0)
        found[at : at + known] = [(*slot, after)] if after else []
    return tuple(found)


def _share(row: QuotaRow, kind: str, unit: str) -> QuotaShare | None:
    at = bisect_left(row.shares, (kind, unit))
    found = row.shares[at] if at < len(row.shares) else None
    return found if found is not None and (found.consumer_type, found.unit) == (kind, unit) else None


def _used(row: QuotaRow, kind: str, unit: str) -> int:
    if kind:
        return _held(row, (kind, unit))
    return sum(amount for _, name, amount in row.used if name == unit)


def _entries(row: QuotaRow) -> int:
    return len(row.used) + len(row.shares)
