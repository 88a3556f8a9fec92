"""Logs of rules version 5: one that starts with it, and one that is raised to it from version 4 midway.

Both have one partition with random worlds that keep to no rule, and one with `Version5Events`: before the rules are raised,
what is new is a dead letter. Nothing is left to chance: the same build makes the same logs.
"""

from __future__ import annotations

import random
from typing import Final

from tests.fuzz.version_5_events import Version5Events
from tests.recorded_logs.every_event import name_in
from tests.recorded_logs.fleet_rules import STEPS_MS, TICK_MS
from tests.recorded_logs.recording import Recording, recorded
from tests.support.events_json import LOG, Tape, event, opened, rules_in_steps
from tests.support.ports_class import Ports
from tests.support.random_events import RandomEvents
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import Record

NAME: Final = "version_5"
RAISED: Final = "raised_to_5"
LOG_UUIDS: Final = {NAME: "5b1fd2c09a6e4c3bb1a84d7f60e2c915", RAISED: "5c83e6f1742d4d0c9e5ab03f18d7642a"}
EVENTS: Final = 1_000


def stated_rules() -> Recording:
    """Make the log that starts with version 5."""
    return _made(NAME, 5)


def raised_to_stated_rules() -> Recording:
    """Make the log that is raised midway."""
    return _made(RAISED, 4)


def _made(name: str, version: int) -> Recording:
    tape = Tape(2, version=version)
    for partition, records in tape.records.items():
        records[0] = records[0]._replace(value=opened(partition, 2, (Ports.name,), version))
    cells = covering_cells(2)
    tape.cells = (cells[0], cells[0], name_in(0, 2, "b"))
    world = RandomEvents(random.Random(f"{name} world").choice, tape)
    world.settle()
    said = Version5Events(random.Random(name), tape, name_in(1, 2, "fleet"))
    for half in (0, 1):
        for _ in range(EVENTS // 5):
            world.step()
        for step in range(EVENTS // 2):
            key, value = next(said)
            there = tape.records[1]
            there.append(Record(1, len(there), tape.now_ms, key.encode(), value))
            tape.now_ms += STEPS_MS[step % len(STEPS_MS)]
        if not half and version < 5:
            for partition in (0, 1):
                for value in rules_in_steps(5, [Ports.name]):
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
