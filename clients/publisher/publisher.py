"""The event publisher of a compute node: it reports the node's inventory, in order, through any outage.

A publisher opens an incarnation, drawn at random, with a full report, and numbers its events from 1. Every event is
written to the outbox first, and sent when the log answers. So a crash loses nothing, and repeats only events that the
fold drops. A node that lost its disk starts a new incarnation and needs no memory of the old one.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path
from threading import Lock
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from pydantic import ValidationError

from vacancy.clients.publisher.device_health import without_unhealthy
from vacancy.clients.publisher.outbox import Outbox, OutboxFull, OutboxKind, Outgoing, default_outbox
from vacancy.resources.fold.nodes.provider_tree import check_tree
from vacancy.resources.model.errors import InvalidRecord, LogUnavailable, UsageError
from vacancy.resources.model.events import (
    NodeChanged,
    NodeHeartbeat,
    NodeReported,
    NodeReportedV2,
    NodeRetired,
    ProviderReport,
    encode,
)
from vacancy.resources.model.partitioner import cell_for, partition_for
from vacancy.resources.model.record import NewRecord
from vacancy.streams.clocks.clock import utc_text, wall_ms
from vacancy.streams.log import AppendedAt, Log

if TYPE_CHECKING:
    from vacancy.clients.signing.signer import EventSigner
    from vacancy.resources.state.rule_set import RuleSet
    from vacancy.streams.settings import Settings

Providers = tuple[ProviderReport, ...]

_BATCH: Final = 100
_EVENTS: Final[Mapping[OutboxKind, type[NodeReported | NodeChanged | NodeHeartbeat | NodeRetired]]] = (
    MappingProxyType(
        {
            OutboxKind.FULL: NodeReported,
            OutboxKind.CHANGED: NodeChanged,
            OutboxKind.HEARTBEAT: NodeHeartbeat,
            OutboxKind.RETIRED: NodeRetired,
        }
    )
)


class Difference(NamedTuple):
    """How a node's providers changed: `changed` are the providers that changed or are new, whole; `removed` are ids."""

    changed: Providers
    removed: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.changed or self.removed)


def diff(previous: Iterable[ProviderReport], current: Iterable[ProviderReport]) -> Difference:
    """The difference that makes `previous` into `current`."""
    before = {provider.id: provider for provider in previous}
    now = {provider.id: provider for provider in current}
    changed = tuple(provider for id_, provider in now.items() if before.get(id_) != provider)
    return Difference(changed, tuple(id_ for id_ in before if id_ not in now))


def new_incarnation() -> str:
    """A random incarnation: 16 hexadecimal digits."""
    return secrets.token_hex(8)


def node_cell(root: str, cell: str | None, outbox: Outbox, log: Log) -> str:
    """The cell of a node: `cell`; where that is None, the cell in which the outbox knows the node. A node without either,
    and one with `auto`, gets a cell by the hash of its id."""
    named = cell or outbox.cell or "auto"
    return cell_for(root, log.partitions) if named == "auto" else named


def node_signer(settings: Settings, log: Log, outbox: Outbox) -> EventSigner | None:
    """What signs the events of a node, with the key that the settings name; None where they name none. Raises `UsageError` where the key
    cannot be used. The outbox remembers the last number that was signed."""
    if settings.node_key is None:
        return None
    from vacancy.clients.signing.key_pair import read_key
    from vacancy.clients.signing.signer import EventSigner

    return EventSigner(
        read_key(settings.node_key),
        lambda: settings.log_id or log.identity().log,
        last=outbox.last_signed,
    )


