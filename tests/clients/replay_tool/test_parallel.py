"""Replay on several processes ends where replay on one does."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from tests.support.events_json import rules_in_steps
from vacancy.clients.replay_tool.parallel import replay_processes
from vacancy.clients.replay_tool.replay import replay
from vacancy.clients.runtime.bootstrap import installed_registry, new_log
from vacancy.resources.model import events
from vacancy.resources.model.errors import Halt
from vacancy.resources.model.partitioner import cell_for
from vacancy.resources.model.record import NewRecord


def _report(root: str) -> bytes:
    data = {
        "root": root,
        "incarnation": "0" * 16,
        "sequence": 1,
        "providers": [{"id": root, "inventories": {"VCPU": {"total": 8}}}],
    }
    return events.encode_plain("vacancy.node.reported.v1", f"{root}-1", f"/node/{root}", data)


def test_side_by_side_is_the_same(tmp_path: Path) -> None:
    registry = installed_registry()
    url = f"sqlite://{tmp_path}/log.db"
    told: list[tuple[int, int]] = []
    with new_log(url, 4, registry) as log:
        log.append([NewRecord(cell_for(f"n{i}", 4), _report(f"n{i}")) for i in range(300)])
        one = replay(log, tmp_path / "one", registry)
        both = replay_processes(
            url,
            tmp_path / "both",
            registry,
            processes=2,
            progress=lambda done, total: told.append((done, total)),
        )
    assert both == one
    assert told[-1] == (304, 304)


def test_an_error_of_a_process_is_raised_with_its_type(tmp_path: Path) -> None:
    registry = installed_registry()
    url = f"sqlite://{tmp_path}/log.db"
    with new_log(url, 2, registry) as log:
        log.append([NewRecord(cell_for("n1", 2), value) for value in rules_in_steps(99)])
        with pytest.raises(Halt, match="rules are version 99"):
            replay_processes(url, tmp_path / "store", registry, processes=2)
    assert multiprocessing.active_children() == []
