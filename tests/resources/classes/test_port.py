"""Ports: what a host offers, what an ask gets, and how large a record may become."""

from __future__ import annotations

import random
from typing import Any

import pytest

from vacancy.resources.classes.port import PORT_MAX, Port, PortRecord
from vacancy.resources.classes.resource_class import Granted, Shortfall
from vacancy.resources.model.errors import InvalidRecord, UsageError

PORT = Port("PORT")
HOST = {"tcp": [[3002, 3002], [20_000, 32_000]], "udp": [[53, 53]]}


def taken(record: PortRecord, ask: Any) -> tuple[PortRecord, list[int]]:
    outcome = PORT.claim(record, ask)
    assert isinstance(outcome, Granted)
    return outcome.record, outcome.grant["ports"]


def test_a_static_port_is_given_once_and_a_dynamic_one_from_its_range() -> None:
    record, ports = taken(PORT.report(HOST, None), {"ports": [[3002, 3002]]})
    assert ports == [3002]
    assert PORT.claim(record, {"ports": [[3002, 3002]]}) == Shortfall("no_room", 1, 0)
    record, ports = taken(record, {"count": 2, "ports": [[20_000, 32_000]]})
    assert ports == [20_000, 20_001]
    assert PORT.row(record) == (12_000, 12_003, 11_999, 1)


def test_tcp_and_udp_are_different_ports() -> None:
    record, ports = taken(PORT.report({"tcp": [[53, 53]], "udp": [[53, 53]]}, None), 1)
    assert ports == [53]
    record, ports = taken(record, {"count": 1, "protocol": "udp"})
    assert ports == [53]
    assert PORT.release(record, {"protocol": "tcp", "ports": [53]}).udp_held == 1 << 53


def test_a_consumer_that_grows_keeps_its_ports() -> None:
    record = PORT.report({"tcp": [[1, 9]]}, None)
    outcome = PORT.reclaim(
        record, 3, [{"protocol": "tcp", "ports": [7, 8]}, {"protocol": "udp", "ports": [5]}]
    )
    assert isinstance(outcome, Granted)
    assert outcome.grant["ports"] == [1, 7, 8]


def test_ranges_that_overlap_or_touch_are_the_same_inventory() -> None:
    one = PORT.report({"tcp": [[5, 9], [1, 4], [3, 6]]}, None)
    assert one == PORT.report({"tcp": [[1, 9]], "udp": []}, None)
    assert PORT.items(one) == 1


def test_a_record_stays_small_whatever_is_held() -> None:
    """12,000 ports are a few bytes; the most scattered use is a bit for each port."""
    record = PORT.report({"tcp": [[20_000, 31_999]], "udp": [[1, PORT_MAX]]}, None)
    assert len(PORT.encode(record)) == 16
    scattered = record._replace(udp_held=sum(1 << port for port in range(1, PORT_MAX, 2)))
    assert len(PORT.encode(scattered)) == 16 - 2 + 2 + 8_192
    assert PORT.decode(PORT.encode(scattered)) == scattered


@pytest.mark.parametrize("ranges", [2_046, 2_047, 2_048, 2_049])
def test_both_forms_of_a_set_are_read_as_they_were_written(ranges: int) -> None:
    scattered = PortRecord(tcp=sum(1 << 3 * number + 1 for number in range(ranges)), udp_held=1 << PORT_MAX)
    assert PORT.decode(PORT.encode(scattered)) == scattered


def test_random_use_leaves_what_a_set_of_ports_leaves() -> None:
    chance = random.Random(7)
    record, free, held = PORT.report(HOST, None), {3002, *range(20_000, 32_001)}, list[list[int]]()
    for _ in range(300):
        if held and chance.random() < 0.4:
            ports = held.pop(chance.randrange(len(held)))
            record = PORT.release(record, {"protocol": "tcp", "ports": ports})
            free |= {*ports}
        else:
            first = chance.randrange(3_000, 32_000)
            count, last = chance.randint(1, 5), first + chance.randrange(9_000)
            outcome = PORT.claim(record, {"count": count, "ports": [[first, last]]})
            expected = sorted(port for port in free if first <= port <= last)[:count]
            if len(expected) < count:
                assert outcome == Shortfall("no_room", count, len(expected))
                continue
            assert isinstance(outcome, Granted)
            assert outcome.grant["ports"] == expected
            record, free = PORT.decode(PORT.encode(outcome.record)), free - {*expected}
            held.append(expected)
        assert PORT.row(record)[2] == len(free)


@pytest.mark.parametrize(
    "inventory",
    [
        {},
        {"total": 5},
        {"tcp": 5},
        {"tcp": [5]},
        {"tcp": [[5]]},
        {"tcp": [[0, 5]]},
        {"tcp": [[6, 5]]},
        {"tcp": [[1, PORT_MAX + 1]]},
        {"tcp": [[True, 5]]},
        {"tcp": [[1, 2]] * 65},
    ],
)
def test_an_inventory_that_is_none(inventory: dict[str, Any]) -> None:
    with pytest.raises(InvalidRecord, match=r"^PORT: "):
        PORT.report(inventory, None)


@pytest.mark.parametrize(
    "ask",
    [
        0,
        257,
        True,
        "3002",
        {},
        {"count": "1"},
        {"ports": []},
        {"ports": [3002]},
        {"ports": [[1, 2]] * 65},
        {"protocol": "sctp"},
        {"protocol": ["tcp"]},
        {"port": 3002},
    ],
)
def test_an_ask_that_is_none(ask: Any) -> None:
    with pytest.raises(UsageError, match="is not an ask for 1 to 256 ports"):
        PORT.check_ask(ask)
    assert PORT.claim(PORT.report(HOST, None), ask) == Shortfall("bad_ask", 0, 0)
