"""A Keystone on loopback that knows a few tokens: as much of its API as keystonemiddleware asks for."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

SERVICE_TOKEN = "token-of-placement"  # noqa: S105 - of a Keystone that exists in tests only
PASSWORD = "secret"  # noqa: S105
BREAKS = "breaks-keystone"
"""A token that Keystone answers with an error of its own."""

_CONFIG = """
[api]
auth_strategy = keystone
[placement_database]
connection = sqlite://
[keystone_authtoken]
www_authenticate_uri = {url}
auth_url = {url}
auth_type = password
username = placement
password = {password}
project_name = service
user_domain_name = Default
project_domain_name = Default
http_request_max_retries = 0
"""


@dataclass(frozen=True, slots=True)
class Token:
    """What a token stands for. `expires` is a time of ISO 8601."""

    user: str
    project: str
    roles: tuple[str, ...]
    expires: str = "2999-01-01T00:00:00.000000Z"

    def described(self) -> dict[str, Any]:
        """As Keystone describes it."""
        domain = {"id": "default", "name": "Default"}
        return {
            "methods": ["password"],
            "user": {"id": self.user, "name": self.user, "domain": domain},
            "project": {"id": self.project, "name": self.project, "domain": domain},
            "roles": [{"id": name, "name": name} for name in self.roles],
            "issued_at": "2020-01-01T00:00:00.000000Z",
            "expires_at": self.expires,
            "audit_ids": ["x"],
            "catalog": [],
        }


def write_config(directory: Path, url: str) -> Path:
    """Write a placement.conf with which Placement asks the Keystone at this URL about tokens."""
    config = directory / "placement.conf"
    config.write_text(_CONFIG.format(url=url, password=PASSWORD))
    return config


@contextmanager
def fake_keystone(tokens: Mapping[str, Token]) -> Iterator[str]:
    """Its URL, while it answers."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path != "/v3/auth/tokens":
                self._answer(200, self._versions())
                return
            assert self.headers["X-Auth-Token"] == SERVICE_TOKEN, "Placement asks with its own token"
            token = tokens.get(self.headers["X-Subject-Token"])
            if self.headers["X-Subject-Token"] == BREAKS:
                self._answer(500, {"error": {"code": 500, "message": "Keystone has lost its database."}})
            elif token is None:
                self._answer(404, {"error": {"code": 404, "message": "Could not find token."}})
            else:
                self._answer(200, {"token": token.described()})

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            given = asked["auth"]["identity"]["password"]["user"]["password"]
            if self.path != "/v3/auth/tokens" or given != PASSWORD:
                self._answer(401, {"error": {"code": 401, "message": "The password is wrong."}})
                return
            token = Token("placement", "service", ("service", "admin"))
            described = {**token.described(), "catalog": self._catalog()}
            self._answer(201, {"token": described}, {"X-Subject-Token": SERVICE_TOKEN})

        def _catalog(self) -> list[Any]:
            """Where Keystone itself is."""
            one = {"url": f"http://{self.headers['Host']}", "region": "r", "region_id": "r", "id": "x"}
            endpoints = [{**one, "interface": name} for name in ("public", "internal", "admin")]
            return [{"type": "identity", "name": "keystone", "id": "x", "endpoints": endpoints}]

        def _versions(self) -> dict[str, Any]:
            links = [{"rel": "self", "href": f"http://{self.headers['Host']}/v3/"}]
            version = {"id": "v3.14", "status": "stable", "links": links}
            return {"versions": {"values": [version]}} if self.path == "/" else {"version": version}

        def _answer(self, status: int, body: Any, headers: Mapping[str, str] | None = None) -> None:
            text = json.dumps(body).encode()
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
