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
from vacancy.resources.model.record import Record
from vacancy.streams.log import create_log
from vacancy.streams.log_identity import opening_rules_version

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


@pytest.mark.parametrize(
    "value",
    [
        b'{"type":"vacancy.log.opened.v1","data":' + b"[" * 100_000,
        b'{"type":"vacancy.log.opened.v1","data":{"rules":{"version":[]}}}',
        b'{"type":"vacancy.log.opened.v1","data":7}',
        b"vacancy.log.opened.v1",
    ],
)
def test_a_first_record_that_is_no_opening_begins_with_version_1(value: bytes) -> None:
    """Anybody may have written it, where the records before it are gone."""
    assert opening_rules_version(Record(0, 9, 1, b"cell", value)) == 1
