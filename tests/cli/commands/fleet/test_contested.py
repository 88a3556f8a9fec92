"""Two publishers use one name: the node is closed, and operators and both publishers learn why."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.command import Vacancy, node_file
from tests.support.logs.events_json import provider, reported
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import NewRecord
from vacancy.streams.log import open_log

CELL = covering_cells(1)[0]


def test_a_node_that_is_talked_over_is_named_everywhere(tmp_path: Path) -> None:
    file = node_file(tmp_path, "node-1")
    publish = ("publish", "--once", "--file", file)
    with Vacancy(tmp_path, log=f"sqlite://{tmp_path}/log.db", store=f"{tmp_path}/store") as vacancy:
        vacancy("topics", "create", "--partitions", 1)
        with vacancy.worker() as lines:
            with open_log(vacancy.environment["VACANCY_LOG"]) as log:
                log.append([NewRecord(CELL, reported("node-1", [provider("node-1", VCPU=8)], life=7))])
                assert vacancy.run_shared(*publish).err == ""
                assert "node-1" in vacancy("candidates", "--resources", "VCPU:1")
                late = reported("node-1", [provider("node-1", VCPU=99)], life=7, sequence=2)
                log.append([NewRecord(CELL, late)])
            warned = vacancy.run_shared(*publish)
            assert warned.code == 0
            assert "node node-1 is closed to new claims" in warned.err
            assert "stop the other publisher, or give one of the two another --root" in warned.err
            status = vacancy("status")
            assert f"node node-1 in cell {CELL} is closed: events of incarnation {7:016x} come" in status
            assert "1 event was dropped (1 is a full report)" in status
            (one,) = vacancy.json("status")["contested"]
            assert (one["dropped"], one["dropped_reports"], one["closed"]) == (1, 1, True)
            why = vacancy("why-not", "node-1", "--resources", "VCPU:1")
            assert "two publishers use this name" in why
            assert "two publishers use this name" in vacancy("show", "provider", "node-1")
            ended = vacancy.run_shared("place", "--resources", "VCPU:1")
            assert ended.code == 3, ended
        closed = [json.loads(line) for line in lines if line.startswith("{")]
        assert [line["node"] for line in closed if line["event"].startswith("node closed")] == ["node-1"]
