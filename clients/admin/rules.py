"""The rules of a log: which version is in force, which plugins' classes it allows, and how operators raise both.

Rules are raised in every partition, and a partition follows the new rules from the next record on. A build that does not
support them stops there. So rules are raised in three steps: an operator proposes them, the workers of all stores answer
whether their builds support them, and an operator activates them. From versions 1 and 2 the activation alone is enough.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal
from uuid import uuid4

from vacancy.clients.admin.counting import Counted, count_earlier
from vacancy.clients.runtime.folded_log import FoldedLog, RecordRefused
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.model import events
from vacancy.resources.model.errors import OutcomeUnknown, UsageError, VacancyError
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import NewRecord
from vacancy.resources.state.rows import PartitionRow
from vacancy.resources.state.tables import PARTITION, PROPOSAL_ANSWERS, PROPOSALS
from vacancy.streams.clocks.clock import utc_text
from vacancy.streams.log import Log

SOURCE = "/operator"

_LOOK: Final = "`vacancy rules show`"
"""The command that shows the rules and the proposals."""

ANSWERS_S: Final = 2.0
"""How long answers are awaited at least: the first to answer may not be the only one."""

_POLL_S: Final = 0.05

Followers = Callable[[], Mapping[str, bool]]
"""Returns the stores whose workers follow the log, and for each whether a worker of it runs."""


@dataclass(frozen=True, slots=True)
class RulesInForce:
    """The rules of one partition as of the store's position there."""

    partition: int
    position: int
    version: int
    classes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SupportedVersion:
    """A version of the rules that this build supports, and what it brought."""

    version: int
    summary: str


@dataclass(frozen=True, slots=True)
class StoreAnswer:
    """The answer of one store to a proposal. `missing` is empty where its build supports the rules."""

    store: str
    host: str
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OpenProposal:
    """Rules that are proposed in one partition, and the answers. It ends at log time `ends_ms`."""

    partition: int
    id: str
    version: int
    classes: tuple[str, ...]
    offset: int
    ends_ms: int
    answers: tuple[StoreAnswer, ...]

    @property
    def supported(self) -> bool:
        """Whether a store has answered that it supports the rules."""
        return any(not one.missing for one in self.answers)


@dataclass(frozen=True, slots=True)
class RulesAnswer:
    """The rules of all partitions that the store has read, open proposals, and what this build supports. `unread` are
    the partitions that the store has not read yet."""

    supported: tuple[SupportedVersion, ...]
    partitions: tuple[RulesInForce, ...]
    unread: tuple[int, ...]
    proposals: tuple[OpenProposal, ...]


@dataclass(frozen=True, slots=True)
class RaiseOptions:
    """How rules are raised. `timeout_s` is for all of it. `despite_missing` activates although stores lack something, or
    run and have not answered. `followers` names the stores that follow the log, where that is known."""

    timeout_s: float = 10.0
    propose_only: bool = False
    despite_missing: bool = False
    followers: Followers | None = None
    answers_s: float = ANSWERS_S


@dataclass(slots=True)
class Raised:
    """What became of it.

    `raised` are the partitions whose rules were raised now, `classes` the plugins' classes that are new there. `proposals`
    are those of this version and these classes, with their answers at the time of the decision. `one_step` are the
    partitions that needed no proposal. `unanswered` are the stores that follow the log and have not answered (True: a
    worker runs), where that is known.
    """

    outcome: Literal["activated", "unchanged", "proposed", "lacking", "unanswered"] = "unchanged"
    raised: tuple[int, ...] = ()
    classes: tuple[str, ...] = ()
    proposals: tuple[OpenProposal, ...] = ()
    one_step: tuple[int, ...] = ()
    unanswered: dict[str, bool] = field(default_factory=dict)
    counted: Counted = field(default_factory=Counted)
    """What the rules count from now on, and what was there before: see `clients.admin.counting`."""

    def check(self) -> None:
        """Raise `VacancyError` if a store lacks something or if the rules refused to count something, `OutcomeUnknown` if an
        answer is missing."""
        if self.counted.left:
            raise VacancyError(
                f"{self.counted.left:,} allocations are not counted for quotas: {self.counted.reason}",
                do="remove shares of units that the project no longer needs, then run this command again",
            )
        if self.outcome == "lacking":
            lacking = sorted({one.host or one.store for _, one in self.answers() if one.missing})
            raise VacancyError(
                f"not activated: {', '.join(lacking)} cannot follow these rules",
                do="upgrade vacancy there and restart its worker, then run this command again;"
                " `--despite-missing` stops these workers, `vacancy rules withdraw` gives up",
            )
        if self.outcome != "unanswered":
            return
        silent = [store for store, runs in self.unanswered.items() if runs]
        ends = utc_text(min(one.ends_ms for one in self.proposals), "seconds")
        alone = [one.partition for one in self.proposals if not one.supported]
        raise OutcomeUnknown(
            f"not activated: no store has answered in partitions {alone} yet"
            if alone
            else f"not activated: store {', '.join(silent)} has a running worker and has not answered yet",
            do="check that `vacancy worker` runs, then run this command again; the proposal stays open until"
            f" {ends}",
        )

    def answers(self) -> list[tuple[int, StoreAnswer]]:
        """All answers, each with its partition."""
        return [(one.partition, answer) for one in self.proposals for answer in one.answers]


