"""One run of the model: requests arrive, schedulers claim, the log orders, workers of each host fold, schedulers follow.

A step has the costs of `Costs` and waits as `Pacing` says. The verdict of a claim depends only on its place in the log, so it is
decided once, when the claim is appended; each host knows it when its worker has folded that record.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from evaluation.model.deployment import TOGETHER_MAX, Costs, Deployment
from evaluation.model.fleet import ModelFleet
from evaluation.model.outcome import Outcome, percentiles_ms
from evaluation.model.simulation import Action, Cores, Server, Simulation

BACKGROUND_S = 0.02
"""Heartbeats and reports of a partition are put into the log together, this often."""

_POLL_GROWTH = 0.1
"""By how much the pauses of a worker that finds nothing grow."""

_FEW = 4
"""With fewer claims in flight, a scheduler looks for news often."""


@dataclass(slots=True, eq=False)
class _Request:
    """A request under way. `node`: what its claim asks for, and `accepted` its verdict, once it is in the log."""

    arrived: float
    node: int = -1
    accepted: bool = False
    avoid: set[int] = field(default_factory=set)


@dataclass(slots=True, eq=False)
class _Entry:
    """Records of a partition that were appended together, and the sequence of the fleet after them."""

    partition: int
    records: int
    fold_s: float
    follow_s: float
    sequence: int
    appended: float
    owner: Scheduler | None = None
    requests: Sequence[_Request] = ()


class Scheduler:
    """A scheduler's process: looks for news, queries for what is ready, and sends claims, as `Pipeline` does."""

    def __init__(self, system: System, host: Host) -> None:
        self._system, self._host = system, host
        self._waiting: deque[_Request] = deque()
        self._in_flight = self._held = 0
        self._reserved: Counter[int] = Counter()
        self._seen = [0] * system.deployment.partitions
        self._followed = 0
        self._queried_at = -1.0
        self._progress_at = 0.0
        self._asleep = True
        self._wake_number = 0
        self.backlog: deque[_Request] = deque()
        self.busy_s = 0.0

    def arrive(self, request: _Request) -> None:
        """A request comes from outside."""
        self.backlog.append(request)
        self.wake()

    def wake(self) -> None:
        """Look for news now, unless it is at work."""
        if self._asleep:
            self._asleep = False
            self._wake_number += 1
            self._look()

    def _work(self, cost_s: float, done: Action) -> None:
        def worked() -> None:
            self.busy_s += cost_s
            done()

        self._host.cores.work(cost_s, worked)

    def _look(self) -> None:
        costs = self._system.costs
        news = self._host.feed_after(self._followed)
        self._followed += len(news)
        own = [request for one in news if one.owner is self for request in one.requests]
        cost_s = costs.look_s + sum(one.follow_s for one in news)
        self._work(cost_s, lambda: self._looked(news, own))

    def _looked(self, news: Sequence[_Entry], own: Sequence[_Request]) -> None:
        system = self._system
        for one in news:
            self._seen[one.partition] = max(self._seen[one.partition], one.sequence)
            if one.owner is self:
                system.note_followed(one)
        for request in own:
            self._in_flight -= 1
            self._reserved[request.node] -= 1
            if request.accepted:
                system.decided(request)
            else:
                request.avoid.add(request.node)
                system.conflicts += 1
                self._waiting.appendleft(request)
        self._fill_up()
        if own:
            self._progress_at = system.simulation.now
        ready = self._take_ready()
        if ready:
            self._query(ready)
        elif own or self._host.has_after(self._followed):
            self._look()
        else:
            self._sleep()

    def _fill_up(self) -> None:
        system = self._system
        while len(self._waiting) + self._in_flight < system.deployment.in_flight:
            request = self.backlog.popleft() if self.backlog else system.next_request()
            if request is None:
                return
            self._waiting.append(request)

    def _take_ready(self) -> list[_Request]:
        if not self._waiting:
            return []
        deployment, now = self._system.deployment, self._system.simulation.now
        batch = max(1, min(deployment.in_flight // 2, TOGETHER_MAX))
        gather_s = max(deployment.pacing.gather_s, batch * deployment.pacing.gather_each_s)
        if self._in_flight and len(self._waiting) < batch and now - self._queried_at < gather_s:
            return []
        self._queried_at = now
        ready = list(self._waiting)
        self._waiting.clear()
        return ready

    def _query(self, ready: list[_Request]) -> None:
        """One search finds places for up to 64 requests in one partition, so that their claims share a record."""
        some, rest = ready[:TOGETHER_MAX], ready[TOGETHER_MAX:]
        some.sort(key=lambda one: bool(one.avoid))
        if some[0].avoid:
            some, rest = some[:1], some[1:] + rest  # one that was rejected is searched for alone
        else:
            count = sum(1 for one in some if not one.avoid)
            some, rest = some[:count], some[count:] + rest
        nodes = self._system.fleet.choose(len(some), self._seen, self._reserved, some[0].avoid)
        if not nodes:
            self._system.no_host(some[0])
            rest = some[1:] + rest
            some = []
        claims, rest = some[: len(nodes)], some[len(nodes) :] + rest
        self._held = len(rest)
        for request, node in zip(claims, nodes, strict=True):
            request.node = node
            self._reserved[node] += 1
            self._in_flight += 1
        costs = self._system.costs
        cost_s = costs.search_s + len(claims) * (costs.query_s + costs.claim_s)
        self._work(cost_s + (costs.record_s if claims else 0), lambda: self._send(claims, rest))

    def _send(self, claims: list[_Request], rest: list[_Request]) -> None:
        if claims:
            self._system.append_claims(self, claims, lambda: self._sent(rest))
        else:
            self._sent(rest)

    def _sent(self, rest: list[_Request]) -> None:
        self._progress_at = self._system.simulation.now
        if rest:
            self._query(rest)
        else:
            self._look()

    def _sleep(self) -> None:
        """Until the next look. With `IMMEDIATE` it sleeps until something wakes it."""
        pacing, now = self._system.deployment.pacing, self._system.simulation.now
        self._asleep = True
        self._wake_number += 1
        if not pacing.look_max_s or not (self._waiting or self._in_flight):
            return
        idle_s = now - self._progress_at
        few = self._in_flight < _FEW
        pause_s = max(idle_s / 16, pacing.look_few_s) if few else max(idle_s / 2, pacing.look_min_s)
        pause_s = min(pause_s, pacing.look_max_s)
        number = self._wake_number
        self._system.simulation.after(pause_s, lambda: self.wake() if number == self._wake_number else None)

    @property
    def open(self) -> int:
        """Requests that it has and that have no verdict."""
        return len(self.backlog) + len(self._waiting) + self._held + self._in_flight


class Worker:
    """A worker's process: folds what is in the log of its partitions, a batch of one partition after the other."""

    def __init__(self, system: System, host: Host, partitions: Sequence[int]) -> None:
        self._system, self._host = system, host
        self._queues: dict[int, deque[_Entry]] = {partition: deque() for partition in partitions}
        self._order = deque(partitions)
        self._idle = True
        self._idle_since = 0.0
        self.busy_s = 0.0

    def receive(self, entry: _Entry) -> None:
        """A record can be read. A worker that polls finds it at its next poll."""
        self._queues[entry.partition].append(entry)
        if not self._idle:
            return
        self._idle = False
        self._system.simulation.after(self._until_poll_s(), self._fold)

    def _until_poll_s(self) -> float:
        pacing, now = self._system.deployment.pacing, self._system.simulation.now
        # The pauses grow by a tenth each, so after some time the pause is a tenth of that longer than the first.
        pause_s = min(pacing.poll_min_s + _POLL_GROWTH * (now - self._idle_since), pacing.poll_max_s)
        return self._system.rng.random() * pause_s

    def _fold(self) -> None:
        batch: list[_Entry] = []
        for _ in range(len(self._order)):
            self._order.rotate(-1)
            queue, records = self._queues[self._order[-1]], 0
            while queue and (not batch or records + queue[0].records <= self._system.deployment.batch_max):
                records += queue[0].records
                batch.append(queue.popleft())
            if batch:
                break
        if not batch:
            self._idle, self._idle_since = True, self._system.simulation.now
            return
        cost_s = self._system.costs.commit_s + sum(one.fold_s for one in batch)
        self._host.cores.work(cost_s, lambda: self._folded(batch, cost_s))

    def _folded(self, batch: list[_Entry], cost_s: float) -> None:
        self.busy_s += cost_s
        self._host.commit(batch)
        self._fold()


class Host:
    """A host: cores, a worker for some of the partitions each, schedulers, and the feed that these follow."""

    def __init__(self, system: System) -> None:
        deployment = system.deployment
        self.cores = Cores(system.simulation, deployment.cores)
        self._pushes = not deployment.pacing.look_max_s
        every = range(deployment.partitions)
        self.workers = [
            Worker(system, self, every[n :: deployment.workers]) for n in range(deployment.workers)
        ]
        self.schedulers = [Scheduler(system, self) for _ in range(deployment.schedulers)]
        self._feed: list[_Entry] = []

    def receive(self, entry: _Entry) -> None:
        """A record can be read from the log."""
        self.workers[entry.partition % len(self.workers)].receive(entry)

    def commit(self, batch: Sequence[_Entry]) -> None:
        """A worker has folded these: schedulers see them at their next look."""
        self._feed.extend(batch)
        if self._pushes:
            for scheduler in self.schedulers:
                scheduler.wake()

    def feed_after(self, position: int) -> list[_Entry]:
        """What was committed after a position of the feed."""
        return self._feed[position:]

    def has_after(self, position: int) -> bool:
        """Whether there is anything after a position of the feed."""
        return len(self._feed) > position


class System:
    """A deployment under way. See `run_model`."""

    def __init__(self, deployment: Deployment, costs: Costs, seed: int) -> None:
        self.deployment, self.costs = deployment, costs
        self.rng = random.Random(seed)
        self.simulation = Simulation()
        self.fleet = ModelFleet(
            deployment.nodes, deployment.room, deployment.partitions, deployment.fill, self.rng
        )
        self._brokers = [Server(self.simulation) for _ in range(deployment.brokers)]
        self.hosts = [Host(self) for _ in range(deployment.hosts)]
        self.schedulers = [one for host in self.hosts for one in host.schedulers]
        self.conflicts = self.accepted = self.nowhere = self.submitted = 0
        self._warm_up_s = 0.0
        self._latencies: list[float] = []
        self._area = self._area_from = 0.0
        self._open = 0
        self._lag_s = self._lags = 0.0
        self._at_warm_up: tuple[int, int] = (0, 0)

    def run(self, seconds: float, warm_up_s: float) -> Outcome:
        """Run for this time of the model, or until all requests are done. See `run_model`."""
        self._warm_up_s = warm_up_s
        self.simulation.after(warm_up_s, self._note_warm_up)
        if self.deployment.arrivals_per_s is None:
            for scheduler in self.schedulers:
                self.simulation.after(0.0, scheduler.wake)
        else:
            self._schedule_arrival()
        if any(self.deployment.background_per_s):
            self._schedule_background()
        self.simulation.run(until_s=seconds)
        self._count_open(0)
        return self._outcome()

    def _note_warm_up(self) -> None:
        self._count_open(0)
        self._area = 0.0
        self._at_warm_up = (self.accepted, self.conflicts)

    # -- requests -----------------------------------------------------------------------------------------------

    def _schedule_arrival(self) -> None:
        per_s = self.deployment.arrivals_per_s
        if per_s and self._may_submit():
            self.simulation.after(self.rng.expovariate(per_s), self._arrive)

    def _arrive(self) -> None:
        request = self._submit()
        self.schedulers[self.submitted % len(self.schedulers)].arrive(request)
        self._schedule_arrival()

    def _may_submit(self) -> bool:
        return self.deployment.requests is None or self.submitted < self.deployment.requests

    def _submit(self) -> _Request:
        self.submitted += 1
        self._count_open(1)
        return _Request(self.simulation.now)

    def next_request(self) -> _Request | None:
        """The next request of a scheduler that always has one; None where requests arrive from outside."""
        if self.deployment.arrivals_per_s is not None or not self._may_submit():
            return None
        return self._submit()

    def decided(self, request: _Request) -> None:
        """A scheduler has seen that a request was accepted."""
        self.accepted += 1
        self._end(request)
        if self.deployment.replaced and (node := self.fleet.release_one()) is not None:
            self._append_release(node)

    def no_host(self, request: _Request) -> None:
        """A scheduler found no node with room."""
        self.nowhere += 1
        self._end(request)

    def _end(self, request: _Request) -> None:
        self._count_open(-1)
        if request.arrived >= self._warm_up_s:
            self._latencies.append(self.simulation.now - request.arrived)
        if self.accepted + self.nowhere == self.deployment.requests:
            self.simulation.stop()

    def _count_open(self, change: int) -> None:
        now = self.simulation.now
        self._area += self._open * (now - self._area_from)
        self._area_from = now
        self._open += change

    # -- the log ------------------------------------------------------------------------------------------------

    def append_claims(self, owner: Scheduler, requests: Sequence[_Request], sent: Action) -> None:
        """Append the claims of one record, with a record of their requests, which goes to the partition of their ids. The claims are
        judged in this order. `sent` is called when the log has both."""
        partition = requests[0].node % self.deployment.partitions

        def appended() -> None:
            for request in requests:
                request.accepted = self.fleet.judge(request.node)
            entry = self._entry(partition, 1, claims=len(requests))
            entry.owner, entry.requests = owner, requests
            received = self._entry(self.rng.randrange(self.deployment.partitions), 1)
            received.fold_s = self.costs.judge_record_s
            self._deliver(received)
            self._deliver(entry)
            sent()

        self._broker(partition).serve(self.costs.append_s, appended)

    def _append_release(self, node: int) -> None:
        """Releases are sent many at a time: one costs what a claim costs, and no record of its own."""
        partition = node % self.deployment.partitions
        self._deliver(self._entry(partition, 0, claims=1))

    def _schedule_background(self) -> None:
        heartbeats, reports = self.deployment.background_per_s
        due = {"heartbeats": 0.0, "reports": 0.0}
        partitions = self.deployment.partitions

        def tick(number: int) -> None:
            partition = number % partitions
            due["heartbeats"] += heartbeats * BACKGROUND_S / partitions
            due["reports"] += reports * BACKGROUND_S / partitions
            beats, full = int(due["heartbeats"]), int(due["reports"])
            due["heartbeats"] -= beats
            due["reports"] -= full
            if records := beats + full:
                entry = self._entry(partition, records, heartbeats=beats, reports=full)
                self._broker(partition).serve(records * self.costs.append_s, lambda: self._deliver(entry))
            self.simulation.after(BACKGROUND_S / partitions, lambda: tick(number + 1))

        tick(0)

    def _broker(self, partition: int) -> Server:
        return self._brokers[partition % len(self._brokers)]

    def _entry(
        self, partition: int, records: int, *, claims: int = 0, heartbeats: int = 0, reports: int = 0
    ) -> _Entry:
        costs = self.costs
        fold_s = claims * costs.judge_s + heartbeats * costs.heartbeat_s + reports * costs.report_s
        follow_s = (
            claims * costs.follow_claim_s
            + heartbeats * costs.follow_heartbeat_s
            + reports * costs.follow_report_s
        )
        sequence = self.fleet.sequence[partition]
        return _Entry(partition, records, fold_s, follow_s, sequence, self.simulation.now)

    def _deliver(self, entry: _Entry) -> None:
        def read() -> None:
            for host in self.hosts:
                host.receive(entry)

        self.simulation.after(self.costs.latency_s, read)

    # -- results ------------------------------------------------------------------------------------------------

    def note_followed(self, entry: _Entry) -> None:
        """A scheduler has followed an entry of its own."""
        if entry.appended >= self._warm_up_s:
            self._lag_s += self.simulation.now - entry.appended
            self._lags += 1

    def _outcome(self) -> Outcome:
        now, deployment = self.simulation.now, self.deployment
        each = 1e6 / max(1, self.accepted)
        measured_s = max(1e-9, now - self._warm_up_s)
        accepted, conflicts = self.accepted - self._at_warm_up[0], self.conflicts - self._at_warm_up[1]
        return Outcome(
            seconds=now,
            submitted=self.submitted,
            accepted=self.accepted,
            no_host=self.nowhere,
            open=self._open,
            conflicts=self.conflicts,
            placements_per_s=accepted / measured_s,
            conflict_share=conflicts / max(1, accepted + conflicts),
            latency_ms=percentiles_ms(self._latencies),
            mean_latency_s=sum(self._latencies) / max(1, len(self._latencies)),
            in_flight=self._area / measured_s,
            lag_ms=self._lag_s / max(1.0, self._lags) * 1e3,
            busy={
                "log": max(one.busy_s for one in self._brokers) / now,
                "worker": max(one.busy_s for host in self.hosts for one in host.workers) / now,
                "scheduler": max(one.busy_s for one in self.schedulers) / now,
                "cores": max(host.cores.busy_s for host in self.hosts) / now / deployment.cores,
            },
            cpu_us={
                "workers": sum(one.busy_s for host in self.hosts for one in host.workers) * each,
                "schedulers": sum(one.busy_s for one in self.schedulers) * each,
            },
            events=self.simulation.events,
        )


def run_model(
    deployment: Deployment, costs: Costs, *, seconds: float, warm_up_s: float = 0.0, seed: int = 1
) -> Outcome:
    """Run a deployment for some time of the model, or until all of its requests are done."""
    return System(deployment, costs, seed).run(seconds, warm_up_s)
