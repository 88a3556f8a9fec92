"""The benchmark of the past continues what it has built, and what it found can be drawn."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))  # `evaluation` is not installed

from evaluation.__main__ import main
from vacancy.streams.log import open_log


def test_a_build_is_continued_and_what_was_found_is_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["history", "--snapshot-every", "200", "--nodes", "50", "--questions", "5", "--json"]
    command += ["--positions", "2", "--directory", str(tmp_path)]
    assert main([*command, "--records", "200", "--build-only"]) == 0
    begun = json.loads(capsys.readouterr().out)
    assert main([*command, "--records", "450", "--plot", str(tmp_path / "cost.svg")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["records"] for one in found["parts"]] == [200, 400]
    assert found["parts"][0] == begun["parts"][0]
    with open_log(f"sqlite://{tmp_path}/log.db") as log:
        assert sum(log.end().values()) == 450 + log.partitions
    for one in found["answers"]:
        assert 0 < one["folded"] <= one["position"]
    drawn = (tmp_path / "cost.svg").read_text()
    assert drawn.startswith("<svg")
    assert "first answer as of a position" in drawn
