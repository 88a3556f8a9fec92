"""`vacancy rules`: from a log of version 1 to version 2, and proposals, with a worker that follows."""

from __future__ import annotations

import re
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from socket import gethostname

from tests.cli.command import Vacancy, node_file
from tests.support.logs.events_json import event, provider, reported, rules_in_steps
from vacancy.clients.runtime.bootstrap import opening_records
from vacancy.resources.fold.rules_versions import RULES_VERSION, RULES_VERSIONS
from vacancy.resources.model import events
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import NewRecord
from vacancy.streams.log import create_log, open_log


def test_the_rules_of_a_log_are_shown_and_raised(tmp_path: Path) -> None:
    url = f"sqlite://{tmp_path}/log.db"
    create_log(url, 2, opening_records(2, events.Rules(version=1))).close()
    with Vacancy(tmp_path, log=url, store=str(tmp_path / "store")) as vacancy:
        assert "there is no store" in vacancy.fails(1, "rules", "show")
        vacancy("replay")
        found = vacancy.json("rules", "show")
        assert found["partitions"] == [
            {"partition": p, "position": 1, "version": 1, "classes": []} for p in (0, 1)
        ]
        assert [one["version"] for one in found["supported"]] == list(range(1, RULES_VERSION + 1))
        assert "this build supports version 2: fingerprints" in vacancy("rules", "show")
        assert "supports rules versions 1 to" in vacancy.fails(2, "rules", "activate", RULES_VERSION + 1)
        assert "version" in vacancy.fails(2, "rules", "activate", 0)
        waiting = vacancy.fails(6, "rules", "activate", 2, "--timeout", 0.2)  # no worker runs
        assert (
            "the log has the activation of rules in partition 0, but the store has not read that far"
            in waiting
        )
        with vacancy.serving("worker", until="caught up"):
            raised = vacancy("rules", "activate", 2).splitlines()
            assert raised[0] == "partitions 1 follow rules version 2 now"
            assert raised[1].startswith("partitions 1 were raised in one step, without answers")
            assert vacancy.json("rules", "activate", 2) == {
                "version": 2,
                "outcome": "unchanged",
                "raised": [],
                "one_step": [],
                "proposals": [],
                "unanswered": [],
                "counted": {"allocations": 0, "nodes": 0, "left": 0, "reason": ""},
                "written": {},
            }
            assert "already" in vacancy("rules", "activate", 2)
            assert "never lowered to 1" in vacancy.fails(2, "rules", "activate", 1)
        assert [one["version"] for one in vacancy.json("rules", "show")["partitions"]] == [2, 2]


def test_proposals_are_shown_answered_and_withdrawn(tmp_path: Path) -> None:
    """A class that no build has: the worker answers so, and nothing stops it."""
    url = f"sqlite://{tmp_path}/log.db"
    with Vacancy(tmp_path, log=url, store=str(tmp_path / "store")) as vacancy:
        vacancy("topics", "create", "--partitions", 1)
        rules = {"version": RULES_VERSION, "classes": ["MISTYPED"]}
        (cell,) = covering_cells(1)
        with vacancy.serving("worker", until="caught up"):
            with open_log(url) as log:
                log.append([NewRecord(cell, event("rules.proposed.v1", rules, "p-1"))])
            until = time.monotonic() + 90
            while "lacks resource class MISTYPED" not in vacancy("rules", "show"):
                assert time.monotonic() < until
                time.sleep(0.05)
            (proposal,) = vacancy.json("rules", "show")["proposals"]
            (answer,) = proposal.pop("answers")
            assert (proposal["id"], proposal["classes"]) == ("p-1", ["MISTYPED"])
            assert answer["missing"] == ["resource class MISTYPED"]
            assert answer["host"] == gethostname()
            with open_log(url) as log:
                log.append([NewRecord(cell, event("rules.activated.v1", rules))])
            assert "no proposal p-2 is open" in vacancy.fails(2, "rules", "withdraw", "p-2")
            assert vacancy("rules", "withdraw", "p-1").startswith("withdrawn in partition 0: proposal p-1 of")
            assert vacancy.json("rules", "withdraw") == {"withdrawn": [], "outcome": "applied", "written": {}}
            assert vacancy.json("rules", "show")["proposals"] == []
            assert "no store has answered that it supports proposal p-1" in vacancy("dead-letters")


