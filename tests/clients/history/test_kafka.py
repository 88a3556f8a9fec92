"""The past of a Kafka log: as of positions and times, and which record changed an answer."""

from __future__ import annotations

import random
import uuid
from pathlib import Path

import pytest

from tests.clients.history.test_bisect import has_room, report_large
from tests.support.sites.snapshot_site import REGISTRY, SnapshotSite
from vacancy.clients.history.bisect import bisect
from vacancy.clients.history.past_queries import PastQueries
from vacancy.clients.past.historical_store import HistoricalStores, Processes
from vacancy.clients.past.points import position_at
from vacancy.clients.past.store_cache import StoreCache
from vacancy.clients.runtime.bootstrap import new_log
from vacancy.projections.snapshots.creation import create_snapshot
from vacancy.projections.snapshots.storage import SnapshotStorage


@pytest.mark.kafka
def test_as_of_and_bisect(kafka: str, tmp_path: Path) -> None:
    url, rng = f"kafka://{kafka}/log-{uuid.uuid4()}", random.Random(3)
    with new_log(url, 2, REGISTRY, replication=1) as log:
        site, storage = SnapshotSite(log, tmp_path), SnapshotStorage(str(tmp_path / "kept"))
        site.report(15)
        site.fold()
        kept = create_snapshot(site.store, storage, REGISTRY)
        site.report(rng.randint(1, 9))
        place = report_large(site)
        site.report(rng.randint(1, 9))
        end = log.end()

        cache = StoreCache(tmp_path / "history", stores_max=3, bytes_max=2**30)
        stores = HistoricalStores(log, REGISTRY, cache, storage)
        in_parallel = HistoricalStores(log, REGISTRY, cache, storage, processes=Processes(url, {}, 2))
        anywhere = {p: rng.randint(kept.position[p], offset) for p, offset in end.items()}
        (large,) = log.read(*place, 1, timeout_s=90)
        just_then = position_at(log, large.timestamp_ms)
        for position, made_by in ((anywhere, in_parallel), (just_then, stores), (end, stores)):
            with made_by.at(position) as store:
                assert site.digest(store.path) == site.folded_again(position)
        with PastQueries(log, stores, REGISTRY) as past:
            assert has_room(past.at(just_then))
            assert not has_room(past.at(position_at(log, large.timestamp_ms - 1)))

        flip = bisect(log, stores, REGISTRY, has_room, dict.fromkeys(end, 0), end)
        assert (flip.record.partition, flip.record.offset) == place
        assert (flip.before, flip.after) == (False, True)
