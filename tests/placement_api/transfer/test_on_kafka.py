"""A deployment is copied into a log on Kafka and out of it. The short form is `test_there_and_back.py`, on SQLite."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest

from tests.placement_api.backends import folded_log
from tests.placement_api.transfer.cells import unseen
from tests.placement_api.transfer.placement_database import (
    dump,
    empty_database,
    fleet_database,
    random_fleet,
)
from vacancy.placement_api.transfer.cell import Cell
from vacancy.placement_api.transfer.database import Database
from vacancy.placement_api.transfer.transfer import export_from, import_into

pytestmark = [pytest.mark.kafka, pytest.mark.long]


def test_deployments_come_back(kafka: str, tmp_path: Path) -> None:
    with folded_log(f"kafka://{kafka}/moved-{uuid4().hex[:12]}") as (log, reader):
        for seed in (1, 2, 3):
            directory = tmp_path / str(seed)
            directory.mkdir()
            source, target = directory / "source.db", directory / "target.db"
            cell = Cell(log, reader, f"moved{seed}")
            copied = import_into(cell, Database(fleet_database(source, random_fleet(seed, 60, 120))), unseen)
            back = export_from(cell, empty_database(target), unseen)
            for one in (copied, back):
                assert one.comparison is not None
                assert (one.refusals, one.findings, one.comparison.differences) == ((), (), ())
            before, after = dump(source), dump(target)
            for rows in (before, after):
                rows.pop("generations")
            assert before == after
