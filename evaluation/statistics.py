"""Shared by the benchmarks: percentiles, memory use, and node reports of plain compute nodes."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from vacancy.resources.model.errors import UsageError

REPORT = (
    '{"specversion":"1.0","type":"vacancy.node.reported.v1","id":"%(root)s-%(sequence)d","source":"/node/%(root)s",'
    '"time":"2026-01-01T00:00:00Z","data":{"root":"%(root)s","incarnation":"00000000000000aa",'
    '"sequence":%(sequence)d,"providers":[{"id":"%(root)s","inventories":{'
    '"DISK_GB":{"total":%(disk)d,"reserved":0,"min_unit":1,"max_unit":%(disk)d,"step_size":1,"allocation_ratio_milli":1000},'
    '"MEMORY_MB":{"total":%(memory)d,"reserved":512,"min_unit":1,"max_unit":%(memory)d,"step_size":1,"allocation_ratio_milli":1000},'
    '"VCPU":{"total":%(vcpu)d,"reserved":0,"min_unit":1,"max_unit":%(vcpu)d,"step_size":1,"allocation_ratio_milli":16000}},'
    '"traits":%(traits)s}]}}'
)
"""A full node report in the format of a publisher: three classes, all fields."""


def report(
    root: str, sequence: int, *, vcpu: int, memory: int, disk: int, traits: Sequence[str] = ()
) -> bytes:
    """One node's full report as JSON."""
    fields: dict[str, Any] = {
        "root": root,
        "sequence": sequence,
        "vcpu": vcpu,
        "memory": memory,
        "disk": disk,
    }
    return (REPORT % {**fields, "traits": json.dumps(list(traits))}).encode()


def percentile(sorted_values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` (0 to 1) of the values do not exceed."""
    return sorted_values[min(len(sorted_values) - 1, int(len(sorted_values) * share))]


def median(values: Sequence[float]) -> float:
    """The median."""
    return statistics.median(values)


def rss_mb() -> float:
    """The resident memory of this process, in 10^6 bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def check_counts(options: object, names: Iterable[str]) -> None:
    """Raise `UsageError` if one of these options is less than 1."""
    for name in names:
        if (count := getattr(options, name)) < 1:
            raise UsageError(f"{name} is {count}, which is invalid", do="give 1 or more")
