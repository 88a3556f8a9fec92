"""The embedded system, with SIGKILL for the worker, a scheduler or a publisher at random moments."""

from __future__ import annotations

import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation.soak.journal import journal_of
from tests.faults.actors import (
    GOES_ON,
    READY,
    Known,
    PublishedEvent,
    outbox_path,
    publish_forever,
    published_events,
    publisher_journal,
    request_of,
    schedule_forever,
    scheduler_journal,
)
from tests.faults.site_on_disk import Site, check_digest, claims_in, spawn, wait_for
from tests.support.queries import find
from vacancy.clients.inspection.lookup import NotFound, show_provider
from vacancy.clients.publisher.outbox import Outbox, QueuedEvents
from vacancy.clients.publisher.publisher import Publisher
from vacancy.clients.runtime.worker_process import WorkerProcess
from vacancy.projections.ranking.orders import RANDOM
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.model.request import RequestGroup, RequestSpec

SEEDS = [int(os.environ["VACANCY_SEED"])] if "VACANCY_SEED" in os.environ else [1]
ROUNDS = 10 if "VACANCY_SEED" in os.environ else 6
PARTITIONS = 4
SCHEDULERS = ("scheduler-1", "scheduler-2")
NODES_OF = {"publisher-1": ("node-1", "node-2", "node-3"), "publisher-2": ("node-4", "node-5")}


SPECS = [
    *(RequestSpec(groups=(RequestGroup(resources={"VCPU": amount}),)) for amount in (1, 3, 6, 12)),
    RequestSpec(groups=(RequestGroup(resources={"MEMORY_MB": 2048}),)),
    RequestSpec(groups=(RequestGroup(resources={"VCPU": 1}, required=("CUSTOM_RED",)),)),
    *(RequestSpec(groups=(RequestGroup(resources={"CUSTOM_GPU": amount}),)) for amount in (1, 2)),
]


class Actor:
    """A scheduler or a publisher that is killed and restarted under the same name."""

    def __init__(self, target: Callable[..., None], choose: random.Random, *words: Any) -> None:
        self._target, self._choose, self._words = target, choose, words

    def start(self) -> None:
        self._ours, theirs = spawn.Pipe(duplex=False)
        words = (*self._words, self._choose.getrandbits(32), theirs)
        self._process = spawn.Process(target=self._target, args=words)
        self._process.start()
        theirs.close()

    def check_goes_on(self) -> None:
        for word in (READY, GOES_ON):
            assert self._ours.poll(90), f"it did not say {word!r}"
            assert self._ours.recv() == word

    def kill(self) -> None:
        self._process.kill()
        self._process.join()
        self._process.close()
        self._ours.close()


