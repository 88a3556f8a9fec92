"""Queries of the past for programs: one answer, several kept open, and waiting for a position."""

from __future__ import annotations

import threading

import pytest

from tests.support.sites.snapshot_site import SnapshotSite
from vacancy.clients import PastQueries, StoreQuery
from vacancy.resources.model.errors import OutcomeUnknown, UsageError
from vacancy.streams.settings import Settings, load_settings

ANY = "resources=VCPU:1"


@pytest.fixture
def settings(site: SnapshotSite) -> Settings:
    home = site.home
    loaded = load_settings(log=site.log.url, store=site.store, snapshots=str(home / "kept"))
    return loaded.model_copy(update={"history": home / "history"})


def test_a_query_as_of_a_position(site: SnapshotSite, settings: Settings) -> None:
    position = site.log.end()
    site.report(5)
    for as_of in (position, ",".join(f"{p}:{o}" for p, o in position.items())):
        with StoreQuery.from_settings(settings, as_of=as_of) as query:
            found = query.candidates(ANY, limit=100)
            assert (len(found.candidates), found.as_of) == (20, position)
    site.fold()
    with StoreQuery.from_settings(settings) as query:
        assert len(query.candidates(ANY, limit=100).candidates) == 25


def test_the_last_positions_are_kept_open(site: SnapshotSite, settings: Settings) -> None:
    end = site.log.end()
    positions = [{**end, 0: end[0] - back} for back in range(3)]
    with PastQueries.from_settings(settings, open_max=2) as past:
        first, second = past.at(positions[0]), past.at(positions[1])
        assert past.at(positions[0]) is first
        assert past.at(f"0:{end[0]},1:{end[1]}") is first
        assert past.at(f"0:{end[0]}") is not None  # the other partition is cut by the log
        third = past.at(positions[2])
        assert [len(one.candidates(ANY, limit=100).candidates) for one in (first, third)] == [20, 18]
        assert past.at(positions[1]) is not second
        assert len(past.at(positions[1]).candidates(ANY, limit=100).candidates) == 19
    assert site.log.end() == end  # it is still open: only what `from_settings` opened was closed


def test_the_present_of_the_past_is_its_log_time(site: SnapshotSite, settings: Settings) -> None:
    with StoreQuery.from_settings(settings, as_of="-0s") as query:
        assert query.present.now_ms() == query.reader.newest_ms
        assert len(query.candidates(ANY, limit=100, max_staleness_s=60).candidates) == 20


def test_a_query_of_at_least_a_position(site: SnapshotSite, settings: Settings) -> None:
    site.report(5)
    end = site.log.end()
    with pytest.raises(OutcomeUnknown, match="have not reached"):
        StoreQuery.from_settings(settings, at_least=end, timeout_s=0)
    with pytest.raises(UsageError, match="contradict"):
        StoreQuery.from_settings(settings, at_least=end, as_of=end)
    folding = threading.Timer(0.05, site.fold)
    folding.start()
    with StoreQuery.from_settings(settings, at_least={1: end[1]}, timeout_s=60) as query:
        assert query.reader.position[1] == end[1]
    folding.join()


def test_a_damaged_store_is_closed(site: SnapshotSite, settings: Settings) -> None:
    with StoreQuery.from_settings(settings, as_of="-0s") as query:
        path = query.reader.path
    (path / "p00000" / "CURRENT").unlink()
    with PastQueries.from_settings(settings) as past, pytest.raises(Exception, match="p00000"):
        past.at("-0s")
