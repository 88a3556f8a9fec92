"""Quotas as the auditor keeps them: own books of what projects and users hold, of shares, and of the ledgers of limits.

Written from docs/quotas.md. What a class counts is computed from the asks of a claim and from the names that it was granted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final, NamedTuple

from vacancy.clients.auditor.claims.consumers import HeldByConsumer, Key
from vacancy.clients.auditor.classes.built_in import ClassAuditors
from vacancy.clients.auditor.classes.class_auditor import Refused

NO_LIMIT: Final = -1
QUOTAS_SINCE: Final = 4
"""The first version of the rules with quotas."""

ENTRIES: Final = 512
"""Amounts that are held and shares that a project or a user may have in a partition."""

PARENTS: Final = "quota-parents"
"""The key of the events that decide on parents."""


Slot = tuple[str, str | None, str, str]
"""(project, user or None, consumer type or '', unit)."""


class Share(NamedTuple):
    """A share: the number of its last change, and its amount (-1: no limit)."""

    number: int
    amount: int


WITHOUT: Final = Share(0, NO_LIMIT)
"""What a partition has before it was ever given a share."""


class Amounts(NamedTuple):
    """Unit -> amount, and the units of which the amount is not known."""

    known: Counter[str]
    unknown: frozenset[str]


class Account(NamedTuple):
    """For whom a consumer holds something."""

    project: str
    user: str
    consumer_type: str


@dataclass(slots=True)
class LimitBook:
    """The ledger of a limit. `shares`: partition -> its share; `recalled`: partition -> to which amount it is to lower it."""

    limit: int
    revision: int
    shares: dict[int, Share] = field(default_factory=dict)
    recalled: dict[int, int] = field(default_factory=dict)

    def has_room(self, partition: int, amount: int, partitions: int) -> bool:
        """Whether the share of a partition may be raised to this amount."""
        if self.limit == NO_LIMIT:
            return True
        others = [self.shares.get(at, WITHOUT).amount for at in range(partitions) if at != partition]
        return NO_LIMIT not in (amount, *others) and sum(others) + amount <= self.limit


class AuditedQuotas:
    """The quotas of one partition, and the ledgers of limits that are there."""

    def __init__(self) -> None:
        self.shares: dict[Slot, Share] = {}
        self.limits: dict[Slot, LimitBook] = {}
        self._parents: dict[str, tuple[int, str]] = {}
        """Project -> (revision, its parent), as this partition counts."""
        self._planned: dict[str, list[str]] = {}
        """Project -> its parents, one a revision, in the partition that decides on them."""
        self._held: dict[Key, tuple[Account, Counter[str]]] = {}
        self._waiting: dict[Key, Account] = {}
        """Consumers that hold what they got under rules without quotas, and that nobody has counted yet."""
        self._used: dict[tuple[str, str | None], Counter[tuple[str, str]]] = {}

    # -- what is held ---------------------------------------------------------------------------------------------

    def enter(self, key: Key, claim: Mapping[str, Any], amounts: Amounts) -> None:
        """A consumer holds what a claim was granted."""
        self.leave(key)
        account = _account(claim)
        self._held[key] = account, amounts.known
        self._add(account, amounts.known, 1)

    def wait(self, key: Key, claim: Mapping[str, Any]) -> None:
        """A consumer holds what a claim was granted under rules without quotas."""
        self._waiting[key] = _account(claim)

    def waits(self, key: Key) -> bool:
        """Whether what a consumer holds is not counted yet."""
        return key in self._waiting

    def count(self, key: Key, amounts: Amounts) -> None:
        """What a consumer holds is counted from now on, whatever the limits, unless there is no room in a row."""
        account = self._waiting[key]
        scopes = self._scopes(account)
        before = {scope: self._entries(scope) for scope in scopes}
        self._add(account, amounts.known, 1)
        for scope in scopes:
            shares = sum(slot[:2] == scope for slot in self.shares)
            after = self._entries(scope)
            if after > before[scope] and after + shares > ENTRIES:
                self._add(account, amounts.known, -1)
                return
        del self._waiting[key]
        self._held[key] = account, amounts.known

    def _entries(self, scope: tuple[str, str | None]) -> int:
        """How many amounts of consumer types and units are counted for a project, with those below it, or for a user."""
        project, user = scope
        total = Counter[tuple[str, str]]()
        for one in self._counted_for(project) if user is None else (project,):
            total.update(self._used.get((one, user), Counter()))
        return sum(1 for amount in total.values() if amount)

    def leave(self, key: Key) -> None:
        """A consumer holds nothing any more."""
        self._waiting.pop(key, None)
        held = self._held.pop(key, None)
        if held is not None:
            self._add(*held, -1)

    def _add(self, account: Account, amounts: Mapping[str, int], sign: int) -> None:
        for user in (None, *((account.user,) if account.user != "-" else ())):
            there = self._used.setdefault((account.project, user), Counter())
            for unit, amount in amounts.items():
                there[account.consumer_type, unit] += sign * amount

    def used(self, slot: Slot) -> int:
        """What is held here of a scope: by a project itself and by those below it."""
        project, user, kind, unit = slot
        return sum(
            amount
            for one in (self._counted_for(project) if user is None else (project,))
            for (type_, name), amount in self._used.get((one, user), Counter()).items()
            if name == unit and kind in ("", type_)
        )

    def _counted_for(self, project: str) -> list[str]:
        """A project, and those below it."""
        children = (child for child, (_, parent) in self._parents.items() if parent == project)
        return [project, *(children if project else ())]

    def update(self, key: Key, data: Mapping[str, Any]) -> bool:
        """A consumer keeps what it holds for another account. Returns whether anything changed. Raises `Refused` where a
        limit of the new account does not allow it."""
        waiting = self._waiting.get(key)
        account, amounts = self._held[key] if waiting is None else (waiting, Counter[str]())
        changes = {name: data[name] for name in Account._fields if data.get(name) is not None}
        after = account._replace(**changes)
        if after == account:
            return False
        if waiting is not None:
            self._waiting[key] = after
            return True
        if self.objections(key, after._asdict(), Amounts(amounts, frozenset())):
            raise Refused
        self.leave(key)
        self._held[key] = after, amounts
        self._add(after, amounts, 1)
        return True

    # -- claims ---------------------------------------------------------------------------------------------------

    def objections(
        self, key: Key, claim: Mapping[str, Any], amounts: Amounts, waiting: Amounts | None = None
    ) -> list[str]:
        """The limits that a claim would exceed here. What its consumer holds is given back first. `waiting` are the amounts of
        that, if it is not counted yet: to hold no more than that is no excess."""
        slots = list(self._slots(_account(claim), amounts))
        had = self._held.get(key)
        if had is None and waiting is not None:
            had = self._waiting[key], waiting.known
            self._add(*had, 1)
        before = {slot: self.used(slot) for slot in slots}
        if had is not None:
            self._add(*had, -1)
        found = []
        for slot in slots:
            share = self._share(slot)
            total = self.used(slot) + amounts.known[slot[3]]
            if share != NO_LIMIT and total > share and total > before[slot]:
                found.append(f"{_text(slot)} would hold {total} here, and its share is {share}")
        if key in self._held and had is not None:
            self._add(*had, 1)
        return found

    def joint_objections(
        self, changes: Iterable[tuple[Key, Mapping[str, Any] | None, Amounts | None, Amounts | None]]
    ) -> list[str]:
        """The limits that several consumers together would exceed: each with its claim (None: it holds nothing afterwards), the amounts
        of the claim, and those that it holds and that are not counted yet."""
        changes = list(changes)
        asked = [
            (_account(claim), new) for _, claim, new, _ in changes if claim is not None and new is not None
        ]
        slots = {slot for account, new in asked for slot in self._slots(account, new)}
        waiting = [(self._waiting[key], old.known) for key, _, _, old in changes if old is not None]
        counted = [self._held[key] for key, _, _, _ in changes if key in self._held]
        for had in waiting:
            self._add(*had, 1)
        before = {slot: self.used(slot) for slot in slots}
        for had in (*waiting, *counted):
            self._add(*had, -1)
        for account, new in asked:
            self._add(account, new.known, 1)
        found = []
        for slot in sorted(slots, key=str):
            share, total = self._share(slot), self.used(slot)
            if share != NO_LIMIT and total > share and total > before[slot]:
                found.append(f"{_text(slot)} would hold {total} here, and its share is {share}")
        for account, new in asked:
            self._add(account, new.known, -1)
        for had in counted:
            self._add(*had, 1)
        return found

    def _slots(self, account: Account, amounts: Amounts) -> Iterator[Slot]:
        for project, user in self._scopes(account):
            for unit in amounts.known:
                yield project, user, "", unit
                yield project, user, account.consumer_type, unit

    def _scopes(self, account: Account) -> list[tuple[str, str | None]]:
        """The projects and the user that an account counts for."""
        scopes: list[tuple[str, str | None]] = [(account.project, None)]
        if parent := self._parents.get(account.project, (0, ""))[1]:
            scopes.append((parent, None))
        if account.user != "-":
            scopes.append((account.project, account.user))
        return scopes

    def _share(self, slot: Slot) -> int:
        project, user, kind, unit = slot
        if (own := self.shares.get(slot)) is not None:
            return own.amount
        if user is None and any(parent == project for _, parent in self._parents.values()):
            return NO_LIMIT
        default = self.shares.get(("", None if user is None else "", kind, unit))
        return NO_LIMIT if default is None or default.amount == NO_LIMIT else 0

    # -- events ---------------------------------------------------------------------------------------------------

    def set_share(self, data: Mapping[str, Any]) -> None:
        """A partition takes a share, which may be less than what is held."""
        slot, number = _slot(data), data["number"]
        before = self.shares.get(slot)
        if before is None or number > before.number:
            self.shares[slot] = Share(number, data["amount"])

    def set_parent(self, data: Mapping[str, Any]) -> None:
        """This partition counts a project for another one. Raises `Refused`."""
        project, parent = data["project"], data["parent"]
        if data["revision"] <= self._parents.get(project, (0, ""))[0]:
            return
        if parent == project:
            raise Refused
        self._parents[project] = data["revision"], parent

    def plan_parent(self, cell: str, data: Mapping[str, Any]) -> None:
        """An operator decides for whom a project counts. Raises `Refused`."""
        project, parent = data["project"], data["parent"]
        revisions = self._planned.get(project, [])
        if cell != PARENTS or data["revision"] != len(revisions) + 1:
            raise Refused
        above = {child: each[-1] for child, each in self._planned.items()}
        if parent and (parent == project or project in above.values() or above.get(parent)):
            raise Refused
        self._planned[project] = [*revisions, parent]

    def parent_errors(self, books: Iterable[AuditedQuotas]) -> Iterator[str]:
        """The parents that this partition counts for and that none of these books decided."""
        planned = {
            (project, at): one
            for book in books
            for project, each in book._planned.items()
            for at, one in enumerate(each, start=1)
        }
        for project, (revision, parent) in sorted(self._parents.items()):
            if planned.get((project, revision)) != parent:
                yield f"counts project {project} for {parent or 'no parent'} by revision {revision}, and nobody decided that"

    def set_limit(self, cell: str, data: Mapping[str, Any]) -> None:
        """An operator sets a limit. Raises `Refused` where the record's key is not its id; so do `plan` and `settle`."""
        slot = _ledger_slot(cell, data)
        book = self.limits.get(slot)
        if data["revision"] == (0 if book is None else book.revision) + 1:
            if book is None:
                self.limits[slot] = LimitBook(data["limit"], data["revision"])
            else:
                book.limit, book.revision = data["limit"], data["revision"]

    def plan(self, cell: str, data: Mapping[str, Any], partitions: int) -> None:
        """A ledger gives a partition more, or recalls some of its share. Raises `Refused`."""
        book = self.limits.get(_ledger_slot(cell, data))
        partition, amount = data["partition"], data["amount"]
        if book is None or partition >= partitions or not data["project"]:
            raise Refused
        share = book.shares.get(partition, WITHOUT)
        if data["number"] != share.number + 1 or partition in book.recalled:
            raise Refused
        if _is_less(amount, share.amount):
            if share.amount == NO_LIMIT and amount:
                raise Refused
            book.shares[partition] = Share(data["number"], share.amount)
            book.recalled[partition] = amount
            return
        if not book.has_room(partition, amount, partitions):
            raise Refused
        book.shares[partition] = Share(data["number"], amount)

    def settle(self, cell: str, data: Mapping[str, Any]) -> None:
        """A ledger books what came back. Raises `Refused`."""
        book, partition = self.limits.get(_ledger_slot(cell, data)), data["partition"]
        share = None if book is None else book.shares.get(partition)
        if book is None or share is None or data["number"] != share.number or partition not in book.recalled:
            raise Refused
        if data["amount"] < book.recalled[partition] or _is_less(share.amount, data["amount"]):
            raise Refused
        del book.recalled[partition]
        book.shares[partition] = Share(data["number"], data["amount"])


