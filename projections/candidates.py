"""The query engine: a request and a view in, candidates out.

Columns say most: they reduce the fleet to the few rows that can serve each group. What columns cannot say
(which provider of a tree serves which group, exact devices) is tried on those few by the classes themselves.
Nothing here knows any class.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from vacancy.projections.columns import Bools, Ints
from vacancy.projections.filter import Filter, compiled
from vacancy.projections.matching import Demand, match
from vacancy.projections.orders import Order, best
from vacancy.projections.view import View
from vacancy.resources.request import Ask, RequestSpec

_SAMPLE = 24
"""Rows looked at, for each candidate wanted, before the whole fleet is."""


class Served(NamedTuple):
    """What one provider would give to one group: class -> ask (nothing, where only its traits are asked for)."""

    provider: str
    resources: dict[str, Ask]
    group: str


class Candidate(NamedTuple):
    """A place for a request: a tree, and what each of its providers would give."""

    cell: str
    root: str
    allocations: tuple[Served, ...]


def find(
    view: View,
    spec: RequestSpec,
    *,
    limit: int,
    order: Order,
    rng: np.random.Generator,
    heard_since_ms: int | None = None,
    cell: str | None = None,
) -> list[Candidate]:
    """Up to `limit` candidates, of one `cell` if one is named. At random means uniformly over all that match."""
    filters = [compiled(view, group, heard_since_ms, cell) for group in spec.groups]
    if view.size == 0 or any(f.impossible for f in filters):
        return []
    if len(filters) == 1:
        rows = _one_group(view, spec, filters[0], limit, order, rng)
        return list(_candidates(view, spec, ([(row, 0)] for some in rows for row in some.tolist()), limit))
    return _many_groups(view, spec, filters, limit, order, rng)


def _one_group(
    view: View, spec: RequestSpec, only: Filter, limit: int, order: Order, rng: np.random.Generator
) -> Iterator[Ints]:
    """Rows that match, in order: as many as are wanted, then, where a class's exact check may have refused them,
    all others."""
    exact = all(view.classes[name].resource_class.exact_in_columns for name in spec.groups[0].resources)
    wanted = limit if exact else 8 * limit
    if order.uniform:
        # Rows drawn at random and kept if they match are a uniform draw of those that match; it is the fast
        # way when many do. Where the draw yields too few, all rows are looked at.
        drawn = rng.integers(0, view.size, min(_SAMPLE * wanted * only.one_in, view.size))
        found = only.among(drawn)
        tried: Ints = found[:0]
        if len(found) >= wanted:
            distinct = list(dict.fromkeys(found.tolist()))[:wanted]
            if len(distinct) == wanted:
                tried = np.asarray(distinct)
                yield tried
                if exact:
                    return
        rows = only.everywhere()
        if len(tried):
            rows = np.setdiff1d(rows, tried)
        yield rng.choice(rows, min(limit if exact else len(rows), len(rows)), replace=False)
        return
    rows = only.everywhere()
    values = order.providers(view, spec, rows)
    first = best(values, wanted, rng)
    yield rows[first]
    if not exact and len(first) < len(rows):
        left = np.setdiff1d(np.arange(len(rows)), first)
        yield rows[left[best(values[left], len(left), rng)]]


def _many_groups(
    view: View, spec: RequestSpec, filters: list[Filter], limit: int, order: Order, rng: np.random.Generator
) -> list[Candidate]:
    masks, roots = _possible_roots(view, spec, filters)
    if not len(roots):
        return []
    if order.uniform:
        ordered = roots[rng.permutation(len(roots))]
    else:
        values = order.trees(view, spec, roots)
        ordered = roots[best(values, min(len(roots), 8 * limit), rng)]
        if len(ordered) < len(roots):
            found = list(_candidates(view, spec, _assign(view, spec, masks, ordered, order, rng), limit))
            if len(found) == limit:
                return found
            ordered = roots[best(values, len(roots), rng)]
    return list(_candidates(view, spec, _assign(view, spec, masks, ordered, order, rng), limit))


def _possible_roots(view: View, spec: RequestSpec, filters: list[Filter]) -> tuple[list[Bools], Ints]:
    """For each group the rows that can serve it, and the roots whose tree has some for every group."""
    size = view.size
    possible = np.ones(size, dtype=np.bool_)
    masks: list[Bools] = []
    known: dict[str, tuple[Bools, Ints]] = {}
    needs: dict[str, int] = {}
    signatures = [group.model_copy(update={"name": ""}).model_dump_json() for group in spec.groups]
    for signature in signatures:
        needs[signature] = needs.get(signature, 0) + 1
    for signature, one in zip(signatures, filters, strict=True):
        if signature not in known:
            rows = one.everywhere()
            mask = np.zeros(size, dtype=np.bool_)
            mask[rows] = True
            counts = np.bincount(view.root[rows], minlength=size)
            known[signature] = (mask, counts)
            need = needs[signature] if spec.group_policy == "isolate" else 1
            possible &= counts >= need
        masks.append(known[signature][0])
    return masks, np.flatnonzero(possible)


def _assign(
    view: View, spec: RequestSpec, masks: list[Bools], roots: Ints, order: Order, rng: np.random.Generator
) -> Iterator[list[tuple[int, int]]]:
    for root in roots.tolist():
        tree = np.asarray(view.tree(root), dtype=np.int64)
        demands = []
        for number, group in enumerate(spec.groups):
            rows = tree[masks[number][tree]]
            demands.append(Demand(number, group.resources, _preferred(view, spec, number, rows, order, rng)))
        found = match(view, demands, isolate=spec.group_policy == "isolate")
        if found is not None:
            yield [(row, number) for number, row in sorted(found.items())]


def _preferred(
    view: View, spec: RequestSpec, group: int, rows: Ints, order: Order, rng: np.random.Generator
) -> list[int]:
    """The providers of one tree in the order in which a group takes them."""
    if len(rows) < 2:
        return [int(row) for row in rows]
    shuffled = rows[rng.permutation(len(rows))]
    scores = order.parts(view, spec, group, shuffled)
    ranked: list[int] = shuffled[np.argsort(scores, kind="stable")].tolist()
    return ranked


def _candidates(
    view: View, spec: RequestSpec, picks: Iterable[list[tuple[int, int]]], limit: int
) -> Iterator[Candidate]:
    """Make candidates of (row, group) picks that the classes themselves agree with."""
    made = 0
    for pick in picks:
        if len(pick) == 1 and not _fits_alone(view, pick[0][0], spec):
            continue
        cell, root = view.name(int(view.root[pick[0][0]]))
        allocations = tuple(
            Served(view.name(row)[1], spec.groups[number].resources, spec.groups[number].name)
            for row, number in pick
        )
        yield Candidate(cell, root, allocations)
        made += 1
        if made == limit:
            return


def _fits_alone(view: View, row: int, spec: RequestSpec) -> bool:
    return match(view, [Demand(0, spec.groups[0].resources, [row])], isolate=True) is not None
