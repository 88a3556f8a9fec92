"""A log of rules version 3: every limit is reached and passed, rules are activated in steps, two writers speak for a node.

Each scene of `tests/fuzz/limit_scenes.py` gets two partitions of its own, from fixed seeds. Before them comes a partition of
version 1 that is raised midway, and one in which rules are proposed, supported, withdrawn and activated. Nothing is left to
chance: the same build makes the same log.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, Final

from tests.fuzz.events.rules_events import RulesEvents
from tests.fuzz.limit_scenes import SCENES, Scene
from tests.recorded_logs.recording import Recording, recorded
from tests.support.classes.ports_class import Ports
from tests.support.logs.events_json import (
    LOG,
    START_MS,
    Tape,
    claim,
    claims,
    event,
    opened,
    provider,
    reported,
)
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import Record

NAME: Final = "version_3"
LOG_UUID: Final = "3c1f0a52b7d94f0ea6c2d18e5b7f9a03"
ROUNDS: Final = 2
RULES_EVENTS: Final = 60
STEPS_MS: Final = (10, 10, 2_000, 40_000)
TICKS: Final = 12
"""Records that let time pass at the end of each partition: an hour each."""


def bounded_rules() -> Recording:
    """Make the log."""
    partitions = 3 + ROUNDS * len(SCENES)
    cells = covering_cells(partitions)
    records = {
        0: _said(0, partitions, _raised(cells[0]), version=1),
        1: _said(1, partitions, _steps(cells[1])),
        2: _said(2, partitions, _many_steps()),
    }
    for number, name in enumerate(SCENES):
        for round_ in range(ROUNDS):
            partition = 3 + ROUNDS * number + round_
            tape = Tape(1)
            scene = Scene(random.Random(f"{NAME} {name} {round_}"), tape, cells[partition])
            records[partition] = _said(partition, partitions, SCENES[name](scene), tape=tape)
    named = {
        partition: [one._replace(value=one.value.replace(LOG.encode(), LOG_UUID.encode())) for one in those]
        for partition, those in records.items()
    }
    return recorded(NAME, named, (Ports.name,))


def _said(
    partition: int, partitions: int, values: Iterator[bytes], *, version: int = 3, tape: Tape | None = None
) -> list[Record]:
    """The records of a partition with these values, and the time that passes between them."""
    key = covering_cells(partitions)[partition].encode()
    first = opened(partition, partitions, (), version=version)
    found = [Record(partition, 0, START_MS, key, first)]
    now_ms = START_MS
    for number, value in enumerate(values, start=1):
        found.append(Record(partition, number, now_ms, key, value))
        now_ms += STEPS_MS[number % len(STEPS_MS)]
        if tape is not None:
            tape.now_ms = now_ms
    for _ in range(TICKS):
        now_ms += 3_600_000
        found.append(Record(partition, len(found), now_ms, key, event("tick.v1", {})))
    return found


def _raised(cell: str) -> Iterator[bytes]:
    """What version 1 wrote, and what version 3 makes of it."""
    wide = [provider(f"n-{n}", "n", VCPU=100) for n in range(1, 200)]
    yield reported("n", [provider("n", VCPU=100), *wide])
    deadline_ms = START_MS + 500_000
    for number in range(10):
        hold: Any = {"hold_until_ms": START_MS + 100_000} if number % 2 else {}
        yield claims(claim(f"c{number}", f"i{number}", f"n-{number + 1}", {"VCPU": 1}, deadline_ms, **hold))
    move = claim("c10", "i0", "n-9", {"VCPU": 2}, deadline_ms, consumer_generation=1)
    yield event("consumer.replaced.v2", {**move, "replaces": "c0"})
    yield event("rules.proposed.v1", {"version": 3, "classes": []})
    yield event("rules.activated.v1", {"version": 3, "classes": []})
    yield event("consumer.replaced.v1", move)
    yield event("consumer.replaced.v2", {**move, "id": "c11", "replaces": "c1"})
    yield event("consumer.replaced.v2", {**move, "id": "c12", "replaces": "c0"})
    yield event("rules.activated.v1", {"version": 3, "classes": [Ports.name]})
    yield reported("n", [provider("n", VCPU=100), *wide[:50]], sequence=2)
    yield reported("n", [provider("n", VCPU=100)], sequence=3)
    yield claims(claim("c13", "i13", "n", {"VCPU": 1}, deadline_ms))
    yield event("node.retired.v1", {"root": "n", "incarnation": f"{1:016x}", "sequence": 4})


def _steps(cell: str) -> Iterator[bytes]:
    """A plugin's class is proposed, supported and activated, and what is missing at each step is refused."""
    ports = {"version": 3, "classes": [Ports.name]}
    yield event("rules.activated.v1", ports)
    yield event("rules.proposed.v1", ports, "p1")
    yield event("rules.proposed.v1", ports, "p1")
    yield event("rules.activated.v1", ports)
    lacking = {"proposal": "p1", "store": "s1", "host": "h1", "missing": ["resource class PORTS"]}
    yield event("rules.supported.v1", lacking)
    yield event("rules.activated.v1", ports)
    yield event("rules.withdrawn.v1", {"proposal": "p1"})
    yield event("rules.supported.v1", {**lacking, "missing": []})
    yield event("rules.withdrawn.v1", {"proposal": "p1"})
    yield event("rules.proposed.v1", {"version": 1, "classes": []}, "p2")
    yield event("rules.proposed.v1", ports, "p3")
    yield event("rules.supported.v1", {"proposal": "p3", "store": "s1"})
    yield event("rules.supported.v1", {"proposal": "p3", "store": "s2"})
    yield reported("n", [provider("n", PORTS={"ports": [80, 81]})])
    yield event("rules.activated.v1", {"version": 3, "classes": []})
    yield event("rules.activated.v1", ports)
    yield reported("n", [provider("n", PORTS={"ports": [80, 81]})])
    bid = claim("c1", "i1", "n", {"PORTS": 1}, START_MS + 500_000)
    yield claims(bid)
    yield event("rules.proposed.v1", {"version": 99, "classes": [Ports.name]}, "p4")
    yield event("rules.activated.v1", {"version": 99, "classes": [Ports.name]})


def _many_steps() -> Iterator[bytes]:
    """Proposals in any order."""
    events = RulesEvents(random.Random(NAME))
    for _ in range(RULES_EVENTS):
        yield next(events)
