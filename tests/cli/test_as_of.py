"""Answers of the past: equal to those that were given then, whatever came after; and reading what was just written."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from tests.cli.command import Vacancy, node_file
from vacancy.cli.main import app
from vacancy.clients.past.points import point_text

READING: dict[str, tuple[str, ...]] = {
    "candidates": ("--resources", "VCPU:1", "--seed", "1"),
    "audit": (),
    "dead-letters": (),
    "digest": (),
    "quota list": (),
    "quota show": ("p-1",),
    "rules show": (),
    "show claim": ("claim-1",),
    "show consumer": ("c-1",),
    "show group": ("auto/web",),
    "show nodes": (),
    "show provider": ("node-1",),
    "show request": ("request-1",),
    "status": (),
    "typical": ("VCPU",),
    "usage": (),
    "why-not": ("node-1", "--resources", "VCPU:1"),
}
"""Every command that answers from the tables, with its arguments."""

NOT_COMPARED = {"store", "columns", "end", "lag", "ahead_s"}
"""Of `status`: the store of the past is another one, and the end of the log is of now."""


@pytest.fixture
def vacancy(tmp_path: Path) -> Iterator[Vacancy]:
    with Vacancy(tmp_path) as started:
        started("topics", "create", "--partitions", 2)
        yield started


def options(group: Any, name: str = "") -> dict[str, set[str]]:
    if hasattr(group, "commands") and name != "classes":
        return {
            k: v for n, one in group.commands.items() for k, v in options(one, f"{name} {n}".strip()).items()
        }
    return {name: {text for one in group.params for text in one.opts}}


def without_places(answer: Any) -> Any:
    if isinstance(answer, dict):
        return {name: without_places(one) for name, one in answer.items() if name not in NOT_COMPARED}
    return [without_places(one) for one in answer] if isinstance(answer, list) else answer


def answers(vacancy: Vacancy, *extra: str) -> dict[str, Any]:
    found = {}
    for name, words in READING.items():
        as_json = () if name == "typical" else ("--json",)
        ended = vacancy.run_shared(*name.split(), *words, *as_json, *extra)
        found[name] = (ended.code, without_places(json.loads(ended.out)) if ended.out else "")
    return found


def position_of(vacancy: Vacancy) -> str:
    position = vacancy.json("digest")["position"]
    return point_text({int(p): o for p, o in position.items()})


def test_every_command_that_reads_has_the_option() -> None:
    found = {name for name, names in options(typer.main.get_command(app)).items() if "--as-of" in names}
    assert set(READING) <= found


def test_answers_of_then_are_those_that_were_given_then(vacancy: Vacancy, tmp_path: Path) -> None:
    with vacancy.worker():
        vacancy("publish", "--once", "--file", node_file(tmp_path, "node-1"))
        vacancy("quota", "set", "p-1", "VCPU:9")
        vacancy("place", "--resources", "VCPU:2", "--consumer", "c-1", "--project", "p-1")
        then, position = vacancy.settled(lambda: (answers(vacancy), position_of(vacancy)))
        then_ms = time.time_ns() // 1_000_000
        time.sleep(0.005)
        vacancy("publish", "--once", "--file", node_file(tmp_path, "node-2"))
        vacancy("quota", "set", "p-1", "VCPU:5")
        vacancy("release", "c-1")
        vacancy("provider", "disable", "node-1", "--reason", "broken")
        now = answers(vacancy)
        assert answers(vacancy, "--as-of", position) == then
        assert {name for name in READING if now[name] == then[name]} <= {
            *("dead-letters", "show claim", "show group", "show request", "rules show", "typical"),
        }
        ended = vacancy.run_shared("show", "consumer", "c-1", "--as-of", position)
        assert f"vacancy: as of {position.replace(',', ' ')}, log time 20" in ended.err
        assert "VCPU" in ended.out
        as_of = vacancy.json("show", "consumer", "c-1", "--as-of", position)[0]["as_of"]
        assert point_text({int(p): o for p, o in as_of.items()}) == position
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(then_ms / 1000)) + f".{then_ms % 1000:03d}Z"
        assert vacancy.json("digest", "--as-of", moment)["digest"] == then["digest"][1]["digest"]
        newest = vacancy.json("digest", "--as-of", "-0s")  # a tick may have come since
        assert all(newest["position"][p] >= offset for p, offset in now["digest"][1]["position"].items())


def test_ages_are_by_the_log_time_of_then(vacancy: Vacancy, tmp_path: Path) -> None:
    with vacancy.worker():
        vacancy("publish", "--once", "--file", node_file(tmp_path, "node-1"))
        position = position_of(vacancy)
    # A node that was just heard from is not stale, however long ago that is now.
    words = ("candidates", "--resources", "VCPU:1", "--max-staleness", "0.001", "--as-of", position)
    time.sleep(0.01)
    assert len(vacancy.json(*words)["candidates"]) == 1
    ended = vacancy.run_shared(*words)
    assert "s old" not in ended.err
    assert "log time 20" in ended.err


def test_points_that_stand_for_nothing(vacancy: Vacancy) -> None:
    fails = vacancy.fails
    assert "0:9 does not exist" in fails(2, "show", "nodes", "--as-of", "0:9")
    assert "no partition 7" in fails(2, "show", "nodes", "--as-of", "7:1")
    assert "not a point in time" in fails(2, "show", "nodes", "--as-of", "yesterday")
    assert "before the log" in fails(2, "show", "nodes", "--as-of", "1999-12-31")
    assert "not come yet" in fails(2, "show", "nodes", "--as-of", "2999-12-31")
    assert "contradict" in fails(2, "show", "nodes", "--as-of", "-1h", "--at-least", "0:1")


def test_commands_that_write_print_what_to_wait_for(vacancy: Vacancy, tmp_path: Path) -> None:
    def waited(*words: str) -> dict[str, int]:
        written: dict[str, int] = vacancy.json(*words)["written"]
        position = ",".join(f"{p}:{o}" for p, o in written.items())
        assert vacancy.json("show", "nodes", "--at-least", position)["nodes"][0]["root"] == "node-1"
        return written

    with vacancy.worker():
        published = waited("publish", "--once", "--file", str(node_file(tmp_path, "node-1")))
        cell = vacancy.json("show", "nodes")["nodes"][0]["partition"]
        assert published == {str(cell): 2}
        placed = waited("place", "--resources", "VCPU:2", "--consumer", "c-1")
        held = vacancy.json("show", "consumer", "c-1")[0]
        assert placed[str(held["partition"])] > held["offset"]
        assert waited("provider", "trait", "node-1", "--add", "CUSTOM_X")[str(cell)] > held["offset"] + 1
        assert list(waited("release", "c-1")) == [str(cell)]
        assert waited("quota", "set", "p-1", "VCPU:9") != {}


def test_reading_waits_for_what_was_written(vacancy: Vacancy, tmp_path: Path) -> None:
    vacancy("replay")
    end = vacancy.json("digest")["position"]
    assert vacancy.json("show", "nodes", "--at-least", f"0:{end['0']}")["nodes"] == []
    beyond = f"0:{end['0'] + 1}"
    text = vacancy.fails(6, "show", "nodes", "--at-least", beyond, "--timeout", "0.01")
    assert f"have not reached {beyond}" in text
    assert "is not a position" in vacancy.fails(2, "show", "nodes", "--at-least", "-2h")
    assert "no partition 5" in vacancy.fails(2, "show", "nodes", "--at-least", "5:1")
    waiting = vacancy.start("show", "nodes", "--at-least", beyond, "--timeout", "200", "--json")
    with vacancy.worker():
        for name in ("node-1", "node-2", "node-3", "node-4"):
            vacancy("publish", "--once", "--file", node_file(tmp_path, name))
        out, err = waiting.communicate(timeout=200)
    assert waiting.returncode == 0, err
    assert '"node-' in out


def test_the_record_that_changed_an_answer_is_found(vacancy: Vacancy, tmp_path: Path) -> None:
    with vacancy.worker():
        vacancy("publish", "--once", "--file", node_file(tmp_path, "node-1"))
        begin = position_of(vacancy)
        vacancy("place", "--resources", "VCPU:2", "--consumer", "c-1")
        held = vacancy.json("show", "consumer", "c-1")[0]
        vacancy("provider", "trait", "node-1", "--add", "CUSTOM_X")
        marked = position_of(vacancy)
        vacancy("provider", "disable", "node-1", "--reason", "broken")
    asked = "candidates --resources VCPU:1 --required CUSTOM_X"
    found = vacancy.json("bisect", asked, "--from", begin, "--to", marked)
    assert "CUSTOM_X" in str(found["record"]["event"]["data"])
    assert (found["before"], found["after"]) == (False, True)
    found = vacancy.json("bisect", "candidates --resources VCPU:1", "--from", begin)
    assert "disabled" in str(found["record"]["event"]["data"])
    assert found["record"]["outcome"]["state"] == "applied"
    assert (found["before"], found["after"]) == (True, False)
    assert found["position_after"][str(found["record"]["partition"])] == found["record"]["offset"] + 1
    found = vacancy.json("bisect", "show consumer c-1", "--from", "-1d")
    assert (found["record"]["partition"], found["record"]["offset"]) == (held["partition"], held["offset"])
    text = vacancy(
        "bisect", "candidates --qualities-only --in-tree node-1 --where 'VCPU.free >= 7'", "--from", begin
    )
    assert f"record {held['partition']}:{held['offset']} of 20" in text
    assert "accepted" in text


def test_queries_that_cannot_be_searched_for(vacancy: Vacancy) -> None:
    fails = vacancy.fails
    assert "is the same at 0:0,1:0 and at" in fails(1, "bisect", "candidates --resources VCPU:1")
    assert "is not a query that can be searched" in fails(2, "bisect", "status")
    assert "does not belong into the query" in fails(2, "bisect", "candidates --resources VCPU:1 --as-of -1h")
    assert "close the quotes" in fails(2, "bisect", "candidates '")
    assert "No such option" in fails(2, "bisect", "candidates --resource VCPU:1")
    assert "is not before" in fails(2, "bisect", "show consumer c-1", "--from", "0:1,1:1", "--to", "0:0,1:0")
