"""The auditor's own verdict on one claim: all objections to it, at its place in the log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from vacancy.clients.auditor.claims.consumers import HeldByConsumer, Key
from vacancy.clients.auditor.claims.moves import GROUPS_OF_A_CLAIM, NO_MOVE, Move, asked, compare
from vacancy.clients.auditor.claims.server_groups import broken_groups, copies
from vacancy.clients.auditor.classes.built_in import ClassAuditors
from vacancy.clients.auditor.classes.class_auditor import OPAQUE, RULE, ClassAuditor, Objection, Slot
from vacancy.clients.auditor.ledger import DEADLINE_AHEAD_MS_MAX, Ledger
from vacancy.clients.auditor.nodes.operator_settings import NO_SETTINGS
from vacancy.clients.auditor.not_judged import CHANGED_BY_NAME

SlotKey = tuple[str, str]
"""(provider, class)."""


def objections(
    ledger: Ledger, cell: str, claim: Mapping[str, Any], *, replaces: bool, rejected: bool
) -> list[Objection]:
    """All objections to a claim that is not late and was not judged before. Without any, it is to be accepted. `rejected`: the
    store has rejected it; otherwise `grant_errors` judges what it was granted by name."""
    held = ledger.consumers.get((cell, claim["consumer"]))
    broken = [*_terms(ledger, claim), *_consumer(claim, held, replaces=replaces)]
    broken.extend(
        f"predicate {predicate['kind']} of {predicate['provider']} fails"
        for predicate in claim.get("predicates", ())
        if not _holds(ledger, cell, predicate)
    )
    broken.extend(broken_groups(ledger, cell, claim))
    if len(claim.get("memberships", ())) > GROUPS_OF_A_CLAIM:
        broken.append("it is in too many groups")
    move = _move(ledger, cell, claim, replaces=replaces)
    kept = _kept(ledger, cell, claim, replaces=replaces)
    found = [
        *(Objection(RULE, text) for text in broken),
        *_provider_objections(ledger, cell, claim, kept, move),
    ]
    for auditor, slot, asks_there in _slots(ledger, cell, claim, kept, replaces=replaces, strict=rejected):
        if not rejected:
            found.extend(auditor.objections(slot, asks_there))
            continue
        found.extend(auditor.refusals(slot, asks_there))
        if not ledger.keeps_grants and any(_has(ask, auditor.added_ask_fields) for ask in asks_there):
            found.append(Objection(RULE, f"the rules do not have what it asks for of {auditor.name}"))
        is_open = not _closed(ledger, cell, claim, slot.provider)
        if (slot.provider, auditor.name) in move.changed and not (is_open and len(asks_there) == 1):
            found.append(Objection(OPAQUE, CHANGED_BY_NAME))
    return found


def refusals(ledger: Ledger, key: Key, name: str, ask: Any) -> Iterator[Objection]:
    """The reasons why a provider that has stock of a class does not grant a new ask by name."""
    auditor, stock = ledger.auditor(name), ledger.providers[key].stock[name]
    held = _held(ledger, *key, name)
    unsure = auditor.is_unsure(stock, held, ledger.providers[key].used.get(name, 0))
    if excluded := _excluded(ledger, key, name):
        stock = auditor.offered(stock, excluded)
    slot = Slot(key[1], stock, ledger.free(key, name), held, False, unsure)
    yield from auditor.refusals(slot, [ask])
    if not ledger.keeps_grants and _has(ask, auditor.added_ask_fields):
        yield Objection(RULE, f"the rules do not have what it asks for of {name}")


def _excluded(ledger: Ledger, key: Key, name: str) -> frozenset[str]:
    """The items of a provider's stock that nobody gets: those that an operator excluded, and those that do not work."""
    by_operator = ledger.settings.get(key, NO_SETTINGS).override(name).get("excluded", ())
    stock = ledger.providers[key].stock[name]
    return frozenset((*by_operator, *ledger.auditor(name).unhealthy(stock)))


