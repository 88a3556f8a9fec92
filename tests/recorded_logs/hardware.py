"""Nodes with devices and NUMA cells, made from a seed, whose inventories change while some of them is held."""

from __future__ import annotations

import random
from typing import Any, Final

from tests.support.logs.events_json import Tape, claim, claims, event, released, reported
from tests.support.random_fleets.devices import device_ask, devices
from tests.support.random_fleets.numa import numa_ask, numa_cell
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import Record

NODES: Final = 12
STEPS: Final = 900


def hardware(partition: int, partitions: int, seed: str) -> list[Record]:
    """The records of one partition."""
    tape = Tape(partitions)
    fleet = _Hardware(random.Random(seed), tape, covering_cells(partitions)[partition])
    fleet.write()
    return tape.records[partition]


class _Hardware:
    """Writes reports, claims, releases and moves of one cell."""

    def __init__(self, rng: random.Random, tape: Tape, cell: str) -> None:
        self.rng, self.tape, self.cell = rng, tape, cell
        self.sequences: dict[str, int] = {}
        self.held: list[tuple[str, str, int]] = []
        """Consumer, claim and generation of what may have been granted."""
        self.number = 0

    def write(self) -> None:
        """Every node reports; then nodes, schedulers and time take turns."""
        for number in range(NODES):
            self._report(f"n{number}")
        for _ in range(STEPS):
            deed = self.rng.choices((self._claim, self._release, self._replace, self._change), (12, 3, 2, 1))[
                0
            ]
            deed()
            self.tape.now_ms += self.rng.choice((0, 10, 500, 4_000))

    def _say(self, value: bytes) -> None:
        self.tape.append(self.cell, value)

    def _report(self, root: str) -> None:
        sequence = self.sequences[root] = self.sequences.get(root, 0) + 1
        host: dict[str, Any] = {"id": root, "inventories": devices(self.rng)[0]}
        cells = [
            {"id": f"{root}-numa{n}", "parent": root, "inventories": {"NUMA_CELL": numa_cell(self.rng)[0]}}
            for n in range(2)
        ]
        self._say(reported(root, [host, *cells], sequence=sequence))

    def _change(self) -> None:
        self._report(f"n{self.rng.randrange(NODES)}")

    def _bid(self, consumer: str, **more: Any) -> dict[str, Any]:
        root = f"n{self.rng.randrange(NODES)}"
        allocations = []
        for group in range(self.rng.choice((1, 1, 2))):
            name, ask = self.rng.choice((device_ask, numa_ask, numa_ask))(self.rng)
            provider = f"{root}-numa{self.rng.randrange(2)}" if name == "NUMA_CELL" else root
            allocations.append({"provider": provider, "resources": {name: ask}, "group": f"g{group}"})
        self.number += 1
        deadline_ms = self.tape.now_ms + 60_000
        return claim(f"c{self.number}", consumer, "", {}, deadline_ms, allocations=allocations, **more)

    def _claim(self) -> None:
        bids = [self._bid(f"i{self.number}") for _ in range(self.rng.choice((1, 1, 2)))]
        self.held += [(bid["consumer"], bid["id"], 1) for bid in bids]
        self._say(claims(*bids))

    def _release(self) -> None:
        if self.held:
            consumer, claim_, _ = self.held.pop(self.rng.randrange(len(self.held)))
            self._say(released(consumer, claim_))

    def _replace(self) -> None:
        if self.held:
            at = self.rng.randrange(len(self.held))
            consumer, claim_, generation = self.held[at]
            bid = self._bid(consumer, consumer_generation=generation)
            self._say(event("consumer.replaced.v1", bid))
            if self.rng.random() < 0.5:  # whether it was accepted is not known here: either may hold now
                self.held[at] = (consumer, bid["id"], generation + 1)
            else:
                self.held.append((consumer, claim_, generation))
