"""Gangs with the command: unlike requests that are placed together or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import Vacancy, log_of_version


@pytest.fixture
def vacancy(tmp_path: Path) -> Iterator[Vacancy]:
    """Two nodes, of 53 and of 31 CPUs."""
    made = Vacancy(tmp_path, log=f"sqlite://{tmp_path}/log.db", store=str(tmp_path / "store"))
    made("topics", "create", "--partitions", 1)
    for name, vcpus in (("large", 53), ("small", 31)):
        file = tmp_path / f"{name}.json"
        file.write_text(json.dumps([{"id": name, "inventories": {"VCPU": {"total": vcpus}}}]))
        made("publish", "--once", "--no-wait", "--file", file)
    with made, made.worker():
        yield made


def gang(vacancy: Vacancy, *members: dict[str, Any]) -> tuple[str, Path]:
    file = vacancy.home / "gang.json"
    file.write_text(json.dumps(members))
    return "--gang", file


def cpus(consumer: str, amount: int) -> dict[str, Any]:
    return {"consumer": consumer, "query": f"resources=VCPU:{amount}"}


@pytest.mark.parametrize("asked", [(30, 50), (50, 30)])
def test_a_gang_of_unlike_members_is_placed_in_any_order_of_asking(
    vacancy: Vacancy, asked: tuple[int, int]
) -> None:
    placed = vacancy.json("place", *gang(vacancy, *(cpus(f"m{amount}", amount) for amount in asked)))
    assert [(one["consumer"], one["root"]) for one in placed["gang"]] == [
        (f"m{amount}", "large" if amount == 50 else "small") for amount in asked
    ]
    # A member is a consumer of its own.
    vacancy("release", "m50")
    assert "30" in vacancy("show", "consumer", "m30")


def test_a_gang_of_which_one_has_no_place_holds_nothing(vacancy: Vacancy) -> None:
    told = vacancy.run_shared("place", *gang(vacancy, cpus("a", 30), cpus("b", 50), cpus("c", 5)))
    assert told.code == 3
    assert "each member of the gang fits by itself, but they do not fit together in any one cell" in told.err
    told = vacancy.run_shared("place", *gang(vacancy, cpus("a", 30), cpus("b", 54)))
    assert told.code == 3
    assert "member 2 of the gang (b)" in told.err
    assert "VCPU" in told.out
    for consumer in "abc":
        assert vacancy.run_shared("show", "consumer", consumer).code != 0
    vacancy("place", *gang(vacancy, cpus("a", 31), cpus("b", 53)))
    told = vacancy.run_shared("place", *gang(vacancy, cpus("b", 1), cpus("d", 1)))
    assert told.code == 7


def test_a_gang_that_is_wrong_is_refused_before_anything_is_sent(vacancy: Vacancy) -> None:
    one, two = cpus("a", 1), cpus("b", 1)
    for members, why in (
        ([one], "2 to 64"),
        ([one, one], "consumer a is in the gang twice"),
        ([one, {**two, "copies": 2}], "member 2 has the unknown field 'copies'"),
        ([one, {"consumer": "b"}], "member 2 needs either `query` or `request`"),
        ([one, {**two, "project": 1}], "project of member 2 is not a text"),
        ([one, 2], "member 2 is not a JSON object"),
        ([one, {"query": "resources=VCPU:none"}], "member 2 of the gang: "),
        (
            [one, {"request": {"groups": [{"resources": {"VCPU": 1}}], "copies": 2}}],
            "member 2 of the gang asks for 2 copies",
        ),
    ):
        assert why in vacancy.fails(2, "place", *gang(vacancy, *members)), why
    assert "--gang stands in place of" in vacancy.fails(
        2, "place", *gang(vacancy, one, two), "--resources", "VCPU:1"
    )
    (vacancy.home / "gang.json").write_text("[")
    assert "it is not JSON" in vacancy.fails(2, "place", "--gang", vacancy.home / "gang.json")
    (vacancy.home / "gang.json").write_text("{}")
    assert "it is not a JSON array" in vacancy.fails(2, "place", "--gang", vacancy.home / "gang.json")


def test_rules_that_know_no_gangs_say_so(tmp_path: Path) -> None:
    made = Vacancy(tmp_path, log=f"sqlite://{tmp_path}/log.db", store=str(tmp_path / "store"))
    log_of_version(3, f"sqlite://{tmp_path}/log.db")
    with made, made.worker():
        told = made.fails(2, "place", *gang(made, cpus("a", 1), cpus("b", 1)))
        assert "placing several consumers together needs version 4" in told
        assert "`vacancy rules activate 4`" in told
