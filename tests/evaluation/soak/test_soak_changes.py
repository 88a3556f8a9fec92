"""The changes of a soak test are settled also where nothing else is written any more."""

from __future__ import annotations

import random
import time
from pathlib import Path

from evaluation.soak.changes import Changes
from tests.live.site import WAIT_S, until
from tests.support.logs.followed_log import followed_log
from vacancy.clients.scheduler.placement import PlacementRequest
from vacancy.resources.model.request import RequestGroup, RequestSpec

ONE = RequestSpec(groups=(RequestGroup(resources={"VCPU": 1}),))


def test_the_deadline_of_a_change_passes_in_a_partition_without_other_records(tmp_path: Path) -> None:
    with followed_log(tmp_path) as site, site.scheduler() as scheduler:
        site.report("n1")
        scheduler.place(PlacementRequest(ONE, consumer="c1"))
        changes = Changes(scheduler, random.Random(1), ["n1"], ["n1"], WAIT_S)
        deadline_ms = int(time.time() * 1000) + 200
        assert not changes.has_passed("c1", deadline_ms)
        until(lambda: changes.has_passed("c1", deadline_ms), "log time stands still")
        held = changes.settled("c1")
        assert held is not None
        assert held.consumer == "c1"
