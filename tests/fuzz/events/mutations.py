"""Changes to honest records that no honest writer makes: in their JSON, in their bytes, and around them.

Every choice is `rng`'s, so that a seed repeats a run.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any, TypeAlias

Slot: TypeAlias = "tuple[dict[str, Any] | list[Any], str | int]"
"""A container of a JSON document and the key or the index of one value in it."""

INT53 = 2**53 - 1
VALUES: tuple[Any, ...] = (
    *(0, -1, 1, 2, 16, 65, 255, 1025, 2**31, INT53, INT53 + 1, -INT53, 2**63, 2**64, 10**40),
    *(0.0, 1.0, 0.5, -0.0, 1e308, float("nan"), float("inf")),
    *(None, True, False, [], {}, [[]], {"": 0}),
    *("", " ", "0", "-", "a" * 64, "a" * 201, "A" * 256, "x" * 5000),
    *("\0", "\n", "\x1b[2J", "\u202e", "\ufeff", "é", "e\u0301", "\U0001f4a9", "\ud800", "İ", "n0\u200b"),
    *("VCPU", "CUSTOM_", "CUSTOM_A", "vcpu", "1.0", "2026-01-01T00:00:00Z", "../../etc/passwd", "a/b", "#1"),
)
KEYS = (b"", b" ", b"\xff", b"evil\n", b"n" * 201, "é".encode(), b"a b", b"../a")
STAMPS_MS = (-1, 0, -3_600_000, -1000, 3_600_000, 90_000_000, 2**62)
"""Timestamps: -1 and 0 as they are, the others from now."""


def slots(document: Any) -> Iterator[Slot]:
    """The place of every value below a document."""
    items: Any = ()
    if isinstance(document, dict):
        items = document.items()
    elif isinstance(document, list):
        items = enumerate(document)
    for name, value in items:
        yield document, name
        yield from slots(value)


def any_slot(rng: random.Random, document: Any) -> Slot:
    """A place in the event's data, or rarely in its envelope."""
    found = list(slots(document if rng.random() < 0.1 or not document["data"] else document["data"]))
    return rng.choice(found)


def _value(rng: random.Random) -> Any:
    """One of `VALUES`, to be changed further."""
    return copy.deepcopy(rng.choice(VALUES))


# -- JSON -----------------------------------------------------------------------------------------------------


def set_value(rng: random.Random, document: Any) -> None:
    """Put a value of another type, or at and beyond a limit, in some place."""
    at, name = any_slot(rng, document)
    at[name] = _value(rng)  # type: ignore[index]


def nudge(rng: random.Random, document: Any) -> None:
    """Change an amount, a time or a number a little or a lot."""
    numbers = [(at, n) for at, n in slots(document) if type(at[n]) is int]  # type: ignore[index]
    if numbers:
        at, name = rng.choice(numbers)
        old = at[name]  # type: ignore[index]
        at[name] = rng.choice((old + 1, old - 1, -old, old * 2, old * 1000, old + 600_001, old - 600_001))  # type: ignore[index]


def remove(rng: random.Random, document: Any) -> None:
    at, name = any_slot(rng, document)
    del at[name]  # type: ignore[arg-type]


def add_field(rng: random.Random, document: Any) -> None:
    at, _ = any_slot(rng, document)
    if isinstance(at, dict):
        at[rng.choice(("surprise", "id", "value", "negate", "", "\u202e", "x" * 300))] = _value(rng)


def rename(rng: random.Random, document: Any) -> None:
    """Give a field another name, or a class, a trait or an attribute one that was invented."""
    at, name = any_slot(rng, document)
    if isinstance(at, dict):
        at[rng.choice(("CUSTOM_X", "NUMA_CELL", "cores", str(name).upper(), "🦆"))] = at.pop(name)  # type: ignore[arg-type]


def multiply(rng: random.Random, document: Any) -> None:
    """Repeat the elements of a list: below, at and above limits."""
    lists = [at[n] for at, n in slots(document) if isinstance(at[n], list) and at[n]]  # type: ignore[index]
    if lists:
        chosen = rng.choice(lists)
        count = rng.choice((2, 3, 16, 64, 65, 257, 1025))
        chosen.extend(json.loads(json.dumps(rng.choice(chosen))) for _ in range(count - len(chosen)))


def shuffle(rng: random.Random, document: Any) -> None:
    lists = [at[n] for at, n in slots(document) if isinstance(at[n], list)]  # type: ignore[index]
    if lists:
        rng.shuffle(rng.choice(lists))


def nest(rng: random.Random, document: Any) -> None:
    """Put a value at a great depth."""
    at, name = any_slot(rng, document)
    deep = at[name]  # type: ignore[index]
    for _ in range(rng.choice((2, 20, 120))):
        deep = rng.choice(([deep], {"a": deep}))
    at[name] = deep  # type: ignore[index]


