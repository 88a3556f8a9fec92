"""A small HTTP server for the pages of a worker, in a thread of its own, and the port that it gets."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from html import escape
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final, NamedTuple

from vacancy.resources.model.errors import UsageError
from vacancy.streams.settings import WEB_PORT, WebAddress

JSON: Final = "application/json; charset=utf-8"
HTML: Final = "text/html; charset=utf-8"

_INDEX: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>A worker of vacancy</title></head>
<body><h1>A worker of vacancy</h1><p>It folds log {log}.</p><p>The fleet for people: {there}.</p>
<p>For programs:</p><ul>{links}</ul></body></html>
"""


class Page(NamedTuple):
    """The answer to a request."""

    status: HTTPStatus
    content_type: str
    text: str


def listening(address: WebAddress) -> socket.socket:
    """A socket that listens on a free port, for a server that starts later: no other process gets the port meanwhile, and who connects
    waits. Raises UsageError if there is none."""
    for port in _ports(address):
        found = socket.socket(_family(address))
        # As servers do: a port that was in use a moment ago counts as free.
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind((address.host, port))
            found.listen()
        except OSError:
            found.close()
        else:
            return found
    raise _cannot_listen(address)


def free_port(address: WebAddress) -> int:
    """A free port. It is only used for a moment here, so another process may still use it first.

    Raises UsageError if there is none.
    """
    with listening(address) as found:
        return int(found.getsockname()[1])


def _ports(address: WebAddress) -> tuple[int, ...]:
    """The ports to try, in this order; 0 is any free one."""
    return (WEB_PORT, 0) if address.port is None else (int(address.port),)


def _family(address: WebAddress) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address.host else socket.AF_INET


def _cannot_listen(address: WebAddress) -> UsageError:
    return UsageError(
        f"this program cannot listen on the web address {address.host}:{_ports(address)[0]}",
        do="give another host and port (a worker: --web-host and --web-port, or --web-port off)",
    )


def index_page(log: str, page: str) -> Page:
    """The page at `/`: where the others are. `log` is the log's name, `page` the URL of the page for people, "" for none."""
    there = f'<a href="{escape(page)}">the page</a>' if page else "<code>vacancy ui</code> serves it"
    links = "".join(f'<li><a href="/{name}">/{name}</a></li>' for name in ("ready", "status", "metrics"))
    return Page(HTTPStatus.OK, HTML, _INDEX.format(log=escape(log), there=there, links=links))


def not_ready_page(path: str, log: str, **why: object) -> Page | None:
    """A page of a worker that is not ready. `log`: the log's name. `why`: what `/status` says besides. None for an unknown path."""
    if path == "/ready":
        return Page(HTTPStatus.SERVICE_UNAVAILABLE, JSON, json.dumps({"ready": False}))
    if path == "/status":
        return Page(HTTPStatus.OK, JSON, json.dumps({"log": log, "ready": False, **why}))
    if path == "/metrics":
        # The client of Prometheus is imported where somebody asks: most embedded workers are never asked.
        from vacancy.streams.pages import metrics

        return Page(HTTPStatus.OK, metrics.CONTENT_TYPE, metrics.not_ready(log))
    return None


class PageServer(ThreadingHTTPServer):
    """Serves what `page` returns for a path, or 404 where it returns None, until `end`. `page` is called in threads.

    Raises UsageError if it cannot listen on the address.
    """

    daemon_threads = True

    def __init__(self, address: WebAddress, page: Callable[[str], Page | None]) -> None:
        self.page = page
        self.address_family = _family(address)
        self._listen(address)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.1,), daemon=True)
        self._thread.start()

    def _listen(self, address: WebAddress) -> None:
        """Listen on the first port that can be had. None is looked for before: another process might take it meanwhile."""
        for port in _ports(address):
            try:
                super().__init__((address.host, port), _Handler)
            except OSError:
                continue
            return
        raise _cannot_listen(address)

    @property
    def web_address(self) -> str:
        """HOST:PORT."""
        host, port = self.server_address[:2]
        return f"[{host!s}]:{port}" if ":" in str(host) else f"{host!s}:{port}"

    def end(self) -> None:
        """Stop serving."""
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: PageServer
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
