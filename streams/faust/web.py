"""The HTTP pages of a worker: readiness, status, and Prometheus metrics.

Faust's own pages are disabled: `/table` and `/router` serve Faust tables, of which there are none; `/graph` and the
statistics are about the program, not about the log.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any, cast

import faust
from aiohttp.web import BaseSite, SockSite
from faust.web import Request, Response, View
from faust.web.drivers.aiohttp import Web

from vacancy.streams.pages import metrics
from vacancy.streams.pages.page_server import index_page, listening
from vacancy.streams.settings import WebAddress


class ListeningWeb(Web):
    """Faust's web server on a socket that listens already. Faust itself takes a port by its number, seconds after it was chosen."""

    def __init__(self, app: faust.App, on: socket.socket) -> None:
        super().__init__(app)
        self._on, self._address = on, (app.conf.web_bind, app.conf.web_port)

    def _new_transport_tcp(self) -> BaseSite:
        if (self.app.conf.web_bind, self.app.conf.web_port) == self._address:
            return SockSite(self._runner, self._on)
        self._on.close()  # an option of the `faust` command names another address
        return super()._new_transport_tcp()


def web_socket(address: WebAddress) -> socket.socket | None:
    """Where the pages will be served; None if they are disabled. Raises UsageError if the port is in use."""
    return None if address.port == "off" else listening(address)


def web_options(address: WebAddress, on: socket.socket | None) -> dict[str, Any]:
    """The options of a Faust app that serves pages at `address`, on the socket `on`."""
    pages = ("tables", "router", "graph", "stats", "metrics")
    options: dict[str, Any] = {f"web_{page}_enabled": False for page in pages}
    # Faust listens on all interfaces by default, and the `faust` command enables the server unless it is disabled here.
    options |= {"web_bind": address.host, "web_host": address.host}
    if on is None:
        return {**options, "web_enabled": False}
    return {**options, "web_enabled": True, "web_port": on.getsockname()[1]}


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
