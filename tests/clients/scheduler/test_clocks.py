"""Clocks that differ: that of the log, that of this host, and log time."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.support.logs.followed_log import FollowedLog, followed_log, wait_for
from vacancy.clients.runtime.bootstrap import open_store, opening_records, tick_entry
from vacancy.clients.scheduler import log_time
from vacancy.clients.scheduler.client import Scheduler
from vacancy.clients.scheduler.placement import PlacementRequest
from vacancy.clients.scheduler.store_query import StoreQuery
from vacancy.resources.classes.registry import Registry
from vacancy.resources.fold.rules_versions import RULES_VERSION
from vacancy.resources.model import events
from vacancy.resources.model.errors import ClaimLost, NoValidHost
from vacancy.resources.model.record import NewRecord
from vacancy.streams.clocks.clock import wall_ms
from vacancy.streams.clocks.log_clock import LogClock
from vacancy.streams.log import SettledReceipt, create_log
from vacancy.streams.log_url import parse_log_url
from vacancy.streams.memory_log import MemoryLog

HOUR_MS = 3_600_000
YEAR_MS = 365 * 24 * HOUR_MS
MANY = 1_000_000
"""Claims that no scheduler makes while a test lasts."""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[FollowedLog]:
    with followed_log(tmp_path, partitions=1) as made:
        made.report("n1", cell="b")
        yield made


def scheduler(site: FollowedLog, clock: Callable[[], int], kind: type[MemoryLog] = MemoryLog) -> Scheduler:
    """A scheduler whose records are stamped by another clock than this host's."""
    return Scheduler(kind(parse_log_url(site.log.url), clock), site.store, site.registry, seed=1)


def held(site: FollowedLog, consumer: str) -> bool:
    with site.scheduler() as one:
        return bool(one.allocations(consumer))


class Leaping(MemoryLog):
    """A log on which others append before each record."""

    def send(self, entries: Sequence[NewRecord], timeout_s: float = 10.0) -> SettledReceipt:
        ticks = [tick_entry(0, self.partitions)] * 3
        return SettledReceipt(super().send([*ticks, *entries], timeout_s).appended[len(ticks) :])


@pytest.mark.parametrize("ahead_ms", [48 * HOUR_MS, -48 * HOUR_MS])
def test_a_broker_with_a_wrong_clock_is_named_and_claims_go_on(
    ahead_ms: int, site: FollowedLog, caplog: pytest.LogCaptureFixture
) -> None:
    with scheduler(site, lambda: wall_ms() + ahead_ms) as one, caplog.at_level(logging.WARNING):
        for number in range(3):
            request = PlacementRequest("resources=VCPU:1", consumer=f"c{number}", hold_ms=30_000)
            assert one.place(request, timeout_s=30).status == "placed"
        assert all(held(site, f"c{number}") for number in range(3))
    side = "ahead of" if ahead_ms > 0 else "behind"
    assert [line for line in caplog.messages if f"the log's clock is 2.0 d {side} this host's clock" in line]


def test_after_one_append_by_a_wrong_clock_claims_are_placed_at_once(site: FollowedLog) -> None:
    wrong = MemoryLog(parse_log_url(site.log.url), lambda: wall_ms() + 100 * YEAR_MS)
    with site.scheduler() as one:
        assert one.place("resources=VCPU:1", timeout_s=30).status == "placed"
        wrong.append([tick_entry(0, 1)])
        for number in range(3):
            request = PlacementRequest("resources=VCPU:1", consumer=f"c{number}", hold_ms=30_000)
            placed = one.place(request, timeout_s=30)
            assert placed.status == "placed"
            assert placed.lost_claims <= 1  # the first one, which was made before the leap was read
    assert all(held(site, f"c{number}") for number in range(3))


def test_a_hold_on_a_log_that_was_idle_for_a_week_lasts(site: FollowedLog) -> None:
    later = 7 * 24 * HOUR_MS
    log = MemoryLog(parse_log_url(site.log.url), lambda: wall_ms() + later)
    log.clock = LogClock(log.name, lambda: wall_ms() + later)
    with Scheduler(log, site.store, site.registry, seed=1) as one:
        one.place(PlacementRequest("resources=VCPU:1", consumer="c", hold_ms=30_000), timeout_s=30)
        log.append([tick_entry(0, 1)] * 5)
        one.place("resources=VCPU:1", timeout_s=30)
    assert held(site, "c")


def test_staleness_goes_by_the_clock_of_the_log(site: FollowedLog) -> None:
    with scheduler(site, lambda: wall_ms() + 120_000) as one:
        assert one.place("resources=VCPU:1", timeout_s=30).status == "placed"  # it shows the log's clock
        with pytest.raises(NoValidHost):
            one.place("resources=VCPU:1", timeout_s=30, max_staleness_s=60)
        assert one.place("resources=VCPU:1", timeout_s=30, max_staleness_s=180).status == "placed"


@pytest.fixture
def set_clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets this host's clock that number of seconds ahead of the right time."""

    def set_to(ahead_s: int) -> None:
        monkeypatch.setattr(time, "time_ns", lambda: time.clock_gettime_ns(0) + ahead_s * 10**9)
        monkeypatch.setattr(time, "time", lambda: time.clock_gettime(0) + ahead_s)

    return set_to


def right_ms() -> int:
    """The right time, by which the log's records are stamped."""
    return time.clock_gettime_ns(0) // 1_000_000


def right_log(site: FollowedLog) -> MemoryLog:
    """The site's log, stamped by the right time whatever this host's clock says."""
    return MemoryLog(parse_log_url(site.log.url), right_ms)


