"""The benchmark of snapshots makes, keeps and restores one."""

from __future__ import annotations

from pathlib import Path

from evaluation.benchmarks.snapshots import measure


def test_it_measures_all_steps(tmp_path: Path) -> None:
    found = measure(tmp_path, 500)
    assert 0 < found["checkpoint_ms_median"] <= found["checkpoint_ms_max"]
    assert found["stored_mib"] < found["files_mib"]
    assert min(found["create_s"], found["restore_s"]) > 0
    assert (tmp_path / "restored" / "store.json").exists()
