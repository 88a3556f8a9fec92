"""The processes that are killed: schedulers and publishers with journals, which they continue after a restart."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from evaluation.soak.journal import Journal, journal_of
from tests.faults.site_on_disk import Site, catch_up_with
from vacancy.clients.admin.operator import confirm
from vacancy.clients.publisher.outbox import Outbox
from vacancy.clients.publisher.publisher import Publisher, diff, new_incarnation
from vacancy.clients.runtime.bootstrap import installed_registry
from vacancy.clients.runtime.child_process import watch_parent
from vacancy.clients.scheduler.client import Scheduler
from vacancy.clients.scheduler.placement import Outcome, PlacementRequest
from vacancy.resources.model.errors import VacancyError
from vacancy.resources.model.events import ProviderReport
from vacancy.resources.model.request import Ask, RequestGroup, RequestSpec

READY, GOES_ON = "ready", "goes on"
IN_FLIGHT = 8
DEADLINE_S = 599.0
"""Of claims: verdicts are there until the test has exported them."""

HELD_MAX = 12
"""About how many consumers a scheduler holds: enough that the nodes are full at times."""

Tree = tuple[ProviderReport, ...]


# -- schedulers -----------------------------------------------------------------------------------------------


@dataclass
class Known:
    """The content of a scheduler's journal. Its consumers are numbered from 0."""

    asked: int = 0
    released: set[str] = field(default_factory=set)
    """Consumers whose release has begun."""
    placed: dict[str, str] = field(default_factory=dict)
    """Consumer -> the claim that placed it."""
    kept: set[str] = field(default_factory=set)
    """Consumers whose hold was confirmed."""
    decided: set[str] = field(default_factory=set)
    """Consumers whose outcome it has read."""

    @classmethod
    def of(cls, path: Path) -> Known:
        known = cls()
        for what, *words in journal_of(path):
            if what == "asked":
                known.asked = max(known.asked, int(words[0]) + 1)
            elif what == "released":
                known.released.update(words)
            elif what == "kept":
                known.kept.add(words[0])
            else:
                known.decided.add(words[0])
                if what == "placed":
                    known.placed[words[0]] = words[1]
        return known


def scheduler_journal(site: Site, name: str) -> Path:
    return site.home / f"{name}.journal"


def request_of(name: str, number: int) -> PlacementRequest:
    """The nth request of a scheduler; it is the same after a restart."""
    choose = random.Random(f"{name} {number}")
    resources: dict[str, Ask] = {"VCPU": choose.randint(1, 4), "MEMORY_MB": 256 * choose.randint(1, 4)}
    required = ("CUSTOM_RED",) if choose.random() < 0.1 else ()
    groups = [RequestGroup(resources=resources, required=required)]
    if choose.random() < 0.2:
        groups.append(RequestGroup(name="gpu", resources={"CUSTOM_GPU": 1}))
    hold_ms = choose.choice((300, 1_000, 2_000)) if choose.random() < 0.25 else None
    return PlacementRequest(
        RequestSpec(groups=tuple(groups)), consumer=f"{name}-{number}", id=f"{name}-{number}", hold_ms=hold_ms
    )


def schedule_forever(site: Site, name: str, seed: int, said: Connection) -> None:
    """Place, release and confirm until killed. Claims of an earlier life are settled first."""
    watch_parent(lambda: os._exit(1))
    path = scheduler_journal(site, name)
    known = Known.of(path)
    with (
        site.log() as log,
        Journal(path) as journal,
        Scheduler(
            log, site.store, installed_registry(), name=name, seed=seed, deadline_s=DEADLINE_S
        ) as scheduler,
    ):
        said.send(READY)
        # All claims sent before the kill are in the log by now, and the store has their outcomes.
        catch_up_with(scheduler.reader, log.end())
        left = [f"{name}-{n}" for n in range(known.asked) if f"{name}-{n}" not in known.released]
        held = {consumer: rows[0][1].claim for consumer in left if (rows := scheduler.allocations(consumer))}
        for consumer, claim in held.items():
            journal.write("placed", consumer, claim)
        scheduler.release(known.released)
        again = [n for n in range(known.asked) if f"{name}-{n}" not in {*held, *known.decided}]
        choose = random.Random(seed)
        outcomes: list[str | Outcome] = [*held]

        def requests() -> Iterator[PlacementRequest]:
            for number in again:
                yield request_of(name, number)
            number = known.asked
            while True:
                time.sleep(0.015)
                journal.write("asked", number)
                yield request_of(name, number)
                number += 1
                if len(outcomes) > HELD_MAX:
                    choose.shuffle(outcomes)
                    gone = [outcomes.pop() for _ in range(choose.randint(1, 8))]
                    journal.write("released", *(c if isinstance(c, str) else c.consumer for c in gone))
                    scheduler.release(gone)

        for number, outcome in enumerate(
            scheduler.place_many(requests(), in_flight=IN_FLIGHT, timeout_s=120.0)
        ):
            journal.write(outcome.status, outcome.consumer, outcome.claim)
            if number == 0:
                said.send(GOES_ON)
            if outcome.status == "placed":
                outcomes.append(outcome)
                if choose.random() < 0.05:
                    _keep(scheduler, outcome.consumer, journal)


def _keep(scheduler: Scheduler, consumer: str, journal: Journal) -> None:
    try:
        cells = confirm(scheduler.log, scheduler.reader, consumer, timeout_s=60.0)
    except VacancyError:
        return  # the hold ended meanwhile
    if cells:  # else it had ended already: the consumer holds nothing
        journal.write("kept", consumer)


