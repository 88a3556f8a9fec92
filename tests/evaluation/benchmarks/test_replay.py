"""The benchmark of replay folds what it has made, as a worker does."""

from __future__ import annotations

from pathlib import Path

from evaluation.benchmarks.replay import measure


def test_it_measures_a_replay(tmp_path: Path) -> None:
    found = measure(f"sqlite://{tmp_path}/log.db", tmp_path / "stores", 600, 60, 2, check=True)
    assert found["equals_the_worker"] is True
    assert found["records_per_s"] > 0 < found["records_per_cpu_s"]
    assert found["peak_mb_per_process"] > 10
