"""The metrics of schedulers, for the registry of the process that they run in.

    scheduler = Scheduler.from_settings(metrics=SchedulerMetrics())

Whatever serves the process's own metrics (`prometheus_client.start_http_server`, a WSGI application, a push gateway) then serves these.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from vacancy.clients.scheduler.observer import MoveKind, MoveWatch, RequestWatch
from vacancy.clients.scheduler.placement import Outcome, PlacementRequest
from vacancy.projections.query.compiled_request import CompiledRequest
from vacancy.streams.pages.metric_definition import MetricDefinition

if TYPE_CHECKING:
    from vacancy.projections.diagnostics.summary import Explanation

QUERY_BUCKETS_S: Final = (
    *(0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0),
)
CLAIM_BUCKETS_S: Final = (0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

_EXPLAINED_S: Final = 10.0
"""For so long requests that ask for the same and find no host count under the constraint that was found for the first."""

_EXPLAINED_MAX: Final = 256

CLASSES_MAX: Final = 64
"""The classes with series of their own, the first that requests found no host for. The others count together as `(others)`: who may
send requests may name any class."""

OTHERS: Final = "(others)"

PLACEMENTS: Final = MetricDefinition(
    "vacancy_scheduler_placements",
    "counter",
    "Requests that ended, by outcome: placed, no_valid_host, lost, gave_up, unknown",
    ("scheduler", "outcome"),
)
CLAIMS: Final = MetricDefinition(
    "vacancy_scheduler_claims",
    "counter",
    "Claims that this scheduler knows the verdict of: accepted, or the reason of the rejection",
    ("scheduler", "verdict"),
)
NO_VALID_HOST: Final = MetricDefinition(
    "vacancy_scheduler_no_valid_host",
    "counter",
    "Requests without a valid host, by the constraint that removed the last node, and its resource class",
    ("scheduler", "constraint", "class"),
)
QUERY_SECONDS: Final = MetricDefinition(
    "vacancy_scheduler_query_seconds",
    "histogram",
    "Time of one query for candidates, which requests that ask for the same share",
    ("scheduler",),
)
CLAIM_SECONDS: Final = MetricDefinition(
    "vacancy_scheduler_claim_seconds",
    "histogram",
    "Time from making a claim to its verdict",
    ("scheduler",),
)
PLACEMENT_SECONDS: Final = MetricDefinition(
    "vacancy_scheduler_placement_seconds",
    "histogram",
    "Time from accepting a request to its outcome",
    ("scheduler",),
)
MOVES: Final = MetricDefinition(
    "vacancy_scheduler_moves",
    "counter",
    "Moves of consumers that ended, by kind (move, resize, replace, evacuate, move to cell) and outcome",
    ("scheduler", "kind", "outcome"),
)
MOVE_SECONDS: Final = MetricDefinition(
    "vacancy_scheduler_move_seconds",
    "histogram",
    "Time from the start of a move, resize or replacement to its outcome",
    ("scheduler",),
)
IN_FLIGHT: Final = MetricDefinition(
    "vacancy_scheduler_requests_in_flight", "gauge", "Requests without an outcome", ("scheduler",)
)
TABLES_AGE: Final = MetricDefinition(
    "vacancy_scheduler_tables_age_seconds",
    "gauge",
    "How long before the last query the newest record in the tables was appended",
    ("scheduler",),
)

SCHEDULER_METRICS: Final = (
    *(PLACEMENTS, CLAIMS, NO_VALID_HOST, QUERY_SECONDS, CLAIM_SECONDS, PLACEMENT_SECONDS, MOVES),
    *(MOVE_SECONDS, IN_FLIGHT, TABLES_AGE),
)
"""All metrics of a scheduler."""


class SchedulerMetrics:
    """The metrics of all schedulers of a process. Make one for a registry, and give it to each `Scheduler`.

    The series are bounded: the label `scheduler` is the name of the scheduler, `outcome`, `verdict` and `constraint` have the
    values that this build has (5, about 50 and about 15), and `class` at most `CLASSES_MAX` names and `(others)`. Raises `ValueError` where the
    registry has these metrics already.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self.placements = _counter(PLACEMENTS, registry)
        self.claims = _counter(CLAIMS, registry)
        self.no_valid_host = _counter(NO_VALID_HOST, registry)
        self.query_seconds = _histogram(QUERY_SECONDS, registry, QUERY_BUCKETS_S)
        self.claim_seconds = _histogram(CLAIM_SECONDS, registry, CLAIM_BUCKETS_S)
        self.placement_seconds = _histogram(PLACEMENT_SECONDS, registry, CLAIM_BUCKETS_S)
        self.moves = _counter(MOVES, registry)
        self.move_seconds = _histogram(MOVE_SECONDS, registry, CLAIM_BUCKETS_S)
        self.in_flight = _gauge(IN_FLIGHT, registry)
        self.tables_age = _gauge(TABLES_AGE, registry)
        self._classes: set[str] = set()

    def class_label(self, name: str) -> str:
        """The value of the label `class` for a resource class; '' for none."""
        if name and name not in self._classes:
            if len(self._classes) >= CLASSES_MAX:
                return OTHERS
            self._classes.add(name)
        return name

    def observer(self, scheduler: str) -> SchedulerMetricsObserver:
        """The observer of the scheduler with this name."""
        return SchedulerMetricsObserver(self, scheduler)


