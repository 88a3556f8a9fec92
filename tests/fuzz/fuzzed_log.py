"""A log in which honest records stand between records that no honest writer would write."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tests.fuzz.events.mutations import KEYS, STAMPS_MS, changed
from tests.fuzz.events.rules_events import RulesEvents
from tests.fuzz.events.version_7_events import Version7Events
from tests.fuzz.limit_scenes import SCENES, Scene
from tests.recorded_logs.hardware import hardware
from tests.support.logs.events_json import START_MS, Tape, cells_of, event, opened, rules_in_steps
from tests.support.random_logs.random_events import RandomEvents
from tests.support.random_logs.random_server_groups import RandomServerGroupEvents
from vacancy.resources.fold.rules_versions import RULES_VERSIONS
from vacancy.resources.model.partitioner import partition_for
from vacancy.resources.model.record import Record

PARTITIONS = 2
LEAP_MS = 3_600_000
"""How far log time moves at one record at most."""

TICK = event("tick.v1", {})


BOUNDED = 3
"""The first version of the rules with limits."""

NEWEST = RULES_VERSIONS.newest.version

LARGE = 20_000
"""Bytes from which on a record is seldom changed: that takes long."""


class FuzzTape(Tape):
    """A log in memory that keeps the order of records over all partitions. `versions` are the rules in force."""

    def __init__(self, version: int, classes: Sequence[Sequence[str]]) -> None:
        self.cells = cells_of(PARTITIONS)
        self.now_ms = START_MS
        self.records = {p: [] for p in range(PARTITIONS)}
        self.order: list[Record] = []
        self.versions = [version] * PARTITIONS
        self._claims: dict[str, str] = {}
        for partition, allowed in enumerate(classes):
            self.append(self.cells[partition], opened(partition, PARTITIONS, allowed, version=version))

    def append(self, cell: str, value: bytes) -> Record:
        partition = partition_for(cell, PARTITIONS)
        return self.put(partition, cell.encode(), self._current(partition, value), self.now_ms)

    def put(self, partition: int, key: bytes, value: bytes, stamp_ms: int) -> Record:
        """Write a record where it may not belong, with any timestamp."""
        there = self.records[partition]
        record = Record(partition, len(there), stamp_ms, key, value)
        there.append(record)
        self.order.append(record)
        return record

    def raise_rules(self, partition: int, version: int) -> None:
        """Activate these rules, as the rules in force require."""
        steps = rules_in_steps(version, ["PORTS"])
        for value in steps if self.versions[partition] >= BOUNDED else steps[-1:]:
            self.append(self.cells[partition], value)
        self.versions[partition] = version

    def _current(self, partition: int, value: bytes) -> bytes:
        """The event in the form that the rules in force have: a replacement names the claim that it replaces."""
        if b"claims.requested" not in value and b"consumer.replaced" not in value:
            return value
        body = json.loads(value)
        if body["type"].startswith("vacancy.claims.requested."):
            self._claims.update((claim["consumer"], claim["id"]) for claim in body["data"]["claims"])
        elif self.versions[partition] >= BOUNDED:
            data = body["data"]
            body["type"] = "vacancy.consumer.replaced.v2"
            data["replaces"] = self._claims.get(data["consumer"], "none")
            self._claims[data["consumer"]] = data["id"]
        return json.dumps(body).encode()


@dataclass
class FuzzedLog:
    """A log of `size` records from `seed`. In the cell `quiet` there are honest records only; `bad` are the others.

    It starts with version 1, 2 or 3 of the rules, and is raised midway, or it follows the `newest` from the first record.
    Records with limits go to partition 1, so that what they leave to later records does not keep anything of the quiet cell
    waiting.
    """

    seed: int
    size: int
    newest: bool = False
    raised: bool = False
    bad: set[tuple[int, int]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._rng = rng = random.Random(self.seed)
        version = NEWEST if self.newest else rng.choice((1, 2, BOUNDED, BOUNDED, BOUNDED))
        later = not self.raised and version == BOUNDED and rng.random() < 0.3  # PORTS come midway
        self.tape = tape = FuzzTape(version, [("PORTS",), () if later else ("PORTS",)])
        self.world = RandomEvents(rng.choice, tape)
        self.quiet = tape.cells[-1]
        self._others = _other_honest(rng)
        self._rules = RulesEvents(rng)
        cell = next(c for n in range(1000) if partition_for(c := f"newest-{n}", PARTITIONS) == 1)
        self._newest = Version7Events(rng, tape, cell, raised=self.raised)
        self._scenes: list[tuple[str, Iterator[bytes]]] = []
        raised_at = rng.randrange(self.size) if version < BOUNDED and rng.random() < 0.8 else self.size
        to = BOUNDED
        if self.raised:
            raised_at, to = rng.randrange(self.size // 4, self.size // 2), NEWEST
        self.world.settle()
        while len(tape.order) < self.size:
            self.world.step()
            if tape.versions[0] < to and len(tape.order) > raised_at:
                for partition in range(PARTITIONS):
                    tape.raise_rules(partition, to)
            if rng.random() < 0.3:
                self._write_other()
            if rng.random() < 0.3:
                self._write_scene()
            while tape.versions[1] == NEWEST and rng.random() < 0.6:
                key, value = next(self._newest)
                self._write(partition_for(key, PARTITIONS), key.encode(), value)
            while rng.random() < 0.5:
                self._write_bad()

    @property
    def records(self) -> dict[int, list[Record]]:
        return self.tape.records

    def without_bad(self) -> dict[int, list[Record]]:
        """The same log with ticks in the place of the bad records."""
        return {
            p: [r._replace(value=TICK) if (p, r.offset) in self.bad else r for r in records]
            for p, records in self.records.items()
        }

    def _write_other(self) -> None:
        """A record of the other worlds, in a cell of its own."""
        cell, value = next(self._others)
        self.tape.append(cell, value)

    def _write_scene(self) -> None:
        """The next record of a scene at a limit, or of the activation of rules."""
        rng, tape = self._rng, self.tape
        if tape.versions[1] >= (NEWEST if self.raised else BOUNDED) and rng.random() < 0.2:
            self._write(1, tape.cells[1].encode(), next(self._rules))
            return
        if len(self._scenes) < 2 and rng.random() < 0.05:
            number = len(tape.order)
            cell = next(c for n in range(1000) if partition_for(c := f"limit-{number}-{n}", PARTITIONS) == 1)
            self._scenes.append((cell, rng.choice(list(SCENES.values()))(Scene(rng, tape, cell))))
        if self._scenes:
            cell, values = scene = rng.choice(self._scenes)
            value = next(values, None)
            if value is None:
                self._scenes.remove(scene)
            else:
                self._write(1, cell.encode(), value)

    def _write_bad(self) -> None:
        rng, tape = self._rng, self.tape
        like = rng.choice(tape.order[-200:])
        if b"vacancy.rules." in like.value or (len(like.value) > LARGE and rng.random() < 0.9):
            return
        # What a plugin's class refuses the auditor cannot know: records of one are only repeated.
        repeated = rng.random() < 0.15 or b"PORTS" in like.value
        value = like.value if repeated else changed(rng, like.value)
        key = self._key(like.key)
        partition = partition_for(key, PARTITIONS) if rng.random() < 0.97 else rng.randrange(PARTITIONS)
        self._write(partition, key, value)

    def _write(self, partition: int, key: bytes, value: bytes) -> None:
        """Write a record that is not honest, seldom with a timestamp of another time."""
        rng, tape = self._rng, self.tape
        stamp_ms = tape.now_ms
        if rng.random() < 0.03:
            by = rng.choice(STAMPS_MS)
            stamp_ms = by if by in (-1, 0) else stamp_ms + by
            tape.now_ms += min(max(0, stamp_ms - tape.now_ms), LEAP_MS)  # log time has moved for all
        record = tape.put(partition, key, value, stamp_ms)
        self.bad.add((partition, record.offset))

    def _key(self, key: bytes) -> bytes:
        """The honest record's cell, if it is not the quiet one; else that of others, or no cell's name."""
        quiet = self.quiet.encode()
        if self._rng.random() < 0.03:
            return self._rng.choice((*KEYS, key + b"\0", quiet + b" ", quiet.upper()))
        noisy = [cell.encode() for cell in (*self.tape.cells[:-1], "evil-1", "evil-2")]
        return key if key != quiet and self._rng.random() < 0.8 else self._rng.choice(noisy)


def _other_honest(rng: random.Random) -> Iterator[tuple[str, bytes]]:
    """Records of nodes with devices and NUMA cells, and of schedulers with server groups; without end."""
    while True:
        groups = RandomServerGroupEvents(rng.choice, upheaval=True)
        for _ in range(100):
            groups.step()
        devices = hardware(0, 1, str(rng.getrandbits(32)))
        some = rng.randrange(len(devices) - 100)
        life = rng.getrandbits(32)
        for group, device in zip(groups.tape.records[0][1:], devices[1:14] + devices[some:], strict=False):
            yield groups.tape.cells[0], group.value
            yield f"devices-{life}", device.value
