"""Queries of specs, for tests: each spec is compiled as a client compiles it, without checking it against the classes."""

from __future__ import annotations

from typing import Any

from tests.support.classes.ports_class import REGISTRY
from vacancy.clients.request_language.expressions.cel_compiler import compile_condition
from vacancy.projections.diagnostics import summary
from vacancy.projections.diagnostics.constraints import RequestConstraints
from vacancy.projections.diagnostics.summary import Explanation
from vacancy.projections.query import engine
from vacancy.projections.query.compiled_request import CompiledRequest
from vacancy.projections.query.model import Candidate
from vacancy.projections.view.fleet import FleetView
from vacancy.resources.model.request import RequestSpec, choices_of


def compiled(spec: RequestSpec) -> CompiledRequest:
    """A request as queries take it."""
    texts = {group.where for one in choices_of(spec) for group in one.groups if group.where}
    return CompiledRequest(spec, {text: compile_condition(text, REGISTRY) for text in texts})


def find(view: FleetView, spec: RequestSpec, **options: Any) -> list[Candidate]:
    """See `engine.find`."""
    return engine.find(view, compiled(spec), **options)


def explain(view: FleetView, spec: RequestSpec, **options: Any) -> Explanation:
    """See `summary.explain`."""
    return summary.explain(view, compiled(spec), **options)


def constraints(view: FleetView, spec: RequestSpec) -> RequestConstraints:
    """See `RequestConstraints`."""
    return RequestConstraints(view, compiled(spec))
