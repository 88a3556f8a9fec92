"""The auditor on ports: grants that may be, and every way in which one may not."""

from __future__ import annotations

import random
from typing import Any

import pytest

from vacancy.clients.auditor.classes.class_auditor import Refused, Slot
from vacancy.clients.auditor.classes.port import PortAuditor
from vacancy.resources.classes.port import Port
from vacancy.resources.classes.resource_class import Granted
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


ASKS: tuple[Any, ...] = (
    *(
        1,
        3,
        0,
        257,
        True,
        "1",
        {},
        {"count": 2},
        {"count": 1, "where": {}},
        {"ports": []},
        {"ports": [[6, 8]]},
    ),
    *({"ports": [[6, 6], [9, 12]], "count": 3}, {"protocol": "udp"}, {"protocol": "udp", "count": 2}),
    *({"protocol": "icmp"}, {"ports": [[8, 6]]}, {"count": 4, "ports": [[1, 65535]]}),
)


@pytest.mark.parametrize("seed", range(40))
def test_both_reject_the_same_asks(seed: int) -> None:
    rng = random.Random(seed)
    inventory = {
        "tcp": [[5, 5 + rng.randrange(4)], [10, 10 + rng.randrange(3)]],
        "udp": [[7, 7 + rng.randrange(2)]],
    }
    port, held = Port("PORT"), list[Any]()
    record = port.report(inventory, None)
    for ask in rng.choices(ASKS, k=12):
        if rng.random() < 0.3 and held:
            record = port.release(record, held.pop(rng.randrange(len(held))))
        asks = [ask, *rng.choices(ASKS, k=rng.choice((0, 0, 1)))]
        slot = Slot("n", PORT.read_inventory(inventory), 0, held, kept=False)
        objections, after, grants = list(PORT.objections(slot, asks)), record, list[Any]()
        for one in asks:
            outcome = port.claim(after, one)
            if not isinstance(outcome, Granted):
                break
            after = outcome.record
            grants.append(outcome.grant)
        accepted = len(grants) == len(asks)
        assert (not objections) is accepted, (asks, objections, held)
        if accepted:
            assert not list(PORT.grant_errors(slot, asks, grants))
            record = after
            held += grants
