"""The loader of Azure's trace for packing, on small files with its tables."""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))  # `evaluation` is not installed

from evaluation.__main__ import main
from evaluation.traces.azure_packing import KINDS_MAX, MEASURED, WHOLE, load_azure
from vacancy.resources.model.errors import UsageError
from vacancy.resources.model.request import RequestSpecV2

TYPES = [
    # Type 0 runs on two kinds of machines, of which it takes different parts; type 1 on one.
    (1, 0, 16, 0.25, 0.125, None, 0.05, 0.1),
    (2, 0, 17, 0.5, 0.25, None, 0.05, 0.1),
    (3, 1, 17, 1.0, 0.333333, 0.0, 0.0, 0.0),
]
VMS = [(n, n % 3, n % 2, n % 2, (n - 5) * 0.1, (n - 5) * 0.1 + 1 if n % 4 else None) for n in range(40)]


def written(path: Path, types: Sequence[Any] = TYPES, vms: Sequence[Any] = VMS) -> Path:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(
            "CREATE TABLE vmType (id INTEGER, vmTypeId INTEGER, machineId INTEGER, core REAL, memory REAL, hdd REAL,"
            " ssd REAL, nic REAL)"
        )
        db.execute(
            "CREATE TABLE vm (vmId INTEGER, tenantId INTEGER, vmTypeId INTEGER, priority INTEGER, starttime REAL,"
            " endtime REAL)"
        )
        db.executemany("INSERT INTO vmType VALUES (?, ?, ?, ?, ?, ?, ?, ?)", types)
        db.executemany("INSERT INTO vm VALUES (?, ?, ?, ?, ?, ?)", vms)
    return path


def test_a_request_names_each_kind_of_machine_with_its_own_amounts(tmp_path: Path) -> None:
    trace = load_azure(written(tmp_path / "trace.sqlite"), machines=10)
    first, second, third = trace.pods[:3]
    assert isinstance(first.spec, RequestSpecV2)
    choices = [(one.groups[0].required, one.groups[0].resources) for one in first.spec.choices]
    common = {"CUSTOM_SSD_SHARE": 50_000, "CUSTOM_NIC_SHARE": 100_000}
    assert choices == [
        (("CUSTOM_MACHINE_16",), {MEASURED: 250_000, "CUSTOM_MEMORY_SHARE": 125_000, **common}),
        (("CUSTOM_MACHINE_17",), {MEASURED: 500_000, "CUSTOM_MEMORY_SHARE": 250_000, **common}),
    ]
    assert second.spec.groups[0].resources == {MEASURED: WHOLE, "CUSTOM_MEMORY_SHARE": 333_333}
    assert third.spec.groups[0].required == ("CUSTOM_MACHINE_16",)
    assert (first.created_s, first.deleted_s) == (-43_200, None)
    assert second.deleted_s == round(0.6 * 86_400)


def test_the_kinds_of_machines_come_in_turn_and_in_proportion(tmp_path: Path) -> None:
    types = [(n, 0, n, 0.1, 0.1, None, 0.1, 0.1) for n in range(KINDS_MAX + 2)]
    trace = load_azure(
        written(tmp_path / "trace.sqlite", types, [(n, 0, 0, 0, 0.0, None) for n in range(22)]), 110
    )
    assert {pod.spec.groups[0].required for pod in trace.pods} == {
        (f"CUSTOM_MACHINE_{n}",) for n in range(11)
    }
    assert trace.notes == (
        "1 types of VMs run on more than 9 kinds of machines: each of their requests names 9",
    )
    assert len(trace.trees) == 110
    kinds = [tree[0].traits for tree in trace.trees]
    assert {kinds.count(kind) for kind in kinds} == {10}
    with pytest.raises(UsageError, match="give --machines 11 or more"):
        load_azure(tmp_path / "trace.sqlite", 10)


@pytest.mark.parametrize(
    ("types", "vms", "what"),
    [
        ([(1, 0, 16, 1.5, 0, 0, 0, 0)], VMS, "core is 1.5, not a fraction"),
        ([(1, 0, 16, "x", 0, 0, 0, 0)], VMS, "core is 'x', not a fraction"),
        (TYPES, [(7, 0, 9, 0, 1.0, 2.0)], "vmTypeId is 9, which vmType does not have"),
        (TYPES, [(7, 0, 0, 0, None, 2.0)], "starttime is None"),
        (TYPES, [(7, 0, 0, 0, 3.0, 2.0)], "endtime 2.0 is before starttime 3.0"),
        (TYPES, [], "the trace has no requests"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, types: Any, vms: Any, what: str) -> None:
    with pytest.raises(UsageError, match=what):
        load_azure(written(tmp_path / "trace.sqlite", types, vms), 10)


def test_a_file_that_is_not_the_trace_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no such file"):
        load_azure(tmp_path / "nowhere", 10)
    (tmp_path / "text").write_text("not a database, but long enough to be read as one" * 100)
    with pytest.raises(UsageError, match="is not Azure's trace"):
        load_azure(tmp_path / "text", 10)
    sqlite3.connect(tmp_path / "empty").close()
    (tmp_path / "empty").touch()
    with pytest.raises(UsageError, match="no such table"):
        load_azure(tmp_path / "empty", 10)


def test_the_trace_is_replayed_with_its_recorded_ends(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(written(tmp_path / "trace.sqlite"))
    command = ["trace", "--azure", file, "--machines", "12", "--recorded", "--schedulers", "2", "--json"]
    assert main(command) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["overcommitted"], shown["wrong_rejections"], shown["rebuilt_equal"]) == (0, 0, True)
    assert shown["released"] > 5
    assert 0 < shown["allocated"][MEASURED] <= 1
    assert main(["trace", "--azure", file, "--pods", file]) == 2
    assert main(["trace", "--json"]) == 2
    assert "give --nodes and --pods, or --azure" in capsys.readouterr().err
