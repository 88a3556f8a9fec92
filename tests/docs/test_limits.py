"""The page on limits has the numbers of the rules."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from vacancy.resources.fold.rules_versions import RULES_VERSIONS
from vacancy.resources.model.limits import Limits

PAGE = (Path(__file__).parents[2] / "docs/limits.md").read_text()


def test_the_table_has_each_limit_with_its_number() -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([0-9,]+) \|", PAGE, re.MULTILINE)
    limits = RULES_VERSIONS.newest.limits
    assert {name: int(number.replace(",", "")) for name, number in rows} == {
        field.name: getattr(limits, field.name) for field in fields(Limits)
    }


def test_each_limit_is_in_force() -> None:
    """No limit of the newest rules is still at the default of the first versions, but for the bytes of a record."""
    first, newest = Limits(), RULES_VERSIONS.newest.limits
    same = {
        field.name for field in fields(Limits) if getattr(first, field.name) == getattr(newest, field.name)
    }
    assert same <= {"record_bytes"}
