"""The auditor's own verdict on one claim: everything that speaks against it, where it stands in the log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

from vacancy.clients.auditor.classes.devices import DEVICE_CLASSES, amount_of, counted_ask, wrong_grants
from vacancy.clients.auditor.classes.numa import NUMA_CELL, is_ask, lacking, wrong_cell_grants
from vacancy.clients.auditor.consumers import HeldByConsumer
from vacancy.clients.auditor.event_schema import INTEGER_MAX
from vacancy.clients.auditor.inventory import Stock
from vacancy.clients.auditor.ledger import DEADLINE_AHEAD_MS_MAX, Ledger
from vacancy.clients.auditor.server_groups import broken_groups, copies

Slot = tuple[str, str]
"""(provider, class)."""

ROOM, RULE, OPAQUE = "room", "rule", "opaque"


class Objection(NamedTuple):
    """`kind`: `room` (it takes use over capacity), `rule` (any other rule), `opaque` (who knows)."""

    kind: str
    text: str


def objections(books: Ledger, cell: str, claim: Mapping[str, Any], *, replaces: bool) -> list[Objection]:
    """What speaks against a claim that is not late and was not judged before. Nothing: it is to be accepted."""
    held = books.consumers.get((cell, claim["consumer"]))
    wrong = [*_terms(books, claim), *_consumer(claim, held, replaces=replaces)]
    wrong.extend(
        f"predicate {predicate['kind']} of {predicate['provider']} fails"
        for predicate in claim.get("predicates", ())
        if not _holds(books, cell, predicate)
    )
    wrong.extend(broken_groups(books, cell, claim))
    old = _amounts(held.parts if replaces and held is not None else ())
    kept = _kept(books, cell, claim, replaces=replaces)
    return [
        *(Objection(RULE, text) for text in wrong),
        *_fit(books, cell, claim["allocations"], old, kept),
        *_fit_cells(books, cell, claim),
    ]


def enter(
    books: Ledger,
    cell: str,
    claim: Mapping[str, Any],
    grants: Iterable[Mapping[str, Any]] = (),
    *,
    replaces: bool,
) -> None:
    """Book a claim as accepted, and which devices it was granted."""
    key = (cell, claim["consumer"])
    held = books.consumers.get(key)
    parts = asks(claim["allocations"])
    before = held.parts if replaces and held is not None else ()
    books.take(cell, before, -1)
    books.take(cell, parts)
    books.sweep(cell, before)
    generation = held.generation + 1 if held else 1
    memberships = tuple(claim.get("memberships", ()))
    there = copies(books, cell, claim["allocations"]) if memberships else ()
    books.hold(
        key,
        HeldByConsumer(
            claim["id"], generation, parts, claim.get("hold_until_ms"), memberships, there, tuple(grants)
        ),
    )


def asks(allocations: Iterable[Mapping[str, Any]]) -> tuple[tuple[str, str, int], ...]:
    """(provider, class, amount) of each ask; what is not counted counts as one."""
    return tuple(
        (allocation["provider"], name, amount_of(name, ask))
        for allocation in allocations
        for name, ask in allocation["resources"].items()
    )


def _amounts(parts: Iterable[tuple[str, str, int]]) -> Counter[Slot]:
    """How much these come to of each class of each provider."""
    total = Counter[Slot]()
    for provider, name, amount in parts:
        total[(provider, name)] += amount
    return total


def _kept(books: Ledger, cell: str, claim: Mapping[str, Any], *, replaces: bool) -> frozenset[Slot]:
    """Of what a claim asks for no more than its consumer held, and so makes nothing worse. Devices and CPUs that were
    given by name or number give no right to others."""
    key = (cell, claim["consumer"])
    held = books.consumers.get(key)
    if held is None or not replaces:
        return frozenset()
    old, new = _amounts(held.parts), _amounts(asks(claim["allocations"]))
    particular = {
        (allocation["provider"], name)
        for allocation in claim["allocations"]
        for name, ask in allocation["resources"].items()
        if name == NUMA_CELL
        or (name in DEVICE_CLASSES and type(counted_ask(name, ask)) is not int)
        or key in books.consumers.granted.get((cell, allocation["provider"], name), ())
    }
    return frozenset(
        slot for slot in new if slot in old and new[slot] <= old[slot] and slot not in particular
    )


def wrongly_granted(
    books: Ledger,
    cell: str,
    claim: Mapping[str, Any],
    grants: Iterable[Mapping[str, Any]],
    *,
    replaces: bool,
) -> list[str]:
    """What is wrong with the devices that a claim was granted, before it is booked."""

    def stock_at(provider: str, name: str) -> Stock | None:
        at = books.providers.get((cell, provider))
        return at.stock.get(name) if at else None

    def held(provider: str, name: str) -> Iterable[Any]:
        return _held_by_others(books, cell, claim, provider, name)

    grants, allocations = list(grants), claim["allocations"]
    return [
        *wrong_grants(stock_at, held, allocations, grants, _kept(books, cell, claim, replaces=replaces)),
        *wrong_cell_grants(stock_at, held, allocations, grants),
    ]


def _held_by_others(
    books: Ledger, cell: str, claim: Mapping[str, Any], provider: str, name: str
) -> list[Any]:
    """What others than the claim's consumer were granted there."""
    by = books.consumers.granted.get((cell, provider, name), {})
    return [grant for key, some in by.items() if key != (cell, claim["consumer"]) for grant in some]


