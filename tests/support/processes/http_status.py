"""Asking a server on this host whether it answers."""

from __future__ import annotations

from http.client import HTTPConnection


def http_status(port: int, path: str, timeout_s: float) -> int | None:
    """The status of an answer of this host; None while nothing listens at the port."""
    connection = HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except ConnectionError:
        return None
    finally:
        connection.close()
