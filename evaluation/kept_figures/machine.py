"""Which machine this is, and how fast it is now, by a loop that has nothing to do with vacancy."""

from __future__ import annotations

import json
import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path

from evaluation.statistics import median

_ROUNDS = 9


@dataclass(frozen=True)
class Machine:
    """`loop_ms`: processor time of `calibration_loop`, which tells how fast one core is at the time."""

    cpu: str
    cores: int
    python: str
    loop_ms: float

    def is_same_kind(self, other: Machine) -> bool:
        """Whether figures of both can be compared as they are: same processor, number of cores and version of Python."""
        return (self.cpu, self.cores, self.python) == (other.cpu, other.cores, other.python)


def this_machine() -> Machine:
    """This machine, with its speed now."""
    python = ".".join(platform.python_version_tuple()[:2])
    return Machine(cpu_name(), os.cpu_count() or 1, python, round(loop_ms(), 3))


def loop_ms() -> float:
    """The median processor time of the calibration loop, in ms."""
    times = []
    for _ in range(_ROUNDS):
        started = time.thread_time()
        calibration_loop()
        times.append((time.thread_time() - started) * 1e3)
    return median(times)


def calibration_loop() -> int:
    """Some 10 ms of what Python programs do: JSON, dictionaries, sorting, bytes."""
    rows: dict[str, int] = {}
    for number in range(1_500):
        text = json.dumps({"id": f"node-{number}", "values": [number, number * 3, number % 7]})
        found = json.loads(text)
        rows[found["id"]] = sum(found["values"]) % 997
    ordered = sorted(rows.items(), key=lambda item: item[1])
    return len(b"".join(name.encode() for name, _ in ordered))


def cpu_name() -> str:
    """The name of the processor, from Linux's /proc."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or "unknown"
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"
