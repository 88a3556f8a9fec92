"""The engine's way from a request to its verdict stays short."""

from __future__ import annotations

from pathlib import Path

import pytest

from evaluation.benchmarks.call_path import modules_of_a_placement

MODULES_MAX = 37
"""Six of these are for clocks, bounds of memory and keys of any length, one is for being woken, one for generations (`python -m evaluation call-path` lists them)."""


@pytest.mark.timeout(120)
def test_a_placement_passes_few_modules(tmp_path: Path) -> None:
    found = modules_of_a_placement(tmp_path)
    assert found[0] == "vacancy.clients.scheduler.client"
    assert "vacancy.projections.query.search" in found
    assert len(found) <= MODULES_MAX, found
