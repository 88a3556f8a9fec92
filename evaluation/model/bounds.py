"""What a deployment can do at most, without waiting: the load of each resource per claim, and which one is full first."""

from __future__ import annotations

import math
from dataclasses import dataclass

from evaluation.model.deployment import TOGETHER_MAX, Costs, Deployment

TARGET = 0.7
"""The share of its time that a worker should be busy at most: beyond it, queues grow fast."""


@dataclass(frozen=True)
class Bounds:
    """`placements_per_s`: of all schedulers, where the resource `bottleneck` is full; 0 where heartbeats and reports alone fill
    one. `partitions_needed`: workers of a host, and so at least partitions, that fold what the deployment asks for with `TARGET`
    of their time. `background`: the share of each resource that heartbeats and reports take.
    """

    placements_per_s: float
    bottleneck: str
    partitions_needed: int
    background: dict[str, float]


def bounds(
    deployment: Deployment, costs: Costs, *, together: int = 1, asked_per_s: float | None = None
) -> Bounds:
    """The bounds where `together` claims share a record, without conflicts. `asked_per_s`: placements for which partitions are
    counted; None: those that the deployment asks for, or all that it can do."""
    idle, each = _background(deployment, costs), _per_claim(deployment, costs, min(together, TOGETHER_MAX))
    capacity = {name: max(0.0, 1 - idle[name]) / each[name] for name in each if each[name]}
    bottleneck = min(capacity, key=lambda name: capacity[name])
    per_s = asked_per_s or deployment.arrivals_per_s or capacity[bottleneck]
    folding = deployment.workers * (idle["worker"] + per_s * each["worker"])
    return Bounds(capacity[bottleneck], bottleneck, max(1, math.ceil(folding / TARGET)), idle)


def _background(deployment: Deployment, costs: Costs) -> dict[str, float]:
    beats, reports = deployment.background_per_s
    fold_s = beats * costs.heartbeat_s + reports * costs.report_s
    follow_s = beats * costs.follow_heartbeat_s + reports * costs.follow_report_s
    return _shares(deployment, (beats + reports) * costs.append_s, fold_s, follow_s)


def _per_claim(deployment: Deployment, costs: Costs, together: int) -> dict[str, float]:
    """The time of each resource for a claim. A worker commits many batches at once when it is busy, so commits are left out."""
    judged = 2 if deployment.replaced else 1
    fold_s = judged * costs.judge_s + costs.judge_record_s / together
    follow_s = judged * costs.follow_claim_s
    own_s = costs.query_s + costs.claim_s + (costs.search_s + costs.record_s) / together
    return _shares(deployment, costs.append_s / together, fold_s, follow_s, own_s)


def _shares(
    deployment: Deployment, log_s: float, fold_s: float, follow_s: float, own_s: float = 0.0
) -> dict[str, float]:
    scheduler_s = follow_s + own_s / deployment.all_schedulers
    return {
        "log": log_s / min(deployment.brokers, deployment.partitions),
        "worker": fold_s / min(deployment.workers, deployment.partitions),
        "scheduler": scheduler_s,
        "cores": (fold_s + deployment.schedulers * scheduler_s) / deployment.cores,
    }
