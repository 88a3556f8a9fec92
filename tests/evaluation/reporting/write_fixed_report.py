"""Writes the committed report of the fixed comparison again: `python -m tests.evaluation.reporting.write_fixed_report`."""

from __future__ import annotations

from pathlib import Path

from evaluation.reporting.comparison_text import comparison_text
from tests.evaluation.reporting.fixed_comparison import COMPARISON

if __name__ == "__main__":
    (Path(__file__).parent / "fixed_report.md").write_text(comparison_text(COMPARISON))
