"""What one query works with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from vacancy.projections.query.budget import SearchBudget
from vacancy.projections.query.compiled_request import CompiledRequest
from vacancy.projections.query.order import Order
from vacancy.projections.view.columns import Bools
from vacancy.projections.view.fleet import FleetView


class QueryContext(NamedTuple):
    """A request, the fleet that it is asked of, and how. A query never changes these; where a part of it needs others (fewer
    rows, another order, a view with more reservations), it derives a context with `_replace`.

    Of the fields only `rng` and `budget` are used up by a query. `limit`: candidates wanted. `accepting`: by row, whether it
    may serve anything. `accepting_roots`: by row of a root, whether its tree may be chosen; this is wider than `accepting`
    where sharing providers serve a tree that serves nothing itself. `accept`: whether these rows together may serve the
    request (None: any may). `cell`: only this cell (None: all). `heard_since_ms`: only nodes with a report or heartbeat since
    then, in log time (None: all). `one_a_tree`: at most one candidate a tree.
    """

    view: FleetView
    request: CompiledRequest
    limit: int
    order: Order
    rng: np.random.Generator
    budget: SearchBudget
    accepting: Bools
    accepting_roots: Bools
    accept: Callable[[Sequence[int]], bool] | None = None
    cell: str | None = None
    heard_since_ms: int | None = None
    one_a_tree: bool = False