def test_a_partition_that_a_wrong_activation_stopped_is_repaired_as_the_page_says(tmp_path: Path) -> None:
    """In the file of a log of version 1, the record is replaced. The store continues, and a rebuild agrees."""
    page = (Path(__file__).parents[4] / "docs/operating.md").read_text()
    (statements,) = re.findall(r"^```sql\n(.*?)^```$", page, re.M | re.S)
    url = f"sqlite://{tmp_path}/log.db"
    cell = covering_cells(2)[1]
    with create_log(url, 2, opening_records(2, events.Rules(version=1))) as log:
        values = (
            reported("node-1", [provider("node-1", VCPU=4)]),
            event("rules.activated.v1", {"version": 99, "classes": []}),
            reported("node-2", [provider("node-2", VCPU=4)]),
        )
        log.append([NewRecord(cell, value) for value in values])
    with Vacancy(tmp_path, log=url, store=str(tmp_path / "store")) as vacancy:
        stopped = vacancy.fails(1, "replay")
        assert "the log's rules are version 99" in stopped
        assert "partition 1, offset 2" in stopped
        with closing(sqlite3.connect(tmp_path / "log.db")) as file:
            file.executescript(statements)
            assert file.total_changes == 2
            file.commit()
        with vacancy.worker():
            assert {one["root"] for one in vacancy.json("show", "nodes")["nodes"]} == {"node-1", "node-2"}
            raised = vacancy.json("rules", "activate", RULES_VERSION)
            assert (raised["outcome"], raised["one_step"]) == ("activated", [0, 1])
        assert vacancy.json("verify")["digest_store"] == vacancy.json("digest")["digest"]
        assert vacancy.json("dead-letters")["dead_letters"] == []


def test_a_new_log_follows_the_newest_rules(tmp_path: Path) -> None:
    with Vacancy(tmp_path, log=f"sqlite://{tmp_path}/log.db", store=str(tmp_path / "store")) as vacancy:
        vacancy("topics", "create", "--partitions", 1)
        vacancy("replay")
        (found,) = vacancy.json("rules", "show")["partitions"]
        assert found["version"] == RULES_VERSION == RULES_VERSIONS.newest.version


def test_what_was_held_before_an_activation_is_counted_for_quotas(tmp_path: Path) -> None:
    url = f"sqlite://{tmp_path}/log.db"
    create_log(url, 1, opening_records(1, events.Rules(version=3))).close()
    (cell,) = covering_cells(1)
    node_file(tmp_path, "node-1")
    with Vacancy(tmp_path, log=url, store=str(tmp_path / "store")) as vacancy:
        vacancy("publish", "--once", "--no-wait", "--file", "node-1.json")
        vacancy("replay")
        with vacancy.worker():
            for name in ("c1", "c2"):
                vacancy("place", "--resources", "VCPU:1", "--project", "p", "--consumer", name)
            with open_log(url) as log:  # an activation that was stopped before it counted
                for value in rules_in_steps(4):
                    log.append([NewRecord(cell, value)])
            while vacancy.json("quota", "list")["uncounted"] != 2:
                assert "follow" not in vacancy("dead-letters")
            assert "used 0" in vacancy("quota", "set", "p", "VCPU:3")
            for words in (
                ("quota", "list"),
                ("quota", "show", "p"),
                ("usage", "--project", "p", "--against-quota"),
            ):
                shown = vacancy.run_shared(*words)
                assert "2 allocations are not counted yet, from before the log had quotas" in shown.err
                assert vacancy.json(*words)["uncounted"] == 2
            result = vacancy("rules", "activate", 4)
            assert "counted for quotas what was granted before: 2 allocations" in result
            assert vacancy.json("rules", "activate", 4)["counted"] == {
                "allocations": 0,
                "nodes": 0,
                "left": 0,
                "reason": "",
            }
            assert "not counted" not in vacancy.run_shared("quota", "list").err
            assert vacancy.json("quota", "list")["limits"][0]["used"] == 2
            result = vacancy.fails(8, "place", "--resources", "VCPU:2", "--project", "p")
            assert "over quota: project p, VCPU: used 2, asked 2, limit 3 " in result
        assert vacancy.json("verify")["audit"]["problems"] == []
