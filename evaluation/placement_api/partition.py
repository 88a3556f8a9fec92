"""What one partition bears behind Placement's API: writes a second, what each costs, and what a process needs for its providers.

A cell of Placement is one partition, which one worker folds. Clients claim resources of random providers, without asking for candidates
before, so that the rate is that of writes alone. The processor time of the worker says how many writes it could fold at most; that of
the API's processes is shared by as many of them as there are.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from evaluation.candidates.candidate import Fleet
from evaluation.candidates.placement.names import uuid_of
from evaluation.candidates.processes import cpu_s, descendants, memory_bytes
from evaluation.candidates.vacancy_api import fill as vacancy_api_fill
from evaluation.candidates.vacancy_api.server import PROCESSES, VacancyApiServer
from evaluation.placement_api.client import ApiClient, claim_of
from evaluation.statistics import percentile
from vacancy.resources.model.errors import VacancyError

_ASKED: Final[Mapping[str, int]] = {"VCPU": 1, "MEMORY_MB": 256, "DISK_GB": 10}
_USED: Final = 0.3


def measure_partition(directory: Path, size: int, writes: int, clients: int, seed: int) -> dict[str, Any]:
    """Load `size` providers, then let `clients` make `writes` claims. The directory is empty."""
    fleet, server = Fleet(size), VacancyApiServer(directory)
    server.start()
    try:
        vacancy_api_fill.load(server.url, server.store, fleet, _USED)
        first_s = _ask_each_process(server)
        before = _cpu_s(server)
        began = time.perf_counter()
        latencies = sorted(_claim_all(server.port, fleet, writes, clients, seed))
        took_s = time.perf_counter() - began
        after = _cpu_s(server)
        cost = {name: 1e3 * (after[name] - before[name]) / len(latencies) for name in after}
        return {
            "providers": size,
            "clients": clients,
            "writes": len(latencies),
            "writes_per_s": round(len(latencies) / took_s, 1),
            "p50_ms": round(percentile(latencies, 0.5), 1),
            "p99_ms": round(percentile(latencies, 0.99), 1),
            "cpu_ms_a_write": {name: round(ms, 2) for name, ms in cost.items()},
            "first_answer_s": round(first_s, 2),
            "mib_of_a_process": round(max(map(memory_bytes, _api_pids(server))) / 2**20),
        }
    finally:
        server.stop()


def _ask_each_process(server: VacancyApiServer) -> float:
    """Let all processes load their providers. Returns the time of the first answer. The kernel chooses a process for each connection."""
    api, times = ApiClient(server.port), []
    for _ in range(8 * PROCESSES):
        began = time.perf_counter()
        api.must("GET", "/resource_providers?name=none")
        times.append(time.perf_counter() - began)
    return times[0]


def _api_pids(server: VacancyApiServer) -> list[int]:
    workers = set(server.worker_pids)
    return [one for pid in server.pids if pid not in workers for one in (pid, *descendants(pid))]


def _cpu_s(server: VacancyApiServer) -> dict[str, float]:
    worker = [one for pid in server.worker_pids for one in (pid, *descendants(pid))]
    return {"api": sum(map(cpu_s, _api_pids(server))), "worker": sum(map(cpu_s, worker))}


def _claim_all(port: int, fleet: Fleet, writes: int, clients: int, seed: int) -> list[float]:
    """How long each claim took, in ms."""

    def work(number: int) -> list[float]:
        rng, api, found = random.Random(seed * 100 + number), ApiClient(port), []
        for _ in range(writes // clients):
            consumer = UUID(int=rng.getrandbits(128), version=4)
            provider = uuid_of(fleet.name(rng.randrange(fleet.size)))
            body = claim_of({provider: {"resources": dict(_ASKED)}})
            began = time.perf_counter()
            answer = api.ask("PUT", f"/allocations/{consumer}", body)
            found.append((time.perf_counter() - began) * 1e3)
            if answer.status not in (204, 409):
                raise VacancyError(f"a claim was answered {answer.status}: {answer.body}")
        return found

    with ThreadPoolExecutor(clients) as pool:
        return [one for part in pool.map(work, range(clients)) for one in part]
