"""OpenStack Placement as a candidate."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))  # `evaluation` is not installed

from evaluation.candidates import jobs
from evaluation.candidates.audit import audit
from evaluation.candidates.candidate import COMMON, SMALL, Fleet
from evaluation.candidates.placement_fill import API_LIMIT
from evaluation.candidates.placement_names import LONGEST, name_of, uuid_of
from evaluation.candidates.schedulers import Schedulers
from tests.evaluation.candidates.contract import check_about, check_contract, started
from vacancy.resources.model.errors import VacancyError


def test_contract(tmp_path: Path) -> None:
    check_contract("placement-best", tmp_path)


def test_the_gate_setup_serves_a_bulk_load(tmp_path: Path) -> None:
    # Not the contract: with ten tries inside of one transaction it can accept more than the capacity.
    one = started("placement-gate")
    check_about(one)
    fleet = Fleet(size=API_LIMIT + 1)
    try:
        one.start(tmp_path)
        assert one.fill(fleet, 0.5).how.startswith("bulk insert")
        with Schedulers(one, 1) as schedulers:
            (found,) = schedulers.run([jobs.Query(most=1, limit=200)])
            (placed,) = schedulers.run([jobs.Place(prefix="p", most=5)])
        assert found.found == sum(COMMON in provider.traits for provider in fleet.providers())
        assert len(placed.placed) == 5
        assert audit(fleet, 0.5, one.held(), [placed], (SMALL,)).clean
    finally:
        one.stop()


@pytest.mark.parametrize("name", ["a", "fill-node-0000001", "_-_", "z" * LONGEST, "aaa", ""])
def test_a_name_is_a_uuid_and_comes_back(name: str) -> None:
    assert name_of(uuid_of(name)) == name


@pytest.mark.parametrize("name", ["A", "a b", "z" * (LONGEST + 1)])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(VacancyError, match="cannot be written as a UUID"):
        uuid_of(name)
