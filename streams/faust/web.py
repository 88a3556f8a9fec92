"""The HTTP pages of a worker: readiness, status, and Prometheus metrics.

Faust's own pages are disabled: `/table` and `/router` serve Faust tables, of which there are none; `/graph` and the
statistics are about the program, not about the log.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, cast

import faust
from faust.web import Request, Response, View

from vacancy.streams.pages import metrics
from vacancy.streams.pages.page_server import free_port, index_page
from vacancy.streams.settings import WebAddress


def web_options(address: WebAddress) -> dict[str, Any]:
    """The options of a Faust app that serves pages at `address`. Raises UsageError if the port is in use."""
    pages = ("tables", "router", "graph", "stats", "metrics")
    options: dict[str, Any] = {f"web_{page}_enabled": False for page in pages}
    # Faust listens on all interfaces by default, and the `faust` command enables the server unless it is disabled here.
    options |= {"web_bind": address.host, "web_host": address.host}
    if address.port == "off":
        return {**options, "web_enabled": False}
    return {**options, "web_enabled": True, "web_port": free_port(address)}


def add_pages(app: faust.App, page: Callable[[], str]) -> None:
    """Serve `/ready`, `/status` and `/metrics` for an app that is a `MetricsSource`, and at `/` where they are. `page` as in
    `WebAddress`."""
    source = cast(metrics.MetricsSource, app)

    @app.page("/")
    async def index(self: View, _: Request) -> Response:
        """Where the other pages are."""
        found = index_page(source.log_name, page())
        return self.text(found.text, content_type=found.content_type.partition(";")[0])

    @app.page("/ready")
    async def ready(self: View, _: Request) -> Response:
        """200 once all records that were in the log at the start are folded, otherwise 503."""
        if source.ready:
            return self.json({"ready": True})
        return self.json({"ready": False}, status=503)

    @app.page("/status")
    async def status(self: View, _: Request) -> Response:
        """Position, lag and rates."""
        # Faust's own JSON is not ASCII, and people read this page with curl at a terminal.
        return self.text(json.dumps(metrics.status(source, page())), content_type="application/json")

    @app.page("/metrics")
    async def prometheus(self: View, _: Request) -> Response:
        """The metrics in Prometheus' text format."""
        return self.text(metrics.render(source), content_type=metrics.CONTENT_TYPE)
