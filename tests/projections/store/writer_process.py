"""What tests start as a process of its own: a writer of one partition. `writer_process.py flush|hold|fill|activate STORE ...`."""

# ruff: noqa: T201  (its output is what the tests read)

from __future__ import annotations

import itertools
import random
import resource
import select
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.support.classes.ports_class import REGISTRY
from tests.support.logs.events_json import LOG, Tape, event, provider, reported
from tests.support.logs.rules_versions import LATER_BUILD, LATER_VERSION
from vacancy.projections.store import rocksdb
from vacancy.projections.store.partition_store import PartitionStore
from vacancy.projections.store.store import Store
from vacancy.resources.classes.quantity import QuantityRecord
from vacancy.resources.model.errors import VacancyError
from vacancy.resources.model.record import Record
from vacancy.resources.state.rows import ClassRow, DeadLetterRow, NodeRow
from vacancy.resources.state.tables import DEAD_LETTERS, NODES, dead_letter_key
from vacancy.resources.state.transaction import Changes

ACTIVATED_AT = 300
"""The offset of the record that activates `LATER_VERSION` of the rules in `noted_log`."""


class Wheel(NamedTuple):
    """How a table is written: by the first `burst` of every `period` commits, its `rows` in turn. Between two bursts
    no log in memory speaks of it, and what was read of it before must not come back."""

    period: int
    burst: int
    rows: int

    def key(self, position: int) -> bytes | None:
        """What the commit that ends at this position writes."""
        return b"cell\0k%d" % (position % self.rows) if position % self.period < self.burst else None

    def newest(self, position: int, row: int) -> int:
        """The last position up to this one at which the row was written, 0 where it never was."""
        last = position - (position - row) % self.rows
        while last > 0 and last % self.period >= self.burst:
            last -= self.rows
        return max(0, last)


WHEELS = {
    "nodes": Wheel(1, 1, 3),
    "VCPU": Wheel(301, 5, 2),
    "CUSTOM_A": Wheel(1009, 40, 7),
    "PCPU": Wheel(97, 1, 2),
}


def rows_at(position: int) -> Changes:
    """What the commit that ends at this position writes: a position tells every row that there must be."""
    row = ClassRow(QuantityRecord(position, 0, 1, 1, 1, 1000, 0, -1, -1), position, position)
    letter = DeadLetterRow(position, 0, "", b"", bytes(2000), 2000)
    changes: Changes = {DEAD_LETTERS: {dead_letter_key(position): letter}}
    for name, wheel in WHEELS.items():
        key = wheel.key(position)
        if key is not None and name == NODES.name:
            changes[NODES] = {key: NodeRow((), position)}
        elif key is not None:
            table = REGISTRY.table(name)
            changes[table] = {table.prefix + key: row}
    return changes


def flush(store: Path, seed: int, seconds: float) -> None:
    """Commit, flush often by small buffers and by hand, and reopen at intervals: for so long, and until standard input ends. Print the
    last position."""
    rocksdb.WRITE_BUFFER_BYTES = 1024 * 1024
    rng = random.Random(seed)
    tables = PartitionStore(store / "p00000", "store", REGISTRY)
    print("open", flush=True)
    until = time.monotonic() + seconds
    while time.monotonic() < until or not select.select([sys.stdin], [], [], 0)[0]:
        for _ in range(rng.choice((1, 1, 2, 5))):
            position = tables.local.position + 1
            tables.stage(rows_at(position))
            tables.commit(position, position, 0)
        if rng.random() < 0.005:
            tables.close()
            tables = PartitionStore(store / "p00000", "store", REGISTRY)
        time.sleep(rng.choice((0, 0.0005, 0.002)))
    print(tables.local.position, flush=True)
    tables.close()


def hold(store: Path) -> None:
    """Hold the partition until the test ends it."""
    with Store(store, log=LOG, partitions=1, registry=REGISTRY) as tables:
        tables.apply(0, Tape().records[0])
        print("held", flush=True)
        sys.stdin.readline()


def records() -> Iterator[Record]:
    """A log that never ends, and that any process writes alike."""
    tape = Tape()
    yield tape.records[0][0]
    sequence = 0
    while True:
        sequence += 1
        tree = [provider(f"n{n}", "n0" if n else None, VCPU=sequence % 97) for n in range(60)]
        yield tape.append(tape.cells[0], reported("n0", tree, sequence=sequence))
        yield tape.append(tape.cells[0], event("nonsense.v1", {"padding": "x" * 3000}))


def noted_log() -> Iterator[Record]:
    """A log without end, whose `ACTIVATED_AT`th record activates `LATER_VERSION` of the rules. From then on two records of three are
    notes that tell their own offset, and the others reports of a node."""
    tape = Tape()
    yield tape.records[0][0]
    sequence = 0
    for offset in itertools.count(1):
        if offset == ACTIVATED_AT:
            value = event("rules.activated.v1", {"version": LATER_VERSION, "classes": ["PORTS"]})
        elif offset % 3:
            value = event("note.taken.v1", {"text": str(offset)})
        else:
            sequence += 1
            value = reported("n1", [provider("n1", VCPU=offset)], sequence=sequence)
        yield tape.append(tape.cells[0], value)


def open_noted(store: Path) -> Store:
    """The store of `noted_log`, as a build opens it that supports `LATER_VERSION`."""
    return Store(store, log=LOG, partitions=1, registry=REGISTRY, versions=LATER_BUILD)


def fill(store: Path, size_max: int) -> None:
    """Fold until files may not grow beyond `size_max` bytes; print the position reached and the error."""
    with Store(store, log=LOG, partitions=1, registry=REGISTRY) as tables:
        tables.position()
        resource.setrlimit(resource.RLIMIT_FSIZE, (size_max, size_max))
        batch: list[Record] = []
        for record in records():
            batch.append(record)
            if len(batch) < 20:
                continue
            try:
                tables.apply(0, batch)
            except VacancyError as error:
                print(tables.position()[0], type(error).__name__, error, flush=True)
                break
            batch = []
        try:
            tables.apply(0, batch)
        except VacancyError as error:
            print(tables.position()[0], type(error).__name__, error, flush=True)
        sys.stdout.flush()
        import os

        os._exit(0)  # a full disk lets nothing be closed in order


def activate(store: Path, seed: int, seconds: float) -> None:
    """Fold a record of `noted_log`. Once standard input ends, go on across the activation of rules that have more tables; flush and reopen
    at intervals. Prints the position at the end."""
    rocksdb.WRITE_BUFFER_BYTES = 1024 * 1024
    rng = random.Random(seed)
    log = noted_log()
    tables = open_noted(store)
    tables.apply(0, list(itertools.islice(log, 1)))
    print("open", flush=True)
    sys.stdin.read()
    until = time.monotonic() + seconds
    while time.monotonic() < until or tables.position()[0] <= 2 * ACTIVATED_AT:
        tables.apply(0, list(itertools.islice(log, rng.choice((1, 1, 2, 5)))))
        if rng.random() < 0.02:
            rocksdb.flush(tables.partition(0)._db, store / "scratch")
        if rng.random() < 0.005:
            tables.close()
            tables = open_noted(store)
        time.sleep(rng.choice((0, 0.0005, 0.002)))
    print(tables.position()[0], flush=True)
    tables.close()


if __name__ == "__main__":
    job, place, *rest = sys.argv[1:]
    if job == "flush":
        flush(Path(place), int(rest[0]), float(rest[1]))
    elif job == "activate":
        activate(Path(place), int(rest[0]), float(rest[1]))
    elif job == "hold":
        hold(Path(place))
    else:
        fill(Path(place), int(rest[0]))
