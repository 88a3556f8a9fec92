"""Replay on several processes ends where replay on one does: at the log's end or before, in bulk or not."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from tests.clients.replay_tool.replay_site import REGISTRY, append_reports, log_of_reports
from tests.support.classes.ports_class import Ports
from tests.support.logs.events_json import provider, reported, rules_in_steps
from vacancy.clients.replay_tool import replay as module
from vacancy.clients.replay_tool.parallel import default_processes, replay_processes
from vacancy.clients.replay_tool.replay import digest, replay
from vacancy.clients.runtime.bootstrap import new_log
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.classes.registry import Registry
from vacancy.resources.fold.rules_versions import RULES_VERSION
from vacancy.resources.model.errors import Halt, LogError, StoreError, VacancyError
from vacancy.resources.model.partitioner import cell_for, covering_cells
from vacancy.resources.model.record import NewRecord
from vacancy.resources.state.tables import DEAD_LETTERS
from vacancy.streams.log import open_log


def test_side_by_side_is_the_same(tmp_path: Path) -> None:
    url = log_of_reports(tmp_path, 4, 300)
    calls: list[tuple[int, int]] = []
    with open_log(url) as log:
        one = replay(log, tmp_path / "one", REGISTRY)
        middle = {p: end // 2 for p, end in log.end().items()}
        half = replay(log, tmp_path / "half", REGISTRY, until=middle)
    both = replay_processes(
        url,
        tmp_path / "both",
        REGISTRY,
        processes=2,
        progress=lambda done, total: calls.append((done, total)),
    )
    assert both == one == digest(tmp_path / "both", REGISTRY)
    assert calls[-1] == (304, 304)
    assert replay_processes(url, tmp_path / "parts", REGISTRY, processes=3, until=middle) == half
    assert replay_processes(url, tmp_path / "parts", REGISTRY, processes=2) == one, "it continues"


def test_in_bulk_the_tables_are_the_same_and_readers_load_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader of the store before sees its rows afterwards, although the feed has nothing of them."""
    url = log_of_reports(tmp_path, 2, 100)
    with open_log(url) as log:
        replay(log, tmp_path / "bulk", REGISTRY)
        append_reports(log, 150, sequence=2)
        plain = replay(log, tmp_path / "plain", REGISTRY)
        with StoreReader(tmp_path / "bulk", REGISTRY) as reader:
            assert reader.view.size == 100
            monkeypatch.setattr(module, "BULK_RECORDS", 1)
            assert replay(log, tmp_path / "bulk", REGISTRY) == plain
            reader.catch_up()
            assert reader.position == plain.position
            assert reader.view.size == 150
        monkeypatch.undo()
        append_reports(log, 150, sequence=3)
        assert replay(log, tmp_path / "bulk", REGISTRY) == replay(log, tmp_path / "plain", REGISTRY)


def test_a_position_that_does_not_fit_is_an_error(tmp_path: Path) -> None:
    url = log_of_reports(tmp_path, 2, 40)
    with open_log(url) as log:
        with pytest.raises(LogError, match="the log has no position 0:999"):
            replay(log, tmp_path / "store", REGISTRY, until={0: 999})
        replay(log, tmp_path / "store", REGISTRY)
        with pytest.raises(StoreError, match=r"the store is at 0:\d+, past 0:1 "):
            replay(log, tmp_path / "store", REGISTRY, until={0: 1, 1: 1})


def test_a_partition_that_stops_does_not_stop_the_others(tmp_path: Path) -> None:
    """The error is reported at once, and raised with its type at the end."""
    url = f"sqlite://{tmp_path}/log.db"
    with new_log(url, 2, REGISTRY) as log:
        append_reports(log, 60)
        log.append([NewRecord(cell_for("n1", 2), value) for value in rules_in_steps(99)])
        ends = log.end()
    errors: list[tuple[int, VacancyError]] = []
    with pytest.raises(Halt, match="rules are version 99"):
        replay_processes(
            url,
            tmp_path / "store",
            REGISTRY,
            processes=2,
            on_error=lambda partition, error: errors.append((partition, error)),
        )
    assert multiprocessing.active_children() == []
    [(stopped, error)] = errors
    assert isinstance(error, Halt)
    position = digest(tmp_path / "store", REGISTRY).position
    assert position[1 - stopped] == ends[1 - stopped]
    assert 0 < position[stopped] < ends[stopped]


def test_few_records_are_folded_in_one_process() -> None:
    assert default_processes(0) == default_processes(15_000) == 1
    assert 1 <= default_processes(10**9) <= multiprocessing.cpu_count()


def test_a_class_that_is_installed_later_gets_its_tables_from_old_events(tmp_path: Path) -> None:
    """A report before the activation is a dead letter on every build; one after it waits for the build that has the class."""
    with_class = Registry([Ports()])
    url = f"sqlite://{tmp_path}/log.db"
    with new_log(url, 1, Registry()) as log:
        early, late = (
            reported(root, [provider(root, PORTS={"ports": [80, 443]})]) for root in ("early", "late")
        )
        steps = rules_in_steps(RULES_VERSION, ["PORTS"])
        log.append([NewRecord(covering_cells(1)[0], value) for value in (early, *steps, late)])
        with pytest.raises(Halt, match="PORTS"):
            replay(log, tmp_path / "store", Registry())
        assert digest(tmp_path / "store", Registry()).position == {0: 1 + len(steps)}
        found = replay(log, tmp_path / "store", with_class)
        assert found == replay(log, tmp_path / "another", with_class)
    with StoreReader(tmp_path / "store", with_class) as reader:
        [(_, key, row)] = reader.scan(with_class.table("PORTS"))
        assert (key.endswith(b"late"), row.record.ports) == (True, (80, 443))
        assert sum(1 for _ in reader.scan(DEAD_LETTERS)) == 1