def _fit_cells(books: Ledger, cell: str, claim: Mapping[str, Any]) -> Iterable[Objection]:
    """What speaks against what is asked of NUMA cells. Of several asks to one cell, where each fits alone, it
    depends on which CPUs the first got."""
    asked = Counter[str]()
    for allocation in claim["allocations"]:
        provider = books.providers.get((cell, allocation["provider"]))
        stock = provider.stock.get(NUMA_CELL) if provider else None
        ask = allocation["resources"].get(NUMA_CELL)
        if stock is None or ask is None:
            continue
        asked[allocation["provider"]] += 1
        if not is_ask(ask):
            yield Objection(RULE, f"{ask!r} is not an ask of {NUMA_CELL}")
        elif why := lacking(
            stock, _held_by_others(books, cell, claim, allocation["provider"], NUMA_CELL), ask
        ):
            yield Objection(ROOM, f"{allocation['provider']}: {why}")
    for provider_id, asks_there in asked.items():
        if asks_there > 1:
            yield Objection(OPAQUE, f"{asks_there} asks to {NUMA_CELL} of {provider_id}")


def _terms(books: Ledger, claim: Mapping[str, Any]) -> Iterable[str]:
    if claim["deadline_ms"] > books.now() + DEADLINE_AHEAD_MS_MAX:
        yield "its deadline is too far"
    until = claim.get("hold_until_ms")
    if until is not None and until < books.now():
        yield "its hold is past"


def _consumer(claim: Mapping[str, Any], held: HeldByConsumer | None, *, replaces: bool) -> Iterable[str]:
    generation = claim.get("consumer_generation")
    if held is None and (replaces or generation is not None):
        yield "its consumer holds nothing"
    elif held is not None and not replaces:
        yield "its consumer holds something"
    elif held is not None and generation != held.generation:
        yield "its consumer changed"


def _holds(books: Ledger, cell: str, predicate: Mapping[str, Any]) -> bool:
    key, value = (cell, predicate["provider"]), predicate.get("value")
    provider = books.providers.get(key)
    if provider is None:
        return False
    if predicate["kind"] == "generation":
        true = provider.changed == value
    elif predicate["kind"] == "trait":
        true = value in books.traits(key)
    elif predicate["kind"] == "subtree":
        true = value in _path(books, key)
    elif predicate["kind"] == "attribute":
        return compares(books.attributes(key).get(predicate["name"]), predicate)
    else:
        true = key in books.facts and value in books.facts[key].aggregates
    return true is not predicate.get("negate", False)