def share_errors(partitions: Mapping[int, AuditedQuotas]) -> Iterator[str]:
    """The shares of partitions that are more than the ledger of their limit says, at the end of the log, and the parents
    of projects that no ledger decided."""
    books = {slot: book for quotas in partitions.values() for slot, book in quotas.limits.items()}
    for partition, quotas in sorted(partitions.items()):
        for what in quotas.parent_errors(partitions.values()):
            yield f"partition {partition} {what}"
        for slot, share in sorted(quotas.shares.items(), key=lambda one: str(one[0])):
            if not slot[0]:
                continue
            book = books.get(slot)
            given = None if book is None else book.shares.get(partition)
            if given is None or _is_less(given.amount, share.amount):
                of_ledger = "has none" if given is None else f"says {given.amount}"
                yield f"partition {partition} has a share of {share.amount} of {_text(slot)}, and its ledger {of_ledger}"


def amounts_of(
    claim: Mapping[str, Any],
    grants: Iterable[Mapping[str, Any]],
    classes: ClassAuditors,
    stock_of: Callable[[str, str], Any],
) -> Amounts:
    """What a claim counts, from its asks and from what it was granted by name. `stock_of` is (provider, class) -> stock."""
    known: Counter[str] = Counter()
    unknown: set[str] = set()
    named: dict[tuple[str, str], list[Any]] = {}
    for one in grants:
        named.setdefault((one["provider"], one["resource_class"]), []).append(one["grant"])
    for allocation in claim["allocations"]:
        provider = allocation["provider"]
        for name, ask in allocation["resources"].items():
            left = named.get((provider, name))
            grant = left.pop(0) if left else None
            counted = classes.of(name).counted(stock_of(provider, name), ask, grant)
            if counted is None:
                unknown.add(name)
            for unit, amount in (counted or {}).items():
                known[f"{name}.{unit}" if unit else name] += amount
    return Amounts(+known, frozenset(unknown))


