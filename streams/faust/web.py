"""What a worker serves over HTTP: whether it has caught up, how it is, and the same for Prometheus.

Faust's own pages are left out: its `/table` and `/router` serve data of tables that there are none of, and
`/graph` and the statistics tell of the program, not of the log.
"""

from __future__ import annotations

import contextlib
import socket
from typing import Any, Final, cast

import faust
from faust.web import Request, Response, View

from vacancy.resources.model.errors import UsageError
from vacancy.streams import metrics
from vacancy.streams.settings import WebAddress

DEFAULT_PORT: Final = 6066


def web_options(address: WebAddress) -> dict[str, Any]:
    """The options of a Faust app that is to serve there. Raises UsageError if the port is taken."""
    pages = ("tables", "router", "graph", "stats", "metrics")
    options: dict[str, Any] = {f"web_{page}_enabled": False for page in pages}
    # Faust's own default is all interfaces, and the `faust` command turns the server on if it is not told else.
    options |= {"web_bind": address.host, "web_host": address.host}
    if address.port == "off":
        return {**options, "web_enabled": False}
    return {**options, "web_enabled": True, "web_port": free_port(address)}


def free_port(address: WebAddress) -> int:
    """A port that can be listened on. It is bound for a moment to see, so another process may still take it. Raises
    UsageError if there is none."""
    wanted = DEFAULT_PORT if address.port is None else int(address.port)
    for port in (wanted, 0) if address.port is None else (wanted,):
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        with contextlib.closing(socket.socket(family)) as tried:
            # As the server does it: a port that was in use a moment ago counts as free.
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                tried.bind((address.host, port))
                return int(tried.getsockname()[1])
    raise UsageError(
        f"The web address {address.host}:{wanted} cannot be listened on",
        do="give another --web-host and --web-port, or --web-port off",
    )


def add_pages(app: faust.App) -> None:
    """Serve `/ready`, `/status` and `/metrics` of an app that is a `metrics.Source`."""
    source = cast(metrics.MetricsSource, app)

    @app.page("/ready")
    async def ready(self: View, _: Request) -> Response:
        """200 once all that was in the log at the start is folded, else 503."""
        if source.ready:
            return self.json({"ready": True})
        return self.json({"ready": False}, status=503)

    @app.page("/status")
    async def status(self: View, _: Request) -> Response:
        """Position, lag and rates."""
        return self.json(metrics.status(source))

    @app.page("/metrics")
    async def prometheus(self: View, _: Request) -> Response:
        """The metrics in Prometheus' text format."""
        return self.text(metrics.render(source), content_type=metrics.CONTENT_TYPE)
