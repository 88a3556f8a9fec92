"""Questions to the store of this host: where a request fits, and why it does not fit.

They need no log, so they are answered while the brokers are away.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, NamedTuple, Self

import numpy as np

from vacancy.clients.request_language.request_compiler import RequestCompiler
from vacancy.clients.scheduler.log_time import Present
from vacancy.clients.scheduler.order_names import order_named
from vacancy.projections.query.budget import SearchBudget
from vacancy.projections.query.compiled_request import CompiledRequest
from vacancy.projections.query.engine import find
from vacancy.projections.query.model import Candidate
from vacancy.projections.query.order import Order
from vacancy.projections.ranking.orders import RANDOM
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.classes.registry import Registry
from vacancy.resources.model.errors import UsageError
from vacancy.resources.model.request import RequestSpec
from vacancy.resources.state.rows import AllocationRow
from vacancy.resources.state.tables import ALLOCATIONS, key

if TYPE_CHECKING:
    from vacancy.clients.inspection.answers import NodeAnswer
    from vacancy.clients.inspection.why_not import WhyNot
    from vacancy.clients.past.historical_store import HistoricalStore
    from vacancy.projections.diagnostics.summary import Explanation
    from vacancy.streams.clocks.log_clock import LogClock
    from vacancy.streams.log import Log
    from vacancy.streams.settings import Settings

_TEXTS_MAX: Final = 1024

AnyRequest = RequestSpec | CompiledRequest | str
"""What is asked for: a spec, a compiled request, or text in the query syntax of OpenStack Placement
(`resources=VCPU:4,MEMORY_MB:8192&required=HW_CPU_X86_AVX2`; docs/queries.md)."""


class Candidates(NamedTuple):
    """Candidates, the position (partition -> next offset) that they were computed at, and the newest log time in it (ms
    since 1970, UTC): where that is long ago, the candidates are as old. `gave_up`: trees that were not searched to the
    end; where there are any, there may be more candidates."""

    candidates: list[Candidate]
    as_of: dict[int, int]
    as_of_ms: int
    gave_up: int = 0


class StoreQuery:
    """Reads the store at `store` and answers as of its newest commit. It is for one thread.

    `order`, an `Order` or the name of one, is the order of candidates where a question names none. `seed` makes random
    choices repeatable. `view_memory_mb` bounds the memory of the columns (`StoreReader`). `clock`, where given, is that of the
    log that the store follows: it tells the present where nothing is appended (`Present`). With `still` nobody writes the
    store, as one of the past. Opening raises `StoreError` where
    the store cannot be read.
    """

    def __init__(
        self,
        store: Path,
        registry: Registry,
        *,
        order: Order | str = RANDOM,
        seed: int | None = None,
        view_memory_mb: int | None = None,
        clock: LogClock | None = None,
        still: bool = False,
    ) -> None:
        self.order = order_named(order)
        self.registry = registry
        self.rng = np.random.default_rng(seed)
        self.reader = StoreReader(store, registry, view_memory_mb=view_memory_mb, still=still)
        self.present = Present(self.reader, clock)
        self._past: HistoricalStore | None = None
        self._compiler = RequestCompiler(registry)
        self._texts: dict[str, CompiledRequest] = {}

    @classmethod
    def from_settings(
        cls,
        settings: Settings | None = None,
        *,
        order: Order | str = RANDOM,
        seed: int | None = None,
        as_of: str | Mapping[int, int] | None = None,
        at_least: str | Mapping[int, int] | None = None,
        timeout_s: float = 10.0,
    ) -> Self:
        """A query of the store in `settings`: those in force (`load_settings`) where None are given.

        With `as_of`, a point in time (`0:7,1:1`, `2026-11-28T13:14:33Z`, `-2h`) or a position of all partitions, it answers from
        the tables of then (`historical_store`; `PastQueries` keep several open). With `at_least`, a position, it is returned when
        this host's tables have reached that. Raises `UsageError` for both at once, `OutcomeUnknown` where the tables
        have not reached the position after `timeout_s`, and as `historical_store` does.
        """
        from vacancy.clients.past.at_least import parse_position, wait_until_at_least
        from vacancy.clients.past.historical_store import historical_store
        from vacancy.clients.runtime.bootstrap import installed_registry
        from vacancy.streams.settings import load_settings

        used = load_settings() if settings is None else settings
        if as_of is not None and at_least is not None:
            raise UsageError("as_of and at_least contradict each other", do="give one of them")
        registry = installed_registry()
        with ExitStack() as opened:
            past = None
            if as_of is not None:
                past = opened.enter_context(historical_store(used, registry, as_of))
            made = cls(
                used.store if past is None else past.path,
                registry,
                order=order,
                seed=seed,
                view_memory_mb=used.view_memory_mb,
                still=past is not None,
            )
            opened.push(made)
            made._past = past
            if at_least is not None:
                position = parse_position(at_least) if isinstance(at_least, str) else at_least
                wait_until_at_least(made.reader, position, timeout_s)
            opened.pop_all()
        return made

    def compile(self, request: AnyRequest) -> CompiledRequest:
        """The request, checked and compiled. All methods take one in place of a spec. Raises `UsageError` where the request
        is invalid: unknown classes and traits, amounts that the class refuses, syntax errors."""
        if not isinstance(request, str):
            return self._compiler.compile(request)
        found = self._texts.get(request)
        if found is None:
            from vacancy.clients.request_language.placement_syntax import parse_query

            found = self._compiler.compile(parse_query(request, self.registry).spec)
            if len(self._texts) >= _TEXTS_MAX:
                del self._texts[next(iter(self._texts))]
            self._texts[request] = found
        return found

    def candidates(
        self,
        request: AnyRequest,
        *,
        limit: int = 10,
        order: Order | str | None = None,
        max_staleness_s: float | None = None,
        consumer: str | None = None,
        cell: str | None = None,
        prefer_cell: str | None = None,
        not_nodes: Collection[str] = (),
    ) -> Candidates:
        """Up to `limit` places for a request, as of the newest commit. `max_staleness_s` leaves out nodes that have
        not been heard from for so long, in log time (`Present`), `not_nodes` these nodes. `cell`: only of this cell;
        `prefer_cell`: first of that one. For a `consumer`, what it holds counts as free, and it stays in its server groups:
        first come places in its own cell, of those first where it is. Raises `UsageError` where the request is invalid."""
        compiled = self.compile(request)
        self.reader.follow()
        budget = SearchBudget()
        if consumer is not None or cell is not None or prefer_cell is not None or not_nodes:
            from vacancy.clients.scheduler.moves.consumer_candidates import SomeCandidates

            some = SomeCandidates(
                self,
                compiled,
                order=self.order if order is None else order_named(order),
                heard_since_ms=self.present.heard_since_ms(max_staleness_s),
                budget=budget,
                consumer=consumer,
                not_nodes=not_nodes,
            )
            listed = some.of(cell, prefer_cell, limit)
            return Candidates(listed, self.reader.position, self.reader.newest_ms, budget.gave_up)
        found = self.search(
            compiled,
            limit=limit,
            order=self.order if order is None else order_named(order),
            heard_since_ms=self.present.heard_since_ms(max_staleness_s),
            budget=budget,
        )
        return Candidates(found, self.reader.position, self.reader.newest_ms, budget.gave_up)

    def search(
        self,
        request: CompiledRequest,
        *,
        limit: int,
        order: Order,
        heard_since_ms: int | None,
        budget: SearchBudget,
        cell: str | None = None,
        avoid: Collection[str] = (),
        one_a_tree: bool = False,
    ) -> list[Candidate]:
        """Up to `limit` candidates as of where the reader is: see `find`. None is on a tree whose root is in `avoid`."""
        # Any of several copies may be on a tree to avoid. Of one copy there are enough candidates without those.
        found = find(
            self.reader.view,
            request,
            limit=limit + len(avoid),
            order=order,
            rng=self.rng,
            cell=cell,
            heard_since_ms=heard_since_ms,
            one_a_tree=one_a_tree,
            budget=budget,
            avoid=avoid if request.spec.copies > 1 else (),
        )
        return [candidate for candidate in found if candidate.root not in avoid][:limit]

    def explain(
        self,
        request: AnyRequest,
        *,
        max_staleness_s: float | None = None,
        nearest: int | None = None,
        newest: bool = True,
        consumer: str | None = None,
        cell: str | None = None,
        not_nodes: Collection[str] = (),
    ) -> Explanation:
        """How many nodes each constraint of a request removes, and the `nearest` misses (5 unless given): for requests
        that found no valid host. As of the newest commit, or of the last answer where not `newest`. What `consumer`
        holds counts as free. Nodes of other cells than `cell`, and `not_nodes`, do not count. Raises `UsageError` where the
        request is invalid."""
        from vacancy.projections.diagnostics.summary import NEAREST, explain

        compiled = self.compile(request)
        if newest:
            self.reader.follow()
        since_ms = self.present.heard_since_ms(max_staleness_s)
        shown = NEAREST if nearest is None else nearest
        view = self.reader.view
        if consumer is not None:
            from vacancy.projections.view.consumer_view import ConsumerView

            held = {cell: row.parts for cell, row in self.allocations(consumer)}
            view = ConsumerView(view, consumer, held)
        among = None
        if cell is not None or not_nodes:
            from vacancy.clients.scheduler.moves.consumer_places import trees_of

            among = trees_of(view, cell, None, not_nodes)
        return explain(view, compiled, heard_since_ms=since_ms, nearest=shown, among=among)

    def why_not(
        self,
        request: AnyRequest,
        node: str,
        *,
        cell: str | None = None,
        log: Log | None = None,
        max_staleness_s: float | None = None,
        qualities_only: bool = False,
    ) -> WhyNot:
        """Why the tree of `node` is not a candidate for a request: see `inspection.why_not`. `log`, where given, names the
        consumer that took the last of what is short, and the time."""
        from vacancy.clients.inspection.why_not import why_not

        compiled = self.compile(request)
        self.reader.catch_up()
        return why_not(
            self.reader,
            compiled,
            node,
            cell=cell,
            log=log,
            heard_since_ms=self.present.heard_since_ms(max_staleness_s),
            qualities_only=qualities_only,
        )

    def qualified(
        self, request: AnyRequest, *, max_staleness_s: float | None = None
    ) -> tuple[list[NodeAnswer], Explanation]:
        """The nodes that have the qualities of a request, by cell and name, also full and disabled ones, and what each
        quality removes. Retired nodes are left out."""
        from vacancy.clients.inspection.lookup import node_of
        from vacancy.projections.diagnostics.summary import explain_qualities

        compiled = self.compile(request)
        self.reader.catch_up()
        view = self.reader.view
        since_ms = self.present.heard_since_ms(max_staleness_s)
        rows, explanation = explain_qualities(view, compiled, heard_since_ms=since_ms)
        found = (node_of(self.reader, *view.name(row)) for row in rows)
        nodes = [one for one in found if one is not None and one.state != "retired"]
        return sorted(nodes, key=lambda one: (one.cell, one.root)), explanation

    def type_errors(self, request: AnyRequest) -> str:
        """The attributes that a request's expressions compare with values of another type than any node has, for people; ''
        where there are none."""
        from vacancy.clients.request_language.expressions.expression_types import mismatches

        return mismatches(self.compile(request), self.reader.view)

    def allocations(self, consumer: str) -> list[tuple[str, AllocationRow]]:
        """What a consumer holds, as (cell, row), as of the newest commit: usually one or none."""
        self.reader.catch_up()
        cells = sorted(cell.decode() for cell in self.reader.view.cells)
        found = ((cell, self.reader.get(ALLOCATIONS, key(cell, consumer))) for cell in cells)
        return [(cell, row) for cell, row in found if row is not None]

    def close(self) -> None:
        """Close the store."""
        self.reader.close()
        if self._past is not None:
            self._past.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
