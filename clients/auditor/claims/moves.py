"""Moves as the auditor judges them, under rules that keep grants: an ask that stays the same keeps what it was granted.

Written from docs/events.md. What a changed ask by name keeps of its grant is not judged, only that the grants are free.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from vacancy.clients.auditor.claims.consumers import Asked, HeldByConsumer

MOVES_SINCE: Final = 4
"""The first version of the rules that keep grants."""

GROUPS_OF_A_CLAIM: Final = 16

SlotKey = tuple[str, str]
"""(provider, class)."""


class Move(NamedTuple):
    """What a claim has in common with what its consumer holds. `stays`: number of an ask -> the grant that it keeps;
    `changed`: where the consumer gives back something by name that no ask keeps, and asks for something else."""

    stays: Mapping[int, Any]
    changed: frozenset[SlotKey]


NO_MOVE: Final = Move({}, frozenset())


def asked(claim: Mapping[str, Any]) -> tuple[Asked, ...]:
    """The asks of a claim, in order."""
    return tuple(
        Asked(allocation["provider"], name, ask, allocation.get("group", ""))
        for allocation in claim["allocations"]
        for name, ask in allocation["resources"].items()
    )


def compare(claim: Mapping[str, Any], held: HeldByConsumer) -> Move:
    """Find the asks that stay the same: first those of the same request group, then those of any."""
    wanted = list(enumerate(asked(claim)))
    left = list(_granted(held))
    stays: dict[int, Any] = {}
    for of_any_group in (False, True):
        for number, ask in wanted:
            if number in stays:
                continue
            for at, (before, grant) in enumerate(left):
                if before[:3] == ask[:3] and (of_any_group or before.group == ask.group):
                    stays[number] = grant
                    del left[at]
                    break
    given_back = {(before.provider, before.name) for before, _ in left}
    given_back |= {(one["provider"], one["resource_class"]) for one in held.grants} - {
        (before.provider, before.name) for before, _ in _granted(held)
    }
    others = {(ask.provider, ask.name) for number, ask in wanted if number not in stays}
    return Move(stays, frozenset(given_back & others))


def _granted(held: HeldByConsumer) -> Iterator[tuple[Asked, Any]]:
    """What was asked for and granted by name, where each ask at a provider has a grant."""
    asks: dict[SlotKey, list[Asked]] = {}
    for ask in held.asked:
        asks.setdefault((ask.provider, ask.name), []).append(ask)
    grants: dict[SlotKey, list[Any]] = {}
    for one in held.grants:
        grants.setdefault((one["provider"], one["resource_class"]), []).append(one["grant"])
    for slot, there in asks.items():
        if len(there) == len(grants.get(slot, ())):
            yield from zip(there, grants[slot], strict=True)


def with_groups(claim: Mapping[str, Any], held: HeldByConsumer | None) -> Mapping[str, Any]:
    """A replacement with the server groups that its consumer is in and does not leave."""
    if held is None:
        return claim
    named = {one["group"].rpartition("/")[2] for one in claim.get("memberships", ())}
    left = set(claim.get("leaves", ()))
    stays = [
        one
        for one in held.memberships
        if one["group"] not in left and one["group"].rpartition("/")[2] not in named
    ]
    return {**claim, "memberships": [*claim.get("memberships", ()), *stays]} if stays else claim
