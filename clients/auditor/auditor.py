"""An independent audit of what was handed out: the log and the verdicts of a store, and no code of the fold.

The auditor keeps its own books from the log, judges each claim by itself, and compares. It asks: has each claim
one verdict; did any accepted claim take more than there was; was each rejection, and each `no_valid_host`,
right where it stands in the log.

Where a store's verdict and the auditor differ, the books follow the store, so that one mistake is one problem.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from vacancy.clients.auditor.candidate_trees import CandidateTrees, is_counted, is_known
from vacancy.clients.auditor.claim_rules import (
    OPAQUE,
    ROOM,
    RULE,
    Objection,
    asks,
    enter,
    objections,
    wrongly_granted,
)
from vacancy.clients.auditor.consumers import Key
from vacancy.clients.auditor.event_schema import ReadEvent, read
from vacancy.clients.auditor.ledger import DEADLINE_AHEAD_MS_MAX, Ledger
from vacancy.clients.auditor.server_groups import admits
from vacancy.clients.auditor.spec_conformance import misplacements
from vacancy.resources.model.record import Record

Records = Mapping[int, Iterable[Record]]

CANCELLED_OFFSET = -1
"""Where a verdict stands whose claim was cancelled and has not come."""


@dataclass(frozen=True)
class AuditReport:
    """What an audit found. `claims` = `accepted` + `rejected` + `late`.

    `late` claims came after their deadline: they are rejected without a verdict. `unverifiable`: verdicts that
    log time allows to be deleted, and outcomes that cannot be judged here (classes that are not counted; an
    expression, in a `no_valid_host`; a request that is not in the log; a position beyond its end).
    `wrong_rejections` counts claims and `no_valid_host`s. `misplaced`: ways in which accepted claims do not give
    what their request asks for. `allocated` is, by class, the share of all capacity that is in use at the end.
    """

    claims: int
    accepted: int
    rejected: int
    released: int
    late: int
    no_valid_host: int
    overcommitted: int
    wrong_rejections: int
    missing_verdicts: int
    extra_verdicts: int
    misplaced: int
    unverifiable: int
    problems: list[str]
    allocated: dict[str, float]

    @property
    def ok(self) -> bool:
        """Whether nothing was found wrong."""
        return not self.problems


def audit(records_by_partition: Records, verdicts: Iterable[Mapping[str, Any]]) -> AuditReport:
    """Audit a log (partition -> its records from the first, in order) and the verdicts a store exported.

    The records are read up to three times; iterators, which can be read once, are held in memory. A verdict has
    `claim`, `cell`, `partition`, `offset` (of the claim's record, or -1: cancelled before it came) and
    `accepted`. The log is read to where the store has read it: what it holds beyond counts as missing verdicts.
    """
    logs = {
        partition: list(records) if isinstance(records, Iterator) else records
        for partition, records in sorted(records_by_partition.items())
    }
    asked = _NoValidHosts(logs)
    found = _Findings(verdicts)
    for partition, records in logs.items():
        _audit_partition(partition, records, found, asked)
    asked.conclude(found)
    found.conclude()
    counts = found.counts
    return AuditReport(
        claims=counts["accepted"] + counts["rejected"] + counts["late"],
        problems=found.problems,
        allocated={
            name: found.used[name] / capacity for name, capacity in sorted(found.capacity.items()) if capacity
        },
        **{name: counts[name] for name in _COUNTS},
    )


_COUNTS = (
    "accepted",
    "rejected",
    "released",
    "late",
    "no_valid_host",
    "overcommitted",
    "wrong_rejections",
    "missing_verdicts",
    "extra_verdicts",
    "misplaced",
    "unverifiable",
)


class _Findings:
    """What the audit has found so far, and the verdicts that no claim was found for yet."""

    def __init__(self, verdicts: Iterable[Mapping[str, Any]]) -> None:
        self.counts = Counter[str]()
        self.problems: list[str] = []
        self.used = Counter[str]()
        self.capacity = Counter[str]()
        self.verdicts: defaultdict[tuple[int, Key], list[Mapping[str, Any]]] = defaultdict(list)
        for verdict in verdicts:
            self.verdicts[(verdict["partition"], (verdict["cell"], verdict["claim"]))].append(verdict)

    def wrong(self, where: str, what: str, count: str = "") -> None:
        """Say something that is wrong, and count it where it is of a kind."""
        self.problems.append(f"{where} {what}")
        self.counts[count] += bool(count)

    def take(self, partition: int, claim: Key, offset: int) -> Mapping[str, Any] | None:
        """Take out the verdict on the claim of that record, if there is one."""
        verdicts = self.verdicts.get((partition, claim), [])
        for at, verdict in enumerate(verdicts):
            if verdict["offset"] == offset:
                return verdicts.pop(at)
        return None

    def conclude(self) -> None:
        """What is left are verdicts on nothing."""
        for verdicts in self.verdicts.values():
            for verdict in verdicts:
                where = f"{verdict['partition']}:{verdict['offset']}"
                what = f"claim {verdict['claim']} in {verdict['cell']} has a verdict too many"
                self.wrong(where, what, "extra_verdicts")


class _Partition:
    """The audit of one partition."""

    def __init__(self, partition: int, found: _Findings) -> None:
        self._partition = partition
        self._found = found
        self._judged: set[Key] = set()
        self._without: list[tuple[int, str, str]] = []
        self.books = Ledger(self._judge)
        self.hosts = CandidateTrees(self.books)

    def _judge(self, cell: str, claim: Mapping[str, Any], replaces: bool) -> None:
        books, key = self.books, (cell, claim["id"])
        cancelled = books.is_known(key) and key in books.cancelled
        if books.is_known(key) and not cancelled:
            return  # the same again, or another under its id: the first verdict stands
        first = key not in self._judged
        self._judged.add(key)
        if claim["deadline_ms"] < books.now():
            self._found.counts["late"] += first
            return
        against = objections(books, cell, claim, replaces=replaces)
        if cancelled:
            against.append(Objection(RULE, "it was cancelled"))
        books.cancelled.discard(key)
        books.known_until[key] = min(claim["deadline_ms"], books.now() + DEADLINE_AHEAD_MS_MAX)
        verdict = self._found.take(self._partition, key, books.offset)
        grants = (verdict or {}).get("grants", ())
        if verdict is not None and verdict["accepted"]:
            against += [
                Objection(ROOM, text)
                for text in wrongly_granted(books, cell, claim, grants, replaces=replaces)
            ]
        if self._compare(key, against, verdict):
            enter(books, cell, claim, grants, replaces=replaces)
            for what in misplacements(books, cell, claim):
                where = f"{self._partition}:{books.offset}"
                self._found.wrong(
                    where, f"claim {key[1]} in {cell} is not what was asked: {what}", "misplaced"
                )

    def _compare(self, key: Key, against: list[Objection], verdict: Mapping[str, Any] | None) -> bool:
        """Compare the auditor's verdict with the store's; returns whether the claim goes into the books."""
        where, what = f"{self._partition}:{self.books.offset}", f"claim {key[1]} in {key[0]}"
        kinds = {objection.kind for objection in against}
        accepted = not kinds - {OPAQUE}
        if verdict is None:
            self._without.append((self.books.known_until[key], where, what))
        elif verdict["accepted"] and not accepted:
            why = "; ".join(objection.text for objection in against if objection.kind != OPAQUE)
            self._found.wrong(
                where, f"{what} was accepted, but {why}", "overcommitted" if ROOM in kinds else ""
            )
        elif accepted and not verdict["accepted"] and OPAQUE in kinds:
            self._found.counts["unverifiable"] += 1
        elif accepted and not verdict["accepted"]:
            self._found.wrong(
                where, f"{what} was rejected ({verdict.get('reason')}), but it fits", "wrong_rejections"
            )
        if verdict is not None:
            accepted = bool(verdict["accepted"])
        self._found.counts["accepted" if accepted else "rejected"] += 1
        return accepted

    def conclude(self) -> None:
        """The log is at its end."""
        books, found = self.books, self._found
        for until, where, what in self._without:
            if until < books.now():
                found.counts["unverifiable"] += 1
            else:
                found.wrong(where, f"{what} has no verdict", "missing_verdicts")
        for key in books.cancelled:
            found.take(self._partition, key, CANCELLED_OFFSET)
        found.counts["released"] += books.released
        for key, provider in books.providers.items():
            for name, stock in provider.stock.items():
                if not stock.opaque:
                    found.used[name] += provider.used.get(name, 0)
                    found.capacity[name] += books.capacity(key, name)


_SILENT = "nodes that were silent for long were left out"
"""When a node was last heard from is not in the books."""


class _Closing(NamedTuple):
    """A request that ended with no valid host: where that stands, and what it was decided on."""

    where: str
    request: str
    as_of: Mapping[int, int]
    in_flight: tuple[str, ...]
    serving: set[Key]
    """Trees that could have served it."""
    unknown: set[str]
    """Why that cannot be known for sure."""


class _Asked(NamedTuple):
    """A claim in flight: where it first stands in the log, and what it asks for."""

    partition: int
    offset: int
    cell: str
    asks: tuple[tuple[str, str, int], ...]
    claim: Mapping[str, Any]


class _NoValidHosts:
    """All requests of a log that ended with no valid host, with what is needed to check them."""

    def __init__(self, logs: Records) -> None:
        self._closings: dict[str, _Closing] = {}
        self._specs: dict[str, Mapping[str, Any]] = {}
        self._claims: dict[str, dict[str, _Asked]] = {}
        self._cells: defaultdict[str, set[bytes]] = defaultdict(set)
        for record, event in _events(logs):
            self._find_closings(record, event)
        for closing in self._closings.values():
            self._claims.update((claim, {}) for claim in closing.in_flight)
            closing.unknown.update(
                f"partition {partition} ends before {offset}"
                for partition, offset in closing.as_of.items()
                if offset and partition not in logs
            )
        if self._closings:
            for record, event in _events(logs):
                self._find_asks(record, event)

    def _find_closings(self, record: Record, event: ReadEvent) -> None:
        if event.kind == "node.reported":
            self._cells[event.data["root"]].add(record.key)
        elif event.kind == "requests.closed":
            for request in event.data["requests"]:
                if request["outcome"] == "no_valid_host" and request["id"] not in self._closings:
                    self._closings[request["id"]] = _Closing(
                        f"{record.partition}:{record.offset}",
                        request["id"],
                        {int(partition): offset for partition, offset in request.get("as_of", {}).items()},
                        tuple(request.get("in_flight", ())),
                        set(),
                        {_SILENT} if "heard_since_ms" in request else set(),
                    )

    def _find_asks(self, record: Record, event: ReadEvent) -> None:
        if event.kind == "requests.received":
            for request in event.data["requests"]:
                if request["id"] in self._closings:
                    self._specs.setdefault(request["id"], request["spec"])
        for claim in _claims(event):
            if claim.get("spec") is not None and claim.get("request") in self._closings:
                self._specs.setdefault(claim["request"], claim["spec"])
            if claim["id"] in self._claims:
                cell = record.key.decode(errors="replace")
                asked = _Asked(record.partition, record.offset, cell, asks(claim["allocations"]), claim)
                self._claims[claim["id"]].setdefault(cell, asked)

    def due(self, partition: int) -> list[_Closing]:
        """Those decided on something of this partition, by how far they had read it, farthest first."""
        return sorted(
            (closing for closing in self._closings.values() if closing.as_of.get(partition)),
            key=lambda closing: -closing.as_of[partition],
        )

    def answer(self, closing: _Closing, partition: int, audited: _Partition) -> None:
        """Note which trees of `partition`, as it stands now, could serve the request."""
        spec = self._specs.get(closing.request)
        if _SILENT in closing.unknown:
            return
        if spec is None:
            closing.unknown.add("its spec is not in the log")
        elif not is_counted(audited.books, spec):
            closing.unknown.add("it asks for what is not counted")
        elif not is_known(spec):
            closing.unknown.add("several copies, several providers together, or one subtree are not judged")
        elif any(group.get("where") for group in spec["groups"]):
            closing.unknown.add("it asks with an expression")
        else:
            taken = Counter[tuple[str, str, str]]()
            in_flight = []
            for asked in (asked for claim in closing.in_flight for asked in self._claims[claim].values()):
                if asked.partition == partition and asked.offset >= closing.as_of[partition]:
                    in_flight.append(asked.claim)
                    for provider, name, amount in asked.asks:
                        taken[(asked.cell, provider, name)] += amount
            serving = audited.hosts.serving(spec, taken)
            closing.serving.update(tree for tree in serving if admits(audited.books, tree, spec, in_flight))

    def conclude(self, found: _Findings) -> None:
        """Judge them all."""
        for closing in self._closings.values():
            found.counts["no_valid_host"] += 1
            # A root that two cells reported may rightly have been left out.
            sure = {tree for tree in closing.serving if len(self._cells[tree[1]]) == 1}
            if sure:
                cell, root = min(sure)
                found.wrong(
                    closing.where,
                    f"request {closing.request} ended with no valid host, but {root} in {cell} could serve it"
                    f" ({len(sure)} could)",
                    "wrong_rejections",
                )
            elif closing.unknown or closing.serving:
                found.counts["unverifiable"] += 1


def _audit_partition(
    partition: int, records: Iterable[Record], found: _Findings, asked: _NoValidHosts
) -> None:
    audited = _Partition(partition, found)
    due = asked.due(partition)
    end = 0
    for record in records:
        while due and due[-1].as_of[partition] <= record.offset:
            asked.answer(due.pop(), partition, audited)
        audited.books.apply(record)
        end = record.offset + 1
    for closing in due:
        if closing.as_of[partition] > end:
            closing.unknown.add(f"partition {partition} ends before {closing.as_of[partition]}")
        else:
            asked.answer(closing, partition, audited)
    audited.conclude()


def _events(logs: Records) -> Iterator[tuple[Record, ReadEvent]]:
    for records in logs.values():
        for record in records:
            event = read(record)
            if event is not None:
                yield record, event


def _claims(event: ReadEvent) -> Iterable[Mapping[str, Any]]:
    if event.kind == "consumer.replaced":
        return (event.data,)
    claims: Iterable[Mapping[str, Any]] = event.data["claims"] if event.kind == "claims.requested" else ()
    return claims
