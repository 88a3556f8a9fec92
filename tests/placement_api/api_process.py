"""Placement's API in a process of its own: real Placement on SQLite in memory, or this project's on one of its backends.

The two cannot be in one process, because the substitution of modules is global. `Api` talks to such a process.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Body = Any
ADMIN = "admin"
"""The token of an administrator, where Keystone is not asked."""


@dataclass(frozen=True, slots=True)
class Answer:
    """status: the number. body: parsed JSON, or None. headers: with names in small letters."""

    status: int
    body: Body
    headers: dict[str, str]


class Api:
    """Sends requests to one process. Requests are by an administrator, with a role for reshapes, where Keystone is not asked."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def request(
        self, method: str, path: str, body: Body = None, version: str = "1.39", token: str | None = ADMIN
    ) -> Answer:
        return self._send([method, path, body, version, token])

    def reset(self) -> None:
        """Starts with an empty state."""
        self._send(["RESET", "", None, "", None])

    def _send(self, line: list[Any]) -> Answer:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(line) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, f"the process ended: {self._process.wait()}"
        status, found, headers = json.loads(answer)
        return Answer(status, found, headers)


@contextmanager
def api_process(kind: str, config: Path | None = None) -> Iterator[Api]:
    """kind: `placement` for real Placement, else a backend of `tests.placement_api.backends`. config: its `placement.conf`; without one
    there is no authentication."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.placement_api.api_process", kind, *([str(config)] if config else [])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Api(process)
    finally:
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()
        process.wait(90)


def main(kind: str, config: str | None = None) -> None:
    """Answers one request for each line of standard input."""
    output, sys.stdout = sys.stdout, sys.stderr
    if kind != "placement":
        from vacancy.placement_api import substitution

        substitution.install(also={"placement.tests.fixtures": "tests.placement_api.suites.database_fixture"})
        from tests.placement_api import backends
        from tests.placement_api.suites import database_fixture

        database_fixture.make_backend.append(backends.MAKERS[kind])
    site: _Site | None = None
    for line in sys.stdin:
        method, path, body, version, token = json.loads(line)
        if site is None or method == "RESET":
            if site is not None:
                site.close()
            site = _Site(config)
        answer = [0, None, {}] if method == "RESET" else site.answer(method, path, body, version, token)
        output.write(json.dumps(answer) + "\n")
        output.flush()
    if site is not None:
        site.close()


class _Site:
    """One application with an empty state, configured as upstream's fixtures do it."""

    def __init__(self, file: str | None) -> None:
        from oslo_config import cfg
        from oslo_config import fixture as config_fixture
        from oslo_policy import opts as policy_opts
        from placement import conf, deploy
        from placement.tests import fixtures
        from placement.tests.unit import policy_fixture

        config = config_fixture.Config(cfg.ConfigOpts())
        config.setUp()
        conf.register_opts(config.conf)
        if file is None:
            config.config(group="api", auth_strategy="noauth2")
        database = fixtures.Database(config, set_config=True)
        database.setUp()
        policy_opts.set_defaults(config.conf)
        config.conf([], default_config_files=[file] if file else [])
        policy = policy_fixture.PolicyFixture(config)
        policy.setUp()
        self._application = deploy.loadapp(config.conf)
        self._parts = (policy, database, config)

    def answer(self, method: str, path: str, body: Body, version: str, token: str | None) -> list[Any]:
        import webob

        request = webob.Request.blank(path, method=method)
        request.headers.update(
            {
                "X-Roles": "service,admin",
                "Accept": "application/json",
                "OpenStack-API-Version": f"placement {version}",
            }
        )
        if token is not None:
            request.headers["X-Auth-Token"] = token
        if body is not None:
            request.body = json.dumps(body).encode()
            request.content_type = "application/json"
        response = request.get_response(self._application)
        headers = {name.lower(): value for name, value in response.headers.items()}
        return [response.status_int, _parsed(response), headers]

    def close(self) -> None:
        for part in self._parts:
            part.cleanUp()


def _parsed(response: Any) -> Body:
    """The JSON of a body; the answers of keystonemiddleware are text."""
    return (
        response.json
        if response.content_type == "application/json" and response.body
        else response.text or None
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
