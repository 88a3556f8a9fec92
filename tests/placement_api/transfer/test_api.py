"""The same through the API of real Placement."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from tests.placement_api.transfer.cells import empty_cell, unseen
from tests.placement_api.transfer.placement_database import (
    dump,
    empty_database,
    fleet_database,
    random_fleet,
)
from tests.placement_api.transfer.placement_service import placement_service
from vacancy.placement_api.transfer.api import PlacementApi
from vacancy.placement_api.transfer.comparison import compare
from vacancy.placement_api.transfer.database import Database
from vacancy.placement_api.transfer.deployment import Deployment
from vacancy.placement_api.transfer.endpoint import EndpointError
from vacancy.placement_api.transfer.transfer import export_from, import_into
from vacancy.resources.model.errors import UsageError, VacancyError


def test_a_deployment_moves_through_the_api_and_back(tmp_path: Path) -> None:
    """The API says of the source what its database says. The exported one serves requests, and it is filled again by the API."""
    source, target, cell = tmp_path / "source.db", tmp_path / "target.db", empty_cell()
    url = fleet_database(source, random_fleet(7, providers=8, consumers=8))
    with placement_service(tmp_path, url) as api:
        by_api, by_database = PlacementApi(api).read(), Database(url).read()
        assert compare(by_database, by_api).equal
        assert {one.uuid: one.generation for one in by_api.consumers.values()} == {
            one.uuid: one.generation for one in by_database.consumers.values()
        }
        copied = import_into(cell, PlacementApi(api), unseen)
        assert (copied.refusals, copied.comparison is not None and copied.comparison.differences) == ((), ())
    empty = empty_database(target)
    Database(empty).fill(Deployment())  # the standard names, as Placement writes them at its first start
    with placement_service(tmp_path, empty) as api:
        back = export_from(cell, api, unseen)
        assert back.refusals == ()
        # Generations cannot be set through the API.
        assert back.comparison is not None
        assert {one.kind for one in back.comparison.differences} <= {"generation"}
        again = export_from(cell, api, unseen, go_on=True)
        assert (again.plan.providers, again.plan.consumers) == ((), ()), "nothing is left to do"
    before, after = dump(source), dump(target)
    for rows in (before, after):
        rows.pop("generations")
    assert before == after


class _Odd(BaseHTTPRequestHandler):
    """Answers as its server's `status` and `text` say."""

    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, _OddServer)
        self.send_response(server.status)
        self.end_headers()
        root = server.root if self.path == "/" else None
        self.wfile.write((root or server.text).encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


class _OddServer(HTTPServer):
    status, text = 200, ""
    root: str | None = None
    """The answer to `/`, where it is not `text`."""


@pytest.fixture(scope="module")
def odd() -> Iterator[_OddServer]:
    with _OddServer(("127.0.0.1", 0), _Odd) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("status", "text", "error"),
    [
        (401, "", "does not accept the credentials (401)"),
        (403, "", "this user may not GET / (403)"),
        (404, "", "GET / is answered 404"),
        (500, json.dumps({"errors": [{"detail": "broken\nhere"}]}), "GET / is answered 500 broken here"),
        (200, "<html>", "this is no API of Placement"),
        (200, '{"versions": []}', "this is no API of Placement"),
        (200, '{"versions": [{"max_version": "1.20"}]}', "it has version 1.20, and 1.28 is needed"),
    ],
)
def test_what_is_no_api_of_placement_is_one_line(odd: _OddServer, status: int, text: str, error: str) -> None:
    odd.status, odd.text = status, text
    with pytest.raises(EndpointError) as raised:
        PlacementApi(f"http://127.0.0.1:{odd.server_port}").read()
    assert error in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("<html>sign in</html>", "GET /resource_providers is answered 200 without a JSON object"),
        ("", "GET /resource_providers is answered 200 without a JSON object"),
        ("[1]", "GET /resource_providers is answered 200 without a JSON object"),
        ("{}", "an answer has no `resource_providers`"),
        ('{"resource_providers": [{"name": "a"}]}', "an answer has no `uuid`"),
    ],
)
def test_a_proxy_that_answers_for_placement_is_one_line(odd: _OddServer, text: str, error: str) -> None:
    """The root is Placement's, and then a proxy answers: with a page to sign in, with nothing, or with other JSON."""
    odd.status, odd.text, odd.root = 200, text, '{"versions": [{"max_version": "1.39"}]}'
    try:
        with pytest.raises(EndpointError) as raised:
            PlacementApi(f"http://127.0.0.1:{odd.server_port}").read()
    finally:
        odd.root = None
    assert f"this is no API of Placement: {error}" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_an_api_that_does_not_answer_is_one_line() -> None:
    with pytest.raises(EndpointError, match="no answer: ") as raised:
        PlacementApi("http://127.0.0.1:9").read()
    assert "\n" not in str(raised.value)


def test_credentials_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="has a user"):
        PlacementApi("http://ada:secret@127.0.0.1:9")
    monkeypatch.setenv("OS_AUTH_URL", "http://127.0.0.1:9/v3")
    monkeypatch.setenv("OS_PASSWORD", "secret")
    with pytest.raises(VacancyError) as raised:
        PlacementApi("http://127.0.0.1:9").read()
    assert "secret" not in str(raised.value)
