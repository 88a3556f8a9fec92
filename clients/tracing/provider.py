"""The tracer provider of a process, set up by OpenTelemetry's own environment variables."""

from __future__ import annotations

import os
import sys

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter

from vacancy.resources.model.errors import UsageError


def tracer_provider(service: str) -> trace.TracerProvider:
    """The provider that the process has set already, as `opentelemetry-instrument` does. Otherwise a new one, which is set for the
    process: it exports as `OTEL_TRACES_EXPORTER` says, `otlp` by default (to `OTEL_EXPORTER_OTLP_ENDPOINT`), `console` (JSON on
    standard error) or `none`. `service` is its name unless `OTEL_SERVICE_NAME` gives another.

    Raises `UsageError` for another exporter, and `ImportError` where its package is missing.
    """
    found = trace.get_tracer_provider()
    if isinstance(found, TracerProvider):
        return found
    os.environ.setdefault("OTEL_SERVICE_NAME", service)
    made = TracerProvider(resource=Resource.create())  # it flushes at exit
    exporter = _exporter(os.environ.get("OTEL_TRACES_EXPORTER", "otlp"))
    if exporter is not None:
        made.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(made)
    return made


def _exporter(name: str) -> SpanExporter | None:
    if name == "none":
        return None
    if name == "console":
        return ConsoleSpanExporter(out=sys.stderr, formatter=lambda span: span.to_json(indent=None) + "\n")
    if name == "otlp":
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        return OTLPSpanExporter()
    raise UsageError(
        f"the exporter {name!r} of traces is unknown",
        where="OTEL_TRACES_EXPORTER",
        do="choose otlp, console or none, or start the program with `opentelemetry-instrument`",
    )
