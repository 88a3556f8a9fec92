"""`auth_strategy = keystone`: real Placement and this project's API ask Keystone about tokens alike, and answer alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.placement_api.api_process import Answer, Api, api_process
from tests.placement_api.fake_keystone import BREAKS, Token, fake_keystone, write_config

TOKENS = {
    "of-nova": Token("nova", "service", ("service",)),
    "of-an-admin": Token("ada", "p", ("admin", "member", "reader")),
    "of-a-reader": Token("rob", "p", ("reader",)),
    "too-old": Token("ada", "p", ("admin",), expires="2001-01-01T00:00:00.000000Z"),
}


@dataclass
class Both:
    """The same request to both."""

    apis: tuple[Api, Api]

    def ask(self, token: str | None, path: str) -> Answer:
        theirs, ours = (one.request("GET", path, token=token) for one in self.apis)
        names = ("www-authenticate", "content-type")
        assert (ours.status, [ours.headers.get(one) for one in names]) == (
            theirs.status,
            [theirs.headers.get(one) for one in names],
        )
        return ours


@pytest.fixture(scope="module")
def keystone_url() -> Iterator[str]:
    with fake_keystone(TOKENS) as url:
        yield url


@pytest.fixture(scope="module")
def both(keystone_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    config = write_config(tmp_path_factory.mktemp("keystone"), keystone_url)
    with api_process("placement", config) as theirs, api_process("sqlite", config) as ours:
        yield Both((theirs, ours))


@pytest.mark.parametrize(
    ("token", "path", "status"),
    [
        (None, "/", 200),
        (None, "/resource_providers", 401),
        ("nobody's", "/resource_providers", 401),
        ("too-old", "/resource_providers", 401),
        (BREAKS, "/resource_providers", 503),
        ("of-a-reader", "/resource_providers", 403),
        ("of-a-reader", "/usages?project_id=p", 200),
        ("of-a-reader", "/usages?project_id=q", 403),
        ("of-nova", "/resource_providers", 200),
        ("of-an-admin", "/resource_providers", 200),
    ],
)
def test_a_token_decides(both: Both, keystone_url: str, token: str | None, path: str, status: int) -> None:
    answer = both.ask(token, path)
    assert answer.status == status
    if status == 401:
        assert answer.headers["www-authenticate"] == f'Keystone uri="{keystone_url}"'
