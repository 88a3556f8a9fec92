"""Releasing many consumers at once: as many records as the limits of a record ask for, and nothing is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.logs.followed_log import FollowedLog, followed_log, wait_for
from vacancy.clients.inspection.status import dead_letters
from vacancy.clients.scheduler.placement import Outcome, PlacementRequest
from vacancy.resources.model.limits import LIMITS_3, NAMED_PART_WEIGHT
from vacancy.resources.model.partitioner import covering_cells

(CELL,) = covering_cells(1)
COUNT = 70
A_RECORD = LIMITS_3.released_parts // NAMED_PART_WEIGHT
"""Devices that one record gives back."""

GIVEN: dict[str, Callable[[Outcome], str | Outcome]] = {
    "outcomes": lambda outcome: outcome,
    "consumers": lambda outcome: outcome.consumer,
}


def releases(site: FollowedLog) -> list[int]:
    """The number of releases in each record that has some."""
    records = site.log.read(0, 0, 10_000)
    found: list[dict[str, Any]] = [json.loads(record.value) for record in records]
    return [len(one["data"]["releases"]) for one in found if one["type"] == "vacancy.consumers.released.v1"]


@pytest.mark.parametrize("given", GIVEN)
def test_a_large_release_is_split_and_nothing_of_it_is_refused(given: str, tmp_path: Path) -> None:
    devices: dict[str, Any] = {f"0000:{number:02x}:00.0": {} for number in range(COUNT)}
    asked = [PlacementRequest("resources=PCI_DEVICE:1", consumer=f"c{number}") for number in range(COUNT)]
    with followed_log(tmp_path, partitions=1) as site:
        site.report("n1", cell=CELL, PCI_DEVICE={"devices": devices})
        with site.scheduler() as scheduler:
            placed = list(scheduler.place_many(asked, timeout_s=60))
            assert {outcome.status for outcome in placed} == {"placed"}
            wait_for(site.reader, site.log.end())
            assert scheduler.release(map(GIVEN[given], placed)) == COUNT
            wait_for(site.reader, site.log.end())
            assert not any(scheduler.allocations(outcome.consumer) for outcome in placed)
        assert sorted(releases(site)) == [COUNT - 2 * A_RECORD, A_RECORD, A_RECORD]
        assert dead_letters(site.reader) == []


def test_parts_that_are_amounts_count_once(tmp_path: Path) -> None:
    classes: dict[str, Any] = {f"CUSTOM_C{number}": {"total": 1_000} for number in range(60)}
    spec = ",".join(f"{name}:1" for name in classes)
    asked = [PlacementRequest(f"resources={spec}", consumer=f"c{number}") for number in range(36)]
    with followed_log(tmp_path, partitions=1) as site:
        site.report("n1", cell=CELL, **classes)
        with site.scheduler() as scheduler:
            placed = list(scheduler.place_many(asked, timeout_s=60))
            assert {outcome.status for outcome in placed} == {"placed"}
            wait_for(site.reader, site.log.end())
            assert scheduler.release(placed) == len(asked)
            wait_for(site.reader, site.log.end())
            assert not any(scheduler.allocations(outcome.consumer) for outcome in placed)
        assert releases(site) == [34, 2]  # 34 x 60 parts are less than 2,048
        assert dead_letters(site.reader) == []