class Publisher:
    """Publishes the node `root` to `log`, in `cell`. Any thread may use it.

    With `move_cell`, a node that the outbox knows in another cell is first retired there. Without it, CellChanged is
    raised. Raises UsageError if the outbox belongs to another node. `clock` gives milliseconds since 1970 for the times
    that people read, `new_id` the incarnation. `machine` is the identity of the machine, for full reports. `rules` returns the
    rules that the cell's partition follows, or None if they are not known; it is called before each full report. What these
    rules do not have (the machine, unhealthy devices) is left out of reports. Without it, the newest rules are assumed.
    `signer` signs each event when it is sent (docs/signing.md).
    `close` closes the log and the outbox only if `from_settings` opened them.
    """

    def __init__(
        self,
        log: Log,
        root: str,
        cell: str,
        outbox: Outbox,
        *,
        move_cell: bool = False,
        machine: str | None = None,
        rules: Callable[[], RuleSet | None] | None = None,
        signer: EventSigner | None = None,
        clock: Callable[[], int] = wall_ms,
        new_id: Callable[[], str] = new_incarnation,
    ) -> None:
        self.signer = signer
        self.root, self.cell, self.outbox, self.machine = root, cell, outbox, machine
        self._rules = rules
        self._names_machine = self._knows_health = rules is None
        self.incarnation = new_id()
        self._log, self._clock, self._new_id = log, clock, new_id
        self._sequence = 0
        self._reported = self._retired = False
        self.confirmed = 0
        """How many events the log has confirmed, also those that an earlier run left in the outbox."""
        self.landed: AppendedAt | None = None
        """The place of the last event in the log, None before the first."""
        # Two locks, so that events can be recorded while the log is slow to answer.
        self._recording, self._sending = Lock(), Lock()
        known = outbox.cell
        if move_cell and known is not None and known != cell:
            outbox.check_home(root, known)
            self._retire_in(known)
        outbox.check_home(root, cell)
        self._owned = ExitStack()

    @classmethod
    def from_settings(
        cls,
        root: str,
        settings: Settings | None = None,
        *,
        outbox: Path | None = None,
        move_cell: bool = False,
        machine: str | None = None,
        timeout_s: float | None = None,
    ) -> Self:
        """The publisher of the node `root` to the log in `settings`: those in force (`load_settings`) where None are
        given. `close` closes log and outbox.

        Its cell is `node_cell`. It learns the log's rules from the log (`KnownRules`). `outbox` is the file of its outbox (default: `default_outbox`). `timeout_s` is how
        long to wait for the log, if that is less than in the settings. Raises `UsageError`, `LogError`,
        `LogUnavailable`, `OutboxError`.
        """
        from vacancy.clients.publisher.known_rules import KnownRules
        from vacancy.streams.log import open_log
        from vacancy.streams.settings import load_settings

        used = load_settings() if settings is None else settings
        with ExitStack() as opened:
            log = opened.enter_context(open_log(used.log, timeout_s, **used.kafka))
            queue = opened.enter_context(Outbox(outbox or default_outbox(used.log, root)))
            cell = node_cell(root, used.cell, queue, log)
            rules = KnownRules(log, partition_for(cell, log.partitions)).look
            signer = node_signer(used, log, queue)
            made = cls(
                log, root, cell, queue, move_cell=move_cell, machine=machine, rules=rules, signer=signer
            )
            made._owned = opened.pop_all()
        return made

    def known_rules(self) -> RuleSet | None:
        """The rules that the cell's partition follows, as far as they are known."""
        return None if self._rules is None else self._rules()

    def report(self, providers: Sequence[ProviderReport], consumers: Sequence[str] | None = None) -> None:
        """Record a full report: the node is `providers`, a tree under the root, and nothing else.

        `consumers`, where given, are those it runs. Raises UsageError if this is no tree, or no valid event.
        """
        parents = {provider.id: provider.parent for provider in providers}
        if len(parents) != len(providers):
            raise UsageError("a provider is reported twice", where=self.root, do="report each provider once")
        try:
            check_tree(self.root, parents)
        except InvalidRecord as error:
            raise UsageError(
                error.what, do="report the root first and each parent before its children"
            ) from None
        self._look_at_rules()
        known = self._known(providers)
        data = {"providers": known, "consumers": None if consumers is None else tuple(consumers)}
        with self._recording:
            if self._retired:  # an incarnation that was retired does not come back
                self._continue(self._new_id(), 0)
            self._record(OutboxKind.FULL, self.cell, data, confirms=bool(consumers))
            self._reported, self._retired = True, False

    def changed(self, providers: Sequence[ProviderReport], removed: Sequence[str] = ()) -> None:
        """Record that `providers` changed or are new, each whole, and that the ids in `removed` are gone.

        Raises OutboxFull when a full report is needed instead, UsageError before the first full report or if this is not
        a valid event.
        """
        if self.root in removed or any(provider.id in removed for provider in providers):
            raise UsageError(
                "a change removes the node itself, or a provider that it also reports",
                where=self.root,
                do="retire the node, or name each provider once",
            )
        with self._recording:
            self._check_reported()
            self._record(
                OutboxKind.CHANGED,
                self.cell,
                {"providers": self._known(providers), "removed": tuple(removed)},
            )

    def heartbeat(self) -> bool:
        """Record a heartbeat. False: nothing was recorded, because a pending event has the same effect.

        Raises UsageError before the first full report.
        """
        with self._recording:
            self._check_reported()
            return self._record(OutboxKind.HEARTBEAT, self.cell, {})

    def retire(self) -> None:
        """Record that the node is gone for good, and forget its cell. A later full report brings it back."""
        with self._recording:
            self._retire_in(self.outbox.cell or self.cell)

    def flush(self, timeout_s: float = 30.0, places: list[AppendedAt] | None = None) -> int:
        """Send pending events, in order. Returns how many the log confirmed. Where `places` is given, those of this
        publisher's own incarnation are added to it; others are of earlier runs.

        Raises LogUnavailable if the log did not confirm all within `timeout_s`, LogError if it refused one. Events that
        are not confirmed stay in the outbox.
        """
        deadline = time.monotonic() + timeout_s
        if not self._sending.acquire(timeout=timeout_s):
            raise LogUnavailable("another thread is still sending", where=self._log.name, do="try again")
        try:
            sent = 0
            while batch := self.outbox.pending(_BATCH):
                left_s = deadline - time.monotonic()
                if sent and left_s <= 0:
                    raise LogUnavailable(
                        f"the log confirmed only {sent} events in {timeout_s:g} s",
                        where=self._log.name,
                        do="try again",
                    )
                # One cell at a time: a log keeps no order between partitions, and a node that moves must be retired in
                # its old cell before it is reported in the new one.
                cell = batch[0].event.cell
                run = next(list(same) for _, same in groupby(batch, key=lambda pending: pending.event.cell))
                entries = self._signed(cell, [pending.event.value for pending in run])
                appended = self._log.append(entries, max(left_s, 0.0))
                self.landed = appended[-1]
                if places is not None:
                    places += [
                        at
                        for pending, at in zip(run, appended, strict=True)
                        if pending.event.incarnation == self.incarnation
                    ]
                self.outbox.acknowledge(run[-1].number)
                sent += len(run)
                self.confirmed += len(run)
            return sent
        finally:
            self._sending.release()

    def _signed(self, cell: str, values: Iterable[bytes]) -> list[NewRecord]:
        """Events as records of a cell. They are signed when they are sent: what waited in the outbox follows what was sent
        before it, and what is sent again is signed again."""
        if self.signer is None:
            return [NewRecord(cell, value) for value in values]
        entries = [NewRecord(cell, self.signer.sign(value, cell)) for value in values]
        self.outbox.note_signed(self.signer.last)
        return entries

    def close(self) -> None:
        """Close what `from_settings` opened. Events that are not sent yet stay in the outbox: `flush` before."""
        self._owned.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _known(self, providers: Iterable[ProviderReport]) -> Providers:
        """The providers as the log's rules can have them."""
        return tuple(providers) if self._knows_health else without_unhealthy(providers)

    def _look_at_rules(self) -> None:
        if self._rules is not None:
            rules = self._rules()
            self._names_machine = rules is not None and NodeReportedV2 in rules.event_models
            self._knows_health = rules is not None and rules.excludes_items

    def _check_reported(self) -> None:
        if not self._reported:
            raise UsageError("the node has not reported yet", where=self.root, do="give a full report first")

    def _retire_in(self, cell: str) -> None:
        known = self.outbox.newest_incarnation
        if not self._reported and known is not None:
            # It retires what this outbox published. Where another publisher took the node over, that changes nothing.
            self._continue(*known)
        elif not self._reported:
            # Only a full report opens an incarnation. This one reports an empty node.
            self._look_at_rules()
            self._record(OutboxKind.FULL, cell, {"providers": (ProviderReport(id=self.root),)})
        self._record(OutboxKind.RETIRED, cell, {})
        self._reported, self._retired = False, True

    def _continue(self, incarnation: str, sequence: int) -> None:
        """Number the next events after `sequence` of this incarnation."""
        if incarnation != self.incarnation:
            self.incarnation, self._sequence = incarnation, sequence

    def _record(
        self, kind: OutboxKind, cell: str, data: Mapping[str, object], *, confirms: bool = False
    ) -> bool:
        sequence = self._sequence + 1
        node = {"root": self.root, "incarnation": self.incarnation, "sequence": sequence}
        model: type[NodeReported | NodeReportedV2 | NodeChanged | NodeHeartbeat | NodeRetired] = _EVENTS[kind]
        if kind is OutboxKind.FULL and self.machine is not None and self._names_machine:
            model, node = NodeReportedV2, {**node, "machine": self.machine}
        try:
            event = model.model_validate(
                {
                    "id": f"{self.incarnation}-{sequence}",
                    "source": f"/node/{self.root}",
                    "time": utc_text(self._clock()),
                    "data": {**node, **data},
                }
            )
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            path = ".".join(str(part) for part in first["loc"])
            raise UsageError(
                f"{path}: {first['msg']}", where=f"node {self.root}", do="correct the report"
            ) from None
        outgoing = Outgoing(cell, kind, self.incarnation, sequence, encode(event), confirms)
        try:
            stored = self.outbox.put(self.root, outgoing)
        except OutboxFull:
            # The number is used up: the gap makes the fold mark the node incomplete until its next full report.
            self._sequence = sequence
            raise
        if stored:
            self._sequence = sequence
        return stored
