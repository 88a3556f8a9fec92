"""The auditor on records whose claims read too much: what the fold rejects with `record_full` it finds right."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.expensive.expensive_case import CELL, Case
from tests.fuzz.expensive.expensive_records import ancestors, granted_by_name, many_groups
from tests.fuzz.expensive.expensive_version_4 import given_back_ports, moved_members, moved_parts
from tests.support.classes.ports_class import REGISTRY
from tests.support.logs.events_json import START_MS, opened
from tests.support.logs.tape_log import TapeLog
from tests.support.models.memory_state import MemoryState
from vacancy.clients.auditor.not_judged import READS
from vacancy.clients.replay_tool.verify import verify
from vacancy.clients.runtime.bootstrap import open_store
from vacancy.resources.fold.fold import fold
from vacancy.resources.fold.rules_versions import RULES_VERSIONS
from vacancy.resources.model.record import Record
from vacancy.resources.state.tables import VERDICTS
from vacancy.streams.worker.embedded_worker import EmbeddedWorker

CASES = {
    "devices": granted_by_name(0, 1, 300, 64, 0),
    "devices that are compared": granted_by_name(0, 2, 100, 64, 8),
    "vgpus": granted_by_name(1, 1, 40, 64, 4),
    "shares": granted_by_name(2, 1, 200, 64, 2),
    "cpus": granted_by_name(3, 1, 256, 64, 0),
    "ancestors": ancestors(16, 64, 300),
    "many groups": many_groups(8, 16, 40),
    "ports": given_back_ports(128, 256, 1, 2),
    "a moved member": moved_members(120, 16, 4, 0),
    "moved instances": moved_parts(64, 1, 40, 64),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_what_the_fold_finds_too_much_may_be_too_much(case: Case, tmp_path: Path) -> None:
    values = [opened(classes=(), version=RULES_VERSIONS.newest.version), *case.before, case.value]
    records = [Record(0, offset, START_MS, CELL.encode(), value) for offset, value in enumerate(values)]
    state = MemoryState()
    for record in records:
        state.commit(fold(state, record, REGISTRY))
    full = sum(row.reason == "record_full" for _, row in state.rows(VERDICTS))
    assert full > 0
    with TapeLog({0: records}) as log:
        with open_store(tmp_path / "store", log, REGISTRY) as store:
            worker = EmbeddedWorker(log, store)
            while worker.step():
                pass
        found = verify(log, tmp_path / "store", REGISTRY)
    assert found.audit.problems == []
    assert READS not in found.audit.unverifiable_reasons
