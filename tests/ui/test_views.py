"""What the server of the page answers: its JSON, its errors, what it shows and what it withholds."""

from __future__ import annotations

import json
import struct
import time
import urllib.error
import urllib.request
from typing import Any

import numpy as np
import pytest

from tests.support.sites.ui_site import NEVER_S, NODE, Fleet, served
from vacancy.clients.inspection.lookup import show_provider
from vacancy.clients.past.points import point_text
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.ui.health import HealthWatch
from vacancy.ui.nodes import FleetNodes

WAIT_S = 90.0
VIEWS = ("fleet", "request", "status", "dead-letters", "log", f"node?id={NODE}", "consumer?id=pinned")


def get(address: str, headers: dict[str, str] | None = None) -> tuple[int, bytes, Any]:
    """Status, body and headers."""
    request = urllib.request.Request(address, headers=headers or {})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=WAIT_S) as answer:  # noqa: S310
            return answer.status, answer.read(), answer.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), error.headers


def get_json(address: str) -> Any:
    status, body, _ = get(address)
    assert status == 200, body
    return json.loads(body)


@pytest.mark.parametrize("view", VIEWS)
def test_no_text_of_the_log_is_markup(address: str, view: str) -> None:
    status, body, headers = get(f"{address}/{view}")
    assert status == 200
    assert b"<script>globalThis" not in body
    assert b"<img" not in body
    assert b"<b>&lt;" not in body
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy


@pytest.mark.parametrize("view", VIEWS)
def test_each_view_has_its_json(address: str, view: str) -> None:
    name, _, query = view.partition("?")
    by_name = get_json(f"{address}/{name}.json?{query}")
    status, body, headers = get(f"{address}/{view}", {"Accept": "application/json"})
    assert status == 200
    assert headers["Content-Type"].startswith("application/json")
    assert type(json.loads(body)) is type(by_name)


def columns(data: bytes) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """Header, columns and names of the bytes for the heat map."""
    (length,) = struct.unpack_from("<I", data)
    header = json.loads(data[4 : 4 + length])
    base = 4 + length
    assert base % 8 == 0
    kinds = {"f64": "<f8", "i32": "<i4", "u16": "<u2", "u8": "u1"}
    found = {
        name: np.frombuffer(data, kinds[one["type"]], one["length"], base + one["offset"])
        for name, one in header["columns"].items()
    }
    names = header["names"]
    text = data[base + names["offset"] : base + names["offset"] + names["length"]].decode()
    return header, found, text.split("\n") if text else []


def test_the_bytes_of_the_fleet_are_what_the_tables_have(fleet: Fleet, address: str) -> None:
    status, body, _ = get(f"{address}/fleet.bin?class=VCPU&group=state")
    assert status == 200
    header, found, names = columns(body)
    assert len(names) == header["nodes"] == 61
    with StoreReader(fleet.settings.store, fleet.registry) as reader:
        for at, name in enumerate(names):
            tree = show_provider(reader, name)
            here = [one for p in tree.providers for one in p.inventories if one.resource_class == "VCPU"]
            assert found["capacity"][at] == sum(one.capacity for one in here)
            assert found["used"][at] == sum(one.used for one in here)
            assert found["total"][at] == sum(one.record["total"] for one in here)
            assert found["reserved"][at] == sum(one.record["reserved"] for one in here)
            assert tree.node is not None
            assert header["states"][found["state"][at]] == tree.node.state
            assert header["groups"][found["group"][at]] == tree.node.state
    at = names.index(NODE)
    assert [found[name][at] for name in ("total", "reserved", "capacity", "used")] == [8, 2, 6, 4]


def test_totals_of_groups_add_up(address: str) -> None:
    for group in ("cell", "state", "aggregate:rack-", "attribute:generation"):
        found = get_json(f"{address}/fleet.json?class=VCPU&group={group}")
        assert sum(one["nodes"] for one in found["totals"]) == 61
        assert sum(one["used"] for one in found["totals"]) == sum(found["columns"]["used"])
    assert {"7", "(none)"} == set(found["groups"])


def test_a_node_shows_each_cpu_and_device_and_who_holds_it(address: str) -> None:
    text = get(f"{address}/node?id={NODE}")[1].decode()
    assert text.count('class="cpu used"') - 2 == 2  # and one in the key of each of two pictures
    assert 'href="/consumer?id=pinned"' in text
    assert '<th scope="row">0000:81:00.0</th><td><a href="/consumer?id=pinned">' in text
    assert '<th scope="row">0000:82:00.0</th><td>free</td>' in text


def test_why_nothing_fits_is_shown_as_bars_with_the_nearest_misses(address: str) -> None:
    found = get_json(f"{address}/request.json?resources=VCPU:100000")
    assert found["candidates"] == []
    removed = sum(one["in_order"] for one in found["explanation"]["constraints"])
    assert removed + found["explanation"]["left"] == found["explanation"]["nodes"] == 61
    text = get(f"{address}/request?resources=VCPU:100000")[1].decode()
    assert "Nearest misses" in text
    assert '<rect class="removed"' in text


def test_the_same_link_shows_the_same(fleet: Fleet, address: str) -> None:
    before = get_json(f"{address}/request.json?resources=VCPU:2&limit=5")
    again = get_json(f"{address}/request.json?resources=VCPU:2&limit=5")
    assert before["candidates"] == again["candidates"]


