"""Random NUMA cells of small fleets, and random asks for them."""

from __future__ import annotations

import random
from typing import Any


def numa_cell(rng: random.Random) -> tuple[dict[str, Any], dict[str, Any]]:
    """A NUMA cell: the inventory for a report, and the same as stock for the solver."""
    threads, cpus = rng.choice((1, 2, 2, 2, 3)), iter(range(20))
    cores = [[next(cpus) for _ in range(threads)] for _ in range(rng.randint(1, 3))]
    if rng.random() < 0.2:
        cores.append([next(cpus)])
    everyone = [cpu for core in cores for cpu in core]
    set_aside = rng.sample(everyone, rng.choice((0, 0, 1, 1)))
    own: dict[str, list[int]] = {"shared_cpus": set_aside, "reserved_cpus": []}
    if rng.random() < 0.4:
        own = {"shared_cpus": [next(cpus) for _ in range(rng.randint(1, 2))], "reserved_cpus": set_aside}
    ratio = rng.choice((1000, 1500, 2000))
    memory, large, huge = rng.choice((0, 2, 4, 8)), rng.choice((0, 1, 2, 3)), rng.choice((0, 0, 0, 1))
    hugepages = {str(size): count for size, count in ((2048, large), (1048576, huge)) if count}
    told: dict[str, Any] = {
        "cores": cores,
        **own,
        "cpu_ratio_milli": ratio,
        "memory_mb": memory,
        "hugepages": hugepages,
    }
    known: dict[str, Any] = {
        "cores": cores,
        "free": {cpu for cpu in everyone if cpu not in (*own["shared_cpus"], *own["reserved_cpus"])},
        "closed": set[int](),
        "max_shared": len(own["shared_cpus"]),
        "shared": len(own["shared_cpus"]) * ratio // 1000,
        "small_kib": 4,
        "mb": {4: memory} | {int(size): count * int(size) // 1024 for size, count in hugepages.items()},
    }
    return told, known


def numa_ask(rng: random.Random) -> tuple[str, Any]:
    """The class and an ask."""
    ask: dict[str, Any] = {}
    if rng.random() < 0.75:
        ask["pinned"] = rng.choice((1, 1, 2, 2, 3, 4))
        ask["threads"] = rng.choice(("isolate", "require", "prefer"))
    if rng.random() < 0.3:
        ask["shared"] = rng.choice((1, 1, 2, 3))
    if not ask or rng.random() < 0.4:
        ask["memory_mb"] = rng.choice((1, 2, 2, 4))
        ask["page_kib"] = rng.choice(("small", "large", "any", 4, 2048, 2048, 1048576))
        if ask["page_kib"] == 2048:
            ask["memory_mb"] = rng.choice((2, 4))
        elif ask["page_kib"] == 1048576:
            ask["memory_mb"] = 1024
    return "NUMA_CELL", ask
