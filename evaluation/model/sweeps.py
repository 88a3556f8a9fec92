"""Series of deployments: where a fleet saturates, how many partitions it needs, and what lag costs in conflicts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from evaluation.model.bounds import bounds
from evaluation.model.deployment import ON_KAFKA, Costs, Deployment
from evaluation.model.outcome import Outcome
from evaluation.model.system import run_model

Progress = Callable[[str], None]

FLEETS = (10_000, 100_000, 1_000_000)
HOSTS = (1, 4, 16, 64)
HEARTBEATS_S = (2.0, 10.0, 30.0, 60.0)
ARRIVALS = (500.0, 1_000.0, 2_000.0, 3_000.0, 4_000.0, 6_000.0, 8_000.0, 12_000.0)
LAGS_S = (0.0005, 0.002, 0.005, 0.02, 0.05, 0.2)
REPORT_EVERY_S = 600.0


@dataclass(frozen=True)
class Window:
    """How long each deployment is run, in seconds of the model. The warm-up is longer than the latency of the largest deployments,
    which have thousands of claims in flight."""

    seconds: float = 2.5
    warm_up_s: float = 1.0

    def run(self, deployment: Deployment, costs: Costs, seed: int) -> Outcome:
        """Run one."""
        return run_model(deployment, costs, seconds=self.seconds, warm_up_s=self.warm_up_s, seed=seed)


def base(nodes: int, hosts: int = 4) -> Deployment:
    """A fleet whose hosts have 8 cores, two schedulers and four workers each. Nine tenths of it are in use, and stay so."""
    return Deployment(
        nodes=nodes,
        room=20,
        fill=0.9,
        replaced=True,
        partitions=64,
        brokers=3,
        hosts=hosts,
        workers=4,
        schedulers=2,
        cores=8,
        in_flight=64,
        heartbeat_every_s=30.0,
        report_every_s=REPORT_EVERY_S,
        pacing=ON_KAFKA,
    )


def fleets_and_hosts(
    costs: Costs, window: Window, seed: int, fleets: Iterable[int], hosts: Sequence[int], progress: Progress
) -> Iterator[dict[str, Any]]:
    """Each fleet with each number of hosts, with as many claims in flight as fit: what they place at most."""
    for nodes in fleets:
        for count in hosts:
            progress(f"{nodes} nodes, {count} hosts")
            deployment = base(nodes, count)
            yield row(deployment, window.run(deployment, costs, seed), costs)


def heartbeats(
    costs: Costs, window: Window, seed: int, fleets: Iterable[int], progress: Progress
) -> Iterator[dict[str, Any]]:
    """Each fleet with each interval of heartbeats: what is left for claims, and the partitions needed."""
    for nodes in fleets:
        for every_s in HEARTBEATS_S:
            progress(f"{nodes} nodes, a heartbeat every {every_s:g} s")
            deployment = replace(base(nodes), heartbeat_every_s=every_s)
            yield row(deployment, window.run(deployment, costs, seed), costs)


def arrivals(
    costs: Costs, window: Window, seed: int, nodes: int, rates: Iterable[float], progress: Progress
) -> Iterator[dict[str, Any]]:
    """One fleet with each rate of requests: latency until the bottleneck is full, and from there on."""
    for rate in rates:
        progress(f"{rate:g} requests a second")
        deployment = replace(base(nodes), arrivals_per_s=rate)
        yield row(deployment, window.run(deployment, costs, seed), costs)


def lags(
    costs: Costs, window: Window, seed: int, nodes: int, delays_s: Iterable[float], progress: Progress
) -> Iterator[dict[str, Any]]:
    """One fleet, nearly full, with each latency of its log: conflicts against lag."""
    for delay_s in delays_s:
        progress(f"a log with {delay_s * 1e3:g} ms")
        deployment = replace(base(nodes), room=4, fill=0.95, arrivals_per_s=1_000.0, in_flight=512)
        found = window.run(deployment, replace(costs, latency_s=delay_s), seed)
        yield {"log_latency_ms": delay_s * 1e3, **row(deployment, found, costs)}


def replicas(
    logs: Sequence[tuple[str, Costs]], window: Window, seed: int, nodes: int, progress: Progress
) -> Iterator[dict[str, Any]]:
    """One fleet with each kind of log of the calibration."""
    for name, costs in logs:
        progress(f"log {name}")
        deployment = replace(base(nodes), arrivals_per_s=1_000.0)
        yield {"log": name, **row(deployment, window.run(deployment, costs, seed), costs)}


def row(deployment: Deployment, found: Outcome, costs: Costs) -> dict[str, Any]:
    """A deployment and its outcome as plain data."""
    limit = bounds(deployment, costs, together=deployment.in_flight)
    return {
        "nodes": deployment.nodes,
        "hosts": deployment.hosts,
        "schedulers": deployment.all_schedulers,
        "heartbeat_every_s": deployment.heartbeat_every_s,
        "asked_per_s": deployment.arrivals_per_s,
        "placements_per_s": round(found.placements_per_s, 1),
        "p50_ms": round(found.latency_ms["p50"], 2),
        "p99_ms": round(found.latency_ms["p99"], 2),
        "conflict_share": round(found.conflict_share, 5),
        "lag_ms": round(found.lag_ms, 2),
        "bottleneck": found.bottleneck,
        "busy": {name: round(share, 3) for name, share in found.busy.items()},
        "limit_per_s": round(limit.placements_per_s, 1),
        "limited_by": limit.bottleneck,
        "partitions_needed": limit.partitions_needed,
    }
