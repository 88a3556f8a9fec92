"""The records of decisions: each is in the index and has its four parts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "docs/decisions"
RECORDS = sorted(FOLDER.glob("[0-9]*.md"))


def test_the_index_lists_every_record_by_its_title() -> None:
    listed = re.findall(r"^\| (\d+) \| \[(.+)\]\((.+)\) \| .+ \|$", (FOLDER / "README.md").read_text(), re.M)
    titles = [re.findall(r"^# (\d+)\. (.+)$", record.read_text(), re.M)[0] for record in RECORDS]
    assert listed == [(*title, record.name) for title, record in zip(titles, RECORDS, strict=True)]


def test_numbers_are_given_once() -> None:
    """Several people write records at once, each with a number of their own, so one may come before a lower one."""
    numbers = [int(record.name[:4]) for record in RECORDS]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] - len(numbers) < 10


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: str(record.stem))
def test_a_record_has_its_parts(record: Path) -> None:
    parts = re.findall(r"^\*\*(\w+)\.\*\*", record.read_text(), re.M)
    assert parts == ["Context", "Decision", "Consequence", "Measured"]
