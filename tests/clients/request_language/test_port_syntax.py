"""Ports on the command line."""

from __future__ import annotations

from typing import Any

import pytest

from vacancy.clients.request_language.syntax_registry import parse_ask
from vacancy.resources.classes.registry import Registry
from vacancy.resources.model.errors import UsageError


@pytest.mark.parametrize(
    ("text", "ask"),
    [
        ("2", 2),
        ("1[3002]", {"count": 1, "ports": [[3002, 3002]]}),
        ("2[80, 443]", {"count": 2, "ports": [[80, 80], [443, 443]]}),
        ("1[20000-32000,udp]", {"count": 1, "ports": [[20_000, 32_000]], "protocol": "udp"}),
        ("1[udp]", {"count": 1, "protocol": "udp"}),
    ],
)
def test_asks(text: str, ask: Any) -> None:
    assert parse_ask("PORT", text, Registry(), "--resources") == ask


@pytest.mark.parametrize("text", ["0", "1[]", "1[http]", "1[tcp,udp]", "1[5-4]", "1[70000]", "257", "1[-5]"])
def test_asks_that_are_none(text: str) -> None:
    with pytest.raises(UsageError):
        parse_ask("PORT", text, Registry(), "--resources")