class WorkerActor:
    """The worker, one life after the other. Its store must be what the log says whenever it is dead."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._position: dict[int, int] = {}

    def start(self) -> None:
        self._process = WorkerProcess(self._site.url, self._site.store)
        self._process.start()

    def check_goes_on(self) -> None:
        position = self._process.wait_ready()
        assert all(position[p] >= before for p, before in self._position.items())

    def kill(self) -> None:
        self._process.kill()
        if (self._site.store / "store.json").exists():
            position = check_digest(self._site, self._site.home / "shadow")
            assert all(position[p] >= before for p, before in self._position.items())
            self._position = position

    def end(self) -> None:
        """Kill it at any moment, and check its store."""
        self._process.kill()

    def stop(self) -> None:
        self._process.stop()


Cast = dict[str, Actor | WorkerActor]


@contextmanager
def playing(site: Site, choose: random.Random) -> Iterator[Cast]:
    """Run all processes of a host; those that are left are killed at the end."""
    worker = WorkerActor(site)
    cast: Cast = {"worker": worker}
    for name, roots in NODES_OF.items():
        cast[name] = Actor(publish_forever, choose, site, name, roots)
    for name in SCHEDULERS:
        cast[name] = Actor(schedule_forever, choose, site, name)
    running: list[str] = []
    try:
        for name, actor in cast.items():
            actor.start()
            running.append(name)
            if name == "worker":
                actor.check_goes_on()  # before it there is no store to read
        for name in running[1:]:
            cast[name].check_goes_on()
        yield cast
    except BaseException:
        worker.end()  # nobody will stop it in good order
        raise
    finally:
        for name in running:
            if name != "worker":
                cast[name].kill()


@pytest.mark.parametrize("seed", SEEDS)
def test_whichever_process_is_killed_nothing_is_lost_or_done_twice(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A reader that is killed leaves its scratch directory behind: here, where pytest removes it.
    (tmp_path / "scratch").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    try:
        play(Site.made(tmp_path, PARTITIONS), random.Random(seed))
    except BaseException as error:
        error.add_note(f"VACANCY_SEED={seed} repeats this session")
        raise


def play(site: Site, choose: random.Random) -> None:
    roles = [("worker",), SCHEDULERS, tuple(NODES_OF)]
    victims = [choose.choice(roles[number % len(roles)]) for number in range(ROUNDS)]
    choose.shuffle(victims)
    with ExitStack() as stack:
        with playing(site, choose) as cast:
            follower = stack.enter_context(site.reader())
            for victim in victims:
                time.sleep(choose.uniform(0.1, 0.6))
                follower.catch_up()
                cast[victim].kill()
                cast[victim].start()
                if choose.random() < 0.25:  # hardly up, or not yet
                    time.sleep(choose.uniform(0, 0.5))
                    cast[victim].kill()
                    cast[victim].start()
                cast[victim].check_goes_on()
                if victim == "worker":
                    check_schedulers_go_on(site)
            time.sleep(choose.uniform(0.1, 0.6))
        left = {root: flushed(site, root) for roots in NODES_OF.values() for root in roots}
        worker = cast["worker"]
        assert isinstance(worker, WorkerActor)
        site.settle()
        worker.stop()
        check_same_view(site, follower)
    report = site.check_whole()
    assert report.accepted > 0
    check_publishers(site, left)
    check_schedulers(site)


def check_schedulers_go_on(site: Site) -> None:
    """Readers of the store of a worker that died receive what the next worker decides."""

    def decided(name: str) -> int:
        return len(Known.of(scheduler_journal(site, name)).decided)

    before = {name: decided(name) for name in SCHEDULERS}
    wait_for(lambda: all(decided(name) > count for name, count in before.items()))


def check_same_view(site: Site, follower: StoreReader) -> None:
    """A reader that was open during all restarts of the worker has the same view as a new reader."""
    follower.catch_up()
    with site.reader() as newcomer:
        assert follower.position == newcomer.position
        for spec in SPECS:
            seen = [
                {
                    candidate.root
                    for candidate in find(view, spec, limit=100, order=RANDOM, rng=np.random.default_rng(1))
                }
                for view in (follower.view, newcomer.view)
            ]
            assert seen[0] == seen[1]


# -- publishers -----------------------------------------------------------------------------------------------


def flushed(site: Site, root: str) -> list[QueuedEvents]:
    """Send the events that a killed publisher left in its outbox."""
    with site.log() as log, Outbox(outbox_path(site, root)) as outbox:
        left = outbox.pending(10_000)
        Publisher(log, root, site.cell(root), outbox).flush()
        return left


def check_publishers(site: Site, left: dict[str, list[QueuedEvents]]) -> None:
    heard: dict[str, list[dict[str, Any]]] = {root: [] for root in left}
    for records in site.records().values():
        for record in records:
            event = json.loads(record.value)
            if event["type"].startswith("vacancy.node."):
                kind = event["type"].removeprefix("vacancy.node.").removesuffix(".v1")
                heard[event["data"]["root"]].append({**event["data"], "kind": kind})
    for name, roots in NODES_OF.items():
        said = published_events(publisher_journal(site, name))
        for root in roots:
            of_node = [one for one in said if one.root == root]
            check_order(of_node, heard[root])
            check_nothing_lost(of_node, heard[root], left[root])
            check_tables(site, of_node, heard[root])


def numbers(events: list[dict[str, Any]]) -> list[tuple[str, int]]:
    """(incarnation, sequence) of events, in the order of their first occurrence."""
    return list(dict.fromkeys((event["incarnation"], event["sequence"]) for event in events))


def by_event(said: list[PublishedEvent]) -> dict[tuple[str, int, str], PublishedEvent]:
    """What was said under each number and kind. A heartbeat that was not needed leaves its number to the next."""
    return {(*one.number, one.kind): one for one in said}


def check_order(said: list[PublishedEvent], heard: list[dict[str, Any]]) -> None:
    """Check that incarnations and sequences are in order, and that every event in the log was published."""
    meant = by_event(said)
    incarnations = list(dict.fromkeys(one.incarnation for one in said))
    where = [(incarnations.index(incarnation), sequence) for incarnation, sequence in numbers(heard)]
    assert where == sorted(where)
    for event in heard:
        one = meant[event["incarnation"], event["sequence"], event["kind"]]
        assert [plain(provider) for provider in event.get("providers", ())] == one.providers
        assert event.get("removed", []) == one.removed


def check_nothing_lost(
    said: list[PublishedEvent], heard: list[dict[str, Any]], left: list[QueuedEvents]
) -> None:
    """What the outbox took is in the log, but for what a full report made moot before it was sent. Of each
    incarnation, nothing is missing but before a full report."""
    there = set(numbers(heard))
    assert {(pending.event.incarnation, pending.event.sequence) for pending in left} <= there
    assert [one for one in said if one.stored and not one.superseded and one.number not in there] == []
    full = {(event["incarnation"], event["sequence"]) for event in heard if event["kind"] == "reported"}
    for incarnation, sequence in there:
        assert (incarnation, sequence) in full or (incarnation, sequence - 1) in there


def check_tables(site: Site, said: list[PublishedEvent], heard: list[dict[str, Any]]) -> None:
    """Check that the tables have the node's state after its last event."""
    incarnation, sequence = numbers(heard)[-1]
    last = by_event(said)[incarnation, sequence, heard[-1]["kind"]]
    with site.reader() as reader:
        try:
            shown = show_provider(reader, last.root)
        except NotFound:
            assert last.tree == []
            return
    assert shown.node is not None
    assert (shown.node.incarnation, shown.node.sequence) == last.number
    assert shown.node.state == ("open" if last.tree else "retired")
    now = {one.id: one for one in shown.providers if one.reported}
    assert now.keys() == {provider["id"] for provider in last.tree}
    for provider in last.tree:
        one = now[provider["id"]]
        assert (one.parent, one.traits) == (provider["parent"], provider["traits"])
        reported = {i.resource_class: i.record for i in one.inventories if i.record["total"]}
        assert reported.keys() == provider["inventories"].keys()
        for name, inventory in provider["inventories"].items():
            assert inventory.items() <= reported[name].items()


