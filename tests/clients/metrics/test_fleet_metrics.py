"""The metrics of the fleet are right, and their number is bounded."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cli.command import Vacancy, node_file
from tests.clients.metrics.metric_text import Samples, check_defined, samples, text_of, value
from tests.support.logs.followed_log import FollowedLog, followed_log
from tests.support.sites.snapshot_site import REGISTRY, snapshot_site
from vacancy.clients.metrics import fleet_metrics
from vacancy.clients.metrics.fleet_metrics import FLEET_METRICS, ClassSums, FleetMetrics
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.projections.snapshots.creation import create_snapshot
from vacancy.projections.snapshots.storage import SnapshotStorage
from vacancy.resources.model import events
from vacancy.resources.model.names import AMOUNT_MAX
from vacancy.resources.model.partitioner import covering_cells

C1, C2 = covering_cells(2)
AMOUNTS = ("total", "reserved", "capacity", "used", "free")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[FollowedLog]:
    """Two nodes in one cell and one in another: with a reservation, a ratio, a GPU, a disabled node and a rack."""
    vcpus: dict[str, Any] = {"total": 10, "reserved": 2, "allocation_ratio_milli": 2000}
    with followed_log(tmp_path) as followed:
        followed.report("a", cell=C1, VCPU=vcpus, MEMORY_MB={"total": 1000})
        followed.report("b", cell=C1, VCPU={"total": 8}, CUSTOM_DISK={"total": 5})
        followed.report("c", cell=C2, gpus=1)
        _settings(followed, C1, "a", aggregates=("rack",))
        _settings(followed, C1, "b", aggregates=("rack",), status="disabled")
        with followed.scheduler() as scheduler:
            scheduler.place("resources=MEMORY_MB:300,VCPU:4")
        yield followed


def _settings(followed: FollowedLog, cell: str, provider: str, **settings: Any) -> None:
    data = events.OperatorSettingsData(
        provider=provider, revision=1, facts=events.OperatorSettings(**settings)
    )
    followed.append(cell, events.OperatorSettingsSet(id=f"set-{provider}", source="/test", data=data))


def served(followed: FollowedLog, **options: Any) -> Samples:
    return samples(text_of(FleetMetrics(followed.reader, **options)))


def amounts(found: Samples, **labels: str) -> tuple[float, ...]:
    kind = "aggregate_" if "aggregate" in labels else ""
    return tuple(value(found, f"vacancy_fleet_{kind}{name}_units", **labels) for name in AMOUNTS)


def test_capacity_by_class_cell_and_aggregate(site: FollowedLog) -> None:
    found = served(site)
    assert amounts(found, **{"cell": C1, "class": "VCPU"}) == (18, 2, 24, 4, 12)  # b is disabled
    assert amounts(found, **{"cell": C1, "class": "MEMORY_MB"}) == (1000, 0, 1000, 300, 700)
    assert amounts(found, **{"cell": C1, "class": "CUSTOM_DISK"}) == (5, 0, 5, 0, 0)
    assert amounts(found, **{"cell": C2, "class": "CUSTOM_GPU"}) == (1, 0, 1, 0, 1)
    assert amounts(found, **{"aggregate": "rack", "class": "VCPU"}) == (18, 2, 24, 4, 12)
    assert ("vacancy_fleet_total_units", (("cell", C2), ("class", "MEMORY_MB"))) not in found


def test_the_largest_amounts_of_many_nodes() -> None:
    """Their sum is beyond 64 bits, and a metric below 0 would be wrong."""
    sums, nodes = ClassSums(), 3_000
    for _ in range(2):
        sums.add(np.arange(nodes) % 2, [np.full(nodes, AMOUNT_MAX, dtype=np.int64)] * len(AMOUNTS))
    assert sums.providers == 2 * nodes
    assert sums.amounts == {group: [pytest.approx(nodes * AMOUNT_MAX)] * len(AMOUNTS) for group in range(2)}


def test_nodes_and_silence(site: FollowedLog) -> None:
    found = served(site)
    assert value(found, "vacancy_fleet_nodes", cell=C1, state="open") == 1
    assert value(found, "vacancy_fleet_nodes", cell=C1, state="closed") == 1
    assert value(found, "vacancy_fleet_silent_nodes", cell=C1) == 0
    later = served(site, silent_s=-3600.0)  # as an hour later
    assert value(later, "vacancy_fleet_silent_nodes", cell=C1) == 2
    assert value(later, "vacancy_fleet_silent_nodes", cell=C2) == 1


def test_what_is_served_is_what_is_defined(site: FollowedLog) -> None:
    check_defined(text_of(FleetMetrics(site.reader)), FLEET_METRICS)


def test_the_number_of_series_is_bounded(site: FollowedLog, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CLASSES_MAX", "CELLS_MAX", "AGGREGATES_MAX"):
        monkeypatch.setattr(fleet_metrics, name, 1)
    _settings(site, C2, "c", aggregates=("other",))
    found = served(site)
    assert {dict(labels)["class"] for name, labels in found if name.endswith("_units")} == {"VCPU"}
    cells = {dict(labels)["cell"] for name, labels in found if "cell" in dict(labels)}
    assert cells == {C1, "(others)"}
    assert value(found, "vacancy_fleet_total_units", **{"cell": "(others)", "class": "VCPU"}) == 8
    assert value(found, "vacancy_fleet_nodes", cell="(others)", state="open") == 1
    left_out = {
        kind: value(found, "vacancy_fleet_left_out", kind=kind) for kind in ("class", "cell", "aggregate")
    }
    assert left_out == {"class": 3, "cell": 1, "aggregate": 1}
    aggregates = {dict(labels)["aggregate"] for _, labels in found if "aggregate" in dict(labels)}
    assert aggregates == {"other"}  # both have two providers: the first by name


def test_the_age_of_the_newest_snapshot(tmp_path: Path) -> None:
    storage = SnapshotStorage(str(tmp_path / "snapshots"))
    name = "vacancy_fleet_snapshot_age_seconds"
    with snapshot_site(tmp_path) as folded:
        with StoreReader(folded.store, REGISTRY, with_view=False) as reader:
            assert (name, ()) not in samples(text_of(FleetMetrics(reader, snapshots=storage)))
        create_snapshot(folded.store, storage, REGISTRY)
        with StoreReader(folded.store, REGISTRY, with_view=False) as reader:
            assert 0 <= value(samples(text_of(FleetMetrics(reader, snapshots=storage))), name) < 3600


def test_the_command(tmp_path: Path) -> None:
    with Vacancy(tmp_path) as vacancy:
        vacancy("publish", "--once", "--file", node_file(tmp_path, "a"))
        vacancy("replay")
        text = vacancy("metrics", "--file", tmp_path / "vacancy.prom")
        assert text == ""
        check_defined((tmp_path / "vacancy.prom").read_text(), FLEET_METRICS)
        assert 'vacancy_fleet_total_units{cell="' in vacancy("metrics")
        with vacancy.serving("metrics", "--port", "0", until="metrics of the fleet") as said:
            (address,) = [line.split("//")[1].partition(";")[0] for line in said if "metrics of" in line]
            with urllib.request.urlopen(f"http://{address}", timeout=60) as answer:
                check_defined(answer.read().decode(), FLEET_METRICS)
