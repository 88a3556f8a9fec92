"""Schedulers with copies of their own do what every candidate must do."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))  # `evaluation` is not installed

from tests.evaluation.candidates.contract import check_contract


def test_contract(tmp_path: Path) -> None:
    check_contract("copies", tmp_path)
