"""Placement's API for many calls at once: HTTP over asyncio, one connection a request, as uWSGI's router closes them.

The requests have the headers that Nova's client sends.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from vacancy.resources.model.errors import VacancyError

MICROVERSION: Final = "1.39"
CONFLICT: Final = 409
CONCURRENT_UPDATE: Final = "placement.concurrent_update"
_ANSWER_S: Final = 60.0
_HEAD: Final = (
    "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nx-auth-token: admin\r\nconnection: close\r\n"
    f"openstack-api-version: placement {MICROVERSION}\r\naccept: application/json\r\n"
    "content-type: application/json\r\ncontent-length: {length}\r\n\r\n"
)


class NotSent(ConnectionError):
    """No connection could be made, so that nothing was sent."""


class Answer(NamedTuple):
    """The status and the JSON body of an answer."""

    status: int
    body: Any

    @property
    def ok(self) -> bool:
        """Whether the request was served."""
        return self.status < 300

    @property
    def code(self) -> str:
        """The code of the first error in the body."""
        errors = self.body.get("errors", [{}]) if isinstance(self.body, dict) else [{}]
        return str(errors[0].get("code", ""))


class PlacementApi:
    """A client of the API on a port of 127.0.0.1."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Answer:
        """Send one request. Raises `NotSent`, or `ConnectionError` if the answer does not come."""
        content = b"" if body is None else json.dumps(body).encode()
        head = _HEAD.format(method=method, path=path, length=len(content)).encode()
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError as error:
            raise NotSent(str(error)) from error
        try:
            writer.write(head + content)
            received = await asyncio.wait_for(reader.read(), _ANSWER_S)
        except (OSError, TimeoutError) as error:
            raise ConnectionError(f"{method} {path}: {error!r}") from error
        finally:
            writer.close()
        return _parsed(received, f"{method} {path}")

    async def must(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """The body of the answer. Raises `VacancyError` if it is not a success."""
        answer = await self.call(method, path, body)
        if not answer.ok:
            raise VacancyError(
                f"Placement answered {answer.status}: {answer.body}"[:400], where=f"{method} {path}"
            )
        return answer.body


def _parsed(received: bytes, where: str) -> Answer:
    head, found, content = received.partition(b"\r\n\r\n")
    if not found:
        raise ConnectionError(f"{where}: the answer is cut off")
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = {
        name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
    }
    if len(content) < int(headers.get("content-length", 0)):
        raise ConnectionError(f"{where}: the answer is cut off")
    is_json = "json" in headers.get("content-type", "")
    return Answer(int(status.split()[1]), json.loads(content) if content and is_json else None)