def gives_back(ledger: Ledger, cell: str, claim: Mapping[str, Any], *, replaces: bool) -> bool:
    """Whether a claim gives back what its consumer holds before the rest of it is judged."""
    held = ledger.consumers.get((cell, claim["consumer"]))
    return (
        replaces
        and held is not None
        and not any((*_terms(ledger, claim), *_consumer(claim, held, replaces=replaces)))
        and all(_holds(ledger, cell, predicate) for predicate in claim.get("predicates", ()))
    )


def grant_errors(
    ledger: Ledger,
    cell: str,
    claim: Mapping[str, Any],
    grants: Iterable[Mapping[str, Any]],
    *,
    replaces: bool,
) -> Iterator[str]:
    """The errors in the grants of a claim (devices, CPUs), before the claim is entered."""
    given = _by_slot(grants)
    move = _move(ledger, cell, claim, replaces=replaces)
    for number, ask in reversed(list(enumerate(asked(claim)))):
        if number in move.stays:
            where = (ask.provider, ask.name)
            at = sum((one.provider, one.name) == where for one in asked(claim)[:number])
            there = given.get(where, [])
            if at >= len(there) or there.pop(at) != move.stays[number]:
                yield f"{ask.provider}: an ask for {ask.name} stays the same, and its grant does not"
    held = ledger.consumers.get((cell, claim["consumer"]))
    before = _by_slot(held.grants if held is not None else ())
    kept = _kept(ledger, cell, claim, replaces=replaces)
    for auditor, slot, asks_there in _slots(ledger, cell, claim, kept, replaces=replaces):
        key = (slot.provider, auditor.name)
        if key in move.changed and _are_gone(auditor, slot, held, before[key]):
            continue  # what the consumer keeps is no longer what anybody else could get
        there = given.get(key, [])
        yield from (f"{slot.provider}: {text}" for text in auditor.grant_errors(slot, asks_there, there))


def given_back(ledger: Ledger, cell: str, claim: Mapping[str, Any]) -> list[tuple[str, str, int]]:
    """What a replacement gives back of what its consumer holds: all but the asks that stay the same."""
    parts = list(ledger.consumers[(cell, claim["consumer"])].parts)
    move = _move(ledger, cell, claim, replaces=True)
    for number, part in enumerate(asks(ledger.classes, claim["allocations"])):
        if number in move.stays:
            parts.remove(part)
    return parts


def _move(ledger: Ledger, cell: str, claim: Mapping[str, Any], *, replaces: bool) -> Move:
    held = ledger.consumers.get((cell, claim["consumer"]))
    return compare(claim, held) if replaces and held is not None and ledger.keeps_grants else NO_MOVE


def _by_slot(grants: Iterable[Mapping[str, Any]]) -> dict[SlotKey, list[Any]]:
    found: dict[SlotKey, list[Any]] = {}
    for one in grants:
        found.setdefault((one["provider"], one["resource_class"]), []).append(one["grant"])
    return found


def _are_gone(
    auditor: ClassAuditor[Any], slot: Slot[Any], held: HeldByConsumer | None, grants: list[Any]
) -> bool:
    """Whether what a consumer holds by name could not be granted now."""
    there = (
        [one.ask for one in held.asked if (one.provider, one.name) == (slot.provider, auditor.name)]
        if held
        else []
    )
    return len(there) != len(grants) or any(auditor.grant_errors(slot, there, grants))


def enter(
    ledger: Ledger,
    cell: str,
    claim: Mapping[str, Any],
    grants: Iterable[Mapping[str, Any]] = (),
    *,
    replaces: bool,
) -> None:
    """Enter a claim as accepted, and what it was granted by name."""
    key = (cell, claim["consumer"])
    held = ledger.consumers.get(key)
    parts = asks(ledger.classes, claim["allocations"])
    before = held.parts if replaces and held is not None else ()
    ledger.take(cell, before, -1)
    ledger.take(cell, parts)
    ledger.sweep(cell, before)
    stays = _move(ledger, cell, claim, replaces=replaces).stays
    for number, part in enumerate(parts):
        if number not in stays:
            ledger.details.touch((cell, part[0]))
    generation = held.generation + 1 if held else 1
    memberships = tuple(claim.get("memberships", ()))
    there = copies(ledger, cell, claim["allocations"]) if memberships else ()
    ledger.hold(
        key,
        HeldByConsumer(
            claim["id"],
            generation,
            parts,
            claim.get("hold_until_ms"),
            memberships,
            there,
            tuple(grants),
            asked(claim),
        ),
    )


