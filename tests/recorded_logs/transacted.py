"""Logs of rules version 6: one that starts with it, and one that is raised to it from version 5 midway.

Both have one partition with random worlds that keep to no rule, and one with `Version6Events`: before the rules are raised,
what is new is a dead letter. Nothing is left to chance: the same build makes the same logs.
"""

from __future__ import annotations

import random
from typing import Final

from tests.fuzz.version_6_events import Version6Events
from tests.recorded_logs.every_event import name_in
from tests.recorded_logs.fleet_rules import STEPS_MS, TICK_MS
from tests.recorded_logs.recording import Recording, recorded
from tests.support.events_json import LOG, Tape, event, opened, rules_in_steps
from tests.support.ports_class import Ports
from tests.support.random_events import RandomEvents
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import Record

NAME: Final = "version_6"
RAISED: Final = "raised_to_6"
LOG_UUIDS: Final = {NAME: "6a0c58e2d7b94f1d8c3e92a41f5b7d08", RAISED: "6e47a1d93b254c8f9d06f8c2b7e1530d"}
EVENTS: Final = 1_400


def transacted_rules() -> Recording:
    """Make the log that starts with version 6."""
    return _made(NAME, 6)


def raised_to_transacted_rules() -> Recording:
    """Make the log that is raised midway."""
    return _made(RAISED, 5)


def _made(name: str, version: int) -> Recording:
    tape = Tape(2, version=version)
    for partition, records in tape.records.items():
        records[0] = records[0]._replace(value=opened(partition, 2, (Ports.name,), version))
    cells = covering_cells(2)
    tape.cells = (cells[0], cells[0], name_in(0, 2, "b"))
    world = RandomEvents(random.Random(f"{name} world").choice, tape)
    world.settle()
    said = Version6Events(random.Random(name), tape, name_in(1, 2, "fleet"))
    for half in (0, 1):
        for _ in range(EVENTS // 5):
            world.step()
        for step in range(EVENTS // 2):
            key, value = next(said)
            there = tape.records[1]
            there.append(Record(1, len(there), tape.now_ms, key.encode(), value))
            tape.now_ms += STEPS_MS[step % len(STEPS_MS)]
        if not half and version < 6:
            for partition in (0, 1):
                for value in rules_in_steps(6, [Ports.name]):
                    tape.append(cells[partition], value)
                    tape.now_ms += 10
    made: dict[int, list[Record]] = {}
    for partition, those in tape.records.items():
        uuid = LOG_UUIDS[name].encode()
        named = [one._replace(value=one.value.replace(LOG.encode(), uuid)) for one in those]
        at_ms = named[-1].timestamp_ms + TICK_MS
        home = cells[partition].encode()
        named.append(Record(partition, len(named), at_ms, home, event("tick.v1", {})))
        made[partition] = named
    return recorded(name, made, (Ports.name,))
