"""`vacancy verify` names the row that was altered on the disk, and says so for people."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.command import Vacancy
from tests.cli.commands.scheduling.test_taints import report
from vacancy.projections.store.store import Store
from vacancy.resources.classes.registry import Registry
from vacancy.resources.state.tables import NODES


@pytest.fixture
def vacancy(tmp_path: Path) -> Iterator[Vacancy]:
    made = Vacancy(tmp_path, log=f"sqlite://{tmp_path}/log.db", store=str(tmp_path / "store"))
    made("topics", "create", "--partitions", 1)
    for name in ("n1", "n2"):
        made("publish", "--once", "--no-wait", "--file", report(tmp_path, name))
    made("replay")
    with made:
        yield made


def test_the_row_that_was_altered_is_named(vacancy: Vacancy, tmp_path: Path) -> None:
    log = vacancy.json("status")["log"]
    with Store(tmp_path / "store", log=log, partitions=1, registry=Registry()) as store:
        tables = store.partition(0)
        ((key, data), *_) = tables.scan(NODES.family)
        tables._dbs[NODES.family][key] = data[:-1] + bytes((data[-1] ^ 1,))
    ended = vacancy.run_shared("verify")
    assert ended.code == 5
    told = ended.err
    assert "1 row differs at position 3; the first record that can be the cause is at offset 1" in told
    assert f"table nodes, key {key.decode().replace(chr(0), ' ')}: here" in told
    assert '"retired": true' in told
    assert '"retired": false' in told
    assert "the store differs from the log in partitions 0" in told