class SchedulerMetricsObserver:
    """Counts the requests of one scheduler. See `SchedulerObserver`."""

    def __init__(self, metrics: SchedulerMetrics, scheduler: str) -> None:
        self.metrics, self.scheduler = metrics, scheduler
        self.query_seconds = metrics.query_seconds.labels(scheduler)
        self.claim_seconds = metrics.claim_seconds.labels(scheduler)
        self.placement_seconds = metrics.placement_seconds.labels(scheduler)
        self.in_flight = metrics.in_flight.labels(scheduler)
        self.tables_age = metrics.tables_age.labels(scheduler)
        self._explained: dict[bytes, tuple[float, tuple[str, str]]] = {}

    def accepted(
        self, request: PlacementRequest, compiled: CompiledRequest, consumer: str
    ) -> RequestWatch | None:
        """See `SchedulerObserver.accepted`."""
        self.in_flight.inc()
        return _Counting(self, compiled)

    def moving(self, kind: MoveKind, consumer: str) -> MoveWatch:
        """See `SchedulerObserver.moving`."""
        return _CountingMove(self, kind)

    def trace_parent(self, claim: str) -> str | None:
        """None: metrics trace nothing."""
        return None

    def last_constraint(
        self, compiled: CompiledRequest, explain: Callable[[], Explanation]
    ) -> tuple[str, str]:
        """The constraint that removed the last node, and its class or ''. A request that is tried again and again is not explained
        each time."""
        now = time.monotonic()
        known = self._explained.get(compiled.key)
        if known is not None and now - known[0] < _EXPLAINED_S:
            return known[1]
        if len(self._explained) >= _EXPLAINED_MAX:
            self._explained.clear()
        found = last_constraint(explain(), compiled)
        self._explained[compiled.key] = now, found
        return found


class _Counting:
    """Counts one request."""

    __slots__ = ("_compiled", "_done", "_observer", "_started")

    def __init__(self, observer: SchedulerMetricsObserver, compiled: CompiledRequest) -> None:
        self._observer, self._compiled = observer, compiled
        self._started, self._done = time.monotonic(), False

    def queried(self, took_s: float, tables_ms: int) -> None:
        """See `RequestWatch.queried`."""
        self._observer.query_seconds.observe(took_s)
        self._observer.tables_age.set(max(0.0, time.time() - tables_ms / 1000))

    def claimed(self, claim: str, cell: str, root: str) -> None:
        """Nothing: claims are counted by their verdicts."""

    def decided(self, claim: str, verdict: str, waited_s: float) -> None:
        """See `RequestWatch.decided`."""
        self._observer.claim_seconds.observe(waited_s)
        self._observer.metrics.claims.labels(self._observer.scheduler, verdict).inc()

    def ended(self, outcome: Outcome, explain: Callable[[], Explanation]) -> None:
        """See `RequestWatch.ended`."""
        to = self._observer
        self.abandoned()
        to.placement_seconds.observe(time.monotonic() - self._started)
        to.metrics.placements.labels(to.scheduler, outcome.status).inc()
        if outcome.status == "no_valid_host":
            kind, resource_class = to.last_constraint(self._compiled, explain)
            shown = to.metrics.class_label(resource_class)
            to.metrics.no_valid_host.labels(to.scheduler, kind, shown).inc()

    def abandoned(self) -> None:
        """See `RequestWatch.abandoned`."""
        if not self._done:
            self._done = True
            self._observer.in_flight.dec()


class _CountingMove:
    """Counts one move."""

    __slots__ = ("_kind", "_observer", "_started")

    def __init__(self, observer: SchedulerMetricsObserver, kind: str) -> None:
        self._observer, self._kind, self._started = observer, kind, time.monotonic()

    def claimed(self, claim: str, cell: str, root: str) -> None:
        """Nothing: claims are counted by their verdicts."""

    def decided(self, claim: str, verdict: str, waited_s: float) -> None:
        """See `MoveWatch.decided`."""
        self._observer.claim_seconds.observe(waited_s)
        self._observer.metrics.claims.labels(self._observer.scheduler, verdict).inc()

    def ended(self, outcome: str, reason: str) -> None:
        """See `MoveWatch.ended`."""
        to = self._observer
        to.metrics.move_seconds.labels(to.scheduler).observe(time.monotonic() - self._started)
        to.metrics.moves.labels(to.scheduler, self._kind, outcome).inc()


def last_constraint(explanation: Explanation, compiled: CompiledRequest) -> tuple[str, str]:
    """(kind, resource class or '') of the constraint that removed the last node: of the first alternative that has one. `none`: no
    constraint removed anything, as in an empty store. `own claims`: there was room, and claims of the scheduler had taken it."""
    classes = sorted({name for group in compiled.spec.groups for name in group.resources}, key=len)
    if explanation.left:
        return "own claims", ""
    for removed in reversed(explanation.constraints):
        if removed.in_order:
            named = [name for name in classes if removed.constraint.startswith(f"{name}:")]
            return removed.kind, named[-1] if named else ""
    return "none", ""


def _counter(metric: MetricDefinition, registry: CollectorRegistry) -> Counter:
    return Counter(metric.name, metric.help, metric.labels, registry=registry)


def _gauge(metric: MetricDefinition, registry: CollectorRegistry) -> Gauge:
    return Gauge(metric.name, metric.help, metric.labels, registry=registry)


def _histogram(
    metric: MetricDefinition, registry: CollectorRegistry, buckets: tuple[float, ...]
) -> Histogram:
    return Histogram(metric.name, metric.help, metric.labels, registry=registry, buckets=buckets)
