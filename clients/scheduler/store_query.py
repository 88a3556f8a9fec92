"""Searching a store for places, without a log: so it answers while the brokers are away."""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np

from vacancy.clients.request_language.request_compiler import compile_request
from vacancy.clients.scheduler.order_names import order_named
from vacancy.projections.diagnostics.summary import Explanation
from vacancy.projections.diagnostics.summary import explain as explain_view
from vacancy.projections.query.budget import SearchBudget
from vacancy.projections.query.compiled_request import CompiledRequest
from vacancy.projections.query.engine import find as find_candidates
from vacancy.projections.query.model import Candidate
from vacancy.projections.query.order import Order
from vacancy.projections.ranking.orders import RANDOM
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.model.request import RequestSpec


class SearchResult(NamedTuple):
    """Candidates, and how many trees were not searched to the end: where there are any, there may be more."""

    candidates: list[Candidate]
    gave_up: int


def search(
    reader: StoreReader,
    request: RequestSpec | CompiledRequest,
    *,
    limit: int = 10,
    order: Order | str = RANDOM,
    seed: int | None = None,
    max_staleness_s: float | None = None,
) -> SearchResult:
    """Up to `limit` places for a request. It needs no log, so it answers while the brokers are away.

    `max_staleness_s` leaves out nodes that have not been heard from for so long. Raises `UsageError` where the request is invalid.
    """
    order, budget = order_named(order), SearchBudget()
    compiled = compile_request(request, reader.registry)
    reader.catch_up()
    found = find_candidates(
        reader.view,
        compiled,
        limit=limit,
        order=order,
        rng=np.random.default_rng(seed),
        heard_since_ms=heard_since_ms(max_staleness_s),
        budget=budget,
    )
    return SearchResult(found, budget.gave_up)


def heard_since_ms(max_staleness_s: float | None) -> int | None:
    """When a node must have been heard from, in ms since 1970 (UTC)."""
    return None if max_staleness_s is None else int((time.time() - max_staleness_s) * 1000)


def explain(
    reader: StoreReader, request: RequestSpec | CompiledRequest, *, max_staleness_s: float | None = None
) -> Explanation:
    """Why `search` finds so few, as of where the reader stands."""
    compiled = compile_request(request, reader.registry)
    return explain_view(reader.view, compiled, heard_since_ms=heard_since_ms(max_staleness_s))
