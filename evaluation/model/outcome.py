"""What a run of the model found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evaluation.statistics import percentile


@dataclass(frozen=True)
class Outcome:
    """Counts of a run, and its rates and times after the warm-up.

    `submitted` = `accepted` + `no_host` + `open`. `conflicts` are rejected claims; a request may have several and still be
    accepted. `latency_ms` is from the arrival of a request to its verdict, as a scheduler sees it. `in_flight` is the mean number
    of requests that have arrived and have no verdict, and `mean_latency_s` their mean latency: after Little's law the
    first is `placements_per_s` times the second in a steady state. `lag_ms`: the mean time from the end of an append until
    the scheduler that sent it has followed it: so old is what a scheduler decides on. `busy` has, for each resource, the share of the time that it worked;
    `cpu_us` is the processor time of all workers and of all schedulers for each placement.
    """

    seconds: float
    submitted: int
    accepted: int
    no_host: int
    open: int
    conflicts: int
    placements_per_s: float
    conflict_share: float
    latency_ms: dict[str, float]
    mean_latency_s: float
    in_flight: float
    lag_ms: float
    busy: dict[str, float]
    cpu_us: dict[str, float]
    events: int

    @property
    def bottleneck(self) -> str:
        """The busiest resource."""
        return max(self.busy, key=lambda name: self.busy[name])


def percentiles_ms(seconds: Sequence[float]) -> dict[str, float]:
    """p50 and p99 of times in s, in ms; 0 of none."""
    ordered = sorted(seconds) or [0.0]
    return {name: percentile(ordered, share) * 1e3 for name, share in (("p50", 0.5), ("p99", 0.99))}
