"""Names of consumers and providers are written as UUIDs for OpenStack Placement."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))  # `evaluation` is not installed

from evaluation.candidates.placement.names import LONGEST, name_of, uuid_of
from vacancy.resources.model.errors import VacancyError


@pytest.mark.parametrize("name", ["a", "fill-node-0000001", "_-_", "z" * LONGEST, "aaa", ""])
def test_a_name_is_a_uuid_and_comes_back(name: str) -> None:
    assert name_of(uuid_of(name)) == name


@pytest.mark.parametrize("name", ["A", "a b", "z" * (LONGEST + 1)])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(VacancyError, match="cannot be written as a UUID"):
        uuid_of(name)
