"""The HTTP pages of a worker whose log does not answer: not ready, the reason, and the time waited.

They are served at the address where the worker serves its own pages later (`streams/faust/web.py`).
"""

from __future__ import annotations

import json
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final, NamedTuple

from vacancy.streams.faust.web import free_port
from vacancy.streams.metrics import CONTENT_TYPE, not_ready
from vacancy.streams.settings import WebAddress

_JSON: Final = "application/json; charset=utf-8"


class _Page(NamedTuple):
    status: HTTPStatus
    content_type: str
    text: str


class NotReadyServer:
    """Serves at `address` from the first `show` until `close`. `log` is the log's name.

    Raises UsageError if it cannot listen on the address.
    """

    def __init__(self, address: WebAddress, log: str) -> None:
        self._address, self._log = address, log
        self._server: _Server | None = None

    def show(self, since: float, why: str) -> None:
        """Serve that the worker waits since `since` (monotonic clock, seconds), and the reason `why`."""
        if self._address.port == "off":
            return
        if self._server is None:
            self._server = _Server(self._address, self._log, since, why)
        self._server.why = why

    def close(self) -> None:
        """Stop serving, so that the worker can use the address."""
        if self._server is not None:
            self._server.end()
            self._server = None


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: WebAddress, log: str, since: float, why: str) -> None:
        self.log, self.since, self.why = log, since, why
        super().__init__((address.host, free_port(address)), _Handler)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.1,), daemon=True)
        self._thread.start()

    def page(self, path: str) -> _Page | None:
        if path == "/ready":
            return _Page(HTTPStatus.SERVICE_UNAVAILABLE, _JSON, json.dumps({"ready": False}))
        if path == "/status":
            waited_s = round(time.monotonic() - self.since, 1)
            state = {"log": self.log, "ready": False, "waiting_seconds": waited_s, "waiting_for": self.why}
            return _Page(HTTPStatus.OK, _JSON, json.dumps(state))
        if path == "/metrics":
            return _Page(HTTPStatus.OK, CONTENT_TYPE, not_ready(self.log))
        return None

    def end(self) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 10

    def do_GET(self) -> None:
        """Answer with one of the pages."""
        page = self.server.page(self.path.partition("?")[0].rstrip("/"))
        if page is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        body = page.text.encode()
        self.send_response(page.status)
        self.send_header("Content-Type", page.content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Do not log requests."""
