"""A client of Placement's API that opens a connection for each request, as services without a pool do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http.client import HTTPConnection
from typing import Any

from evaluation.candidates.placement.http import Answer

HEADERS: Mapping[str, str] = {
    "x-auth-token": "admin",
    "openstack-api-version": "placement 1.39",
    "accept": "application/json",
    "content-type": "application/json",
    # uWSGI's router closes a connection after its answer, and does not say so.
    "connection": "close",
}
_TIMEOUT_S = 120.0


class ApiClient:
    """Requests of an administrator to the API on a port of 127.0.0.1."""

    def __init__(self, port: int) -> None:
        self._port = port

    def ask(self, method: str, path: str, body: Any = None) -> Answer:
        """Send one request. Raises `OSError` or `HTTPException` if no answer comes."""
        connection = HTTPConnection("127.0.0.1", self._port, timeout=_TIMEOUT_S)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), dict(HEADERS))
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        return Answer(answer.status, json.loads(text) if text else None)

    def must(self, method: str, path: str, body: Any = None) -> Any:
        """The body of a successful answer. Raises `RuntimeError` for any other one."""
        answer = self.ask(method, path, body)
        if not answer.ok:
            raise RuntimeError(f"{method} {path} was answered {answer.status}: {answer.body}")
        return answer.body


def claim_of(allocations: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a claim for a new consumer. `allocations`: those of an allocation request."""
    return {
        "allocations": dict(allocations),
        "consumer_generation": None,
        "consumer_type": "INSTANCE",
        "project_id": "vacancy-evaluation",
        "user_id": "vacancy-evaluation",
    }