# -- publishers -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PublishedEvent:
    """An event that a publisher was about to publish. `stored`: the journal confirms that the outbox has it."""

    root: str
    incarnation: str
    sequence: int
    kind: str
    providers: list[Any]
    removed: list[str]
    tree: list[Any]
    """The node's providers after this event; [] if it is retired."""
    stored: bool
    superseded: bool
    """It may still have been pending when a later full report replaced it."""

    @property
    def number(self) -> tuple[str, int]:
        return self.incarnation, self.sequence


def publisher_journal(site: Site, name: str) -> Path:
    return site.home / f"{name}.journal"


def outbox_path(site: Site, root: str) -> Path:
    return site.home / f"{root}.outbox"


def published_events(path: Path) -> list[PublishedEvent]:
    """The events in a publisher's journal, in order."""
    lines = journal_of(path)
    found = []
    for at, (what, root, *words) in enumerate(lines):
        if what != "says":
            continue
        incarnation, sequence, kind, providers, removed, tree = words
        stored = superseded = False
        for later, where, *more in lines[at + 1 :]:
            if where != root:
                continue
            if later == "stored" and more == [incarnation, sequence]:
                stored = True
            elif later == "flushed" or (later == "says" and more[:2] == [incarnation, sequence]):
                break  # all of it is in the log; or a heartbeat was not needed, and its number was free
            elif later == "says" and more[2] == "reported":
                superseded = True
        found.append(
            PublishedEvent(root, incarnation, sequence, kind, providers, removed, tree, stored, superseded)
        )
    return found


def publish_forever(site: Site, name: str, roots: tuple[str, ...], seed: int, said: Connection) -> None:
    """Publish changes of some nodes until killed. Pending events of an earlier life are sent first."""
    watch_parent(lambda: os._exit(1))
    choose = random.Random(seed)
    with (
        site.log() as log,
        Journal(publisher_journal(site, name)) as journal,
        ExitStack() as outboxes,
    ):
        said.send(READY)
        nodes = []
        for root in roots:
            outbox = outboxes.enter_context(Outbox(outbox_path(site, root)))
            ids = _Incarnations()
            publisher = Publisher(log, root, site.cell(root), outbox, new_id=ids)
            nodes.append(_Node(publisher, ids, journal))
            nodes[-1].flush()
            nodes[-1].report(_tree(root, choose))
            nodes[-1].flush()
        said.send(GOES_ON)
        while True:
            node = choose.choice(nodes)
            draw = choose.random()
            if draw < 0.15 or not node.tree:
                node.report(_tree(node.publisher.root, choose))
            elif draw < 0.35:
                node.heartbeat()
            elif draw < 0.38:
                node.retire()
            else:
                node.change(_tree(node.publisher.root, choose))
            if choose.random() < 0.6:
                node.flush()
            time.sleep(choose.uniform(0, 0.05))


def _tree(root: str, choose: random.Random) -> Tree:
    inventories: dict[str, dict[str, JsonValue]] = {
        "VCPU": {"total": choose.choice((8, 16, 16, 24))},
        "MEMORY_MB": {"total": 1024 * choose.randint(4, 8), "step_size": 256},
    }
    gpus = (
        ProviderReport(id=f"{root}:gpu{number}", parent=root, inventories={"CUSTOM_GPU": {"total": 2}})
        for number in range(4)
        if choose.random() < 0.6
    )
    traits = ("CUSTOM_RED",) if choose.random() < 0.5 else ()
    return (ProviderReport(id=root, inventories=inventories, traits=traits), *gpus)


class _Incarnations:
    """Gives a publisher its incarnations. The next one is known before it is used."""

    def __init__(self) -> None:
        self.next = new_incarnation()

    def __call__(self) -> str:
        given, self.next = self.next, new_incarnation()
        return given


class _Node:
    """A node's publisher, which writes each event to the journal before and after it is stored in the outbox."""

    def __init__(self, publisher: Publisher, incarnations: _Incarnations, journal: Journal) -> None:
        self.publisher = publisher
        self.tree: Tree = ()
        self._incarnations = incarnations
        self._incarnation = publisher.incarnation
        self._retired = False
        self._journal = journal
        self._sequence = 0

    def report(self, tree: Tree) -> None:
        if self._retired:  # a retired incarnation does not come back
            self._incarnation, self._sequence, self._retired = self._incarnations.next, 0, False
        self._says("reported", tree, providers=tree)
        self.publisher.report(tree)
        self._stored()

    def change(self, tree: Tree) -> None:
        change = diff(self.tree, tree)
        if change:
            self._says("changed", tree, providers=change.changed, removed=change.removed)
            self.publisher.changed(*change)
            self._stored()

    def heartbeat(self) -> None:
        self._says("heartbeat", self.tree)
        if self.publisher.heartbeat():
            self._stored()

    def retire(self) -> None:
        self._says("retired", ())
        self.publisher.retire()
        self._stored()
        self._retired = True

    def flush(self) -> None:
        self.publisher.flush()
        self._journal.write("flushed", self.publisher.root)

    def _says(self, kind: str, tree: Tree, *, providers: Tree = (), removed: tuple[str, ...] = ()) -> None:
        self.tree = tree
        self._journal.write(
            "says",
            self.publisher.root,
            self._incarnation,
            self._sequence + 1,
            kind,
            [provider.model_dump(mode="json") for provider in providers],
            removed,
            [provider.model_dump(mode="json") for provider in tree],
        )

    def _stored(self) -> None:
        self._sequence += 1
        self._journal.write("stored", self.publisher.root, self._incarnation, self._sequence)
