"""Measures what signatures cost the fold: the same node reports under rules version 6, under version 7 without signatures, and
signed under version 7. The three take turns, and each folds into RocksDB. Printed is processor time for each record.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from evaluation.benchmarks.fold import BATCH, CELL, reports
from evaluation.statistics import median
from vacancy.clients.runtime.garbage_collector import spare_collector
from vacancy.clients.signing.key_pair import KeyPair
from vacancy.clients.signing.signer import EventSigner
from vacancy.projections.store.store import Store
from vacancy.resources.classes.registry import Registry
from vacancy.resources.model import events
from vacancy.resources.model.record import Record
from vacancy.resources.model.signatures import SigningKeysData, SigningPolicyData, SigningScope, verifies

LOG = "evaluation"
WAYS = ("version_6", "version_7", "signed")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("--nodes", type=int, default=2_000, help="number of nodes (default: %(default)s)")
    parser.add_argument(
        "--rounds",
        type=int,
        default=9,
        help="reports of each node, and medians of them (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON (the only output format)")


def run(arguments: argparse.Namespace) -> int:
    """Run the benchmark and print the result."""
    with tempfile.TemporaryDirectory(prefix="vacancy-signatures-") as directory:
        times = measure(Path(directory), arguments.nodes, arguments.rounds)
    found = {
        "benchmark": "signatures",
        "nodes": arguments.nodes,
        "us_a_record": {name: round(median(rounds), 1) for name, rounds in times.items()},
        "version_7_over_6": round(
            median([b / a for a, b in zip(times["version_6"], times["version_7"], strict=True)]), 3
        ),
        "us_to_verify": round(median([_verify_us() for _ in range(5)]), 1),
    }
    print(json.dumps(found))
    return 0


def measure(directory: Path, nodes: int, rounds: int) -> dict[str, list[float]]:
    """Microseconds of processor time for each record, by way, of each round after the first."""
    opened = {name: _Way(directory / name, name, nodes) for name in WAYS}
    times: dict[str, list[float]] = {name: [] for name in WAYS}
    spare_collector()
    for number in range(rounds + 1):
        for name in WAYS if number % 2 else reversed(WAYS):
            spent = opened[name].fold()
            if number:
                times[name].append(spent / nodes * 1e6)
    for way in opened.values():
        way.store.close()
    return times


class _Way:
    """A store, and the reports that it folds."""

    def __init__(self, directory: Path, name: str, nodes: int) -> None:
        self._nodes = nodes
        self._stream = reports(nodes)
        version = 6 if name == "version_6" else 7
        self.store = Store(directory, log=LOG, partitions=1, registry=Registry(), first_rules=version)
        data = events.LogOpenedData(log=LOG, partition=0, partitions=1, rules=events.Rules(version=version))
        first = [events.encode(events.LogOpened(id="opened", source="/evaluation", data=data))]
        self._sign: Callable[[bytes], bytes] = lambda value: value
        if name == "signed":
            cell, signer = CELL.decode(), EventSigner(KeyPair.from_seed(bytes(32)), lambda: LOG)
            self._sign = lambda value: signer.sign(value, cell)
            first += [self._sign(value) for value in _first_of_signed(signer.key.public.hex(), nodes)]
        self._offset = 0
        self._apply(first)

    def fold(self) -> float:
        """Fold a report of each node. Returns the seconds of processor time without the time to make and sign them."""
        values = [self._sign(record.value) for record in islice(self._stream, self._nodes)]
        return self._apply(values)

    def _apply(self, values: list[bytes]) -> float:
        spent = 0.0
        for at in range(0, len(values), BATCH):
            batch = [
                Record(0, self._offset + number, self._offset + number + 1, CELL, value)
                for number, value in enumerate(values[at : at + BATCH])
            ]
            self._offset += len(batch)
            started = time.process_time()
            self.store.apply(0, batch)
            spent += time.process_time() - started
        return spent


def _first_of_signed(key: str, nodes: int) -> Iterator[bytes]:
    """The policy, and the key of each node. It is one key: what verification costs does not depend on it."""
    policy = SigningPolicyData(revision=1, operators=(key,), required=(SigningScope(),))
    yield events.encode(events.SigningPolicySet(id="policy", source="/evaluation", data=policy))
    for number in range(nodes):
        data = SigningKeysData(root=f"node-{number:07}", revision=1, keys=(key,))
        yield events.encode(events.SigningKeysSet(id="keys", source="/evaluation", data=data))


def _verify_us() -> float:
    key, message = KeyPair.from_seed(bytes(32)), b"x" * 1_000
    signature = key.sign(message)
    started = time.process_time()
    for _ in range(500):
        if not verifies(key.public, signature, message):
            raise AssertionError("the signature does not verify")
    return (time.process_time() - started) / 500 * 1e6
