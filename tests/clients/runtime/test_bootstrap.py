"""The store of a log is opened with the tables that the log needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from vacancy.clients.runtime.bootstrap import open_store, opening_records
from vacancy.projections.store.partition_store import families
from vacancy.projections.store.rocksdb import existing_families
from vacancy.projections.store.store import partition_path
from vacancy.resources.classes.registry import Registry
from vacancy.resources.fold.rules_versions import RULES_VERSION, RULES_VERSIONS
from vacancy.resources.model import events
from vacancy.streams.log import create_log

REGISTRY = Registry()


@pytest.mark.parametrize(
    ("begins", "tables"), [(1, 1), (RULES_VERSION, RULES_VERSION), (RULES_VERSION + 1, 1)]
)
def test_a_new_partition_has_the_tables_of_the_first_rules(tmp_path: Path, begins: int, tables: int) -> None:
    """Before its first record is folded, if this build knows the version."""
    records = opening_records(2, events.Rules(version=begins))
    with create_log(f"sqlite://{tmp_path}/log.db", 2, records) as log:
        open_store(tmp_path / "store", log, REGISTRY).close()
    expected = set(families(REGISTRY, RULES_VERSIONS.of(tables)))
    for partition in range(2):
        assert set(existing_families(partition_path(tmp_path / "store", partition))) == expected