def _path(books: Ledger, key: tuple[str, str]) -> list[str]:
    """A provider and those above it."""
    path: list[str] = []
    above: str | None = key[1]
    while above is not None and above not in path:
        path.append(above)
        provider = books.providers.get((key[0], above))
        above = None if provider is None else provider.parent
    return path


def compares(found: Any, predicate: Mapping[str, Any]) -> bool:
    """Whether an attribute (None: it is not there) compares as a predicate says. Types are never mixed."""
    operator, wanted = predicate.get("operator", "=="), predicate.get("value")
    if operator in ("has", "lacks"):
        return bool((found is None) == (operator == "lacks"))
    if found is None or type(found) is not type(wanted):
        return False
    if predicate.get("version"):
        found, wanted = _version(found), _version(wanted)
        if found is None or wanted is None:
            return False
    if type(found) is bool and operator not in ("==", "!="):
        return False
    less, equal = bool(found < wanted), bool(found == wanted)
    return {
        "==": equal,
        "!=": not equal,
        "<": less,
        "<=": less or equal,
        ">": not less and not equal,
        ">=": not less,
    }[operator]


def _version(text: Any) -> list[int] | None:
    """Eight numbers, or None for what is no version: at most 8 numbers of at most 9 digits, and then anything that
    starts with one of `-+~_` or a space."""
    if not isinstance(text, str):
        return None
    end = next((at for at, letter in enumerate(text) if letter in "-+~_ "), len(text))
    parts = text[:end].split(".")
    if len(parts) > 8 or not all(p.isascii() and p.isdecimal() and len(p) <= 9 for p in parts):
        return None
    return [*map(int, parts), *(0,) * (8 - len(parts))]


def _fit(
    books: Ledger,
    cell: str,
    allocations: Iterable[Mapping[str, Any]],
    old: Counter[Slot],
    kept: Collection[Slot],
) -> Iterable[Objection]:
    """What speaks against the amounts. `old` is what the claim's consumer gives back, `kept` of what it asks for no
    more than that."""
    total = _amounts(asks(allocations))
    for allocation in allocations:
        id_ = allocation["provider"]
        slots = {(id_, name) for name in allocation["resources"]}
        if (cell, id_) not in books.providers:
            yield Objection(RULE, f"{id_} is unknown")
            continue
        closed = books.closed((cell, id_))
        if closed and not slots <= set(kept):
            yield Objection(RULE, f"{id_}: {closed}")
        for name, ask in allocation["resources"].items():
            yield from _fit_units(books, (cell, id_), name, ask, kept=(id_, name) in kept)
    for (id_, name), asked in total.items():
        at = books.providers.get((cell, id_))
        if at is None or name not in at.stock or at.stock[name].opaque or (id_, name) in kept:
            continue
        free = books.capacity((cell, id_), name) - at.used.get(name, 0) + old[(id_, name)]
        if asked > free:
            yield Objection(ROOM, f"{id_} has {free} of {name} left, {asked} asked")


def _fit_units(
    books: Ledger, key: tuple[str, str], name: str, ask: Any, *, kept: bool
) -> Iterable[Objection]:
    stock = books.providers[key].stock.get(name)
    ask = counted_ask(name, ask)
    if stock is None:
        yield Objection(RULE, f"{key[1]} has no {name}")
    elif name == NUMA_CELL:
        return  # see `_fit_cells`
    elif stock.opaque:
        yield Objection(OPAQUE, f"{name} is not counted")
    elif type(ask) is not int or not 1 <= ask <= INTEGER_MAX:
        yield Objection(RULE, f"{ask!r} is not an amount of {name}")
    elif not kept and (not stock.min_unit <= ask <= stock.max_unit or ask % stock.step_size):
        yield Objection(RULE, f"{ask} of {name} of {key[1]} is not from min_unit to max_unit in steps")