def plain(provider: dict[str, Any]) -> dict[str, Any]:
    """A provider of an event with its default fields."""
    return {"parent": None, "inventories": {}, "traits": [], "attributes": {}, **provider}


# -- schedulers -----------------------------------------------------------------------------------------------


def check_schedulers(site: Site) -> None:
    """What schedulers were answered is true: a placement is an accepted claim, and holds until it is released. Nobody
    who was asked for is in two places."""
    verdicts, held = site.verdicts(), site.allocations()
    claims = Counter(claim["id"] for _, claim in claims_in(site.records()))
    assert set(claims.values()) == {1}
    assert claims.keys() == verdicts.keys()
    accepted = Counter(verdict.consumer for verdict in verdicts.values() if verdict.accepted)
    assert [consumer for consumer, rows in held.items() if len(rows) > 1] == []
    for name in SCHEDULERS:
        path = scheduler_journal(site, name)
        known = Known.of(path)
        assert len(known.decided) > 10
        holds = {
            f"{name}-{number}"
            for number in range(known.asked)
            if request_of(name, number).hold_ms is not None
        }
        for consumer, claim in known.placed.items():
            assert verdicts[claim].accepted
            assert verdicts[claim].consumer == consumer
            if consumer not in known.released and (consumer not in holds or consumer in known.kept):
                assert [row.claim for _, row in held[consumer]] == [claim]
        for what, consumer, *_ in (line for line in journal_of(path) if line[0] in ("no_valid_host", "lost")):
            assert consumer not in accepted or consumer in holds, what
        # A hold that ended before its scheduler was told may be asked for again; nothing else is.
        twice = {consumer for consumer, times in accepted.items() if consumer.startswith(name) and times > 1}
        assert twice <= holds
