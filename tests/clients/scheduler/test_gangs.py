"""Gangs from end to end: several schedulers that race for the same nodes place whole gangs or nothing."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.logs.followed_log import FollowedLog, followed_log, wait_for
from vacancy.clients.replay_tool.verify import verify
from vacancy.clients.scheduler.client import Scheduler
from vacancy.clients.scheduler.placement import PlacementRequest
from vacancy.clients.scheduler.quotas import Quotas
from vacancy.resources.model.errors import ClaimLost, ConsumerExists, NoValidHost, OverQuota
from vacancy.resources.model.events import QuotaScope
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.state.tables import ALLOCATIONS, DEAD_LETTERS, split_key

RACERS = 4
GANGS = 6
"""Gangs that each scheduler asks for."""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[FollowedLog]:
    with followed_log(tmp_path, partitions=2) as found:
        yield found


def gang(name: str, *amounts: int, project: str = "-") -> list[PlacementRequest]:
    return [
        PlacementRequest(f"resources=VCPU:{amount}", consumer=f"{name}.{at}", project=project)
        for at, amount in enumerate(amounts)
    ]


def held(site: FollowedLog) -> dict[str, str]:
    """Consumer -> the node that it holds something of."""
    wait_for(site.reader, site.log.end())
    return {split_key(k)[1]: row.parts[0].provider for _, k, row in site.reader.scan(ALLOCATIONS)}


def test_racing_schedulers_place_whole_gangs_or_nothing(site: FollowedLog) -> None:
    cells = covering_cells(2)
    for number in range(4):
        site.report(f"large-{number}", cell=cells[number % 2], VCPU={"total": 53})
        site.report(f"small-{number}", cell=cells[number % 2], VCPU={"total": 31})
    placed: list[str] = []
    failed: list[Exception] = []
    start = threading.Barrier(RACERS)

    def race(racer: int) -> None:
        with Scheduler(site.log, site.store, site.registry, seed=racer, name=f"s{racer}") as scheduler:
            start.wait()
            for number in range(GANGS):
                name = f"g{racer}-{number}"
                try:
                    found = scheduler.place_gang(gang(name, 30, 50) if number % 2 else gang(name, 50, 30))
                except (NoValidHost, ClaimLost):
                    continue
                except Exception as error:  # a thread does not raise
                    failed.append(error)
                    return
                assert len({one.cell for one in found}) == 1
                placed.append(name)

    racers = [threading.Thread(target=race, args=(number,)) for number in range(RACERS)]
    for one in racers:
        one.start()
    for one in racers:
        one.join()
    assert not failed
    # No gang holds a half of what another needs, and none that would fit was given up.
    holders = held(site)
    assert Counter(name.partition(".")[0] for name in holders) == dict.fromkeys(placed, 2)
    assert 2 <= len(placed) <= 4
    with site.scheduler() as scheduler, pytest.raises(NoValidHost):
        scheduler.place_gang(gang("last", 50, 30))
    assert not list(site.reader.scan(DEAD_LETTERS))
    found = verify(site.log, site.store, site.registry)
    assert (found.audit.problems, found.audit.unverifiable_reasons) == ([], {})
    assert found.ok


def test_a_gang_has_a_verdict_of_its_own_for_each_member(site: FollowedLog) -> None:
    cell = covering_cells(2)[0]
    site.report("n1", cell=cell, VCPU={"total": 8})
    site.report("n2", cell=cell, VCPU={"total": 8})
    Quotas(site.log, site.reader).set_limit(QuotaScope(project="p", unit="VCPU"), 6)
    with site.scheduler() as scheduler:
        with pytest.raises(OverQuota, match="used 0, asked 8, limit 6"):
            scheduler.place_gang(gang("a", 4, 4, project="p"))
        assert held(site) == {}
        first, second = scheduler.place_gang(gang("b", 3, 3, project="p"))
        assert {first.consumer, second.consumer} == set(held(site))
        with pytest.raises(ConsumerExists, match=r"consumer b\.0 exists"):
            scheduler.place_gang([*gang("c", 1), *gang("b", 1)])
        assert scheduler.release([first]) == 1
        assert set(held(site)) == {"b.1"}
        # What others took since the search is noticed: the gang is placed elsewhere, or not at all.
        with pytest.raises(NoValidHost, match="do not fit together"):
            scheduler.place_gang(gang("d", 8, 7, 1))
        assert set(held(site)) == {"b.1"}