def asks(
    classes: ClassAuditors, allocations: Iterable[Mapping[str, Any]]
) -> tuple[tuple[str, str, int], ...]:
    """(provider, class, amount) of each ask."""
    return tuple(
        (allocation["provider"], name, classes.of(name).amount(ask))
        for allocation in allocations
        for name, ask in allocation["resources"].items()
    )


def _amounts(parts: Iterable[tuple[str, str, int]]) -> Counter[SlotKey]:
    total = Counter[SlotKey]()
    for provider, name, amount in parts:
        total[(provider, name)] += amount
    return total


def _slots(
    ledger: Ledger,
    cell: str,
    claim: Mapping[str, Any],
    kept: Collection[SlotKey],
    *,
    replaces: bool,
    strict: bool = False,
) -> Iterator[tuple[ClassAuditor[Any], Slot[Any], list[Any]]]:
    """The asks of a claim by class and provider, of those that the provider has stock of. `strict`: without what its consumer
    holds of excluded items, which no other ask gets."""
    move = _move(ledger, cell, claim, replaces=replaces)
    found: dict[SlotKey, list[Any]] = {}
    stay: dict[SlotKey, list[Any]] = {}
    for number, one in enumerate(asked(claim)):
        if number in move.stays:
            stay.setdefault((one.provider, one.name), []).append(move.stays[number])
        else:
            found.setdefault((one.provider, one.name), []).append(one.ask)
    held = ledger.consumers.get((cell, claim["consumer"])) if replaces else None
    given = _amounts(given_back(ledger, cell, claim) if held is not None else ())
    for (id_, name), wanted in found.items():
        provider = ledger.providers.get((cell, id_))
        if provider is not None and name in provider.stock:
            free = ledger.free((cell, id_), name) + given[(id_, name)]
            others = _held_by_others(ledger, cell, claim, id_, name) + stay.get((id_, name), [])
            auditor, stock = ledger.auditor(name), provider.stock[name]
            unsure = auditor.is_unsure(stock, _held(ledger, cell, id_, name), provider.used.get(name, 0))
            if excluded := _excluded(ledger, (cell, id_), name):
                # What a consumer holds already it may keep in a move.
                own = ledger.consumers.granted.get((cell, id_, name), {}).get((cell, claim["consumer"]), ())
                keeps = {item for grant in own if not isinstance(grant, int) for item in grant}
                stock = auditor.offered(
                    stock, frozenset(excluded) - (keeps if replaces and not strict else frozenset())
                )
            yield auditor, Slot(id_, stock, free, others, (id_, name) in kept, unsure), wanted


def _kept(ledger: Ledger, cell: str, claim: Mapping[str, Any], *, replaces: bool) -> frozenset[SlotKey]:
    """Where a claim asks for no more than its consumer held, by amount. A grant by name (a device, a CPU) gives no
    right to another one."""
    key = (cell, claim["consumer"])
    held = ledger.consumers.get(key)
    if held is None or not replaces:
        return frozenset()
    old, new = _amounts(held.parts), _amounts(asks(ledger.classes, claim["allocations"]))
    by_name = {
        (allocation["provider"], name)
        for allocation in claim["allocations"]
        for name, ask in allocation["resources"].items()
        if ledger.auditor(name).count_of(ask) is None
        or key in ledger.consumers.granted.get((cell, allocation["provider"], name), ())
    }
    return frozenset(slot for slot in new if slot in old and new[slot] <= old[slot] and slot not in by_name)


def _held(ledger: Ledger, cell: str, provider: str, name: str) -> list[Any]:
    """All grants by name there."""
    by = ledger.consumers.granted.get((cell, provider, name), {})
    return [grant for some in by.values() for grant in some]


