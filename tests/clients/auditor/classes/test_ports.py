"""The auditor on ports: grants that may be, and every way in which one may not."""

from __future__ import annotations

from typing import Any

import pytest

from vacancy.clients.auditor.classes.class_auditor import Refused, Slot
from vacancy.clients.auditor.classes.port import PortAuditor
from vacancy.resources.classes.port import Port
from vacancy.resources.model.errors import InvalidRecord

PORT = PortAuditor("PORT")
HELD = [{"protocol": "tcp", "ports": [7]}]


def errors(ask: Any, *grants: Any) -> str:
    stock = PORT.read_inventory({"tcp": [[5, 6], [7, 9]], "udp": [[7, 7]]})
    return "; ".join(
        PORT.grant_errors(Slot("n", stock, 0, HELD, kept=False), [ask] * max(1, len(grants)), grants)
    )


def grant(*ports: int, protocol: str = "tcp") -> dict[str, Any]:
    return {"protocol": protocol, "ports": [*ports]}


def test_grants_that_may_be() -> None:
    assert not errors(2, grant(5, 6))
    assert not errors({"ports": [[8, 20]]}, grant(9))
    assert not errors({"protocol": "udp"}, grant(7, protocol="udp"))


@pytest.mark.parametrize(
    ("ask", "grants", "told"),
    [
        (1, [], "1 asks for PORT have no grant"),
        (1, [grant(10)], "tcp port 10 is not reported"),
        (1, [grant(7)], "tcp port 7 is held already"),
        (1, [grant(8), grant(8)], "tcp port 8 is held already"),
        (1, [grant(5, 6)], "the number of ports"),
        (2, [grant(5, 5)], "the number of ports"),
        (1, [grant(7, protocol="udp")], "is not the protocol"),
        ({"ports": [[8, 9]]}, [grant(5)], "tcp port 5 is not one of those that were asked for"),
    ],
)
def test_grants_that_may_not_be(ask: Any, grants: list[Any], told: str) -> None:
    assert told in errors(ask, *grants)


@pytest.mark.parametrize(
    "inventory",
    [
        {},
        {"total": 4},
        {"tcp": 4},
        {"tcp": [4]},
        {"tcp": [[0, 4]]},
        {"tcp": [[5, 4]]},
        {"tcp": [[4, 65_536]]},
        {"tcp": [[1, True]]},
        {"tcp": [[1, 2]] * 65},
    ],
)
def test_both_refuse_the_same_inventories(inventory: dict[str, Any]) -> None:
    with pytest.raises(Refused):
        PORT.read_inventory(inventory)
    with pytest.raises(InvalidRecord):
        Port("PORT").report(inventory, None)


def test_both_count_the_same_ranges() -> None:
    inventory = {"tcp": [[5, 9], [1, 4], [3, 6], [20, 30]], "udp": []}
    assert PORT.items(inventory) == Port("PORT").items(Port("PORT").report(inventory, None)) == 2
