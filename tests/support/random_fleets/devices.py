"""Random devices of small fleets, and random asks for them."""

from __future__ import annotations

import random
from typing import Any

VENDORS, MODELS, KINDS = ("10de", "8086"), ("A", "B"), ("small", "large")


def devices(rng: random.Random) -> tuple[dict[str, Any], dict[str, Any]]:
    """Devices of some classes: inventories for a report, and the same as stock for the solver."""
    told: dict[str, Any] = {}
    known: dict[str, Any] = {}
    if rng.random() < 0.6:
        said = {f"0{n}": _attributes(rng) for n in range(rng.randint(1, 3))}
        if rng.random() < 0.4:
            said |= {f"00.{n}": {**_attributes(rng), "parent": "00"} for n in range(rng.randint(1, 2))}
        told["PCI_DEVICE"] = {"devices": said}
        known["PCI_DEVICE"] = {"devices": said, "held": frozenset()}
    if rng.random() < 0.4:
        said = {f"g{n}": _attributes(rng) for n in range(rng.randint(1, 3))}
        free = {name: rng.choice((4, 6, 10)) for name in said}
        told["GPU_SHARE"] = {"devices": {name: {**said[name], "total": free[name]} for name in said}}
        known["GPU_SHARE"] = {"devices": said, "free": free}
    if rng.random() < 0.4:
        said = {f"v{n}": {**_attributes(rng), "types": _types(rng)} for n in range(rng.randint(1, 2))}
        told["VGPU"] = {"devices": said}
        known["VGPU"] = {"devices": said, "runs": {}}
    return told, known


SMALL_TABLES: dict[str, dict[str, tuple[int, tuple[int, ...]]]] = {
    "A30-24GB": {
        "1g.6gb": (1, (0, 1, 2, 3)),
        "1g.6gb+me": (1, (0, 1, 2, 3)),
        "2g.12gb": (2, (0, 2)),
        "2g.12gb+me": (2, (0, 2)),
        "4g.24gb": (4, (0,)),
    },
    "A100-40GB": {
        **dict.fromkeys(("1g.5gb", "1g.5gb+me"), (1, (0, 1, 2, 3, 4, 5, 6))),
        "1g.10gb": (2, (0, 2, 4, 6)),
        "2g.10gb": (2, (0, 2, 4)),
        "3g.20gb": (4, (0, 4)),
        "4g.20gb": (4, (0,)),
        "7g.40gb": (8, (0,)),
    },
    "": {"1g.6gb": (1, (0, 2, 3)), "2g.12gb": (2, (0, 1, 2, 3)), "3g": (3, (0, 2))},
}
"""Tables of placements: of two models, and one that a node reports itself, whose placements of one profile overlap."""


def mig(rng: random.Random) -> tuple[dict[str, Any], dict[str, Any]]:
    """GPUs with MIG: an inventory for a report, and the same as stock for the solver."""
    names = {f"m{n}": rng.choice(sorted(SMALL_TABLES)) for n in range(rng.randint(1, 2))}
    said = {name: _attributes(rng) for name in names}
    told = {}
    for name, table in names.items():
        profiles = {
            profile: {"size": size, "starts": list(starts)}
            for profile, (size, starts) in SMALL_TABLES[table].items()
        }
        told[name] = {**said[name], **({"table": table} if table else {"profiles": profiles})}
    tables = {name: SMALL_TABLES[table] for name, table in names.items()}
    return {"devices": told}, {"devices": said, "tables": tables, "held": frozenset()}


def mig_ask(rng: random.Random) -> tuple[str, Any]:
    """The class and an ask."""
    profile = rng.choice(sorted({profile for table in SMALL_TABLES.values() for profile in table}))
    ask: dict[str, Any] = {"profile": profile, "count": rng.choice((1, 1, 1, 2, 3))}
    if rng.random() < 0.3:
        ask["start"] = rng.choice((0, 1, 2, 3))
    if rng.random() < 0.3:
        ask["where"] = {"vendor": rng.choice(VENDORS)}
    if rng.random() < 0.2:
        ask["match"] = ["vendor"]
    return "MIG", ask


def _attributes(rng: random.Random) -> dict[str, Any]:
    said: dict[str, Any] = {"vendor": rng.choice(VENDORS), "memory": rng.choice((8, 16, 16, "16"))}
    return said | ({"model": rng.choice(MODELS)} if rng.random() < 0.8 else {})


def _types(rng: random.Random) -> dict[str, int]:
    return {kind: rng.randint(1, 3) for kind in rng.sample(KINDS, rng.randint(1, 2))}


def matching_ask(rng: random.Random) -> tuple[str, Any]:
    """A class and an ask, which may be for devices of equal attributes."""
    return device_ask(rng, match=True)


def device_ask(rng: random.Random, *, match: bool = False) -> tuple[str, Any]:
    """A class and an ask."""
    name = rng.choice(("PCI_DEVICE", "PCI_DEVICE", "GPU_SHARE", "VGPU"))
    if rng.random() < 0.3:
        return name, rng.choice((2, 5, 7)) if name == "GPU_SHARE" else rng.choice((1, 1, 2))
    ask: dict[str, Any] = {"count": rng.choice((1, 1, 1, 2)), "where": _where(rng, name)}
    if name == "GPU_SHARE":
        ask["share"] = rng.choice((2, 3, 5, 6))
    if name == "VGPU" and rng.random() < 0.6:
        ask["type"] = rng.choice(KINDS)
    if match and rng.random() < 0.5:
        ask |= {
            "count": 2,
            "match": rng.sample(("vendor", "model", "memory", "parent"), rng.choice((1, 1, 2))),
        }
    return name, ask


def _where(rng: random.Random, name: str) -> dict[str, Any]:
    wanted: list[dict[str, Any]] = [
        {},
        {"vendor": rng.choice(VENDORS)},
        {"vendor": {"!=": rng.choice(VENDORS)}},
        {"model": {"in": rng.sample(MODELS, rng.randint(1, 2))}},
        {"model": {"!=": "A"}},
        {"memory": {rng.choice(("<", "<=", ">", ">=", "==")): rng.choice((8, 12, 16))}},
        {"memory": {">": 8, "<=": 16}, "vendor": rng.choice(VENDORS)},
        {"memory": "16"},
        {"memory": 16, "model": rng.choice(MODELS)},
    ]
    if name == "PCI_DEVICE":
        wanted += [
            {"dev_type": rng.choice(("type-PF", "type-VF", "type-PCI"))},
            {"address": rng.choice(("00", "01", "00.1"))},
            {"address": {"in": ["00", "02"]}},
        ]
    return rng.choice(wanted)
