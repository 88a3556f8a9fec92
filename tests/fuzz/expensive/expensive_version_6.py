"""Kinds of records of rules version 6 that may cost the fold more than they should (`expensive_records`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from tests.fuzz.expensive.expensive_case import DEADLINE_MS, Case
from tests.support.logs.events_json import event

Json = dict[str, Any]

_EACH: Final = 512
"""Providers and consumers that one record of the preparation makes."""


def transacted_tree(before: int, changed: int, classes: int, names: int, kind: int, fails: int) -> Case:
    """A transaction that changes many providers of a large tree: creates, deletes, moves, or renames them, or sets their traits and
    aggregates, or their inventories. With `fails` the last of them is refused, and all is undone."""
    gold = [f"CUSTOM_{n}" for n in range(max(1, min(classes, 64)))]
    traits = [f"CUSTOM_T{n}" for n in range(min(names, 64))]
    stock = {name: {"total": 10} for name in gold}
    setup = [
        _transaction("names", names=_names("class", gold)),
        _transaction("more", names=_names("trait", traits)),
    ]
    setup.append(_transaction("roots", providers=[_create("p0"), _create("q0")]))
    tree = [_create(f"p{n}", parent="p0", inventories=stock) for n in range(1, before + 1)]
    setup += [_transaction(f"s{at}", providers=tree[at : at + _EACH]) for at in range(0, before, _EACH)]
    there = [f"p{n}" for n in range(1, min(before, changed) + 1)]
    changes: list[Json]
    if kind % 6 == 0:
        changes = [_create(f"n{n}", parent="p0", inventories=stock, name=f"name {n}") for n in range(changed)]
    elif kind % 6 == 1:
        changes = [{"provider": id_, "op": "delete"} for id_ in there]
    elif kind % 6 == 2:
        changes = [{"provider": id_, "parent": "q0"} for id_ in there]
    elif kind % 6 == 3:
        changes = [{"provider": id_, "name": f"name {id_}"} for id_ in there]
    elif kind % 6 == 4:
        groups = [f"a{n}" for n in range(names)]
        changes = [{"provider": id_, "traits": traits, "aggregates": groups} for id_ in there]
    else:
        other = {name: {"total": 20, "allocation_ratio": "1.15"} for name in gold}
        changes = [{"provider": id_, "inventories": other} for id_ in there]
    if fails % 2:
        changes.append({"provider": "p0", "inventories": {"CUSTOM_UNKNOWN": {"total": 1}}})
    return Case(setup, _transaction("t", providers=changes[:1024]))


def transacted_consumers(
    consumers: int, parts: int, providers: int, classes: int, kind: int, fails: int
) -> Case:
    """A transaction of many consumers: new ones, or others that move to other providers, or go; of several
    projects, or of one. With `fails` the last does not fit."""
    gold = [f"CUSTOM_{n}" for n in range(max(1, min(classes, 64)))]
    stock = {name: {"total": 10**6} for name in gold}
    setup = [_transaction("names", names=_names("class", gold))]
    nodes = [_create(f"n{n}", inventories=stock) for n in range(providers)]
    setup += [_transaction(f"s{at}", providers=nodes[at : at + _EACH]) for at in range(0, providers, _EACH)]

    def holds(number: int, shift: int, generation: int | str) -> Json:
        places = {f"n{(number + shift + p) % providers}": dict.fromkeys(gold, 1) for p in range(parts)}
        user = {"project": f"q{number % 8}", "user": f"u{number % 64}"} if kind < 3 else {}
        return {"consumer": f"i{number}", "generation": generation, "allocations": places, **user}

    if kind % 3:
        each = max(1, min(64, 1024 // (parts * len(gold))))
        held = [holds(n, 0, "absent") for n in range(consumers)]
        setup += [_transaction(f"h{at}", consumers=held[at : at + each]) for at in range(0, consumers, each)]
    generation = 1 if kind % 3 else "absent"
    changes = [holds(n, 1, generation) for n in range(consumers)]
    if kind % 3 == 2:
        changes = [one | {"allocations": {}} for one in changes]
    if fails % 2:
        changes.append(holds(consumers, 0, "absent") | {"allocations": {"n0": {gold[0]: 10**7}}})
    return Case(setup, _transaction("t", consumers=changes[:1024]))


def _transaction(id_: str, **data: Any) -> bytes:
    return event("transaction.requested.v1", {"id": id_, "deadline_ms": DEADLINE_MS, **data})


def _create(id_: str, **more: Any) -> Json:
    return {"provider": id_, "op": "create", "raises": 1, **more}


def _names(kind: str, names: list[str]) -> list[Json]:
    return [{"kind": kind, "name": name, "op": "ensure"} for name in names]


KINDS_6: Final[Mapping[str, tuple[Callable[..., Case], Mapping[str, int]]]] = {
    "transacted_tree": (
        transacted_tree,
        {"before": 4000, "changed": 1024, "classes": 64, "names": 64, "kind": 5, "fails": 1},
    ),
    "transacted_consumers": (
        transacted_consumers,
        {"consumers": 1024, "parts": 64, "providers": 1024, "classes": 64, "kind": 5, "fails": 1},
    ),
}
"""As `expensive_records.KINDS`."""
