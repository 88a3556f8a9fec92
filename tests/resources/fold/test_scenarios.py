"""Every scenario holds, in memory and in RocksDB alike; and the runner notices when one does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.resources.fold.scenario import Broken, Scenario

SCENARIOS = sorted((Path(__file__).parent / "scenarios").glob("*.txt"))


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: str(path.stem))
def test_scenario(path: Path, tmp_path: Path) -> None:
    assert Scenario(path, tmp_path / "store").run() > 3


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: str(path.stem))
def test_a_scenario_says_why(path: Path) -> None:
    lines = path.read_text().splitlines()
    header = [line for line in lines[: lines.index("")] if line.startswith("# ")]
    assert header == lines[: lines.index("")]
    assert len(" ".join(header)) > 80, "tell in the header what the scenario shows and why it is so"


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("@1 claim c1 for i1 n1 VCPU:1 -> accepted", "verdict: rejected provider_unknown n1"),
        ("@2 tick", "the next record is @1"),
        ("@1 raw nonsense", "it is a dead letter: Invalid JSON"),
        ("@1 tick -> dead letter", "it is no dead letter"),
        ("@1 raw nonsense -> dead letter because", "but says: Invalid JSON"),
        ("@1 node n1 VCPU=8 -> nothing", "it changes something"),
        ("@1 tick -> halt", "it does not halt"),
        ("@1 rules version=99 -> halt because", "it halts, but says"),
        ("@1 node n1 VCPU=8\nexpect n1 VCPU used 1", "it is 0, not 1"),
        ("@1 node n1 VCPU=8\nexpect n1 disabled", "it is enabled, not disabled"),
        ("expect 1 dead letters", "it is 0, not 1"),
        ("whatever", "is no statement"),
    ],
)
def test_a_wrong_line_is_noticed(tmp_path: Path, wrong: str, told: str) -> None:
    path = tmp_path / "wrong.txt"
    path.write_text(wrong)
    with pytest.raises(Broken) as broken:
        Scenario(path, tmp_path / "store").run()
    assert told in str(broken.value)
    assert "wrong.txt:" in str(broken.value)
