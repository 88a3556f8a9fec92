"""Checks the model against this machine: the same race really, and in the model, with 1, 2 and 4 schedulers.

The fleet is filled from empty to four fifths, so that claims are lost at the end. Only costs were calibrated, no rate: what the model
says about throughput, latency and conflicts is a prediction.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

from evaluation.model.calibration import PARTITIONS, SPEC, costs_for, cpu_s
from evaluation.model.deployment import ON_KAFKA, Deployment, Pacing
from evaluation.model.system import run_model
from evaluation.statistics import report
from vacancy.clients.demo.race_plan import Arrival, deal
from vacancy.clients.demo.race_trial import Trial, TrialOptions
from vacancy.resources.model.partitioner import cell_for
from vacancy.resources.model.record import NewRecord

ROOM = 10
FILLED = 0.8
LIMIT_S = 600.0


def compare_with_runs(
    calibration: Mapping[str, Any],
    schedulers: Sequence[int],
    nodes: int,
    in_flight: int,
    seed: int,
    kafka: tuple[str, str] | None = None,
) -> list[dict[str, Any]]:
    """One row for each number of schedulers: measured, predicted, and the error (predicted / measured - 1).

    `kafka`: the name of a log in the calibration, and the URL of the logs to create; None: a SQLite file. `load` is the load of the
    machine before the run: with other work at the same time a run has less than its cores, and the model does not know it.
    """
    rows = []
    for count in schedulers:
        load = os.getloadavg()[0]
        requests = int(nodes * ROOM * FILLED)
        measured = _measured(count, nodes, requests, in_flight, seed, kafka[1] if kafka else None)
        predicted = _predicted(
            calibration, count, nodes, requests, in_flight, seed, kafka[0] if kafka else "sqlite"
        )
        error = {
            name: round(predicted[name] / measured[name] - 1, 3)
            for name in ("placements_per_s", "p50_ms", "worker_cpu_us", "scheduler_cpu_us")
        }
        rows.append(
            {
                "schedulers": count,
                "requests": requests,
                "in_flight": in_flight,
                "load": round(load, 1),
                "measured": measured,
                "predicted": predicted,
                "error": error,
            }
        )
    return rows


def _measured(
    schedulers: int, nodes: int, requests: int, in_flight: int, seed: int, log: str | None
) -> dict[str, float]:
    url = log and f"{log}-{uuid4().hex[:6]}"
    options = TrialOptions(log=url, partitions=PARTITIONS, in_flight=in_flight, seed=seed)
    with Trial.prepared(options) as trial:
        trial.append([_node(number) for number in range(nodes)])
        trial.settle("publish")
        before_s = sum(map(cpu_s, trial.worker_pids))
        raced = trial.race(deal([Arrival(SPEC)] * requests, schedulers))
        worker_s = sum(map(cpu_s, trial.worker_pids)) - before_s
    return {
        "placements_per_s": round(raced.accepted / raced.seconds, 1),
        "p50_ms": round(raced.claim_ms.p50, 2),
        "p99_ms": round(raced.claim_ms.p99, 2),
        "conflict_share": round(raced.lost_claims / max(1, raced.accepted + raced.lost_claims), 4),
        "worker_cpu_us": round(worker_s / raced.accepted * 1e6, 1),
        "scheduler_cpu_us": round(raced.cpu_s / raced.accepted * 1e6, 1),
        "cores_used": round((raced.cpu_s + worker_s) / raced.seconds, 2),
    }


def _node(number: int) -> NewRecord:
    root = f"node-{number:06}"
    value = report(root, 1, vcpu=64, memory=1_000_000, disk=10 * ROOM)
    return NewRecord(cell_for(root, PARTITIONS), value)


def _predicted(
    calibration: Mapping[str, Any],
    schedulers: int,
    nodes: int,
    requests: int,
    in_flight: int,
    seed: int,
    log: str,
) -> dict[str, float]:
    deployment = Deployment(
        nodes=nodes,
        room=ROOM,
        partitions=PARTITIONS,
        schedulers=schedulers,
        cores=os.cpu_count() or 1,
        in_flight=in_flight,
        requests=requests,
        pacing=Pacing() if log == "sqlite" else ON_KAFKA,
    )
    found = run_model(deployment, costs_for(calibration, log), seconds=LIMIT_S, seed=seed)
    cores_used = found.busy["cores"] * deployment.cores
    return {
        "placements_per_s": round(found.placements_per_s, 1),
        "p50_ms": round(found.latency_ms["p50"], 2),
        "p99_ms": round(found.latency_ms["p99"], 2),
        "conflict_share": round(found.conflict_share, 4),
        "worker_cpu_us": round(found.cpu_us["workers"], 1),
        "scheduler_cpu_us": round(found.cpu_us["schedulers"], 1),
        "cores_used": round(cores_used, 2),
    }
