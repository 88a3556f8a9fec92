"""A solver that finds all candidates of a request by exhaustive enumeration.

It shares no code and no data structures with the query engine, the fold or the auditor: a fleet is plain dicts, a
request is JSON. It is slow, but short enough to be checked by reading.

To add a resource class, add a function to `REMAINING` in `solver/classes.py`: it gets a provider's stock of the class and
an ask, and yields every possible remaining stock, or nothing if the ask does not fit. To add an expression, add a line to
`WHERE` in `solver/expressions.py`. Conditions on one provider of a group are in `_suits`, conditions on a whole
assignment in `_agrees`. Server groups and copies are in `solver/relations.py`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tests.support.solver.classes import REMAINING, Stock
from tests.support.solver.expressions import WHERE

Request = Mapping[str, Any]
Assignment = tuple[tuple[int, str, str], ...]
"""(group number, class or '', provider) of each ask."""


@dataclass
class Node:
    """One provider. `stock`: class -> its stock (for counted classes: free, min, max, step). `taints`: key -> value."""

    parent: str | None = None
    traits: set[str] = field(default_factory=set)
    aggregates: set[str] = field(default_factory=set)
    stock: dict[str, Any] = field(default_factory=dict)
    enabled: bool = True
    attributes: dict[str, Any] = field(default_factory=dict)
    taints: dict[str, str] = field(default_factory=dict)


Fleet = Mapping[str, Node]
"""All providers of one cell, by id."""


def remaining_amount(stock: Stock, ask: Any) -> Iterator[Stock]:
    """The rule of a counted class."""
    if stock["min"] <= ask <= stock["max"] and ask % stock["step"] == 0 and ask <= stock["free"]:
        yield {**stock, "free": stock["free"] - ask}


def ancestors(fleet: Fleet, id_: str) -> list[str]:
    """A provider and its ancestors, the root last."""
    above = fleet[id_].parent
    return [id_] if above is None else [id_, *ancestors(fleet, above)]


def reach(fleet: Fleet, root: str) -> list[str]:
    """The providers of a root's tree, then the sharing providers that it can use."""
    tree = [id_ for id_ in fleet if ancestors(fleet, id_)[-1] == root]
    together = set[str]().union(*(fleet[id_].aggregates for id_ in tree))
    return tree + [
        id_
        for id_, node in fleet.items()
        if id_ not in tree and "MISC_SHARES_VIA_AGGREGATE" in node.traits and node.aggregates & together
    ]


def assignments(
    fleet: Fleet, request: Request, fits: Callable[[Fleet, Request, Assignment], bool] | None = None
) -> Iterator[tuple[str, Assignment]]:
    """Yield (root, assignment) for all assignments that serve a request. `fits` tells whether the providers have enough."""
    groups = request["groups"]
    fits = fits or _fits
    fleet = {id_: _for_request(node, request) for id_, node in fleet.items()}
    for root in (id_ for id_, node in fleet.items() if node.parent is None and node.enabled):
        has = fleet[root].traits
        if not (
            has >= {*request.get("root_required", ())} and not has & {*request.get("root_forbidden", ())}
        ):
            continue
        options = [list(_servers(fleet, root, number, group, fits)) for number, group in enumerate(groups)]
        for parts in itertools.product(*options):
            assignment = tuple(itertools.chain(*parts))
            if _agrees(fleet, request, assignment) and fits(fleet, request, assignment):
                yield root, assignment


def _for_request(node: Node, request: Request) -> Node:
    """The provider; disabled if it has a taint that the request does not tolerate."""
    said = [(one["key"], one.get("value")) for one in request.get("tolerations", ())]
    tolerated = all((key, value) in said or (key, None) in said for key, value in node.taints.items())
    return node if tolerated else replace(node, enabled=False)


def _servers(
    fleet: Fleet,
    root: str,
    number: int,
    group: Request,
    fits: Callable[[Fleet, Request, Assignment], bool],
) -> Iterator[Assignment]:
    """All assignments of one group, without regard to the others."""
    able = [id_ for id_ in reach(fleet, root) if _suits(fleet, root, id_, group)]
    classes = list(group.get("resources", {}))
    if group.get("same_provider", True):
        choices = [(id_,) * max(1, len(classes)) for id_ in able]
    else:
        choices = list(itertools.product(able, repeat=len(classes)))
    for chosen in choices:
        traits = set[str]().union(*(fleet[id_].traits for id_ in chosen))
        wanted = [[name] for name in group.get("required", ())] + list(group.get("any_traits", ()))
        if all(traits & {*some} for some in wanted):
            assignment = tuple((number, name, id_) for name, id_ in zip(classes or [""], chosen, strict=True))
            if fits(fleet, {"groups": [{}] * number + [group]}, assignment):
                yield assignment


def _suits(fleet: Fleet, root: str, id_: str, group: Request) -> bool:
    """Whether a provider may serve a group, by the conditions on a single provider."""
    node, own = fleet[id_], ancestors(fleet, id_)[-1]
    if not all(fleet[each].enabled for each in {id_, own}) or node.traits & {*group.get("forbidden", ())}:
        return False
    if not WHERE[group.get("where", "")](node):
        return False
    if group.get("in_tree") is not None and (
        group["in_tree"] not in fleet or ancestors(fleet, group["in_tree"])[-1] != own
    ):
        return False
    wanted, refused = group.get("member_of", ()), {*group.get("not_member_of", ())}
    direct = all(node.aggregates & {*some} for some in wanted)
    if group.get("same_provider", True):
        return direct and not node.aggregates & refused
    if group.get("in_tree") is not None and own != root:
        return False
    by_root = own == root and all(fleet[root].aggregates & {*some} for some in wanted)
    return (direct or by_root) and not (node.aggregates | fleet[root].aggregates) & refused


def _agrees(fleet: Fleet, request: Request, assignment: Assignment) -> bool:
    """Whether an assignment satisfies the conditions that concern several groups."""
    groups = request["groups"]
    servers = [{id_ for n, _, id_ in assignment if n == number} for number in range(len(groups))]
    alone = [s for s, group in zip(servers, groups, strict=True) if group.get("same_provider", True)]
    if request.get("group_policy", "none") == "isolate" and len(set().union(*alone)) < len(alone):
        return False
    names = [group.get("name", "") for group in groups]
    near: set[str]
    for subtree in request.get("same_subtree", ()):
        near = set().union(*(servers[names.index(name)] for name in subtree))
        if not any(all(top in ancestors(fleet, id_) for id_ in near) for top in near):
            return False
    return True


def _fits(fleet: Fleet, request: Request, assignment: Assignment) -> bool:
    """Whether the providers have enough for an assignment, for some choice of their units."""
    return fits_all(fleet, request, [assignment])


def fits_all(fleet: Fleet, request: Request, copies: Sequence[Assignment]) -> bool:
    """Whether the providers have enough for these assignments together."""
    asked: dict[tuple[str, str], list[Any]] = {}
    for number, name, id_ in (one for assignment in copies for one in assignment if one[1]):
        asked.setdefault((id_, name), []).append(request["groups"][number]["resources"][name])
    return all(_grants(name, fleet[id_].stock.get(name), asks) for (id_, name), asks in asked.items())


def _grants(name: str, stock: Stock | None, asks: Sequence[Any]) -> bool:
    if not asks or stock is None:
        return not asks
    return any(
        _grants(name, left, asks[1:]) for left in REMAINING.get(name, remaining_amount)(stock, asks[0])
    )
