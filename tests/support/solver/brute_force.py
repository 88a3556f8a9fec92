"""A solver for requests that tries everything. It shares no code with the query engine, the fold or the auditor, and
no data structures: a fleet is plain dicts, a request is JSON. It is slow, and short enough to be seen to be right.

How to teach it another class: put a function into `TAKES` of `brute_classes` that takes an ask from what a provider has
of that class, and yields all that may be left, nothing where it does not fit. Another expression: a line in `WHERE` of
`brute_where`. How to teach it another condition on a provider of a group: `_suits`; on a whole way: `_agrees`. Who is near
to whom, and where several copies may be, is in `brute_relations`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.support.solver.classes import TAKES, Stock
from tests.support.solver.expressions import WHERE

Request = Mapping[str, Any]
Way = tuple[tuple[int, str, str], ...]
"""(group number, class or '', provider) of each thing that is served."""


@dataclass
class Node:
    """One provider. `stock`: class -> what it has of it (for counted classes: free, min, max, step)."""

    parent: str | None = None
    traits: set[str] = field(default_factory=set)
    aggregates: set[str] = field(default_factory=set)
    stock: dict[str, Any] = field(default_factory=dict)
    enabled: bool = True
    attributes: dict[str, Any] = field(default_factory=dict)


Fleet = Mapping[str, Node]
"""All providers of one cell, by id."""


def take_amount(stock: Stock, ask: Any) -> Iterator[Stock]:
    """The rule of a counted class."""
    if stock["min"] <= ask <= stock["max"] and ask % stock["step"] == 0 and ask <= stock["free"]:
        yield {**stock, "free": stock["free"] - ask}


def line(fleet: Fleet, id_: str) -> list[str]:
    """A provider and those above it, the root last."""
    above = fleet[id_].parent
    return [id_] if above is None else [id_, *line(fleet, above)]


def reach(fleet: Fleet, root: str) -> list[str]:
    """The providers of a root's tree, then its sharing providers."""
    tree = [id_ for id_ in fleet if line(fleet, id_)[-1] == root]
    together = set[str]().union(*(fleet[id_].aggregates for id_ in tree))
    return tree + [
        id_
        for id_, node in fleet.items()
        if id_ not in tree and "MISC_SHARES_VIA_AGGREGATE" in node.traits and node.aggregates & together
    ]


def ways(fleet: Fleet, request: Request) -> Iterator[tuple[str, Way]]:
    """(root, way) of all ways to serve a request."""
    groups = request["groups"]
    for root in (id_ for id_, node in fleet.items() if node.parent is None and node.enabled):
        has = fleet[root].traits
        if not (
            has >= {*request.get("root_required", ())} and not has & {*request.get("root_forbidden", ())}
        ):
            continue
        options = [list(_servers(fleet, root, number, group)) for number, group in enumerate(groups)]
        for parts in itertools.product(*options):
            way = tuple(itertools.chain(*parts))
            if _agrees(fleet, request, way) and _fits(fleet, request, way):
                yield root, way


def _servers(fleet: Fleet, root: str, number: int, group: Request) -> Iterator[Way]:
    """All ways to serve one group, were it alone."""
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
            way = tuple((number, name, id_) for name, id_ in zip(classes or [""], chosen, strict=True))
            if _fits(fleet, {"groups": [{}] * number + [group]}, way):
                yield way


def _suits(fleet: Fleet, root: str, id_: str, group: Request) -> bool:
    """Whether a provider may serve some of a group, as far as it alone matters."""
    node, own = fleet[id_], line(fleet, id_)[-1]
    if not all(fleet[each].enabled for each in {id_, own}) or node.traits & {*group.get("forbidden", ())}:
        return False
    if not WHERE[group.get("where", "")](node):
        return False
    if group.get("in_tree") is not None and (
        group["in_tree"] not in fleet or line(fleet, group["in_tree"])[-1] != own
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


def _agrees(fleet: Fleet, request: Request, way: Way) -> bool:
    """Whether those who serve the groups may do so together."""
    groups = request["groups"]
    servers = [{id_ for n, _, id_ in way if n == number} for number in range(len(groups))]
    alone = [s for s, group in zip(servers, groups, strict=True) if group.get("same_provider", True)]
    if request.get("group_policy", "none") == "isolate" and len(set().union(*alone)) < len(alone):
        return False
    names = [group.get("name", "") for group in groups]
    near: set[str]
    for subtree in request.get("same_subtree", ()):
        near = set().union(*(servers[names.index(name)] for name in subtree))
        if not any(all(top in line(fleet, id_) for id_ in near) for top in near):
            return False
    return True


def _fits(fleet: Fleet, request: Request, way: Way) -> bool:
    """Whether the providers have enough, whatever is picked of what they have."""
    return fits_all(fleet, request, [way])


def fits_all(fleet: Fleet, request: Request, copies: Sequence[Way]) -> bool:
    """Whether the providers have enough for these ways together."""
    asked: dict[tuple[str, str], list[Any]] = {}
    for number, name, id_ in (one for way in copies for one in way if one[1]):
        asked.setdefault((id_, name), []).append(request["groups"][number]["resources"][name])
    return all(_grants(name, fleet[id_].stock.get(name), asks) for (id_, name), asks in asked.items())


def _grants(name: str, stock: Stock | None, asks: Sequence[Any]) -> bool:
    if not asks or stock is None:
        return not asks
    return any(_grants(name, left, asks[1:]) for left in TAKES.get(name, take_amount)(stock, asks[0]))