# -- events that are well formed, and that nobody in order would write ------------------------------------------


def another_consumer(rng: random.Random, document: Any) -> None:
    """Releases of one claim, with other deadlines and for other consumers."""
    data = document["data"]
    if "releases" in data:
        first = data["releases"][0]
        deadline_ms = first.get("deadline_ms") or 1_800_000_000_000
        data["releases"] = [
            {**first, "consumer": rng.choice((first["consumer"], "i0", f"other-{n}")), "deadline_ms": later}
            for n in range(rng.choice((1, 2, 5)))
            for later in [
                rng.choice((None, 0, deadline_ms, deadline_ms + rng.randint(-(10**6), 10**6), INT53))
            ]
        ]


def many_predicates(rng: random.Random, document: Any) -> None:
    for claim in document["data"].get("claims", [document["data"]]):
        if isinstance(claim, dict) and "allocations" in claim:
            provider = claim["allocations"][0]["provider"]
            kinds = (
                {"kind": "trait", "value": "CUSTOM_RED", "negate": True},
                {"kind": "generation", "value": rng.randrange(100)},
                {"kind": "subtree", "value": provider},
                {"kind": "aggregate", "value": "rack-9", "negate": True},
                {"kind": "attribute", "name": "row", "operator": "lacks"},
            )
            claim["predicates"] = [
                {"provider": provider, **rng.choice(kinds)} for _ in range(rng.choice((1, 2, 60, 1024)))
            ]


def made_up_names(rng: random.Random, document: Any) -> None:
    providers = document["data"].get("providers") or ()
    for provider in providers:
        salt, count = rng.randrange(10**6), rng.choice((1, 30, 257))
        provider["traits"] = [f"CUSTOM_{salt}_{n}" for n in range(count)]
        provider["attributes"] = {f"a{salt}.{n}": n for n in range(min(count, 256))}
        provider["inventories"] = {f"CUSTOM_{salt}_{n}": {"total": n} for n in range(min(count, 60))}


def another_life(rng: random.Random, document: Any) -> None:
    """A foreign incarnation, or a number that the node will never reach."""
    data = document["data"]
    if "incarnation" in data:
        data["incarnation"] = rng.choice((data["incarnation"], f"{rng.getrandbits(64):016x}"))
        data["sequence"] = rng.choice((1, data["sequence"] + rng.randint(1, 3), INT53))


def operators_word(rng: random.Random, document: Any) -> None:
    """Settings that nobody saw the revision of."""
    data = document["data"]
    if "facts" in data:
        data["revision"] = rng.choice((1, data["revision"] + 1, INT53))
        data["facts"]["reason"] = rng.choice(("\x1b]0;title\x07", "\u202eevil", "x" * 1024))


CHANGES = (
    *(
        set_value,
        set_value,
        set_value,
        nudge,
        nudge,
        nudge,
        remove,
        add_field,
        rename,
        multiply,
        shuffle,
        nest,
    ),
    *(another_consumer, another_consumer, many_predicates, made_up_names, another_life, operators_word),
)

# -- bytes ----------------------------------------------------------------------------------------------------


def flip(rng: random.Random, value: bytes) -> bytes:
    at = rng.randrange(len(value))
    return value[:at] + bytes([value[at] ^ 1 << rng.randrange(8)]) + value[at + 1 :]


def cut(rng: random.Random, value: bytes) -> bytes:
    return value[: rng.randrange(len(value))]


def insert(rng: random.Random, value: bytes) -> bytes:
    at = rng.randrange(len(value))
    return (
        value[:at] + rng.choice((b"\0", b"\xff", b'"', b"{", b",", b" ", b"\\u0000", b"1e999")) + value[at:]
    )


def encode_otherwise(rng: random.Random, value: bytes) -> bytes:
    encoding = rng.choice(("utf-16", "utf-8-sig", "utf-32"))
    return value.decode("utf-8", "replace").encode(encoding)


def repeat_field(rng: random.Random, value: bytes) -> bytes:
    """A key that comes twice."""
    twice = rng.choice((b'{"type":"vacancy.tick.v1",', b'{"data":{},', b'{"id":"x",', b'{"id":0,'))
    return value.replace(b"{", twice, 1) if rng.random() < 0.5 else value.replace(b'{"id"', twice + b'"id"')


BYTES = (flip, flip, flip, cut, insert, encode_otherwise, repeat_field)


def changed(rng: random.Random, value: bytes) -> bytes:
    """A value like this one, with one to three things changed."""
    try:
        document = json.loads(value)
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            rng.choice(CHANGES)(rng, document)
        value = json.dumps(document, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        return value  # an earlier change left nothing to do this one to
    while value and rng.random() < 0.15:
        value = rng.choice(BYTES)(rng, value)
    return value
