"""A log in which honest records stand between records that no honest writer would write."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.fuzz.mutations import KEYS, STAMPS_MS, changed
from tests.recorded_logs.hardware import hardware
from tests.support.events_json import Tape, event
from tests.support.random_events import RandomEvents
from tests.support.random_server_groups import RandomServerGroupEvents
from vacancy.resources.model.partitioner import partition_for
from vacancy.resources.model.record import Record

PARTITIONS = 2
LEAP_MS = 3_600_000
"""How far log time moves at one record at most."""

TICK = event("tick.v1", {})


class FuzzTape(Tape):
    """A log in memory that keeps the order of records over all partitions."""

    def __init__(self) -> None:
        self.order: list[Record] = []
        super().__init__(PARTITIONS)

    def append(self, cell: str, value: bytes) -> Record:
        return self.put(partition_for(cell, PARTITIONS), cell.encode(), value, self.now_ms)

    def put(self, partition: int, key: bytes, value: bytes, stamp_ms: int) -> Record:
        """Write a record where it may not belong, with any timestamp."""
        there = self.records[partition]
        record = Record(partition, len(there), stamp_ms, key, value)
        there.append(record)
        self.order.append(record)
        return record


@dataclass
class FuzzedLog:
    """A log of `size` records from `seed`. In the cell `quiet` there are honest records only; `bad` are the others."""

    seed: int
    size: int
    tape: FuzzTape = field(default_factory=FuzzTape)
    bad: set[tuple[int, int]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._rng = rng = random.Random(self.seed)
        self.world = RandomEvents(rng.choice, self.tape)
        self.quiet = self.tape.cells[-1]
        self._others = _other_honest(rng)
        self.world.settle()
        while len(self.tape.order) < self.size:
            self.world.step()
            if rng.random() < 0.3:
                self._write_other()
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

    def _write_bad(self) -> None:
        rng, tape = self._rng, self.tape
        like = rng.choice(tape.order[-200:])
        # What a plugin's class refuses the auditor cannot know: records of one are only repeated.
        repeated = rng.random() < 0.15 or b"PORTS" in like.value
        value = like.value if repeated else changed(rng, like.value)
        key = self._key(like.key)
        partition = partition_for(key, PARTITIONS) if rng.random() < 0.97 else rng.randrange(PARTITIONS)
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
