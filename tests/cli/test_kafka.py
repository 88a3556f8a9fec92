"""The command on a real Kafka."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from tests.cli.command import Vacancy, node_file

pytestmark = pytest.mark.kafka


def test_a_topic_is_made_checked_written_and_folded(kafka: str, tmp_path: Path) -> None:
    url = f"kafka://{kafka}/cli-{uuid.uuid4().hex[:8]}"
    with Vacancy(tmp_path, log=url, store=str(tmp_path / "store")) as vacancy:
        assert "vacancy topics create" in vacancy.fails(1, "topics", "check")
        made = vacancy.json("topics", "create", "--partitions", 3, "--replication", 1)
        assert made["partitions"] == 3
        ended = vacancy.run_shared("topics", "check")
        assert ended.code == 5
        assert "replication is 1, not 3" in ended.out
        vacancy("publish", "--once", "--file", node_file(tmp_path, "node-1"))
        folded = vacancy.json("replay")
        assert vacancy.json("show", "nodes")["nodes"][0]["root"] == "node-1"
        assert [one["lag"] for one in vacancy.json("status")["partitions"]] == [0, 0, 0]
        assert vacancy.json("verify")["digest_store"] == folded["digest"]
        settings = ("--set", "max.poll.records=7", "--set", "client.id=me")
        assert vacancy.json("replay", *settings) == folded
        assert "there is no Kafka setting 'colour'" in vacancy.fails(2, "status", "--set", "colour=red")
        assert "is not allowed" in vacancy.fails(2, "replay", "--set", "group.id=mine")
