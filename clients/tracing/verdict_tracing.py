"""The spans of a worker: one for each verdict on a traced claim. Its parent is the claim's span, in the process of the scheduler."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from importlib.metadata import version
from typing import Final

from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode, TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from vacancy.clients.tracing.scheduler_tracing import TRACER, span_ids
from vacancy.resources.model.encoding.trace_context import claim_contexts
from vacancy.resources.model.record import Record
from vacancy.resources.state.rows import VerdictRow
from vacancy.resources.state.tables import key
from vacancy.streams.clocks.clock import wall_ms
from vacancy.streams.log import KEY_BYTES_MAX
from vacancy.streams.printable import printable

OLD_MS: Final = 600_000
"""Claims of records that are older are not traced: a worker that catches up folds them again long after they were decided."""

_log = logging.getLogger("vacancy.worker")


class VerdictTracing:
    """Receives records with verdicts, after their commit. `store` is the id of the worker's store: each store judges each claim, and
    all reach the same verdict."""

    def __init__(self, store: str, provider: TracerProvider | None = None) -> None:
        self._store = store
        self._tracer = trace.get_tracer(TRACER, version("vacancy"), provider)
        self._extract = TraceContextTextMapPropagator().extract

    def __call__(
        self, record: Record, verdicts: Mapping[bytes, VerdictRow | None], folded_ns: int, *, refused: bool
    ) -> None:
        """Make the spans of one record, from where it was folded (`folded_ns`, Unix time) until now. `refused`: it is a dead letter."""
        contexts = claim_contexts(record.value)
        if not contexts or record.timestamp_ms < wall_ms() - OLD_MS:
            return
        cell = printable(record.key[:KEY_BYTES_MAX].decode(errors="replace"))
        for claim, context in contexts.items():
            row = verdicts.get(key(cell, claim))
            if row is not None or refused:
                self._trace(record, cell, claim, context, row, folded_ns)

    def _trace(
        self, record: Record, cell: str, claim: str, context: str, row: VerdictRow | None, folded_ns: int
    ) -> None:
        verdict = "dead letter" if row is None else "accepted" if row.accepted else row.reason
        named: dict[str, AttributeValue] = {
            "vacancy.claim": claim,
            "vacancy.verdict": verdict,
            "vacancy.cell": cell,
            "vacancy.partition": record.partition,
            "vacancy.offset": record.offset,
            "vacancy.store": self._store,
            "vacancy.appended_ms": record.timestamp_ms,
        }
        span = self._tracer.start_span(
            "vacancy judge",
            self._extract({"traceparent": context}),
            kind=SpanKind.CONSUMER,
            attributes=named,
            start_time=folded_ns,
        )
        if row is None:
            span.set_status(Status(StatusCode.ERROR, "the record was refused"))
        about = {"claim": claim, "verdict": verdict, "cell": cell, "partition": record.partition}
        _log.info("claim judged", extra={**about, "offset": record.offset, **span_ids(span)})
        span.end(time.time_ns())
