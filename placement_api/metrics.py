"""Metrics of Placement's API for Prometheus: how many requests, of which route, with which status, and how long they took.

Each process of the API counts in files of a directory that they share, as prometheus_client's multiprocess mode does it. The first
process adds them up where they are asked for. The server names the directory before it imports this module.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.multiprocess import MultiProcessCollector

from vacancy.streams.pages.metric_definition import MetricDefinition

BUCKETS_S: Final = (0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
OTHER: Final = "(other)"
"""A path that is no route of Placement, or a method that it has nowhere."""

REQUESTS: Final = MetricDefinition(
    "vacancy_placement_requests",
    "counter",
    "Requests that were answered, by the status of the answer",
    ("method", "route", "status"),
)
REQUEST_SECONDS: Final = MetricDefinition(
    "vacancy_placement_request_seconds",
    "histogram",
    "Time from the first byte that the application reads to its answer; waiting for a free process is not in it",
    ("method", "route"),
)
PLACEMENT_METRICS: Final = (REQUESTS, REQUEST_SECONDS)
"""All metrics of Placement's API."""

_METHODS: Final = frozenset(("GET", "PUT", "POST", "DELETE"))

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
Wsgi = Callable[[Environ, StartResponse], Iterable[bytes]]


class RouteNames:
    """Finds the route of a path: `/resource_providers/{uuid}` and so on, as Placement declares them."""

    def __init__(self, routes: Sequence[str]) -> None:
        self._routes = [
            (re.compile("[^/]+".join(map(re.escape, re.split(r"\{\w+\}", route)))), route) for route in routes
        ]

    def of(self, path: str) -> str:
        """`OTHER` for a path of no route."""
        return next((route for pattern, route in self._routes if pattern.fullmatch(path)), OTHER)


class MeasuredApplication:
    """A WSGI application whose requests are counted and timed. The label `route` has the values in `routes`, and `OTHER`."""

    def __init__(self, application: Wsgi, routes: Sequence[str]) -> None:
        self._application, self._routes = application, RouteNames(routes)
        registry = CollectorRegistry()  # not asked: the files are
        self._requests = Counter(REQUESTS.name, REQUESTS.help, REQUESTS.labels, registry=registry)
        self._seconds = Histogram(
            REQUEST_SECONDS.name,
            REQUEST_SECONDS.help,
            REQUEST_SECONDS.labels,
            registry=registry,
            buckets=BUCKETS_S,
        )

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        began, status = time.perf_counter(), "500"

        def start(line: str, *more: Any) -> Any:
            nonlocal status
            status = line.partition(" ")[0]
            return start_response(line, *more)

        try:
            return self._application(environ, start)
        finally:
            given = environ.get("REQUEST_METHOD", "")
            method = given if given in _METHODS else OTHER
            route = self._routes.of(environ.get("PATH_INFO", ""))
            self._requests.labels(method, route, status).inc()
            self._seconds.labels(method, route).observe(time.perf_counter() - began)


def measured(application: Wsgi) -> MeasuredApplication:
    """Placement's API with metrics."""
    from placement.handler import ROUTE_DECLARATIONS

    return MeasuredApplication(application, tuple(ROUTE_DECLARATIONS))


def collector(directory: Path) -> Any:
    """Adds up what all processes have counted in a directory."""
    return MultiProcessCollector(CollectorRegistry(), str(directory))  # type: ignore[no-untyped-call]
