"""`vacancy rules`: from a log of version 1 to version 2, with a worker that follows."""

from __future__ import annotations

from pathlib import Path

from tests.cli.command import Vacancy
from vacancy.clients.runtime.bootstrap import opening_records
from vacancy.resources.fold.rules_versions import RULES_VERSION
from vacancy.resources.model import events
from vacancy.streams.log import create_log


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
        assert "the log has the rules of partition 0, but the store has not read that far" in waiting
        with vacancy.serving("worker", until="caught up"):
            assert vacancy("rules", "activate", 2) == "partitions 1 follow rules version 2 now\n"
            assert vacancy.json("rules", "activate", 2) == {"version": 2, "raised": []}
            assert "already" in vacancy("rules", "activate", 2)
            assert "never lowered to 1" in vacancy.fails(2, "rules", "activate", 1)
        assert [one["version"] for one in vacancy.json("rules", "show")["partitions"]] == [2, 2]
