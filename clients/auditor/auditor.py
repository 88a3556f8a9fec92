"""The independent audit of a log and a store's verdicts. It shares no code with the fold.

The auditor builds its own ledger from the log, judges each claim, and compares its verdict with the store's. It checks
that each claim has one verdict, that no accepted claim took more than was free, and that each rejection and each
`no_valid_host` was right at its place in the log.

Where the auditor disagrees with a verdict of the store, the ledger follows the store, so that one error is one problem.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from vacancy.clients.auditor.claim_reads import CLAIM_READS, most_reads
from vacancy.clients.auditor.claims.candidate_trees import CandidateTrees, is_known, without_auditor
from vacancy.clients.auditor.claims.cell_moves import held_by, move_errors, open_moves
from vacancy.clients.auditor.claims.claim_rules import (
    asks,
    enter,
    given_back,
    gives_back,
    grant_errors,
    objections,
)
from vacancy.clients.auditor.claims.consumers import Key
from vacancy.clients.auditor.claims.moves import with_groups
from vacancy.clients.auditor.claims.quotas import Amounts, amounts_held, amounts_of, share_errors
from vacancy.clients.auditor.claims.server_groups import admits
from vacancy.clients.auditor.claims.spec_conformance import misplacements
from vacancy.clients.auditor.classes.built_in import ClassAuditors
from vacancy.clients.auditor.classes.class_auditor import OPAQUE, ROOM, RULE, Objection
from vacancy.clients.auditor.event_schema import ReadEvent, mentions, read
from vacancy.clients.auditor.ledger import Ledger
from vacancy.clients.auditor.not_judged import (
    EXPIRED,
    EXPRESSION,
    GANG_OF_NAMED,
    LEFT_OUT,
    LOG_ENDS,
    NO_CLASS_AUDITOR,
    NO_SPEC,
    QUOTA_ENTRIES,
    QUOTA_UNITS,
    READS,
    SHAPE,
    SILENT,
)
from vacancy.clients.auditor.taken_events import TakenEvents
from vacancy.clients.auditor.transactions import Attempt
from vacancy.resources.model.record import Record

Records = Mapping[int, Iterable[Record]]

CANCELLED_OFFSET = -1
"""The offset of a verdict whose claim was cancelled before its own record."""


@dataclass(frozen=True)
class AuditReport:
    """What an audit found. `claims` = `accepted` + `rejected` + `late`.

    `late` claims are after their deadline: they are rejected without a verdict. `unverifiable`: verdicts that may be
    deleted at this log time, and outcomes that the auditor cannot judge (a class without a class auditor, devices
    with addresses, what a changed ask by name keeps in a move, an expression in a `no_valid_host`, a
    request that is not in the log, a position beyond its end).
    `unverifiable_reasons`: reason -> how many are unverifiable for it; there may be several reasons for one.
    `wrong_rejections` counts claims and `no_valid_host`s. `misplaced` counts the ways in which accepted claims violate
    their requests. `allocated`: class -> the share of the capacity that is in use at the end. `open_moves`: the moves
    between cells that have not ended at the end, and where their consumers hold something.
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
    unverifiable_reasons: dict[str, int]
    allocated: dict[str, float]
    open_moves: list[str]

    @property
    def ok(self) -> bool:
        """Whether the audit found no problem."""
        return not self.problems