def amounts_held(
    held: HeldByConsumer, classes: ClassAuditors, stock_of: Callable[[str, str], Any]
) -> Amounts:
    """What a consumer counts by what its providers have now."""
    allocations = [{"provider": one.provider, "resources": {one.name: one.ask}} for one in held.asked]
    return amounts_of({"allocations": allocations}, held.grants, classes, stock_of)


def _account(claim: Mapping[str, Any]) -> Account:
    return Account(claim.get("project", "-"), claim.get("user", "-"), claim.get("consumer_type", "INSTANCE"))


def _slot(data: Mapping[str, Any]) -> Slot:
    return data["project"], data.get("user"), data.get("consumer_type", ""), data["unit"]


def _is_less(amount: int, other: int) -> bool:
    return amount != NO_LIMIT and (other == NO_LIMIT or amount < other)


def _ledger_slot(cell: str, data: Mapping[str, Any]) -> Slot:
    project, user, kind, unit = slot = _slot(data)
    text = "\0".join((kind, unit, project, *(() if user is None else (user,))))
    if cell != f"quota-{sha256(text.encode()).hexdigest()[:32]}":
        raise Refused
    return slot


def _text(slot: Slot) -> str:
    project, user, kind, unit = slot
    text = f"{unit} of project {project}" + ("" if user is None else f" user {user}")
    return f"{text} type {kind}" if kind else text
