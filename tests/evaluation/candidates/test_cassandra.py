"""Apache Cassandra as a candidate."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))  # `evaluation` is not installed

from tests.evaluation.candidates.contract import check_contract


def test_contract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Compiling for some seconds of work costs more than it saves; Java itself reads this variable.
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1")
    check_contract("cassandra", tmp_path)