def _held_by_others(
    ledger: Ledger, cell: str, claim: Mapping[str, Any], provider: str, name: str
) -> list[Any]:
    """The grants that other consumers than the claim's hold there."""
    by = ledger.consumers.granted.get((cell, provider, name), {})
    return [grant for key, some in by.items() if key != (cell, claim["consumer"]) for grant in some]


def _provider_objections(
    ledger: Ledger, cell: str, claim: Mapping[str, Any], kept: Collection[SlotKey], move: Move
) -> Iterator[Objection]:
    new = {(one.provider, one.name) for at, one in enumerate(asked(claim)) if at not in move.stays}
    for allocation in claim["allocations"]:
        id_ = allocation["provider"]
        provider = ledger.providers.get((cell, id_))
        if provider is None:
            yield Objection(RULE, f"{id_} is unknown")
            continue
        closed = _closed(ledger, cell, claim, id_)
        worse = {(id_, name) for name in allocation["resources"]} & new - move.changed
        if closed and worse.difference(kept):
            yield Objection(RULE, f"{id_}: {closed}")
        for name in allocation["resources"]:
            if name not in provider.stock:
                yield Objection(RULE, f"{id_} has no {name}")


def _has(ask: Any, fields: Collection[str]) -> bool:
    return isinstance(ask, dict) and not ask.keys().isdisjoint(fields)


def _closed(ledger: Ledger, cell: str, claim: Mapping[str, Any], provider: str) -> str:
    """Why a provider takes no new claims like this one, '' if it does."""
    return ledger.closed((cell, provider)) or ledger.repels((cell, provider), claim)


def _terms(ledger: Ledger, claim: Mapping[str, Any]) -> Iterable[str]:
    if claim["deadline_ms"] > ledger.now() + DEADLINE_AHEAD_MS_MAX:
        yield "its deadline is too far ahead"
    until = claim.get("hold_until_ms")
    if until is not None and until < ledger.now():
        yield "its hold has already ended"


def _consumer(claim: Mapping[str, Any], held: HeldByConsumer | None, *, replaces: bool) -> Iterable[str]:
    generation = claim.get("consumer_generation")
    if held is None and (replaces or generation is not None):
        yield "its consumer holds nothing"
    elif held is not None and not replaces:
        yield "its consumer holds something"
    elif held is not None and generation != held.generation:
        yield "its consumer changed"
    elif held is not None and claim.get("replaces", held.claim) != held.claim:
        yield "its consumer holds by another claim"


def _holds(ledger: Ledger, cell: str, predicate: Mapping[str, Any]) -> bool:
    key, value = (cell, predicate["provider"]), predicate.get("value")
    provider = ledger.providers.get(key)
    if provider is None:
        return False
    if predicate["kind"] == "generation":
        true = provider.changed == value
    elif predicate["kind"] == "trait":
        true = value in ledger.traits(key)
    elif predicate["kind"] == "subtree":
        true = value in _path(ledger, key)
    elif predicate["kind"] == "attribute":
        return compares(ledger.attributes(key).get(predicate["name"]), predicate)
    else:
        true = key in ledger.settings and value in ledger.settings[key].aggregates
    return true is not predicate.get("negate", False)


def _path(ledger: Ledger, key: tuple[str, str]) -> list[str]:
    """A provider and its ancestors."""
    path: list[str] = []
    above: str | None = key[1]
    while above is not None and above not in path:
        path.append(above)
        provider = ledger.providers.get((key[0], above))
        above = None if provider is None else provider.parent
    return path


def compares(found: Any, predicate: Mapping[str, Any]) -> bool:
    """Whether an attribute (None: it is missing) satisfies a predicate. Values of different types never do."""
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
    """Eight numbers, or None where the text is not a version: at most 8 numbers of at most 9 digits, then optionally
    any text that starts with one of `-+~_` or a space."""
    if not isinstance(text, str):
        return None
    end = next((at for at, letter in enumerate(text) if letter in "-+~_ "), len(text))
    parts = text[:end].split(".")
    if len(parts) > 8 or not all(p.isascii() and p.isdecimal() and len(p) <= 9 for p in parts):
        return None
    return [*map(int, parts), *(0,) * (8 - len(parts))]
