"""Candidates of some cells and without some nodes, and candidates for a consumer that holds something already."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from vacancy.clients.scheduler.claims import ClaimMaker
from vacancy.clients.scheduler.moves.consumer_places import ConsumerPlaces, Wish
from vacancy.clients.scheduler.moves.holdings import (
    Holding,
    account_of,
    held_by_row,
    memberships_held,
    with_memberships,
)
from vacancy.clients.scheduler.store_query import StoreQuery
from vacancy.projections.query.budget import SearchBudget
from vacancy.projections.query.compiled_request import CompiledRequest
from vacancy.projections.query.engine import find
from vacancy.projections.query.model import Candidate
from vacancy.projections.query.order import Order
from vacancy.projections.view.reserved_view import ReservedView
from vacancy.streams.clocks.log_clock import LogClock

_DEADLINE_MS: Final = 60_000


class SomeCandidates:
    """Candidates for a request, without `not_nodes`; for `consumer`, what it holds counts as free."""

    def __init__(
        self,
        query: StoreQuery,
        request: CompiledRequest,
        *,
        order: Order,
        heard_since_ms: int | None,
        budget: SearchBudget,
        consumer: str | None = None,
        not_nodes: Collection[str] = (),
    ) -> None:
        self._query, self._request, self._order = query, request, order
        self._since_ms, self._budget = heard_since_ms, budget
        self._not_nodes = frozenset(not_nodes)
        held = () if consumer is None else query.allocations(consumer)
        self._held = {cell: Holding(consumer or "", cell, row) for cell, row in held}

    def of(self, cell: str | None, prefer_cell: str | None, limit: int) -> list[Candidate]:
        """Up to `limit` candidates of one cell, or of all: then first of `prefer_cell`, then of the cells where the consumer
        holds something."""
        preferred = (prefer_cell, *self._held) if cell is None else (cell,)
        first = list(dict.fromkeys(one for one in preferred if one is not None))
        found: list[Candidate] = []
        for one in first:
            if len(found) < limit:
                found += self._in_cell(one, limit - len(found))
        if cell is None and len(found) < limit:
            found += self._elsewhere(first, limit - len(found))
        return found

    def _in_cell(self, cell: str, limit: int) -> list[Candidate]:
        held = self._held.get(cell)
        if held is None:
            return self._find(cell, (), limit)
        query = self._query
        spec = with_memberships(self._request.spec, memberships_held(query.reader, held))
        asked = held_by_row(held.row, spec)
        wish = Wish(account_of(held), query.compile(spec), asked, not_nodes=self._not_nodes)
        maker = ClaimMaker(
            query.reader, LogClock(""), deadline_ms=_DEADLINE_MS, seed=0, policy=self._order.name
        )
        places = ConsumerPlaces(query, maker, held, wish)
        return [one.candidate for one in places.places(limit, self._order, self._since_ms, self._budget)]

    def _elsewhere(self, cells: Collection[str], limit: int) -> list[Candidate]:
        return self._find(None, cells, limit)

    def _find(self, cell: str | None, not_cells: Collection[str], limit: int) -> list[Candidate]:
        view = ReservedView(self._query.reader.view)
        size = view.size
        for name in not_cells:
            if (number := view.cells.get(name.encode())) is not None:
                view.open = view.open[:size] & (view.cell[:size] != number)
        return find(
            view,
            self._request,
            limit=limit,
            order=self._order,
            rng=self._query.rng,
            cell=cell,
            heard_since_ms=self._since_ms,
            budget=self._budget,
            avoid=self._not_nodes,
        )
