"""Random ports of small fleets, and random asks for them."""

from __future__ import annotations

import random
from typing import Any

PORTS = (80, 81, 82, 83, 90, 91)
RANGES = ([80, 80], [81, 81], [82, 82], [80, 81], [81, 83], [82, 90], [80, 91], [91, 91])


def port_inventory(rng: random.Random) -> tuple[dict[str, Any], dict[str, Any]]:
    """Ports of a host: the inventory for a report, and the same as stock for the solver."""
    own = {"tcp": rng.sample(PORTS, rng.randint(1, 4)), "udp": rng.sample(PORTS, rng.choice((0, 0, 1, 2)))}
    told = {protocol: [[port, port] for port in some] for protocol, some in own.items() if some}
    free = frozenset((protocol, port) for protocol, some in own.items() for port in some)
    return told, {"free": free}


def port_ask(rng: random.Random) -> tuple[str, Any]:
    """The class and an ask."""
    if rng.random() < 0.3:
        return "PORT", rng.choice((1, 1, 2))
    ask: dict[str, Any] = {"count": rng.choice((1, 1, 1, 2))}
    if rng.random() < 0.8:
        ask["ports"] = rng.sample(RANGES, rng.choice((1, 1, 2)))
    if rng.random() < 0.25:
        ask["protocol"] = rng.choice(("tcp", "udp"))
    return "PORT", ask
