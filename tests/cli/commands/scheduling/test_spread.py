"""Groups that are spread over zones, with the command."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.command import Vacancy, log_of_version, node_file

EVEN = ("--resources", "VCPU:1", "--group-spread", "auto-0/web:1:zone-")


@pytest.fixture(scope="module")
def vacancy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vacancy]:
    """Zones a, b and c of one node each, and a node in no zone."""
    tmp_path = tmp_path_factory.mktemp("spread")
    made = Vacancy(tmp_path, log=f"sqlite://{tmp_path}/log.db", store=str(tmp_path / "store"))
    made("topics", "create", "--partitions", 1)
    for root in ("a1", "b1", "c1", "x1"):
        made("publish", "--once", "--no-wait", "--file", node_file(tmp_path, root))
    with made, made.worker():
        for root in ("a1", "b1", "c1"):
            made("provider", "aggregate", root, "--add", f"zone-{root[0]}")
        yield made


def test_members_are_spread_over_zones(vacancy: Vacancy) -> None:
    roots = [vacancy.json("place", *EVEN, "--consumer", f"web-{n}")["root"] for n in range(6)]
    assert Counter(roots) == {"a1": 2, "b1": 2, "c1": 2}
    shown = vacancy("show", "group", "auto-0/web")
    assert "spread, hard, max skew 1, by aggregates zone-" in shown
    assert vacancy.json("show", "group", "auto-0/web")["domains"] == {"zone-a": 2, "zone-b": 2, "zone-c": 2}
    # Scaling in leaves the zones uneven, and scaling out evens them out (kubernetes#98215).
    for number in (number for number, root in enumerate(roots) if root == "c1"):
        vacancy("release", f"web-{number}")
    assert {one["root"] for one in vacancy.json("candidates", *EVEN)["candidates"]} == {"c1"}
    answer = vacancy("why-not", "a1", *EVEN)
    assert "spread of group auto-0/web, by aggregates zone-..., max skew 1" in answer
    assert "it is not a candidate" in answer
    assert "it is not a candidate" in vacancy("why-not", "x1", *EVEN)
    assert [vacancy.json("place", *EVEN)["root"] for _ in range(2)] == ["c1", "c1"]
    assert vacancy.json("verify")["audit"]["problems"] == []


def test_a_zone_without_room_holds_the_others_up_until_it_is_closed(vacancy: Vacancy) -> None:
    db = (*EVEN[:-1], "auto-0/db:1:zone-")
    free = 8 - vacancy.json("show", "group", "auto-0/web")["nodes"]["c1"]
    vacancy("place", "--resources", f"VCPU:{free}", "--in-tree", "c1", "--consumer", "large")
    placed = vacancy.json("place", *db, "--copies", 2)
    assert {one["provider"] for one in placed["allocations"]} == {"a1", "b1"}
    assert "no valid host" in vacancy.fails(3, "place", *db)
    assert "no valid host" in vacancy.fails(3, "place", *db, "--copies", 2)
    vacancy("provider", "disable", "c1")
    assert vacancy.json("place", *db)["root"] in ("a1", "b1")


def test_what_cannot_be_meant_is_refused(vacancy: Vacancy) -> None:
    answer = vacancy.fails(2, "place", "--resources", "VCPU:1", "--group-spread", "auto-0/web:1:zone")
    assert "spread has a kind of aggregates as its scope, such as zone-" in answer
    assert "is not a server group" in vacancy.fails(
        2, "place", "--resources", "VCPU:1", "--group-spread", "web"
    )
    answer = vacancy.fails(2, "place", "--resources", "VCPU:1", "--group-spread", "auto-0/web:0:zone-")
    assert "max_skew" in answer


def test_older_rules_do_not_have_it(tmp_path: Path) -> None:
    with Vacancy(tmp_path, log=f"sqlite://{tmp_path}/log.db", store=str(tmp_path / "store")) as vacancy:
        log_of_version(3, f"sqlite://{tmp_path}/log.db")
        vacancy("publish", "--once", "--no-wait", "--file", node_file(tmp_path, "a1"))
        vacancy("replay")
        answer = vacancy.fails(2, "place", *EVEN)
        assert "spread server groups need version 4" in answer
