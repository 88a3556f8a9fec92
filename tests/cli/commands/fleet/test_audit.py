"""`vacancy audit`: what is held compared with what nodes say that they run, and what corrects it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import Vacancy, log_of_version
from tests.cli.commands.scheduling.test_taints import report
from vacancy.clients.past.points import point_text

NO_GRACE = ("--grace", "0.001s")


@pytest.fixture
def vacancy(tmp_path: Path) -> Iterator[Vacancy]:
    made = Vacancy(tmp_path, log=f"sqlite://{tmp_path}/log.db", store=str(tmp_path / "store"))
    made("topics", "create", "--partitions", 1)
    for name in ("n1", "n2"):
        made(
            "publish",
            "--once",
            "--no-wait",
            "--file",
            report(tmp_path, name, **{f"CUSTOM_{name.upper()}": 8}),
        )
    with made, made.worker():
        yield made


def runs(vacancy: Vacancy, node: str, *consumers: str) -> None:
    """The hook of a node writes the list, and its publisher sends it."""
    file = vacancy.home / f"{node}.running"
    file.write_text("".join(f"{one}  # by the hook\n" for one in consumers))
    vacancy("publish", "--once", "--file", vacancy.home / f"{node}.json", "--running", file)
    vacancy("publish", "--once", "--file", vacancy.home / f"{node}.json")  # the store has read the list


def place(vacancy: Vacancy, consumer: str) -> None:
    """On the first node."""
    vacancy("place", "--resources", "CUSTOM_N1:1", "--consumer", consumer)


def audited(vacancy: Vacancy, code: int, *words: object) -> dict[str, Any]:
    ended = vacancy.run_shared("audit", *words, "--json")
    assert ended.code == code, ended
    found: dict[str, Any] = json.loads(ended.out)["found"]
    return found


def test_what_is_held_and_does_not_run_is_released(vacancy: Vacancy) -> None:
    for consumer in ("vm-1", "vm-2"):
        place(vacancy, consumer)
    assert audited(vacancy, 0)["silent"] == 2
    runs(vacancy, "n1", "vm-1", "by-hand")
    assert audited(vacancy, 0)["held_not_running"] == []  # within the grace period
    found = audited(vacancy, 9, *NO_GRACE)
    (held,) = found["held_not_running"]
    assert (held["consumer"], held["node"], held["left_ms"]) == ("vm-2", "n1", 0)
    (running,) = found["running_not_held"]
    assert (running["consumer"], running["held_on"]) == ("by-hand", [])
    output = vacancy.run_shared("audit", *NO_GRACE, "--heal", "--dry-run").out
    assert f"would release vm-2 (claim {held['claim']})" in output
    assert len(audited(vacancy, 9, *NO_GRACE)["held_not_running"]) == 1
    then = point_text({int(p): offset for p, offset in vacancy.json("digest")["position"].items()})
    healed = audited(vacancy, 9, *NO_GRACE, "--heal")
    assert healed["held_not_running"] == []
    assert audited(vacancy, 9, *NO_GRACE, "--as-of", then)["held_not_running"] == [held]
    assert "leave out --as-of" in vacancy.fails(2, "audit", "--heal", "--as-of", then)
    assert vacancy.run_shared("show", "consumer", "vm-2").code != 0
    assert "vm-1" in vacancy("show", "consumer", "vm-1")
    assert vacancy.json("verify")["ok"]


def test_a_node_that_runs_nothing_is_left_alone_unless_it_is_named(vacancy: Vacancy) -> None:
    place(vacancy, "vm-1")
    runs(vacancy, "n1")
    ended = vacancy.run_shared("audit", *NO_GRACE, "--heal")
    assert ended.code == 9
    assert "n1 says that it runs nothing" in ended.err
    assert "vm-1" in vacancy("show", "consumer", "vm-1")
    assert "released: 1" in vacancy("audit", *NO_GRACE, "--heal", "--node", "n1")


def test_what_runs_elsewhere_is_left_alone(vacancy: Vacancy) -> None:
    for consumer in ("vm-1", "vm-2"):
        place(vacancy, consumer)
    runs(vacancy, "n1", "vm-2")
    runs(vacancy, "n2", "vm-1")
    ended = vacancy.run_shared("audit", *NO_GRACE, "--heal")
    assert ended.code == 9
    assert "it runs on n2" in ended.err
    assert "vm-1" in vacancy("show", "consumer", "vm-1")


def test_what_is_held_twice_is_ended_where_its_move_is_confirmed(tmp_path: Path) -> None:
    """A move between cells was never finished: the process that made it is gone."""
    with Vacancy(tmp_path, log=f"sqlite://{tmp_path}/log.db", store=str(tmp_path / "store")) as vacancy:
        vacancy("topics", "create", "--partitions", 2)
        for node, cell in (("n1", "c1"), ("n2", "c2")):
            file = report(tmp_path, node)
            vacancy("publish", "--once", "--no-wait", "--file", file, "--cell", cell)
        with vacancy.worker():
            for consumer in ("vm-1", "vm-2", "vm-3"):
                vacancy("place", "--resources", "VCPU:1", "--consumer", consumer, "--in-tree", "n1")
                vacancy("move", consumer, "--to-cell", "c2", "--hold", 600)
            for consumer in ("vm-1", "vm-3"):
                vacancy("confirm", consumer)
            runs(vacancy, "n1", "vm-3")
            assert audited(vacancy, 0)["held_twice"] == []  # within the grace period
            found = audited(vacancy, 9, *NO_GRACE)["held_twice"]
            assert [(one["consumer"], one["decided"]) for one in found] == [
                ("vm-1", True),
                ("vm-2", False),
                ("vm-3", True),
            ]
            assert all(sorted(one["claims"]) == ["c1", "c2"] and one["move"] for one in found)
            planned = vacancy.run_shared("audit", *NO_GRACE, "--heal", "--dry-run")
            assert "would end the move of vm-1" in planned.out
            assert "the claim in c2 is not confirmed; `vacancy settle vm-2`" in planned.err
            assert "n1 still runs it; stop it there, then `vacancy settle vm-3`" in planned.err
            healed = vacancy.run_shared("audit", *NO_GRACE, "--heal")
            assert healed.code == 9
            assert "moves ended: 1" in healed.out
            assert [one["consumer"] for one in audited(vacancy, 9, *NO_GRACE)["held_twice"]] == [
                "vm-2",
                "vm-3",
            ]
            assert "c1" not in vacancy("show", "consumer", "vm-1")
            vacancy("settle", "vm-2", "--undo")
            vacancy("settle", "vm-3")
            assert audited(vacancy, 9, *NO_GRACE)["held_twice"] == []
        assert vacancy.json("verify")["audit"]["open_moves"] == []


def test_a_provider_over_capacity_is_listed(vacancy: Vacancy) -> None:
    vacancy("provider", "disable", "n2", "--reason", "not here")
    vacancy("place", "--resources", "VCPU:6", "--consumer", "vm-1")
    file = vacancy.home / "n1.json"
    file.write_text(json.dumps([{"id": "n1", "inventories": {"VCPU": {"total": 4}}}]))
    vacancy("publish", "--once", "--file", file)
    (found,) = audited(vacancy, 9)["over_capacity"]
    assert (found["provider"], found["capacity"], found["used"]) == ("n1", 4, 6)


def test_rules_before_version_5_have_no_such_lists(tmp_path: Path) -> None:
    with Vacancy(tmp_path, log=f"sqlite://{tmp_path}/log.db", store=str(tmp_path / "store")) as vacancy:
        log_of_version(4, f"sqlite://{tmp_path}/log.db")
        file = report(tmp_path, "n1")
        (tmp_path / "running").write_text('["vm-1"]')
        output = vacancy.run_shared(
            "publish", "--once", "--file", file, "--running", tmp_path / "running"
        ).err
        assert "needs rules version 5, and this log follows version 4" in output
        vacancy("replay")
        assert vacancy.json("status")["partitions"][0]["dead_letters"] == 0


@pytest.mark.parametrize("version", [1, 3, 4])
def test_a_log_that_is_raised_to_version_5_has_them(version: int, tmp_path: Path) -> None:
    with Vacancy(tmp_path, log=f"sqlite://{tmp_path}/log.db", store=str(tmp_path / "store")) as vacancy:
        log_of_version(version, f"sqlite://{tmp_path}/log.db")
        vacancy("publish", "--once", "--no-wait", "--file", report(tmp_path, "n1"))
        with vacancy.worker():
            assert vacancy.json("rules", "activate", 5)["outcome"] == "activated"
            runs(vacancy, "n1", "vm-1")
            (running,) = audited(vacancy, 9, *NO_GRACE)["running_not_held"]
            assert running["consumer"] == "vm-1"
        assert vacancy.json("verify")["ok"]


def test_a_file_that_is_no_list_is_an_error(vacancy: Vacancy) -> None:
    file = vacancy.home / "running"
    for content in ("[1]", "[", "a" * 300):
        file.write_text(content)
        output = vacancy.fails(2, "publish", "--once", "--file", vacancy.home / "n1.json", "--running", file)
        assert str(file) in output