def test_the_past_is_as_it_was(fleet: Fleet, address: str) -> None:
    began = time.monotonic()
    position = point_text(dict.fromkeys(range(2), 20))
    while (answer := get(f"{address}/status.json?as_of={position}"))[0] == 202:
        assert time.monotonic() < began + WAIT_S
        time.sleep(0.2)
    health = json.loads(answer[1])["health"]
    assert health["as_of"] == {"0": 20, "1": 20}
    assert health["nodes"] == 38  # of 40 records, two open the partitions
    assert {one["lag"] for one in health["partitions"]} == {None}  # it is not behind: it is of then
    text = get(f"{address}/status?as_of={position}")[1].decode()
    assert f"vacancy status --as-of {position}" in text
    assert f'href="/fleet?as_of={position.replace(":", "%3A").replace(",", "%2C")}"' in text


def test_a_time_becomes_a_position_in_the_address(address: str) -> None:
    request = urllib.request.Request(f"{address}/status?as_of=0:3,1:3")  # noqa: S310
    with urllib.request.urlopen(request) as answer:  # noqa: S310
        assert answer.url.endswith("as_of=0:3,1:3")
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 1))
    status, _, headers = get(f"{address}/request?as_of={now}")
    assert status in (200, 202, 400)  # 400: the time has not come yet
    if status != 400:
        assert "Refresh" in headers or status == 200


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("node?id=nobody", 404, "there is no provider"),
        ("node", 400, "has no"),
        ("consumer?id=nobody", 404, "holds nothing"),
        ("fleet?class=NONE", 400, "no provider has"),
        ("fleet?group=colour", 400, "is not a grouping"),
        ("fleet?measure=weight", 400, "no measure"),
        ("request?resources=VCPU", 400, "VCPU"),
        ("request?resources=VCPU:1&limit=0", 400, "limit"),
        ("status?as_of=yesterday", 400, "is not a point in time"),
        ("status?as_of=0:999999,1:0", 400, "does not exist"),
        ("log?partition=77", 400, "there is no partition"),
        ("log?partition=" + "9" * 5000, 400, "invalid"),
        ("log?limit=000000000001999999", 400, "limit"),
        ("dead-letters?partition=x", 400, "invalid"),
        ("history?id=big&kind=%3Cb%3E", 400, "has no history"),
        ("nothing", 404, ""),
        ("static/../server.py", 404, ""),
        ("static/heatmap/", 404, ""),
    ],
)
def test_what_is_invalid_is_an_error_that_says_so(address: str, path: str, status: int, text: str) -> None:
    found, body, _ = get(f"{address}/{path}")
    assert found == status
    assert text in body.decode()
    assert "Traceback" not in body.decode()


def test_nothing_can_be_written_through_it(address: str) -> None:
    for view in ("fleet", "request", "log"):
        request = urllib.request.Request(f"{address}/{view}", data=b"x", method="POST")  # noqa: S310
        with pytest.raises(urllib.error.HTTPError, match="405") as refused:
            urllib.request.urlopen(request)  # noqa: S310
        refused.value.close()


def test_another_name_of_this_host_is_refused(address: str) -> None:
    assert get(f"{address}/fleet", {"Host": "evil.example"})[0] == 421
    assert get(f"{address}/fleet", {"Host": "localhost:1"})[0] == 200


def test_a_redacted_site_shows_amounts_and_no_names(fleet: Fleet) -> None:
    with served(fleet, redacted=True) as address:
        everything = b""
        for path in (
            *("fleet", "fleet.json", "fleet.bin", "fleet?group=state", "status", "status.json"),
            *("request?resources=VCPU:1", "request.json?resources=VCPU:1", "request?resources=VCPU:100000"),
        ):
            status, body, _ = get(f"{address}/{path}")
            assert status == 200
            everything += body
        for path in (
            f"node?id={NODE}",
            "consumer?id=pinned",
            "log",
            "log.part",
            "dead-letters",
            "history?id=x",
        ):
            assert get(f"{address}/{path}")[0] == 403
        assert get(f"{address}/find?name={NODE}")[0] == 403
        assert get(f"{address}/fleet?group=aggregate:rack-")[0] == 400
        assert get(f"{address}/request?in_tree={NODE}&resources=VCPU:1")[0] == 400
        assert b"node-0" not in everything
        assert b"big" not in everything
        assert fleet.cell.encode() not in everything
        assert str(fleet.home).encode() not in everything
        wrong = get(f"{address}/status.json?as_of=0:999999,1:0")
        assert wrong[0] == 400
        assert str(fleet.home).encode() not in wrong[1]
        header, found, names = columns(get(f"{address}/fleet.bin?class=VCPU")[1])
        assert names == []
        assert header["groups"][0] == "cell 1"
        assert len(found["used"]) == 61


def test_what_is_wrong_is_in_the_strip(fleet: Fleet) -> None:
    with StoreReader(fleet.settings.store, fleet.registry) as reader:
        ends = dict(fleet.log.end())
        nodes = FleetNodes(reader)
        watch = HealthWatch(reader, nodes, silent_s=NEVER_S)
        found = watch.look(ends, 100.0)
        assert {one.kind for one in found.problems} == {"dead-letters"}
        assert all(one.lag == 0 and one.state == "ok" for one in found.partitions)
        behind = {**ends, 0: ends[0] + 5}
        assert "stopped" not in {one.kind for one in watch.look(behind, 101.0).problems}
        later = watch.look(behind, 104.5)
        assert later.problems[0].kind == "stopped"
        assert later.partitions[0].state == "bad"
        assert "log" in {one.kind for one in watch.look(None, 105.0).problems}
        silent = HealthWatch(reader, nodes, silent_s=-60.0).look(ends, 106.0)
        assert silent.silent == silent.nodes
        full = {one.kind: one for one in silent.problems}["silent"]
        assert full.parameters == {"measure": "staleness"}