def show_rules(reader: StoreReader) -> RulesAnswer:
    """The rules in force and the open proposals, as of the store's position."""
    rows = _rows(reader)
    return RulesAnswer(
        tuple(SupportedVersion(one.version, one.summary) for one in reader.versions),
        tuple(
            RulesInForce(p, reader.position.get(p, 0), row.rules_version, row.classes)
            for p, row in sorted(rows.items())
        ),
        tuple(p for p in range(reader.manifest.partitions) if p not in rows),
        open_proposals(reader),
    )


def open_proposals(reader: StoreReader) -> tuple[OpenProposal, ...]:
    """All open proposals with their answers, by partition and age."""
    answers: dict[tuple[int, str], list[StoreAnswer]] = {}
    for partition, _, row in reader.scan(PROPOSAL_ANSWERS):
        answers.setdefault((partition, row.proposal), []).append(
            StoreAnswer(row.store, row.host, row.missing)
        )
    return tuple(
        OpenProposal(
            partition,
            one.id,
            one.version,
            one.classes,
            one.offset,
            one.ends_ms,
            tuple(answers.get((partition, one.id), ())),
        )
        for partition, _, row in reader.scan(PROPOSALS)
        for one in row.open
    )


def activate_rules(
    log: Log, reader: StoreReader, version: int, options: RaiseOptions | None = None
) -> Raised:
    """Raise every partition to this version. Then count what was there before and these rules count (`Raised.counted`), also
    if all partitions follow the version already.

    Raises `UsageError` for a version that this build does not support, or that is lower than one in force, `LogError`,
    and `OutcomeUnknown` where the store did not read the events in time. See `Raised.check` for the rest.
    """
    if version not in reader.versions:
        raise UsageError(
            f"this build supports rules versions 1 to {reader.versions.newest.version}, not {version}",
            do="upgrade vacancy on every host that follows the log, then try again",
        )
    reader.catch_up()
    higher = {p: row.rules_version for p, row in _rows(reader).items() if row.rules_version > version}
    if higher:
        partition, found = min(higher.items())
        raise UsageError(
            f"partition {partition} follows rules version {found}, and rules are never lowered to {version}",
            do=f"see {_LOOK}",
        )

    def wanted(row: PartitionRow) -> events.Rules:
        return events.Rules(version=version, classes=row.classes)

    options = options or RaiseOptions()
    raised = _Raise(log, reader, options).run(wanted)
    if raised.outcome in ("activated", "unchanged"):
        again = f"`vacancy rules activate {version}`"
        raised.counted = count_earlier(log, reader, again=again, timeout_s=options.timeout_s)
    return raised


def activate_classes(log: Log, reader: StoreReader, options: RaiseOptions | None = None) -> Raised:
    """Allow, in every partition, the classes of the plugins installed here. Raises as `activate_rules` does."""
    new: set[str] = set()

    def wanted(row: PartitionRow) -> events.Rules:
        missing = set(reader.registry.plugins) - set(row.classes)
        new.update(missing)
        return events.Rules(version=row.rules_version, classes=tuple(sorted({*row.classes, *missing})))

    found = _Raise(log, reader, options or RaiseOptions()).run(wanted)
    found.classes = tuple(sorted(new))
    return found


def withdraw_proposals(
    log: Log, reader: StoreReader, proposal: str | None = None, *, timeout_s: float = 10.0, wait: bool = True
) -> tuple[OpenProposal, ...]:
    """Withdraw one open proposal in all its partitions, or all of them. Returns those that were withdrawn.

    Raises `UsageError` if no proposal of that id is open, and as `FoldedLog` does.
    """
    folded = FoldedLog(log, reader, timeout_s=timeout_s, wait=wait)
    found = tuple(one for one in open_proposals(reader) if proposal in (None, one.id))
    if proposal is not None and not found:
        raise UsageError(f"no proposal {proposal} is open", do=f"see {_LOOK}")
    cells = covering_cells(reader.manifest.partitions)
    for one in found:
        event = events.RulesWithdrawn(
            id=uuid4().hex, source=SOURCE, data=events.RulesWithdrawnData(proposal=one.id)
        )
        subject = f"the withdrawal of proposal {one.id} in partition {one.partition}"
        folded.write([NewRecord(cells[one.partition], events.encode(event))], subject, _LOOK)
    return found


