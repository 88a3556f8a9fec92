"""A race of schedulers through Placement: each is a process with its own API process."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from multiprocessing.connection import Connection
from typing import NamedTuple
from uuid import uuid4

from evaluation.placement.client import PlacementClient
from vacancy.clients.demo.race import Percentiles, percentiles
from vacancy.clients.runtime.child_process import ChildProcess
from vacancy.resources.model.errors import VacancyError

ATTEMPTS = 32
"""Attempts of a scheduler to place an instance: as many as a scheduler of vacancy makes."""

_READY_S = 60.0
_DONE_S = 24 * 3600.0
_CONFLICT = 409
_SERVER_ERROR = 500


class ParticipantResult(NamedTuple):
    """The result of one scheduler.

    `counts`: instances by outcome, `conflicts` (claims answered with 409) and `errors` (answers with 5xx, which were
    retried). `place_ms`: the time of each placed instance, from its first query.
    """

    counts: Counter[str]
    seconds: float
    place_ms: list[float]


class PlacementRaceResult(NamedTuple):
    """The sum over all schedulers; see `ParticipantResult`. `seconds` is the time of the slowest scheduler."""

    accepted: int
    conflicts: int
    errors: int
    seconds: float
    place_ms: Percentiles


def race_placement(ports: Sequence[int], query: str, instances: int, seed: int) -> PlacementRaceResult:
    """Start one scheduler per port at the same time; they place the instances, distributed over them."""
    with ExitStack() as running:
        racers = []
        for number, port in enumerate(ports):
            share = len(range(number, instances, len(ports)))
            arguments = (port, query, share, seed * 1_000_003 + number)
            racers.append(
                running.enter_context(
                    ChildProcess(f"placement-scheduler-{number + 1}", _schedule, *arguments)
                )
            )
        for racer in racers:
            racer.receive(_READY_S)
        for racer in racers:
            racer.send("go")
        done: list[ParticipantResult] = [racer.receive(_DONE_S) for racer in racers]
    counts = sum((one.counts for one in done), Counter[str]())
    return PlacementRaceResult(
        counts["accepted"],
        counts["conflicts"],
        counts["errors"],
        max(one.seconds for one in done),
        percentiles([ms for one in done for ms in one.place_ms]),
    )


def _schedule(parent: Connection, port: int, query: str, instances: int, seed: int) -> None:
    """The process of a scheduler: reports that it is ready, waits for the start message, and sends its result."""
    rng = random.Random(seed)
    counts = Counter[str]()
    place_ms = []
    with PlacementClient(port) as client:
        client.must("GET", "/")  # connects
        parent.send("ready")
        parent.recv()
        started = time.monotonic()
        for _ in range(instances):
            began = time.perf_counter()
            outcome, conflicts = _place(client, query, rng)
            counts[outcome] += 1
            counts["conflicts"] += conflicts
            if outcome == "accepted":
                place_ms.append((time.perf_counter() - began) * 1e3)
        seconds = time.monotonic() - started
        counts["errors"] = client.errors
    parent.send(ParticipantResult(counts, seconds, place_ms))


def _place(client: PlacementClient, query: str, rng: random.Random) -> tuple[str, int]:
    """Place one instance. Returns the outcome and the number of conflicts."""
    consumer = str(uuid4())
    conflicts = 0
    for _ in range(ATTEMPTS):
        found = client.candidates(query)
        if not found:
            return "no_valid_host", conflicts
        status = client.allocate(consumer, rng.choice(found))
        if status < 300:
            return "accepted", conflicts
        if status != _CONFLICT and status < _SERVER_ERROR:
            raise VacancyError(f"Placement answered a claim with {status}", where=f"consumer {consumer}")
        conflicts += status == _CONFLICT
    return "lost", conflicts
