"""Whether this process traces, and with what. Imports OpenTelemetry only where it does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vacancy.resources.model.errors import UsageError

if TYPE_CHECKING:
    from vacancy.clients.tracing.scheduler_tracing import SchedulerTracing
    from vacancy.clients.tracing.verdict_tracing import VerdictTracing


def scheduler_tracing() -> SchedulerTracing:
    """Tracing of a scheduler, by the tracer provider of this process (`provider.tracer_provider`). Raises `UsageError` without the
    extra."""
    try:
        from vacancy.clients.tracing.provider import tracer_provider
        from vacancy.clients.tracing.scheduler_tracing import SchedulerTracing

        return SchedulerTracing(tracer_provider("vacancy-scheduler"))
    except ImportError as error:
        raise _missing(error) from None


def verdict_tracing(store: str) -> VerdictTracing:
    """Tracing of a worker on the store with this id. Raises `UsageError` without the extra."""
    try:
        from vacancy.clients.tracing.provider import tracer_provider
        from vacancy.clients.tracing.verdict_tracing import VerdictTracing

        return VerdictTracing(store, tracer_provider("vacancy-worker"))
    except ImportError as error:
        raise _missing(error) from None


def _missing(error: ImportError) -> UsageError:
    return UsageError(
        f"tracing needs OpenTelemetry: {error}",
        where="the setting tracing",
        do="install it with `pip install 'vacancy[otel]'`, or do not set VACANCY_TRACING",
    )