def _rows(reader: StoreReader) -> dict[int, PartitionRow]:
    return {row.partition: row for _, _, row in reader.scan(PARTITION)}


def _content(rules: events.Rules | OpenProposal) -> tuple[int, tuple[str, ...]]:
    return rules.version, tuple(sorted(set(rules.classes)))


class _Raise:
    """Raises the rules of all partitions, once."""

    def __init__(self, log: Log, reader: StoreReader, options: RaiseOptions) -> None:
        self._reader, self._options = reader, options
        self._deadline = time.monotonic() + options.timeout_s
        self._folded = FoldedLog(log, reader, timeout_s=options.timeout_s)
        self._wanted: dict[int, events.Rules] = {}
        """Partition -> the rules that it does not follow yet."""

        self._in_steps: set[int] = set()

    def run(self, wanted: Callable[[PartitionRow], events.Rules]) -> Raised:
        """Propose where the rules in force have proposals, wait for answers, and activate."""
        self._reader.catch_up()
        rows = _rows(self._reader)
        unread = sorted(set(range(self._reader.manifest.partitions)) - set(rows))
        if unread:
            raise OutcomeUnknown(
                f"the store has not read partitions {unread} yet, so their rules are not known",
                where=str(self._reader.path),
                do="start `vacancy worker`, then try again",
            )
        for partition, row in sorted(rows.items()):
            rules = wanted(row)
            if _content(rules) != (row.rules_version, row.classes):
                self._wanted[partition] = rules
                if events.RulesProposed in self._reader.versions.of(row.rules_version).handlers:
                    self._in_steps.add(partition)
        found = Raised(one_step=tuple(p for p in self._wanted if p not in self._in_steps))
        if self._in_steps:
            self._propose()
            found.proposals = self._proposals()
            if self._options.propose_only:
                found.outcome = "proposed"
                return found
            self._wait_for_answers(found)
            if found.outcome != "unchanged":
                return found
        elif self._options.propose_only and self._wanted:
            raise UsageError(
                "the rules in force have no proposals: they are raised in one step",
                do="run it without --propose-only, after all hosts are upgraded",
            )
        self._activate()
        found.raised = tuple(self._wanted)
        found.outcome = "activated" if self._wanted else "unchanged"
        return found

    def _propose(self) -> None:
        """Append the proposal to each partition that lacks it. They share one id."""
        proposed = {one.partition for one in self._proposals()}
        id_ = uuid4().hex
        for partition in sorted(self._in_steps - proposed):
            event = events.RulesProposed(id=id_, source=SOURCE, data=self._wanted[partition])
            self._append(partition, event, f"the proposal for partition {partition}")

    def _proposals(self) -> tuple[OpenProposal, ...]:
        """The open proposals of the wanted rules."""
        return tuple(
            one
            for one in open_proposals(self._reader)
            if one.partition in self._in_steps and _content(one) == _content(self._wanted[one.partition])
        )

    def _wait_for_answers(self, found: Raised) -> None:
        """Set the answers of `found`, and its outcome if the rules cannot be activated."""
        options = self._options
        following = options.followers() if options.followers else {}
        settled = time.monotonic() + options.answers_s
        while True:
            self._reader.catch_up()
            found.proposals = self._proposals()
            found.unanswered = {
                store: runs
                for store, runs in following.items()
                if not all(any(a.store == store for a in one.answers) for one in found.proposals)
            }
            lacking = any(answer.missing for _, answer in found.answers())
            supported = all(one.supported for one in found.proposals)
            silent = any(found.unanswered.values())
            now = time.monotonic()
            refused = lacking and not options.despite_missing
            complete = supported and not (silent and not options.despite_missing)
            if now > self._deadline or (now >= settled and (refused or complete)):
                break
            time.sleep(_POLL_S)
        if refused:
            found.outcome = "lacking"
        elif not complete:
            found.outcome = "lacking" if lacking and not supported else "unanswered"

    def _activate(self) -> None:
        for partition, rules in self._wanted.items():
            event = events.RulesActivated(id=uuid4().hex, source=SOURCE, data=rules)
            self._append(partition, event, f"the activation of rules in partition {partition}")

    def _append(self, partition: int, event: events.Event, subject: str) -> None:
        """Append an event and wait until the store has read it. Raises `RecordRefused` if it was refused, unless the
        partition follows the wanted rules by then: another operator may have activated them."""
        cell = covering_cells(self._reader.manifest.partitions)[partition]
        try:
            self._folded.write([NewRecord(cell, events.encode(event))], subject, _LOOK)
        except RecordRefused:
            row = _rows(self._reader)[partition]
            if _content(self._wanted[partition]) != (row.rules_version, row.classes):
                raise
