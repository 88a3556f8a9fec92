"""A consumer that holds something is not placed again, and the error names what it holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.followed_log import followed_log
from vacancy.clients.scheduler.placement import PlacementRequest
from vacancy.resources.model.errors import ConsumerExists


def test_the_rejection_of_a_consumer_that_exists_names_what_it_holds(tmp_path: Path) -> None:
    with followed_log(tmp_path) as site:
        site.report("node-1")
        with site.scheduler() as scheduler:
            scheduler.check_new("vm-1")
            placed = scheduler.place(PlacementRequest("resources=VCPU:2", consumer="vm-1"))
            with pytest.raises(
                ConsumerExists, match=f"it holds 2 VCPU of node-1 in cell {placed.cell} by claim"
            ) as raised:
                scheduler.place(PlacementRequest("resources=VCPU:1", consumer="vm-1"))
            assert raised.value.exit_code == 7
            with pytest.raises(ConsumerExists, match=placed.claim):
                scheduler.check_new("vm-1")
