"""The processes of a soak test: a publisher and schedulers that are killed at any moment and restarted.

Each writes its state to a journal, one line at a time, and continues from there after a restart.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from evaluation.soak.changes import GPUS, REFUSED, UNKNOWN, Changes
from evaluation.soak.journal import Journal, journal_of
from evaluation.statistics import report
from vacancy.clients.publisher.outbox import Outbox
from vacancy.clients.publisher.publisher import Publisher
from vacancy.clients.runtime.bootstrap import installed_registry
from vacancy.clients.scheduler.client import Scheduler
from vacancy.clients.scheduler.placement import Outcome
from vacancy.resources.model.errors import LogUnavailable
from vacancy.resources.model.events import ProviderReport
from vacancy.resources.model.partitioner import cell_for
from vacancy.resources.model.record import NewRecord
from vacancy.streams.log import Log, Receipt, open_log

PARTITIONS = 2
"""Few, so that the memtables of each partition are filled and flushed every few minutes, which changes memory use."""

NODES = 60
KEPT_NODES = tuple(f"kept-{number}" for number in range(4))
HELD_MAX = 200
"""About how many consumers a scheduler holds: with two schedulers the nodes are nearly full."""

TIMEOUT_S = 8.0
_SETTLE_S = 40.0
"""How long a scheduler that stops waits beyond the deadlines of what is open: others may use the processor meanwhile."""

_ROUND_S = 0.1
_PLACED_AT_ONCE = 3
_CHANGED_SHARE, _GANG_SHARE, _TAINT_SHARE = 0.4, 0.1, 0.1
"""In how many rounds of a scheduler a consumer is changed, a gang is placed, a taint is set or removed."""

_LIFE = b"00000000000000aa"
"""The incarnation in `evaluation.statistics.report`; the publisher replaces it by the number of its life."""


@dataclass(frozen=True)
class SoakSite:
    """The log and the directory of a soak test.

    `began_ms`: start of the load (ms since 1970). `rate`: records per second of all processes together. `deadline_s`: how long
    a claim may wait for its verdict, in log time; a change of unknown outcome is settled after that.
    """

    log: str
    home: Path
    rate: int
    began_ms: int
    deadline_s: float = 20.0

    def journal(self, name: str) -> Path:
        """The journal of a process."""
        return self.home / f"{name}.journal"

    def outbox(self, root: str) -> Path:
        """The outbox of a node."""
        return self.home / f"{root}.outbox"


def root(number: int) -> str:
    """The name of a node that reports without an outbox."""
    return f"node-{number:03}"


def root_number(name: str) -> int | None:
    """The number of such a node; None for any other name."""
    return int(name.removeprefix("node-")) if name.startswith("node-") else None


def opened(url: str) -> Log:
    """Open the log as soon as it answers."""
    while True:
        with suppress(LogUnavailable):
            return open_log(url)


# -- the publisher --------------------------------------------------------------------------------------------


def publish(stop_pipe: Connection, site: SoakSite, life: int) -> None:
    """Send full reports so that the log grows at the given rate; some nodes publish through outboxes."""
    with opened(site.log) as log, ExitStack() as stack:
        journal = Journal(site.journal("publisher"))
        feed = _Feed(site, log, life, journal)
        kept = []
        for name in KEPT_NODES:
            outbox = stack.enter_context(Outbox(site.outbox(name)))
            kept.append(Publisher(log, name, cell_for(name, PARTITIONS), outbox))
        number = 0
        while not stop_pipe.poll():
            feed.send()
            number += 1
            if number % 10 == 0:
                with suppress(LogUnavailable):  # the outbox has the event
                    _publish_one(kept[number // 10 % len(kept)], number // 10, len(kept))
            time.sleep(_ROUND_S / 2)
        feed.wait()
        for publisher in kept:
            publisher.flush(60.0)


def _publish_one(publisher: Publisher, number: int, nodes: int) -> None:
    inventories: dict[str, Any] = {"VCPU": {"total": 8 + number % 5}, "PGPU": {"devices": GPUS}}
    tree = (ProviderReport(id=publisher.root, inventories=inventories),)
    if number < 2 * nodes or number % 40 < nodes:
        publisher.report(tree)
    elif number % 3:
        publisher.changed(tree)
    else:
        publisher.heartbeat()
    publisher.flush(TIMEOUT_S)


class _Feed:
    """Full reports of many nodes, numbered from 0 in each life. The journal has the number of confirmed reports."""

    def __init__(self, site: SoakSite, log: Log, life: int, journal: Journal) -> None:
        self._site, self._log, self._journal = site, log, journal
        self._life = f"{life:016x}"
        self._sent = self._acked = 0
        self._receipts: deque[tuple[Receipt, int]] = deque()
        self._total, self._read_at = 0, 0.0

    def send(self) -> None:
        """Send as many reports as are missing to the rate. Records of other processes count."""
        now = time.monotonic()
        if now - self._read_at > 0.5:
            self._read_at = now
            with suppress(LogUnavailable):
                self._total = sum(self._log.end().values())
        due = self._site.rate * (time.time() - self._site.began_ms / 1000) - self._total
        count = max(1, min(int(due), int(self._site.rate * _ROUND_S)))
        entries = [self._entry(n) for n in range(self._sent, self._sent + count)]
        with suppress(LogUnavailable):  # then nothing was sent
            receipt = self._log.send(entries)
            self._sent += count
            self._total += count
            self._receipts.append((receipt, self._sent))
        self._confirm(0.0)

    def _entry(self, number: int) -> NewRecord:
        name = root(number % NODES)
        value = report(name, 1 + number // NODES, vcpu=2, memory=1_000_000, disk=10_000 + number % 1000)
        return NewRecord(cell_for(name, PARTITIONS), value.replace(_LIFE, self._life.encode()))

    def wait(self) -> None:
        """Wait until the log has confirmed all reports."""
        self._confirm(120.0)

    def _confirm(self, timeout_s: float) -> None:
        before = self._acked
        while self._receipts and (timeout_s or self._receipts[0][0].done):
            receipt, number = self._receipts.popleft()
            receipt.wait(timeout_s)
            self._acked = number
        if self._acked != before:
            self._journal.write(self._life, self._acked)


# -- a scheduler ----------------------------------------------------------------------------------------------


def schedule(stop_pipe: Connection, site: SoakSite, name: str, store: Path, seed: int) -> None:
    """Place, change and release. Claims that an earlier life left open are settled first."""
    with (
        opened(site.log) as log,
        Scheduler(
            log, store, installed_registry(), name=name, seed=seed, deadline_s=site.deadline_s
        ) as scheduler,
    ):
        choose = random.Random(seed)
        nodes = [root(number) for number in range(NODES)]
        changes = Changes(scheduler, choose, nodes, KEPT_NODES, TIMEOUT_S)
        one = _Scheduling(scheduler, changes, name, Journal(site.journal(name)), choose, site.deadline_s)
        one.recover(journal_of(site.journal(name)))
        while not changes.knows_all_nodes() and not stop_pipe.poll():
            time.sleep(_ROUND_S)
        while not stop_pipe.poll():
            started = time.monotonic()
            one.round()
            time.sleep(max(0.0, 2 * _ROUND_S - (time.monotonic() - started)))
        one.finish()


class _Scheduling:
    """The state of a scheduler: consumers that it holds, claims and changes of unknown outcome, consumers to place again."""

    def __init__(
        self,
        scheduler: Scheduler,
        changes: Changes,
        name: str,
        journal: Journal,
        choose: random.Random,
        deadline_s: float,
    ) -> None:
        self._scheduler, self._changes = scheduler, changes
        self._name, self._journal, self._choose = name, journal, choose
        self._deadline_s = deadline_s
        self._next = 0
        self._held: list[Outcome] = []
        self._again: list[str] = []
        self._open: dict[str, tuple[Outcome | str, int]] = {}
        self._changing: dict[str, int] = {}

    def recover(self, lines: Iterable[list[Any]]) -> None:
        """Restore the state from the journal."""
        known: dict[str, list[Any]] = {}
        for what, consumer, *words in lines:
            known[consumer] = [what, *words]
        self._next = 1 + max((int(consumer.rpartition("-")[2]) for consumer in known), default=-1)
        for consumer, (what, *words) in known.items():
            if what in ("placed", "releasing"):
                claim, cell, until = words
                self._held.append(Outcome("placed", "", consumer, cell=cell, claim=claim, deadline_ms=until))
            elif what == "asked":
                self._open[consumer] = (consumer, self._latest_deadline_ms())
            elif what == "changing":
                self._changing[consumer] = self._latest_deadline_ms()

    def round(self) -> None:
        """Settle open claims, place some consumers, change one, release some."""
        self.settle()
        wanted = [self._again.pop() for _ in range(min(_PLACED_AT_ONCE, len(self._again)))]
        wanted += self._new(_PLACED_AT_ONCE - len(wanted))
        self._place(wanted)
        if self._choose.random() < _GANG_SHARE:
            self._place_gang(self._new(2))
        if self._held and self._choose.random() < _CHANGED_SHARE:
            self._change(self._held.pop(self._choose.randrange(len(self._held))))
        if self._choose.random() < _TAINT_SHARE:
            self._changes.taint_one()
            self._changes.exclude_one()
        if len(self._held) > HELD_MAX:
            self._choose.shuffle(self._held)
            self._release([self._held.pop() for _ in range(8)])

    def _new(self, count: int) -> list[str]:
        """Names of new consumers."""
        self._next += count
        return [f"{self._name}-{number}" for number in range(self._next - count, self._next)]

    def _place(self, wanted: list[str]) -> None:
        for consumer in wanted:
            self._journal.write("asked", consumer)
        requests = [self._changes.request(consumer) for consumer in wanted]
        for outcome in self._scheduler.place_many(requests, in_flight=8, timeout_s=TIMEOUT_S):
            self._record(outcome)

    def _record(self, outcome: Outcome) -> None:
        if outcome.status == "placed":
            self._placed(outcome)
        elif outcome.status == "unknown":
            self._open[outcome.consumer] = (outcome, outcome.deadline_ms)
        else:
            self._journal.write(outcome.status, outcome.consumer)
            self._changes.fetch_quota(outcome)

    def _place_gang(self, wanted: list[str]) -> None:
        """Place two consumers together, or none of them."""
        for consumer in wanted:
            self._journal.write("asked", consumer)
        requests = [self._changes.request(consumer, most_vcpu=2) for consumer in wanted]
        try:
            outcomes = self._scheduler.place_gang(requests, timeout_s=TIMEOUT_S)
        except REFUSED:
            for consumer in wanted:
                self._journal.write("lost", consumer)
        except UNKNOWN:
            for consumer in wanted:
                self._open[consumer] = (consumer, self._latest_deadline_ms())
        else:
            for outcome in outcomes:
                self._placed(outcome)

    def _change(self, held: Outcome) -> None:
        self._journal.write("changing", held.consumer)
        changed = self._changes.change(held)
        if changed is None:
            self._changing[held.consumer] = self._latest_deadline_ms()
        else:
            self._placed(changed)

    def _placed(self, outcome: Outcome) -> None:
        self._journal.write("placed", outcome.consumer, outcome.claim, outcome.cell, outcome.deadline_ms)
        self._held.append(outcome)

    def settle(self, timeout_s: float = 0.0) -> None:
        """Get the outcomes of open claims and changes. Consumers of void claims are placed again under the same name."""
        for consumer, (claimed, deadline_ms) in list(self._open.items()):
            found = self._scheduler.settle(claimed, deadline_ms=deadline_ms, timeout_s=timeout_s or 0.02)
            if found.status == "placed":
                self._placed(
                    Outcome(
                        "placed",
                        "",
                        consumer,
                        cell=found.cell,
                        claim=found.claim,
                        deadline_ms=found.deadline_ms,
                    )
                )
            elif found.status == "void":
                self._journal.write("void", consumer)
                self._again.append(consumer)
            if found.status != "unknown":
                del self._open[consumer]
        for consumer, deadline_ms in list(self._changing.items()):
            passed = self._changes.has_passed(consumer, deadline_ms)
            if passed and (now := self._changes.settled(consumer)) is not None:
                del self._changing[consumer]
                self._placed(now)

    def _release(self, outcomes: list[Outcome]) -> None:
        for one in outcomes:
            self._journal.write("releasing", one.consumer, one.claim, one.cell, one.deadline_ms)
        try:
            self._scheduler.release(outcomes, timeout_s=TIMEOUT_S)
        except LogUnavailable:
            self._held += outcomes  # sending a release twice is harmless
            return
        for one in outcomes:
            self._journal.write("released", one.consumer)

    def finish(self) -> None:
        """Settle all open claims and changes. A change that cannot be settled stays in the journal."""
        self.settle(self._deadline_s + _SETTLE_S)
        give_up_at = time.monotonic() + self._deadline_s + _SETTLE_S
        while self._changing and time.monotonic() < give_up_at:
            time.sleep(_ROUND_S)
            self.settle()

    def _latest_deadline_ms(self) -> int:
        """The latest deadline of a claim that was sent until now."""
        return int((time.time() + self._deadline_s) * 1000)