def test_queries_count_staleness_in_log_time_whatever_this_hosts_clock_says(
    site: FollowedLog, set_clock: Callable[[int], None]
) -> None:
    request = "resources=VCPU:1"
    set_clock(120)
    with StoreQuery(site.store, site.registry) as query:
        assert [one.root for one in query.candidates(request, max_staleness_s=60).candidates] == ["n1"]
        assert query.explain(request, max_staleness_s=60).left == 1
        assert query.why_not(request, "n1", max_staleness_s=60).fits
    set_clock(-3_600)
    with Scheduler(right_log(site), site.store, site.registry) as one:
        assert one.candidates(request, max_staleness_s=60).candidates


def test_a_node_that_is_silent_while_log_time_passes_is_stale(site: FollowedLog) -> None:
    later = MemoryLog(parse_log_url(site.log.url), lambda: wall_ms() + 90_000)
    request = "resources=VCPU:1"
    with StoreQuery(site.store, site.registry) as query:
        (landed,) = later.append([tick_entry(0, 1)])
        wait_for(site.reader, {0: landed.offset + 1})
        assert query.candidates(request, max_staleness_s=600).candidates
        assert not query.candidates(request, max_staleness_s=60).candidates
        assert query.explain(request, max_staleness_s=60).left == 0
        assert not query.why_not(request, "n1", max_staleness_s=60).fits


def test_a_log_that_is_silent_makes_its_nodes_stale_for_who_watches(
    site: FollowedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    request, now_s = "resources=VCPU:1", time.monotonic()
    monkeypatch.setattr(log_time, "time", SimpleNamespace(monotonic=lambda: now_s))
    with StoreQuery(site.store, site.registry) as query:
        assert query.candidates(request, max_staleness_s=60).candidates
        now_s += 61
        assert not query.candidates(request, max_staleness_s=60).candidates


@pytest.mark.parametrize("ahead_s", [120, 50, -120])
def test_the_first_placement_measures_the_clock_and_holds_last_as_asked(
    ahead_s: int,
    site: FollowedLog,
    set_clock: Callable[[int], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    set_clock(ahead_s)
    asked = PlacementRequest("resources=VCPU:1", consumer="c", hold_ms=300_000)
    with (
        Scheduler(right_log(site), site.store, site.registry, seed=1) as one,
        caplog.at_level(logging.WARNING),
    ):
        before_ms = right_ms()
        assert one.place(asked, timeout_s=30, max_staleness_s=60).status == "placed"
        ((_, row),) = one.allocations("c")
        assert before_ms <= row.hold_until_ms - 300_000 <= right_ms()
    side = "behind" if ahead_s > 0 else "ahead of"
    assert [line for line in caplog.messages if f"{side} this host's clock" in line]


def test_no_tick_is_appended_for_a_store_that_has_not_read_the_log(tmp_path: Path) -> None:
    """Its log time is an old one because it lags, not because the log was idle."""
    registry, home = Registry(), tmp_path / "store"
    openings = opening_records(2, events.Rules(version=RULES_VERSION))
    with create_log("memory://not-read", 2, openings) as log, open_store(home, log, registry):
        before = log.end()
        with Scheduler(log, home, registry, seed=1) as one, pytest.raises(NoValidHost):
            one.place("resources=VCPU:1", timeout_s=0.2)
        types = [
            json.loads(record.value)["type"]
            for partition, first in before.items()
            for record in log.read(partition, first, 2_000)
        ]
        assert types.count("vacancy.tick.v1") <= 1, "one measures the clock"


def test_settling_waits_for_the_latest_deadline_by_the_logs_clock(
    site: FollowedLog, set_clock: Callable[[int], None]
) -> None:
    set_clock(-120)
    time.sleep(0.01)  # the log is idle
    with Scheduler(right_log(site), site.store, site.registry, deadline_s=60) as one:
        now_ms = right_ms()
        assert one.settle("c", timeout_s=0.0).deadline_ms >= now_ms + 60_000


def test_placing_keeps_its_timeout_and_names_the_clock(site: FollowedLog) -> None:
    log = Leaping(parse_log_url(site.log.url), lambda: wall_ms() + 100 * YEAR_MS)
    with (
        Scheduler(log, site.store, site.registry, seed=1, attempts=MANY) as one,
        pytest.raises(ClaimLost, match="no time left") as lost,
    ):
        one.place("resources=VCPU:1", timeout_s=3)
    assert "the log's clock is 36500.0 d ahead of this host's clock" in str(lost.value)
    assert "lost to others" not in str(lost.value)
    assert "check the clocks" in str(lost.value)


def test_a_difference_is_named_once_and_again_when_it_changes(caplog: pytest.LogCaptureFixture) -> None:
    now = 1_000_000_000
    clock = LogClock("log", lambda: now)
    with caplog.at_level(logging.INFO):
        for ahead_ms in (0, 9_000, 48 * HOUR_MS, 48 * HOUR_MS + 5_000, 48 * HOUR_MS, 12_000, -700_000, 0, 0):
            clock.note(now, now + ahead_ms)
            assert clock.ahead_ms == ahead_ms
            assert clock.now_ms() == now + ahead_ms
    assert [line.removeprefix("log log: ") for line in caplog.messages] == [
        "the log's clock is 2.0 d ahead of this host's clock",
        "the log's clock is 12.0 s ahead of this host's clock",
        "the log's clock is 11.7 min behind this host's clock",
        "its clock and this host's clock agree again",
    ]
