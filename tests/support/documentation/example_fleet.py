"""The fleet that the command line's examples speak of: a log with a history of forty hours, and the files of its nodes.

Most examples ask about the past (`--as-of -2h`, `--from -1d`), so the records have timestamps of then. They are written as JSON, and
put into the file as an import of an archive does it, which keeps timestamps.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.support.logs.events_json import claim, claims, event, provider, reported
from vacancy.clients.runtime.bootstrap import installed_registry, opening_records
from vacancy.resources.fold.rules_versions import RULES_VERSION
from vacancy.resources.model.events import Rules
from vacancy.resources.model.partitioner import covering_cells, partition_for
from vacancy.resources.model.record import Record
from vacancy.streams.clocks.clock import wall_ms
from vacancy.streams.log_url import parse_log_url
from vacancy.streams.sqlite.importing import SqliteImport

PARTITIONS = 3
HALL_1, HALL_2 = "hall-1", "hall-2"
_HOUR_MS = 3_600_000


def _host(name: str, *traits: str, **classes: Any) -> dict[str, Any]:
    return provider(name, traits=("HW_CPU_X86_AVX2", *traits), VCPU=16, MEMORY_MB=65_536, **classes)


_GPU = {"0000:81:00.0": {"vendor": "10de", "memory_mb": 81_920}}
NODES: Mapping[str, list[dict[str, Any]]] = {
    "node-1": [_host("node-1", PGPU={"devices": {"81:00.0": {}, "82:00.0": {}}})],
    "node-2": [
        _host("node-2", PCI_DEVICE={"devices": _GPU}),
        provider("node-2:a", "node-2", CUSTOM_GPU_MILLI=1_000),
        provider("node-2:b", "node-2", CUSTOM_GPU_MILLI=1_000),
    ],
    "node-3": [_host("node-3")],
    "node-4": [provider("node-4", VCPU=4, MEMORY_MB=8_192)],
}
"""The nodes of `HALL_1`."""


def write_node_files(home: Path) -> None:
    """The files of the first nodes, for `vacancy publish --file`, and of what they run, for `--running`."""
    for name, tree in NODES.items():
        (home / f"{name}.json").write_text(json.dumps(tree))
    (home / "running-1").write_text("batch-0\nbatch-1\n")
    (home / "running-2").write_text("somebody-else\n")


def write_fleet_log(file: Path) -> None:
    """Make the log.

    `batch-0` and `batch-2` of the project research are on node-1 and node-2 for more than a day. Three hours ago node-3 lost its trait
    CUSTOM_X. One and a half hours ago `batch-1` took what was left of node-1 but two CPUs. node-4 has four CPUs, and
    a taint, so that nothing is placed there by chance.
    """
    past = _Past()
    rules = Rules(version=RULES_VERSION, classes=installed_registry().plugins)
    for cell, value in opening_records(PARTITIONS, rules):
        past.add(40, cell, value)
    first = {**NODES, "node-3": [_host("node-3", "CUSTOM_X")]}
    for root, tree in first.items():
        past.add(39.5, HALL_1, reported(root, tree))
    for number in range(11, 23):
        root = f"node-{number}"
        past.add(39.5, HALL_2, reported(root, [_host(root)]))
    cells = covering_cells(PARTITIONS)
    for partition, root in ((0, "disks-1"), (2, "disks-2")):  # records to look at: 0:7, 2:4 to 2:9
        for sequence in range(1, 12):
            tree = [provider(root, CUSTOM_DISK=sequence)]
            past.add(39.5, cells[partition], reported(root, tree, sequence=sequence))
    for name, node in (("batch-0", "node-1"), ("batch-2", "node-2")):
        past.claim(30, name, node, 2)
    for node, aggregate in (("node-1", "rack-6"), ("node-2", "rack-7")):
        settings = {"provider": node, "revision": 1, "facts": {"aggregates": [aggregate]}}
        past.add(29, HALL_1, event("facts.set.v1", settings))
    taint = {"key": "small", "value": "yes", "effect": "no_schedule"}
    settings = {"provider": "node-4", "revision": 1, "facts": {"taints": [taint]}}
    past.add(29, HALL_1, event("facts.set.v2", settings))
    past.add(3, HALL_1, reported("node-3", NODES["node-3"], sequence=2))
    past.add(2.5, cells[0], b"no event at all")
    past.claim(1.5, "batch-1", "node-1", 12)
    past.write(file)


class _Past:
    """Records with timestamps before now, by partition."""

    def __init__(self) -> None:
        self._now_ms = wall_ms()
        self._records: dict[int, list[Record]] = {p: [] for p in range(PARTITIONS)}

    def add(self, hours_ago: float, cell: str, value: bytes) -> None:
        """The next record of the partition of a cell. Before it are the ticks of a worker: a record advances log time by an hour
        at most."""
        partition = partition_for(cell, PARTITIONS)
        self._tick(partition, hours_ago)
        self._append(partition, hours_ago, cell, value)

    def _tick(self, partition: int, hours_ago: float) -> None:
        there = self._records[partition]
        while there and (now := there[-1].timestamp_ms + _HOUR_MS) < self._at(hours_ago):
            tick_ago = (self._now_ms - now) / _HOUR_MS
            self._append(partition, tick_ago, covering_cells(PARTITIONS)[partition], event("tick.v1", {}))

    def _append(self, partition: int, hours_ago: float, cell: str, value: bytes) -> None:
        there = self._records[partition]
        there.append(Record(partition, len(there), self._at(hours_ago), cell.encode(), value))

    def claim(self, hours_ago: float, consumer: str, node: str, cpus: int) -> None:
        """A claim of a consumer of the project research."""
        deadline_ms = self._at(hours_ago) + 60_000
        one = claim(
            f"claim-{consumer}", consumer, node, {"VCPU": cpus}, deadline_ms, project="research", user="ana"
        )
        self.add(hours_ago, HALL_1, claims(one))

    def _at(self, hours_ago: float) -> int:
        return self._now_ms - round(hours_ago * _HOUR_MS)

    def write(self, file: Path) -> None:
        """Make the log's file."""
        place = parse_log_url(f"sqlite://{file}")
        with closing(SqliteImport(place, "fleet", dict.fromkeys(self._records, 0))) as log:
            for partition, records in self._records.items():
                self._tick(partition, 0)
                log.add(records)
            log.finish()
