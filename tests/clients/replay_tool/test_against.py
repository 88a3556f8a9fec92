"""`replay --against`: the first record that another build folds differently, and the row of a store that was altered."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.clients.replay_tool import replay_site
from tests.clients.replay_tool.replay_site import (
    HALTS,
    REGISTRY,
    REWRITES,
    append_reports,
    log_of_reports,
    other_build,
)
from vacancy.clients.replay_tool.against_build import (
    BuildComparison,
    NoProtocol,
    OtherBuild,
    compare_builds,
    compare_digests,
)
from vacancy.clients.replay_tool.against_store import Mark, PartitionComparison, compare_store
from vacancy.clients.replay_tool.replay import replay
from vacancy.projections.store.store import Store
from vacancy.resources.model.errors import UsageError
from vacancy.resources.state.tables import PROVIDERS
from vacancy.streams.log import open_log


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    url = log_of_reports(tmp_path_factory.mktemp("log"), 2, 1200)
    with open_log(url) as log:
        for sequence in (2, 3, 4, 5):
            append_reports(log, 1200, sequence)
    return url


def compared(url: str, home: Path, build: Path, processes: int = 2) -> BuildComparison:
    with open_log(url) as log:
        ends = log.end()
    return compare_builds(url, OtherBuild.at(build), home, ends, processes=processes, client_settings={})


def test_a_fold_that_differs_at_one_record_is_found_there(url: str, tmp_path: Path) -> None:
    """At a record of each of several batches: none is folded differently that comes before."""
    rng = random.Random(13)
    with open_log(url) as log:
        ends = log.end()
    for number, low in enumerate((1, 2000)):
        at = (rng.randrange(2), rng.randrange(low, min(ends.values())))
        home = tmp_path / str(number)
        home.mkdir()
        found = compared(url, home, other_build(home / "build", at), processes=4 if number else 2)
        [first] = found.differences
        assert (first.partition, first.offset) == at
        assert {row.table for row in first.rows} == {"VCPU"}
        assert all(row.other["taken"] == row.this["taken"] + 1 for row in first.rows)
        assert "vacancy.node.reported.v1" in first.value


def test_rows_that_are_written_again_are_no_difference(url: str, tmp_path: Path) -> None:
    found = compared(url, tmp_path, other_build(tmp_path / "build", (0, 150), REWRITES))
    assert found.differences == ()
    assert found.records == sum(found.position.values())


def test_a_build_that_stops_differs_where_it_stops(url: str, tmp_path: Path) -> None:
    found = compared(url, tmp_path, other_build(tmp_path / "build", (1, 33), HALTS))
    [first] = found.differences
    assert (first.partition, first.offset) == (1, 33)
    assert (first.this_error, first.other_error) == ("", "this build does not go on")
    assert first.rows, "what this build makes of the record"


def test_a_build_without_the_protocol_is_compared_by_digests(tmp_path: Path) -> None:
    url = log_of_reports(tmp_path, 2, 12)
    older = OtherBuild.at(other_build(tmp_path / "build", (1, 3), emits=False))
    with open_log(url) as log:
        ends = log.end()
    with pytest.raises(NoProtocol, match="cannot compare record by record"):
        compare_builds(url, older, tmp_path, ends, processes=2, client_settings={})
    position, [found] = compare_digests(url, older, tmp_path, REGISTRY, until=None, client_settings={})
    assert position == ends
    assert (found.partition, found.equal_at, found.position) == (1, 3, 4)


def test_what_is_no_build_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no build of vacancy"):
        OtherBuild.at(tmp_path)


def in_store(
    url: str, home: Path, store: Path, marks: Mapping[int, Sequence[Mark]]
) -> list[PartitionComparison]:
    return compare_store(url, store, REGISTRY, home / "scratch", marks, processes=2, client_settings={})


def test_a_row_that_was_altered_is_named(tmp_path: Path) -> None:
    """With the interval: after a snapshot that is right, at the position of the store."""
    url = log_of_reports(tmp_path, 2, 40)
    store = tmp_path / "store"
    with open_log(url) as log:
        before = replay(log, store, REGISTRY)
        append_reports(log, 60, sequence=2)
        end = replay(log, store, REGISTRY)
        identity = log.identity()
    with Store(store, log=identity.log, partitions=2, registry=REGISTRY) as tables:
        altered = tables.partition(1)
        key, data = next(iter(altered.scan(PROVIDERS.family)))
        with_trait = replay_site.with_trait(PROVIDERS.decode(data))
        altered._dbs[PROVIDERS.family][key] = PROVIDERS.encode(with_trait)
    marks = {p: [Mark("before", before.position[p], before.partitions[p])] for p in (0, 1)}
    right, wrong = in_store(url, tmp_path, store, marks)
    assert (right.interval, right.rows) == (None, ())
    assert wrong.interval == (before.position[1], end.position[1])
    [row] = wrong.rows
    assert (row.table, wrong.rows_different) == ("providers", 1)
    assert row.key.endswith(key.partition(b"\0")[2].decode())
    assert row.store["reported_traits"] == ["CUSTOM_ALTERED"] != row.log["reported_traits"]


def test_a_store_and_snapshots_that_are_right_are_equal(tmp_path: Path) -> None:
    url = log_of_reports(tmp_path, 2, 40)
    with open_log(url) as log:
        middle = replay(log, tmp_path / "store", REGISTRY)
        append_reports(log, 20, sequence=2)
    later = Mark("wrong", middle.position[0] + 1, "0" * 32)
    first, second = in_store(url, tmp_path, tmp_path / "store", {0: [later]})
    assert [mark.equal for mark in first.marks] == [True, False]
    assert first.interval == (middle.position[0], middle.position[0] + 1)
    assert second.interval is None
