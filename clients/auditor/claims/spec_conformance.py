"""Whether an accepted claim gives what its request asks for, on providers that the request allows.

The fold judges allocations and predicates. Whether they serve the request is up to the scheduler, and checked here:
for example a share of a GPU that is split over two, or a pod on a GPU of a model that it cannot use.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from vacancy.clients.auditor.ledger import Ledger

Allocations = Sequence[Mapping[str, Any]]


def misplacements(ledger: Ledger, cell: str, claim: Mapping[str, Any]) -> Iterator[str]:
    """How an accepted claim violates its spec, at its place in the log; nothing if the claim has no spec."""
    spec = claim.get("spec")
    if spec is None:
        return
    for number, given in sorted(_copies(claim["allocations"]).items()):
        of = f"copy {number}, " if number > 1 else ""
        for group in spec["groups"]:
            named = group.get("name", "")
            for what in _group(ledger, cell, group, given[named]):
                yield f"{of}group {named!r}: {what}"
        if spec.get("group_policy", "none") == "isolate":
            isolated = [one.get("name", "") for one in spec["groups"] if one.get("same_provider", True)]
            yield from (of + what for what in _isolation([given[name] for name in isolated]))


def _copies(allocations: Allocations) -> dict[int, defaultdict[str, list[Mapping[str, Any]]]]:
    """Copy -> group -> its allocations. In all copies but the first, `#` and the number follow the group's name."""
    found: dict[int, defaultdict[str, list[Mapping[str, Any]]]] = {1: defaultdict(list)}
    for allocation in allocations:
        name, _, number = allocation.get("group", "").partition("#")
        found.setdefault(int(number or 1), defaultdict(list))[name].append(allocation)
    return found


def _group(ledger: Ledger, cell: str, group: Mapping[str, Any], given: Allocations) -> Iterable[str]:
    asked = group.get("resources", {})
    amounts = Counter[str]()
    for allocation in given:
        for name, ask in allocation["resources"].items():
            if name not in asked:
                yield f"{name} was not asked for"
            else:
                amounts[name] += ledger.auditor(name).count_of(ask) or 0
    for name, ask in asked.items():
        amount = ledger.auditor(name).count_of(ask)
        if amount is not None and amounts[name] != amount:
            yield f"{amount} of {name} asked, {amounts[name]} given"
    if not group.get("same_provider", True):
        return  # several providers may serve it, and together have its traits
    providers = sorted({allocation["provider"] for allocation in given})
    if len(providers) > 1:
        yield f"it is split over {', '.join(providers)}"
    for id_ in providers:
        if (cell, id_) in ledger.providers:
            yield from _traits(id_, ledger.traits((cell, id_)), group)


def _traits(id_: str, traits: frozenset[str], group: Mapping[str, Any]) -> Iterable[str]:
    for name in group.get("required", ()):
        if name not in traits:
            yield f"{id_} does not have {name}"
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
