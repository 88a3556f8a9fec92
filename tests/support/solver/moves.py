"""What a consumer may hold instead of what it holds, for the solver in `brute_force`.

Written from docs/events.md (`vacancy.consumer.replaced.v3`). What the consumer holds counts as free for it. An ask that it has
a grant by name for keeps that grant. On a closed provider everything that it gets must be among what it gives back.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tests.support.solver.brute_force import (
    Assignment,
    Fleet,
    Node,
    Request,
    ancestors,
    assignments,
    fits_all,
    remaining_amount,
)
from tests.support.solver.classes import REMAINING, Stock, units, without


@dataclass(frozen=True)
class Held:
    """A grant of a consumer, and the ask that it is for."""

    provider: str
    resource_class: str
    group: str
    ask: Any
    grant: Any

    @property
    def slot(self) -> tuple[str, str]:
        return self.provider, self.resource_class


def moves(
    fleet: Fleet, request: Request, held: Sequence[Held], not_nodes: Collection[str] = ()
) -> Iterator[tuple[str, Assignment, bool]]:
    """(root, assignment, whether anybody could have it who holds the same) of all assignments that the consumer may have
    instead of `held`. `fleet` is without what it holds. What is closed or excluded, or less than the provider's minimum, is
    only for who holds it already."""
    allowed: dict[str, Node] = {}
    for id_, node in fleet.items():
        here = {id_, ancestors(fleet, id_)[-1]}
        allowed[id_] = replace(node, enabled=not here & {*not_nodes}, taints={})

    def fits(_: Fleet, asked: Request, way: Assignment) -> bool:
        return may_hold(fleet, asked, way, held)

    for root, way in assignments(allowed, request, fits):
        is_open = all(is_enabled(fleet, id_) for id_ in {id_ for _, _, id_ in way} | {root})
        as_new = is_open and fits_all(fleet, request, [way])
        yield root, way, as_new and may_hold(fleet, request, way, held, as_new=True)


def is_enabled(fleet: Fleet, id_: str) -> bool:
    """Whether a provider takes new claims that tolerate no taint."""
    here = (fleet[id_], fleet[ancestors(fleet, id_)[-1]])
    return all(node.enabled and not node.taints for node in here)


def may_hold(
    fleet: Fleet, request: Request, way: Assignment, held: Sequence[Held], *, as_new: bool = False
) -> bool:
    """Whether there are grants for an assignment that a consumer may have instead of `held`. `as_new`: amounts that are no
    more than what it holds are judged as those of others."""
    asked: dict[tuple[str, str], list[tuple[str, Any]]] = {}
    for number, name, id_ in way:
        if name:
            group = request["groups"][number]
            asked.setdefault((id_, name), []).append((group.get("name", ""), group["resources"][name]))
    for slot, asks in asked.items():
        before = [one for one in held if one.slot == slot]
        if not (no_more(asks, before) and not as_new) and not _may_hold(fleet, slot, asks, before):
            return False
    return True


def no_more(asks: Sequence[tuple[str, Any]], before: Sequence[Held]) -> bool:
    """Whether asks are amounts, together no more than what was granted."""
    grants, amounts = [one.grant for one in before], [ask for _, ask in asks]
    return all(type(one) is int for one in (*grants, *amounts)) and sum(amounts) <= sum(grants)


def _may_hold(
    fleet: Fleet, slot: tuple[str, str], asks: Sequence[tuple[str, Any]], before: Sequence[Held]
) -> bool:
    id_, name = slot
    stock, is_open = fleet[id_].stock.get(name), is_enabled(fleet, id_)
    if stock is None or not (is_open or before):
        return False
    for changed, kept in unchanged(asks, before):
        start = stock
        for one in kept:
            start = taken(name, start, one.grant)
        mine = start
        for one in before:
            if one not in kept:
                mine = taken(name, mine, one.grant)
        given_back = units(name, mine) - units(name, start)
        for end in _after(name, start, [ask for _, ask in changed]):
            if is_open or units(name, end) - units(name, start) <= given_back:
                return True
    return False


def unchanged(
    asks: Sequence[tuple[str, Any]], before: Sequence[Held]
) -> Iterator[tuple[list[tuple[str, Any]], list[Held]]]:
    """All ways to keep grants by name for asks, given as (request group, ask), that stay the same: the other asks, and what
    is kept. First an ask of the same request group keeps a grant."""
    left, kept, rest = [*asks], list[Held](), [one for one in before if type(one.grant) is not int]
    for one in before:
        if one in rest and (one.group, one.ask) in left:
            left.remove((one.group, one.ask))
            rest.remove(one)
            kept.append(one)
    choices = []
    for wanted in {repr(ask): ask for _, ask in left}.values():
        same = [one for one in rest if one.ask == wanted and type(one.ask) is type(wanted)]
        number = min(len(same), sum(ask == wanted for _, ask in left))
        choices.append([(wanted, some) for some in itertools.combinations(same, number)])
    for choice in itertools.product(*choices):
        others = [*left]
        for wanted, some in choice:
            for _ in some:
                others.remove(next(one for one in others if one[1] == wanted))
        yield others, [*kept, *(one for _, some in choice for one in some)]


def taken(name: str, stock: Stock, grant: Any) -> Stock:
    """The stock without a grant."""
    return without(name, stock, grant) if name in REMAINING else {**stock, "free": stock["free"] - grant}


def _after(name: str, stock: Stock, asks: Sequence[Any]) -> Iterator[Stock]:
    if not asks:
        yield stock
        return
    for left in REMAINING.get(name, remaining_amount)(stock, asks[0]):
        yield from _after(name, left, asks[1:])