def audit(
    records_by_partition: Records,
    verdicts: Iterable[Mapping[str, Any]],
    classes: ClassAuditors | None = None,
) -> AuditReport:
    """Audit a log (partition -> its records from the first, in order) and the verdicts that a store exported.

    The records are read up to three times; iterators, which can be read once, are kept in memory. A verdict has
    `claim`, `cell`, `partition`, `offset` (of the claim's record, or `CANCELLED_OFFSET`) and `accepted`, and may have
    `reason` and `grants`. The records must end at the store's position: later claims count as missing verdicts.
    `classes` are the class auditors, by default the built-in ones.
    """
    classes = classes or ClassAuditors()
    logs = {
        partition: list(records) if isinstance(records, Iterator) else records
        for partition, records in sorted(records_by_partition.items())
    }
    asked = _NoValidHosts(logs, classes)
    found = _Findings(verdicts)
    quotas, moves, consumers = {}, {}, {}
    for partition, records in logs.items():
        audited = _Partition(partition, found, classes)
        _audit_partition(partition, records, audited, asked)
        moves[partition], consumers[partition] = audited.ledger.moves, audited.ledger.consumers
        if audited.ledger.has_quotas:
            quotas[partition] = audited.ledger.quotas
    for what in share_errors(quotas):
        found.report("quotas", what, "overcommitted")
    claim_of = held_by(consumers)
    for where, what in move_errors(moves, claim_of):
        found.report(where, what)
    asked.conclude(found)
    found.conclude()
    counts = found.counts
    return AuditReport(
        claims=counts["accepted"] + counts["rejected"] + counts["late"],
        problems=found.problems,
        open_moves=open_moves(moves, claim_of),
        unverifiable_reasons=dict(sorted(found.unverifiable.items())),
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
    """The findings so far, and the verdicts whose claims were not read yet."""

    def __init__(self, verdicts: Iterable[Mapping[str, Any]]) -> None:
        self.counts = Counter[str]()
        self.unverifiable = Counter[str]()
        self.problems: list[str] = []
        self.used = Counter[str]()
        self.capacity = Counter[str]()
        self.verdicts: defaultdict[tuple[int, Key], list[Mapping[str, Any]]] = defaultdict(list)
        for verdict in verdicts:
            self.verdicts[(verdict["partition"], (verdict["cell"], verdict["claim"]))].append(verdict)

    def report(self, where: str, what: str, count: str = "") -> None:
        """Add a problem, and increment a count."""
        self.problems.append(f"{where} {what}")
        self.counts[count] += bool(count)

    def leave_out(self, reasons: Iterable[str]) -> None:
        """Count an outcome that cannot be judged, and why."""
        self.counts["unverifiable"] += 1
        self.unverifiable.update(reasons)

    def take(self, partition: int, claim: Key, offset: int) -> Mapping[str, Any] | None:
        """Remove and return the verdict on the claim of that record, if there is one."""
        verdicts = self.verdicts.get((partition, claim), [])
        for at, verdict in enumerate(verdicts):
            if verdict["offset"] == offset:
                return verdicts.pop(at)
        return None

    def peek(self, partition: int, claim: Key, offset: int) -> Mapping[str, Any] | None:
        """The verdict on the claim of that record, if there is one."""
        verdicts = self.verdicts.get((partition, claim), ())
        return next((one for one in verdicts if one["offset"] == offset), None)

    def conclude(self) -> None:
        """Report the remaining verdicts: there is no claim for them."""
        for verdicts in self.verdicts.values():
            for verdict in verdicts:
                where = f"{verdict['partition']}:{verdict['offset']}"
                what = f"claim {verdict['claim']} in {verdict['cell']} has an unexpected verdict"
                self.report(where, what, "extra_verdicts")


class _Partition:
    """The audit of one partition."""

    def __init__(self, partition: int, found: _Findings, classes: ClassAuditors) -> None:
        self._partition = partition
        self._found = found
        self._judged: set[Key] = set()
        self._without: list[tuple[int, str, str]] = []
        self._reads: tuple[int, int | None] = (-1, 0)
        """An offset, and how much judging the claims of this record can have read so far; None: it is not known."""
        self.ledger = Ledger(self._judge, classes, self._judge_gang, self._judge_transaction)
        self.trees = CandidateTrees(self.ledger)

    def _judge(self, cell: str, claim: Mapping[str, Any], replaces: bool) -> None:
        ledger, key = self.ledger, (cell, claim["id"])
        known = ledger.judged.get(key)
        if known is not None and not known.cancelled:
            return  # a duplicate, or another claim of the same id: the first verdict stands
        if replaces and ledger.keeps_grants:
            claim = with_groups(claim, ledger.consumers.get((cell, claim["consumer"])))
        first = key not in self._judged
        self._judged.add(key)
        if claim["deadline_ms"] < ledger.now():
            self._found.counts["late"] += first
            return
        self._count_reads(most_reads(ledger, cell, claim, replaces=replaces))
        verdict = self._found.take(self._partition, key, ledger.offset)
        rejected = verdict is not None and not verdict["accepted"]
        against = objections(ledger, cell, claim, replaces=replaces, rejected=rejected)
        if known is None and gives_back(ledger, cell, claim, replaces=replaces):
            ledger.settle(cell, given_back(ledger, cell, claim))
        if known is not None:
            against.append(Objection(RULE, "it was cancelled"))
        ledger.set_judged(key, claim["deadline_ms"])
        grants = (verdict or {}).get("grants", ())
        if verdict is not None and verdict["accepted"]:
            against += [
                Objection(ROOM, text) for text in grant_errors(ledger, cell, claim, grants, replaces=replaces)
            ]
        counted = None
        if ledger.has_quotas:
            stock_of = partial(ledger.stock_of, cell)
            counted = amounts_of(claim, grants, ledger.classes, stock_of)
            against += self._quota_objections((cell, claim["consumer"]), claim, counted, verdict)
        if self._compare(key, against, verdict):
            if counted is not None:
                ledger.quotas.enter((cell, claim["consumer"]), claim, counted)
            else:
                ledger.quotas.wait((cell, claim["consumer"]), claim)
            enter(ledger, cell, claim, grants, replaces=replaces)
            for what in misplacements(ledger, cell, claim):
                where = f"{self._partition}:{ledger.offset}"
                self._found.report(
                    where, f"claim {key[1]} in {cell} violates its request: {what}", "misplaced"
                )

    def _judge_gang(self, cell: str, claims: Sequence[Mapping[str, Any]]) -> None:
        """Judge claims that are accepted together or not at all. A gang that was accepted is judged claim by claim."""
        ledger, keys = self.ledger, [(cell, claim["id"]) for claim in claims]
        known = [ledger.judged.get(key) for key in keys]
        if any(one is not None and not one.cancelled for one in known):
            return  # a duplicate, or a dead letter
        if claims[0]["deadline_ms"] < ledger.now():
            for claim in claims:
                self._judge(cell, claim, False)
            return
        verdicts = [self._found.peek(self._partition, key, ledger.offset) for key in keys]
        fates = {None if one is None else bool(one["accepted"]) for one in verdicts}
        if len(fates) > 1:
            where = f"{self._partition}:{ledger.offset}"
            self._found.report(
                where, f"only a part of the gang of claim {keys[0][1]} was accepted", "overcommitted"
            )
        if fates != {False}:
            for claim in claims:
                self._judge(cell, claim, False)
            return
        self._judge_rejected_gang(cell, claims, verdicts)

    def _judge_rejected_gang(
        self, cell: str, claims: Sequence[Mapping[str, Any]], verdicts: Sequence[Mapping[str, Any] | None]
    ) -> None:
        """Judge a gang that the store rejected: one of its claims must have an objection, after those before it. What these
        are granted by name is not known, so an ask for units with names may leave the gang unjudged."""
        ledger, found = self.ledger, self._found
        where = f"{self._partition}:{ledger.offset}"
        reasons = [(one or {}).get("reason") for one in verdicts]
        failed = [at for at, reason in enumerate(reasons) if reason != "gang_rejected"]
        if len(failed) != 1:
            text = f"{len(failed)} claims of the gang of claim {claims[0]['id']} were rejected for reasons of their own"
            found.report(where, text)
        entered: list[Key] = []
        for at, claim in enumerate(claims):
            key, consumer = (cell, claim["id"]), (cell, claim["consumer"])
            # What the members before were granted by name, and may have been read, is not known.
            self._count_reads(None if entered else most_reads(ledger, cell, claim, replaces=False))
            against = objections(ledger, cell, claim, replaces=False, rejected=at in failed)
            if key in ledger.judged:
                against.append(Objection(RULE, "it was cancelled"))
            counted = None
            if ledger.has_quotas:
                counted = amounts_of(claim, (), ledger.classes, partial(ledger.stock_of, cell))
                against += self._quota_objections(consumer, claim, counted, verdicts[at])
            if at in failed or any(one.kind != OPAQUE for one in against):
                break
            if counted is not None:
                ledger.quotas.enter(consumer, claim, counted)
            enter(ledger, cell, claim, replaces=False)
            entered.append(consumer)
        for consumer in reversed(entered):
            ledger.undo(consumer)
        named = any(
            not isinstance(ask, int)
            for one in claims
            for part in one["allocations"]
            for ask in part["resources"].values()
        )
        if all(one.kind == OPAQUE for one in against) and named and entered:
            against = [Objection(OPAQUE, GANG_OF_NAMED)]
        for number, claim in enumerate(claims):
            key = (cell, claim["id"])
            self._judged.add(key)
            ledger.set_judged(key, claim["deadline_ms"])
            found.take(self._partition, key, ledger.offset)
            if number == at:
                self._compare(key, against, verdicts[number])
            else:
                found.counts["rejected"] += 1

    def _judge_transaction(self, cell: str, data: Mapping[str, Any]) -> None:
        """Judge a transaction, as a claim."""
        ledger, key = self.ledger, (cell, data["id"])
        known = ledger.judged.get(key)
        if known is not None and not known.cancelled:
            return  # a duplicate, or a dead letter
        first = key not in self._judged
        self._judged.add(key)
        if data["deadline_ms"] < ledger.now():
            self._found.counts["late"] += first
            return
        verdict = self._found.take(self._partition, key, ledger.offset)
        attempt = Attempt(ledger, cell, data, verdict)
        against = list(attempt.found)
        if known is not None:
            against.append(Objection(RULE, "it was cancelled"))
        ledger.set_judged(key, data["deadline_ms"])
        self._count_reads(None)
        if self._compare(key, against, verdict):
            attempt.enter((verdict or {}).get("grants", ()))
        else:
            ledger.details.judged({})

    def _quota_objections(
        self, key: Key, claim: Mapping[str, Any], counted: Amounts, verdict: Mapping[str, Any] | None
    ) -> Iterator[Objection]:
        """The limits that a claim would exceed. A rejection that nobody can check is opaque."""
        ledger, waiting = self.ledger, None
        if ledger.quotas.waits(key):
            waiting = amounts_held(ledger.consumers[key], ledger.classes, partial(ledger.stock_of, key[0]))
        for text in ledger.quotas.objections(key, claim, counted, waiting):
            yield Objection(RULE, text)
        reason = (verdict or {}).get("reason")
        if reason == "over_quota" and (counted.unknown or (waiting and waiting.unknown)):
            yield Objection(OPAQUE, QUOTA_UNITS)
        if reason == "quota_full":
            yield Objection(OPAQUE, QUOTA_ENTRIES)

    def _compare(self, key: Key, against: list[Objection], verdict: Mapping[str, Any] | None) -> bool:
        """Compare the auditor's verdict with the store's. Returns whether the claim is to be entered."""
        where, what = f"{self._partition}:{self.ledger.offset}", f"claim {key[1]} in {key[0]}"
        kinds = {objection.kind for objection in against}
        accepted = not kinds - {OPAQUE}
        if verdict is None:
            self._without.append((self.ledger.judged[key].until_ms, where, what))
        elif verdict["accepted"] and not accepted:
            why = "; ".join(objection.text for objection in against if objection.kind != OPAQUE)
            self._found.report(
                where, f"{what} was accepted, but {why}", "overcommitted" if ROOM in kinds else ""
            )
        elif accepted and self._is_full(verdict):
            if self._reads[1] is None:
                self._found.leave_out([READS])
        elif accepted and not verdict["accepted"] and OPAQUE in kinds:
            self._found.leave_out({one.text for one in against if one.kind == OPAQUE})
        elif accepted and not verdict["accepted"]:
            self._found.report(
                where, f"{what} was rejected ({verdict.get('reason')}), but it fits", "wrong_rejections"
            )
        if verdict is not None:
            accepted = bool(verdict["accepted"])
        self._found.counts["accepted" if accepted else "rejected"] += 1
        return accepted

    def _count_reads(self, reads: int | None) -> None:
        """Add what judging a claim of this record can read."""
        offset, before = self._reads
        if offset != self.ledger.offset:
            before = 0
        both = None if before is None or reads is None else before + reads
        self._reads = (self.ledger.offset, both)

    def _is_full(self, verdict: Mapping[str, Any]) -> bool:
        """Whether the store rejected a claim because its record reads too much, and it may read that much."""
        reads = self._reads[1]
        return (
            self.ledger.rules.bounded
            and verdict.get("reason") == "record_full"
            and (reads is None or reads > CLAIM_READS)
        )

    def conclude(self) -> None:
        """Add the findings at the end of the partition."""
        ledger, found = self.ledger, self._found
        for until, where, what in self._without:
            if until < ledger.now():
                found.leave_out([EXPIRED])
            else:
                found.report(where, f"{what} has no verdict", "missing_verdicts")
        for key in ledger.cancelled:
            found.take(self._partition, key, CANCELLED_OFFSET)
        found.counts["released"] += ledger.released
        for key, provider in ledger.providers.items():
            for name in provider.stock:
                capacity = ledger.capacity(key, name)
                if capacity is not None:
                    found.used[name] += provider.used.get(name, 0)
                    found.capacity[name] += capacity


_CLAIMS = {"claims.requested", "claims.requested.v2", "gang.requested"}
_CLOSING_TYPES = {
    b"vacancy.node.reported.v1",
    b"vacancy.node.reported.v2",
    b"vacancy.requests.closed.v1",
}


class _Closing(NamedTuple):
    """A request that ended with no valid host: its place in the log, and what the decision was based on."""

    where: str
    request: str
    as_of: Mapping[int, int]
    in_flight: tuple[str, ...]
    serving: set[Key]
    """Trees (cell, root) that could have served it."""
    unknown: set[str]
    """Reasons why the auditor cannot judge it."""


class _Asked(NamedTuple):
    """A claim in flight: its first place in the log, and what it asks for."""

    partition: int
    offset: int
    cell: str
    asks: tuple[tuple[str, str, int], ...]
    claim: Mapping[str, Any]


class _NoValidHosts:
    """All requests of a log that ended with no valid host, with what is needed to check them."""

    def __init__(self, logs: Records, classes: ClassAuditors) -> None:
        self._classes = classes
        self._closings: dict[str, _Closing] = {}
        self._specs: dict[str, Mapping[str, Any]] = {}
        self._claims: dict[str, dict[str, _Asked]] = {}
        self._cells: defaultdict[str, set[bytes]] = defaultdict(set)
        self._machines: defaultdict[str, set[str]] = defaultdict(set)
        self._names: defaultdict[str, set[tuple[bytes, str]]] = defaultdict(set)
        for records in logs.values():
            reader = TakenEvents(_CLOSING_TYPES)
            for record in records:
                if (event := reader.take(record)) is not None:
                    self._find_closings(record, event)
        for closing in self._closings.values():
            self._claims.update((claim, {}) for claim in closing.in_flight)
            closing.unknown.update(
                LOG_ENDS.format(partition=partition, offset=offset)
                for partition, offset in closing.as_of.items()
                if offset and partition not in logs
            )
        if self._closings:
            ids = {name.encode() for name in (*self._closings, *self._claims)}
            # Also of records that were refused: the scheduler counted on these claims when it decided.
            for record, event in _events(logs, ids):
                self._find_asks(record, event)

    def _find_closings(self, record: Record, event: ReadEvent) -> None:
        if event.kind in ("node.reported", "node.reported.v2"):
            root, machine = event.data["root"], event.data.get("machine")
            self._cells[root].add(record.key)
            if machine is not None:
                self._names[machine].add((record.key, root))
                self._machines[root].add(machine)
        elif event.kind == "requests.closed":
            for request in event.data["requests"]:
                if request["outcome"] == "no_valid_host" and request["id"] not in self._closings:
                    self._closings[request["id"]] = _Closing(
                        f"{record.partition}:{record.offset}",
                        request["id"],
                        {int(partition): offset for partition, offset in request.get("as_of", {}).items()},
                        tuple(request.get("in_flight", ())),
                        set(),
                        {SILENT} if "heard_since_ms" in request else set(),
                    )

    def _find_asks(self, record: Record, event: ReadEvent) -> None:
        if event.kind in ("requests.received", "requests.received.v2"):
            for request in event.data["requests"]:
                if request["id"] in self._closings:
                    self._specs.setdefault(request["id"], request["spec"])
        for claim in _claims(event):
            if claim.get("spec") is not None and claim.get("request") in self._closings:
                spec = {**claim["spec"], "tolerations": claim.get("tolerations", ())}
                self._specs.setdefault(claim["request"], spec)
            if claim["id"] in self._claims:
                cell = record.key.decode(errors="replace")
                asked = _Asked(
                    record.partition, record.offset, cell, asks(self._classes, claim["allocations"]), claim
                )
                self._claims[claim["id"]].setdefault(cell, asked)

    def due(self, partition: int) -> list[_Closing]:
        """The requests that were decided on this partition, by the position read, farthest first."""
        return sorted(
            (closing for closing in self._closings.values() if closing.as_of.get(partition)),
            key=lambda closing: -closing.as_of[partition],
        )

    def answer(self, closing: _Closing, partition: int, audited: _Partition) -> None:
        """Add the trees of `partition` that could serve the request, as of the records applied so far."""
        spec = self._specs.get(closing.request)
        if SILENT in closing.unknown:
            return
        if spec is None:
            closing.unknown.add(NO_SPEC)
        elif unknown := without_auditor(audited.ledger, spec):
            closing.unknown.update(NO_CLASS_AUDITOR.format(name=name) for name in unknown)
        elif not is_known(spec):
            closing.unknown.add(SHAPE)
        elif any(group.get("where") for group in spec["groups"]):
            closing.unknown.add(EXPRESSION)
        else:
            taken = Counter[tuple[str, str, str]]()
            in_flight = []
            for asked in (asked for claim in closing.in_flight for asked in self._claims[claim].values()):
                if asked.partition == partition and asked.offset >= closing.as_of[partition]:
                    in_flight.append(asked.claim)
                    for provider, name, amount in asked.asks:
                        taken[(asked.cell, provider, name)] += amount
            serving = audited.trees.serving(spec, taken)
            closing.serving.update(tree for tree in serving if admits(audited.ledger, tree, spec, in_flight))

    def conclude(self, found: _Findings) -> None:
        """Judge all of them."""
        for closing in self._closings.values():
            found.counts["no_valid_host"] += 1
            # A root that two cells reported may have been left out, and that is right; so may a machine of two names.
            serving = {tree for tree in closing.serving if len(self._cells[tree[1]]) == 1}
            serving = {
                tree
                for tree in serving
                if all(len(self._names[machine]) == 1 for machine in self._machines[tree[1]])
            }
            if serving:
                cell, root = min(serving)
                found.report(
                    closing.where,
                    f"request {closing.request} ended with no valid host, but {root} in {cell} could serve it"
                    f" ({len(serving)} could)",
                    "wrong_rejections",
                )
            elif closing.unknown or closing.serving:
                found.leave_out(closing.unknown or [LEFT_OUT])


def _audit_partition(
    partition: int, records: Iterable[Record], audited: _Partition, asked: _NoValidHosts
) -> None:
    due = asked.due(partition)
    end = 0
    for record in records:
        while due and due[-1].as_of[partition] <= record.offset:
            asked.answer(due.pop(), partition, audited)
        audited.ledger.apply(record)
        end = record.offset + 1
    for closing in due:
        if closing.as_of[partition] > end:
            closing.unknown.add(LOG_ENDS.format(partition=partition, offset=closing.as_of[partition]))
        else:
            asked.answer(closing, partition, audited)
    audited.conclude()


def _events(logs: Records, words: Set[bytes]) -> Iterator[tuple[Record, ReadEvent]]:
    """The events of a log that mention one of these words."""
    for records in logs.values():
        for record in records:
            event = read(record) if mentions(record, words) else None
            if event is not None:
                yield record, event


def _claims(event: ReadEvent) -> Iterable[Mapping[str, Any]]:
    if event.kind in ("consumer.replaced", "consumer.replaced.v2", "consumer.replaced.v3"):
        return (event.data,)
    claims: Iterable[Mapping[str, Any]] = event.data["claims"] if event.kind in _CLAIMS else ()
    return claims
