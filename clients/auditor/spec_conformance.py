"""Whether an accepted claim gives what its request asks for, and where it may be: the auditor's own reading.

The fold judges allocations and predicates; that they serve the request is the scheduler's doing, and seen here:
a share of a GPU split over two, a pod on a GPU of a model that it cannot use.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from vacancy.clients.auditor.ledger import Ledger

Allocations = Sequence[Mapping[str, Any]]


def misplacements(books: Ledger, cell: str, claim: Mapping[str, Any]) -> Iterator[str]:
    """What an accepted claim does not keep of its spec, as it stands in the log; nothing if it has none."""
    spec = claim.get("spec")
    if spec is None:
        return
    for number, given in sorted(_copies(claim["allocations"]).items()):
        of = f"copy {number}, " if number > 1 else ""
        for group in spec["groups"]:
            named = group.get("name", "")
            for what in _group(books, cell, group, given[named]):
                yield f"{of}group {named!r}: {what}"
        if spec.get("group_policy", "none") == "isolate":
            alone = [one.get("name", "") for one in spec["groups"] if one.get("same_provider", True)]
            yield from (of + what for what in _isolation([given[name] for name in alone]))


def _copies(allocations: Allocations) -> dict[int, defaultdict[str, list[Mapping[str, Any]]]]:
    """Copy -> group -> its allocations. The group of a copy but the first is followed by # and its number."""
    found: dict[int, defaultdict[str, list[Mapping[str, Any]]]] = {1: defaultdict(list)}
    for allocation in allocations:
        name, _, number = allocation.get("group", "").partition("#")
        found.setdefault(int(number or 1), defaultdict(list))[name].append(allocation)
    return found


def _group(books: Ledger, cell: str, group: Mapping[str, Any], given: Allocations) -> Iterable[str]:
    asked = group.get("resources", {})
    amounts = Counter[str]()
    for allocation in given:
        for name, ask in allocation["resources"].items():
            if name not in asked:
                yield f"{name} was not asked for"
            elif type(ask) is int:
                amounts[name] += ask
    for name, ask in asked.items():
        if type(ask) is int and amounts[name] != ask:
            yield f"{ask} of {name} asked, {amounts[name]} given"
    if not group.get("same_provider", True):
        return  # several providers may serve it, and have its traits together
    providers = sorted({allocation["provider"] for allocation in given})
    if len(providers) > 1:
        yield f"it is split over {', '.join(providers)}"
    for id_ in providers:
        if (cell, id_) in books.providers:
            yield from _traits(id_, books.traits((cell, id_)), group)


def _traits(id_: str, traits: frozenset[str], group: Mapping[str, Any]) -> Iterable[str]:
    for name in group.get("required", ()):
        if name not in traits:
            yield f"{id_} has not {name}"
    for name in group.get("forbidden", ()):
        if name in traits:
            yield f"{id_} has {name}"
    for names in group.get("any_traits", ()):
        if traits.isdisjoint(names):
            yield f"{id_} has none of {', '.join(names)}"


def _isolation(groups_given: Sequence[Allocations]) -> Iterable[str]:
    """No two groups share a provider."""
    served = Counter(id_ for given in groups_given for id_ in {one["provider"] for one in given})
    for id_, groups in sorted(served.items()):
        if groups > 1:
            yield f"{id_} serves {groups} groups that must not share a provider"
