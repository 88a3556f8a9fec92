"""Logs of a version of the rules: one that starts with it, and one that is raised to it from the version before midway.

Both have one partition with random worlds that keep to no rule, and one with the events of that version: before the rules are
raised, what is new is a dead letter. Nothing is left to chance: the same build makes the same logs.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from tests.recorded_logs.every_event import name_in
from tests.recorded_logs.recording import Recording
from tests.recorded_logs.tapes import append, play, ports_tape, recording_of
from tests.support.classes.ports_class import Ports
from tests.support.logs.events_json import Tape, rules_in_steps
from tests.support.random_logs.random_events import RandomEvents
from vacancy.resources.model.partitioner import covering_cells

NewEvents = Callable[[random.Random, Tape, str], Iterator[tuple[str, bytes]]]
"""Makes the events of a version, for one cell."""


def log_with_new_events(
    name: str, uuid: str, starts: int, newest: int, new_events: NewEvents, count: int
) -> Recording:
    """Make the log `name` of rules `newest`, with `count` new events. Where `starts` is below `newest` it is raised after half of them."""
    tape = ports_tape(2, starts)
    cells = covering_cells(2)
    tape.cells = (cells[0], cells[0], name_in(0, 2, "b"))
    world = RandomEvents(random.Random(f"{name} world").choice, tape)
    world.settle()
    events = new_events(random.Random(name), tape, name_in(1, 2, "fleet"))
    for half in (0, 1):
        for _ in range(count // 5):
            world.step()
        play(tape, events, count // 2)
        if not half and starts < newest:
            for partition in (0, 1):
                for value in rules_in_steps(newest, [Ports.name]):
                    append(tape, cells[partition], value)
    return recording_of(name, uuid, tape.records)
