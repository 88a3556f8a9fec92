"""Limits of projects and users: set them, read them, and move shares of them between partitions.

A limit over all partitions is divided by the ledger of `fold.claims.quota_ledgers`. Every step here can be repeated, and each
operation first finishes the steps that somebody else did not (`Quotas.finish`). So a process that is killed between two
steps leaves nothing that the next operation on the same limit does not put right.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple
from uuid import uuid4

from vacancy.clients.runtime.folded_log import FoldedLog, RecordRefused
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.fold.claims.quota_ledgers import PARENTS_ID, quota_limit_id
from vacancy.resources.fold.claims.quotas import NOBODY, is_less
from vacancy.resources.model import events
from vacancy.resources.model.errors import OutcomeUnknown, UsageError
from vacancy.resources.model.events import QuotaScope
from vacancy.resources.model.names import AMOUNT_MAX, check_consumer_type, check_id
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import NewRecord
from vacancy.resources.state.rows import (
    UNLIMITED,
    LedgerShare,
    QuotaLimitRow,
    QuotaParentRow,
    QuotaRow,
    QuotaShare,
    VerdictRow,
)
from vacancy.resources.state.tables import (
    PARTITION,
    PARTITION_KEY,
    QUOTA_LIMITS,
    QUOTA_PARENTS,
    QUOTAS,
    quota_key,
)
from vacancy.streams.log import Log

_SOURCE: Final = "/quota"
_LOOK: Final = "`vacancy quota list`"
_EMPTY: Final = QuotaRow()

_Step = Callable[[QuotaScope], bool | None]
"""One try of an operation: its result, or None if it must be tried again."""


class PartitionShare(NamedTuple):
    """What a scope holds in a partition, and its share there (-1: no limit; None: it has no share)."""

    partition: int
    used: int
    share: int | None


class Limit(NamedTuple):
    """A limit over all partitions (-1: none), and what is used of it. `user` is None for the project as a whole."""

    project: str
    user: str | None
    consumer_type: str
    unit: str
    limit: int
    by_default: bool
    used: int
    shares: tuple[PartitionShare, ...]

    @property
    def scope(self) -> QuotaScope:
        """What it limits."""
        return QuotaScope(
            project=self.project, user=self.user, consumer_type=self.consumer_type, unit=self.unit
        )


def scope_of(verdict: VerdictRow) -> QuotaScope:
    """The scope that a rejection with `over_quota` names."""
    text, _, consumer_type = verdict.group.partition(" type ")
    words = text.split(" ")
    return QuotaScope(
        project=words[1],
        user=words[3] if len(words) > 3 else None,
        consumer_type=consumer_type,
        unit=verdict.resource_class,
    )


def _order(limit: Limit) -> tuple[str, str, str, str]:
    return (limit.project, limit.user or "", limit.unit, limit.consumer_type)


class QuotaView:
    """The limits of a log, as the store on this host shows them."""

    def __init__(self, reader: StoreReader) -> None:
        self._reader = reader
        self._cells = covering_cells(reader.manifest.partitions)

    def has_quotas(self) -> bool:
        """Whether the rules of the log have quotas."""
        self._reader.catch_up()
        rows = [self._reader.get(PARTITION, PARTITION_KEY, cell=cell) for cell in self._cells]
        return all(
            row is not None and self._reader.versions.of(row.rules_version).counts_quotas for row in rows
        )

    def limits(self, project: str | None = None) -> list[Limit]:
        """All limits, or those of one project and its users, sorted. Those that a store shows as of its newest commit."""
        self._reader.catch_up()
        rows = (row for _, _, row in self._reader.scan(QUOTA_LIMITS))
        found = [self._limit(row) for row in rows if project in (None, row.project)]
        return sorted(found, key=_order)

    def in_force(
        self, project: str, user: str | None = None, consumer_type: str | None = None
    ) -> list[Limit]:
        """The limits that hold for a project, its users and its types, as `limits` does, and the defaults that hold for it and
        for `user`, also where nothing was granted by them yet. `user` and `consumer_type`: only those for it."""
        found = {one.scope: one for one in self.limits(project)}
        for default in self.limits(""):
            scope = default.scope.model_copy(update={"project": project, "user": user})
            if (default.user is None) == (user is None) and user != NOBODY and scope not in found:
                row = self._default_of(scope)
                if row is not None:
                    found[scope] = self._limit(row, scope)._replace(by_default=True)
        wanted = (
            one
            for one in found.values()
            if user in (None, one.user) and consumer_type in (None, one.consumer_type)
        )
        return sorted(wanted, key=_order)

    def limit(self, scope: QuotaScope) -> Limit | None:
        """The limit of a scope, or None."""
        row = self._ledger(scope)
        return None if row is None else self._limit(row)

    def exceeded(
        self, project: str, user: str, consumer_type: str, amounts: Mapping[str, int]
    ) -> list[Limit]:
        """The limits that a consumer with these amounts (unit -> amount) would exceed in all partitions together.

        Raises `UsageError` where no consumer has such a project, user or type.
        """
        check_id("project", project)
        check_id("user", user)
        check_consumer_type(consumer_type)
        parent = self.parent(project).parent
        found = []
        for name, whose in ((project, None), (project, user), *(((parent, None),) if parent else ())):
            for kind in ("", consumer_type):
                for unit, amount in amounts.items():
                    scope = QuotaScope(project=name, user=whose, consumer_type=kind, unit=unit)
                    row = None if whose == NOBODY else self._ledger(scope) or self._default_of(scope)
                    if row is not None and row.limit != UNLIMITED:
                        limit = self._limit(row, scope)
                        if limit.used + amount > limit.limit and limit not in found:
                            found.append(limit)
        return found

    def _limit(self, row: QuotaLimitRow, scope: QuotaScope | None = None) -> Limit:
        scope = scope or _scope(row)
        shares = tuple(self._shares(scope))
        return Limit(
            scope.project,
            scope.user,
            scope.consumer_type,
            scope.unit,
            row.limit,
            row.by_default,
            sum(one.used for one in shares),
            shares,
        )

    def _shares(self, scope: QuotaScope) -> Iterator[PartitionShare]:
        for partition in range(len(self._cells)):
            row = self._row(scope, partition)
            share = _share_of(row, scope)
            yield PartitionShare(partition, _used(row, scope), None if share is None else share.amount)

    def _ledger(self, scope: QuotaScope) -> QuotaLimitRow | None:
        self._reader.catch_up()
        id_ = quota_limit_id(scope)
        return self._reader.get(QUOTA_LIMITS, id_.encode(), cell=id_)

    def _row(self, scope: QuotaScope, partition: int) -> QuotaRow:
        key = quota_key(scope.project, scope.user)
        return self._reader.get(QUOTAS, key, cell=self._cells[partition]) or _EMPTY

    def parent(self, project: str) -> QuotaParentRow:
        """The parent of a project, as the ledger of parents has it."""
        self._reader.catch_up()
        return self._parent_row(project)

    def _parent_row(self, project: str) -> QuotaParentRow:
        return self._reader.get(QUOTA_PARENTS, project.encode(), cell=PARENTS_ID) or QuotaParentRow()

    def _default_of(self, scope: QuotaScope) -> QuotaLimitRow | None:
        """The default that holds for a scope, if there is one that limits it. A project with children has none."""
        if scope.user is None and self._parent_row(scope.project).children:
            return None
        user = None if scope.user is None else ""
        found = self._ledger(scope.model_copy(update={"project": "", "user": user}))
        return None if found is None or found.limit == UNLIMITED else found


class Quotas(QuotaView):
    """Sets limits and moves shares of them.

    `timeout_s` is for each operation. Creating one raises `UsageError` where the log's rules have no quotas.
    """

    def __init__(self, log: Log, reader: StoreReader, *, timeout_s: float = 10.0) -> None:
        super().__init__(reader)
        self._log, self._timeout_s = log, timeout_s
        if not self.has_quotas():
            raise UsageError(
                "the rules of the log have no quotas",
                do="raise them with `vacancy rules activate 4`",
            )

    # -- changes --------------------------------------------------------------------------------------------------

    def set_limit(self, scope: QuotaScope, limit: int, *, by_default: bool = False) -> Limit:
        """Set a limit over all partitions (-1: none) and divide it. Returns what is in force then.

        The project '' sets the default, and then the limits of all projects that follow it. Raises `RecordRefused` where
        another operator set it at the same time, `UsageError` where no consumer is in such a scope or the limit is no amount,
        `OutcomeUnknown` and `LogError` as `FoldedLog` does.
        """
        _check_scope(scope, limit)
        row = self._ledger(scope)
        if row is None or (row.limit, row.by_default) != (limit, by_default):
            revision = 1 if row is None else row.revision + 1
            data = events.QuotaLimitData(
                **scope.model_dump(), limit=limit, by_default=by_default, revision=revision
            )
            self._write(
                [self._ledger_record(scope, events.QuotaLimitSet(id=_id(), source=_SOURCE, data=data))], scope
            )
        if scope.project:
            self._until_done(scope, self._divide)
        else:
            self._set_default(scope)
        found = self.limit(scope)
        assert found is not None  # noqa: S101 - its own event was applied
        return found

    def set_parent(self, project: str, parent: str) -> None:
        """Let a project count for another one, '' for none, and divide the limits of the new parent again.

        Raises `RecordRefused` where the rules refuse it, or where another operator set the parent at the same moment: one
        ledger decides, and its text says which parent was set. The partitions follow it; what a killed process left to do
        is done first (`finish_parents`). Raises `UsageError` where a name is not an id.
        """
        for name in (project, *((parent,) if parent else ())):
            check_id("project", name)
        row = self.parent(project)
        if row.parent != parent:
            data = events.QuotaParentData(project=project, parent=parent, revision=row.revision + 1)
            event = events.QuotaParentPlanned(id=_id(), source=_SOURCE, data=data)
            what = f"the parent of project {project}"
            self._folded().write([NewRecord(PARENTS_ID, events.encode(event))], what, _LOOK)
        self.finish_parents()
        for name in dict.fromkeys((row.parent, parent)):
            for one in self.limits(name) if name else ():
                if one.user is None and one.by_default:
                    default = self._default_of(one.scope)  # none while it has children
                    self.set_limit(one.scope, default.limit if default else UNLIMITED, by_default=True)
                elif one.user is None and name == parent:
                    self._until_done(one.scope, self._divide)

    def finish_parents(self) -> None:
        """Let all partitions count projects for the parents that the ledger of parents says."""
        self._reader.catch_up()
        entries = []
        for _, key, row in self._reader.scan(QUOTA_PARENTS):
            if not row.revision:
                continue  # it is only a parent
            data = events.QuotaParentData(project=key.decode(), parent=row.parent, revision=row.revision)
            for cell in self._cells:
                there = self._reader.get(QUOTAS, key, cell=cell) or _EMPTY
                if there.parent_revision < row.revision:
                    event = events.QuotaParentSet(id=_id(), source=_SOURCE, data=data)
                    entries.append(NewRecord(cell, events.encode(event)))
        if entries:
            self._folded().write(entries, "the parents of projects", _LOOK)

    def fetch(self, scope: QuotaScope, partition: int, needed: int) -> bool:
        """Raise the share of a partition so that `needed` more can be held there, from what the ledger has left and from what
        other partitions do not use. Returns whether there was enough."""
        return bool(self._until_done(scope, lambda one: self._fetch(one, partition, needed)))

    def finish(self, scope: QuotaScope) -> None:
        """Do the steps of this limit that were planned and not done."""
        row = self._ledger(scope)
        sets, settles = [], []
        for share in () if row is None else row.shares:
            there = _share_of(self._row(scope, share.partition), scope)
            if there is None or there.number < share.number:
                sets.append((share.partition, share.number, _planned(share)))
            if share.recalled >= 0:
                settles.append(share.partition)
        self._take(scope, sets)
        self._settle(scope, settles)

    # -- steps ----------------------------------------------------------------------------------------------------

    def _until_done(self, scope: QuotaScope, step: _Step) -> bool | None:
        """Try a step again while others change the same shares. Raises `OutcomeUnknown` after `timeout_s`."""
        deadline = time.monotonic() + self._timeout_s
        while True:
            try:
                self.finish(scope)
                done = step(scope)
            except RecordRefused:
                done = None
            if done is not None:
                return done
            if time.monotonic() > deadline:
                raise OutcomeUnknown(
                    f"the shares of the limit of {scope.unit} of project {scope.project or 'default'} were changed by"
                    " others all the time",
                    where=f"store {self._reader.path}",
                    do=f"look with {_LOOK}, and try again",
                )

    def _divide(self, scope: QuotaScope) -> bool | None:
        """Give each partition what it uses and an equal part of the rest. What has no limit is recalled first."""
        row = self._ledger(scope)
        if row is None:
            return None
        had = self._given(row)
        if row.limit == UNLIMITED:
            known = {share.partition for share in row.shares}
            self._change(scope, {p: UNLIMITED for p, amount in had.items() if amount >= 0 or p not in known})
            return True
        shares = list(self._shares(scope))
        if less := self._excess(row, shares):
            self._change(scope, less)
            return None  # what came back is in the ledger: the next round gives it
        wanted = _divided(row.limit, [one.used for one in shares])
        left = row.limit - sum(had.values())
        more: dict[int, int] = {}
        for partition, amount in had.items():
            given = max(0, min(wanted[partition] - amount, left))
            left -= given
            there = shares[partition].share  # less than the ledger has where a recall met what is in use
            if given or (there is not None and is_less(there, min(amount, wanted[partition]))):
                more[partition] = amount + given
        self._change(scope, more)
        return True

    def _fetch(self, scope: QuotaScope, partition: int, needed: int) -> bool | None:
        row = self._ledger(scope)
        default = self._default_of(scope)
        if default is not None and (row is None or (row.by_default and row.limit != default.limit)):
            self.set_limit(scope, default.limit, by_default=True)
            row = self._ledger(scope)
        if row is None:
            return False
        shares = list(self._shares(scope))
        used, share = shares[partition].used, shares[partition].share
        if share == UNLIMITED or (share is not None and used + needed <= share):
            return True
        had = self._given(row)
        if row.limit == UNLIMITED or UNLIMITED in had.values():
            self._divide(scope)
            return None
        # A share may be less than what is held, and after a project came under another one, the ledger's may be, too.
        has = max(had[partition], used)
        free = row.limit - sum(max(amount, shares[p].used) for p, amount in had.items())
        if free < 0 and (less := self._excess(row, shares)):
            self._change(scope, less)
            return None
        spare = {p: amount - shares[p].used for p, amount in had.items() if amount > shares[p].used}
        wanted = used + needed - has
        if free >= wanted:
            self._change(scope, {partition: has + max(0, wanted) + max(0, free - wanted) // len(shares)})
            return True
        spare.pop(partition, None)
        if free + sum(spare.values()) < wanted:
            return False
        self._change(scope, _recalls(had, spare, wanted - free))
        return None  # what came back is in the ledger: the next round gives it to the partition

    def _given(self, row: QuotaLimitRow) -> dict[int, int]:
        """Partition -> its share, as the ledger has it. Without one, it has no limit."""
        had = dict.fromkeys(range(len(self._cells)), UNLIMITED)
        return had | {share.partition: share.amount for share in row.shares}

    def _excess(self, row: QuotaLimitRow, shares: Sequence[PartitionShare]) -> dict[int, int]:
        """The shares to recall, and to which amounts: those that are more than their part, and those without a limit."""
        wanted = _divided(row.limit, [one.used for one in shares])
        less = {}
        for p, amount in self._given(row).items():
            there = UNLIMITED if (share := shares[p].share) is None else share
            if amount == UNLIMITED:
                less[p] = 0
            elif amount > wanted[p] and (amount > shares[p].used or is_less(wanted[p], there)):
                less[p] = wanted[p]
        return less

    def _set_default(self, scope: QuotaScope) -> None:
        row = self._ledger(scope)
        if row is None:
            return
        self._take(scope, [(p, row.revision, row.limit) for p in range(len(self._cells))])
        for one in self.limits():
            same = (one.consumer_type, one.unit, one.user is None) == (
                scope.consumer_type,
                scope.unit,
                scope.user is None,
            )
            above = one.user is None and self._parent_row(one.project).children > 0
            if one.project and one.by_default and same and not above and one.limit != row.limit:
                self.set_limit(one.scope, row.limit, by_default=True)

    def _change(self, scope: QuotaScope, amounts: Mapping[int, int]) -> None:
        """Change the shares of some partitions, by all steps."""
        row = self._ledger(scope)
        if not amounts or row is None:
            return
        numbers = {share.partition: share.number + 1 for share in row.shares}
        changes = [(p, numbers.get(p, 1), amount) for p, amount in sorted(amounts.items())]
        planned = [
            events.QuotaSharePlanned(
                id=_id(),
                source=_SOURCE,
                data=events.QuotaPlanData(**scope.model_dump(), partition=p, number=number, amount=amount),
            )
            for p, number, amount in changes
        ]
        self._write([self._ledger_record(scope, event) for event in planned], scope)
        self._take(scope, changes)
        row = self._ledger(scope) or row
        self._settle(scope, [share.partition for share in row.shares if share.recalled >= 0])

    def _take(self, scope: QuotaScope, changes: Iterable[tuple[int, int, int]]) -> None:
        """The second step: partitions take their shares."""
        entries = []
        for partition, number, amount in changes:
            data = events.QuotaShareData(**scope.model_dump(), number=number, amount=amount)
            event = events.QuotaShareSet(id=_id(), source=_SOURCE, data=data)
            entries.append(NewRecord(self._cells[partition], events.encode(event)))
        self._write(entries, scope)

    def _settle(self, scope: QuotaScope, partitions: Iterable[int]) -> None:
        """The last step after a recall: what a partition neither has nor holds came back. What it holds above its share does not
        grow, so this is right whenever the ledger books it."""
        entries = []
        for partition in partitions:
            row = self._row(scope, partition)
            there = _share_of(row, scope)
            if there is None:
                continue
            used, given = _used(row, scope), self._ledger_amount(scope, partition)
            amount = max(there.amount, given if is_less(given, used) else used)
            data = events.QuotaPlanData(
                **scope.model_dump(), partition=partition, number=there.number, amount=amount
            )
            event = events.QuotaShareSettled(id=_id(), source=_SOURCE, data=data)
            entries.append(self._ledger_record(scope, event))
        self._write(entries, scope)

    def _ledger_amount(self, scope: QuotaScope, partition: int) -> int:
        row = self._ledger(scope)
        return UNLIMITED if row is None else self._given(row)[partition]

    def _write(self, entries: list[NewRecord], scope: QuotaScope) -> None:
        if entries:
            project = scope.project or "default"
            self._folded().write(entries, f"the limit of {scope.unit} of project {project}", _LOOK)

    def _folded(self) -> FoldedLog:
        return FoldedLog(self._log, self._reader, timeout_s=self._timeout_s)

    @staticmethod
    def _ledger_record(scope: QuotaScope, event: events.Event) -> NewRecord:
        return NewRecord(quota_limit_id(scope), events.encode(event))


def _check_scope(scope: QuotaScope, limit: int) -> None:
    """Raise `UsageError` for a limit that would never hold for anybody, or that is no amount."""
    if scope.project:
        check_id("project", scope.project)
    if scope.project and scope.user is not None:
        check_id("user", scope.user)
    if scope.user == NOBODY or (scope.user and not scope.project):
        raise UsageError(
            f"user {scope.user} has no limit: it is the user of consumers that name none"
            if scope.user == NOBODY
            else f"user {scope.user} has no limit without a project",
            do="name a user in a project",
        )
    if not UNLIMITED <= limit <= AMOUNT_MAX:
        raise UsageError(f"{limit} is not a limit", do=f"use 0 to {AMOUNT_MAX}, or {UNLIMITED} for none")


def _scope(row: QuotaLimitRow) -> QuotaScope:
    return QuotaScope(project=row.project, user=row.user, consumer_type=row.consumer_type, unit=row.unit)


def _share_of(row: QuotaRow, scope: QuotaScope) -> QuotaShare | None:
    slot = (scope.consumer_type, scope.unit)
    return next((one for one in row.shares if (one.consumer_type, one.unit) == slot), None)


def _used(row: QuotaRow, scope: QuotaScope) -> int:
    return sum(a for kind, unit, a in row.used if unit == scope.unit and scope.consumer_type in ("", kind))


def _planned(share: LedgerShare) -> int:
    return share.amount if share.recalled < 0 else share.recalled


def _divided(limit: int, used: list[int]) -> list[int]:
    """A limit over partitions that use so much: each gets what it uses and an equal part of the rest, the first ones one
    more. Where the limit is less than what is used, nobody gets anything: what one partition releases must not be taken there
    while all together hold too much."""
    left = max(0, limit) - sum(used)
    if left < 0:
        return [0] * len(used)
    each, more = divmod(left, len(used))
    return [amount + each + (at < more) for at, amount in enumerate(used)]


def _recalls(had: Mapping[int, int], spare: Mapping[int, int], wanted: int) -> dict[int, int]:
    """The shares that partitions keep: those with the most to spare give first, each half of it or what is wanted."""
    kept: dict[int, int] = {}
    for partition in sorted(spare, key=lambda one: (-spare[one], one)):
        if wanted <= 0:
            break
        given = min(spare[partition], max(wanted, spare[partition] // 2))
        kept[partition] = had[partition] - given
        wanted -= given
    return kept


def _id() -> str:
    return uuid4().hex
