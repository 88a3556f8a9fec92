"""The HTTP pages of an embedded worker: `/ready`, `/status` and `/metrics`, as a worker on Kafka serves them.

A request comes in a thread of the server. What it asks for is read in the worker's own thread, between two commits, because nothing of
the tables is made for two threads. While nobody asks, that costs the worker nothing but the question.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from queue import Empty, SimpleQueue
from threading import Event
from typing import Final

from vacancy.resources.model.errors import VacancyError
from vacancy.streams.log import Log
from vacancy.streams.pages.page_server import JSON, Page, PageServer, index_page, not_ready_page
from vacancy.streams.settings import WebAddress
from vacancy.streams.worker.embedded_worker import EmbeddedWorker
from vacancy.streams.worker.partition_ownership import OwnedPartition, PartitionOwnership
from vacancy.streams.worker.projection_protocol import SharedProjection

_ANSWER_S: Final = 10.0
_SAMPLE_S: Final = 1.0


class _Source:
    """An embedded worker as a `MetricsSource`. `target` is the end of the log when the worker started."""

    def __init__(
        self,
        log: Log,
        projection: SharedProjection,
        worker: EmbeddedWorker,
        target: Mapping[int, int],
        ui: Callable[[], str],
    ) -> None:
        self.log_name, self.ui = log.name, ui
        self._log, self._worker, self._target = log, worker, target
        self.ownership = PartitionOwnership(projection, log.name, on_failed=lambda _: None)
        self.ownership.errors = worker.errors
        for partition, position in worker.position.items():
            self.ownership.held[partition] = OwnedPartition(
                partition, position, position, behind_since_ms=None
            )

    @property
    def ready(self) -> bool:
        """Whether all records that were in the log at the start are in the tables."""
        position = self._worker.position
        return all(position.get(partition, 0) >= end for partition, end in self._target.items())

    @property
    def ticks(self) -> int:
        """The number of ticks sent."""
        return self._worker.progress.ticks

    def sample(self) -> None:
        """Note the rate."""
        self.ownership.records = self._worker.progress.records
        self.ownership.batches = self._worker.progress.batches
        self.ownership.sample_rate()

    def read(self) -> None:
        """Read positions and the end of the log. Raises LogError."""
        self.sample()
        ends, now_ms = self._log.end(), self.ownership.clock()
        for partition, position in self._worker.position.items():
            one = self.ownership.held[partition]
            one.position = position
            one.folded_ms = self.ownership.projection.log_time_ms(partition)
            one.saw_end(ends[partition], now_ms)


class EmbeddedPages:
    """Serves the pages at `address` from now until `close`; `log` is the log's name. Before `attach` they say that the worker is not
    ready. Raises UsageError if it cannot listen on the address."""

    def __init__(self, address: WebAddress, log: str) -> None:
        self._log, self._ui = log, address.page
        self._source: _Source | None = None
        self._asked: SimpleQueue[_Question] = SimpleQueue()
        self._sample_at = 0.0
        self._server = None if address.port == "off" else PageServer(address, self._page)

    @property
    def web_address(self) -> str | None:
        """HOST:PORT, None if nothing is served."""
        return None if self._server is None else self._server.web_address

    def attach(
        self, log: Log, projection: SharedProjection, worker: EmbeddedWorker, target: Mapping[int, int]
    ) -> None:
        """Serve the state of this worker from now on. Its thread must call `answer` again and again."""
        self._source = _Source(log, projection, worker, target, self._ui)

    def detach(self) -> None:
        """The worker has ended: say that it is not ready, until the next one is attached."""
        self._source = None
        self._drain(None)

    def answer(self) -> None:
        """Answer the requests that came since the last call."""
        now = time.monotonic()
        if self._source is not None and now >= self._sample_at:
            self._sample_at = now + _SAMPLE_S
            self._source.sample()
        if not self._asked.empty():
            self._drain(self._source)

    def close(self) -> None:
        """Stop serving."""
        self.detach()
        if self._server is not None:
            self._server.end()
            self._server = None

    def _drain(self, source: _Source | None) -> None:
        while True:
            try:
                question = self._asked.get_nowait()
            except Empty:
                return
            question.answer(source)

    def _page(self, path: str) -> Page | None:
        if not path:
            return index_page(self._log, self._ui())
        make = _PAGES.get(path)
        if make is None:
            return None
        if self._source is not None:
            question = _Question(make)
            self._asked.put(question)
            if question.answered.wait(_ANSWER_S) and question.page is not None:
                return question.page
        return not_ready_page(path, self._log)


class _Question:
    """A request that waits for the worker's thread. `page` is None where no worker answered."""

    def __init__(self, make: Callable[[_Source], Page]) -> None:
        self._make = make
        self.answered = Event()
        self.page: Page | None = None

    def answer(self, source: _Source | None) -> None:
        try:
            if source is not None:
                source.read()
                self.page = self._make(source)
        except VacancyError:
            self.page = None  # of the log or of a partition: the worker meets it, too, and says so
        finally:
            self.answered.set()


def _ready(source: _Source) -> Page:
    status = HTTPStatus.OK if source.ready else HTTPStatus.SERVICE_UNAVAILABLE
    return Page(status, JSON, json.dumps({"ready": source.ready}))


# The client of Prometheus is imported where somebody asks: most embedded workers are never asked.


def _status(source: _Source) -> Page:
    from vacancy.streams.pages import metrics

    return Page(HTTPStatus.OK, JSON, json.dumps(metrics.status(source, source.ui())))


def _metrics(source: _Source) -> Page:
    from vacancy.streams.pages import metrics

    return Page(HTTPStatus.OK, metrics.CONTENT_TYPE, metrics.render(source))


_PAGES: Final[Mapping[str, Callable[[_Source], Page]]] = {
    "/ready": _ready,
    "/status": _status,
    "/metrics": _metrics,
}
