"""What a scheduler counts, in the registry of its process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from tests.clients.metrics.metric_text import Samples, check_defined, samples, value
from tests.support.logs.followed_log import FollowedLog, followed_log
from vacancy.clients.metrics.scheduler_metrics import (
    CLASSES_MAX,
    OTHERS,
    SCHEDULER_METRICS,
    SchedulerMetrics,
)
from vacancy.clients.scheduler.client import Scheduler
from vacancy.clients.scheduler.placement import PlacementRequest
from vacancy.resources.model.errors import ConsumerExists, NoValidHost

NAME = {"scheduler": "zone"}


class Site:
    """A log with a node of 8 VCPU, and a scheduler with metrics."""

    def __init__(self, followed: FollowedLog) -> None:
        self.followed = followed
        self.registry = CollectorRegistry()
        self.metrics = SchedulerMetrics(self.registry)
        followed.report("a")
        self.scheduler = Scheduler(
            followed.log, followed.store, followed.registry, seed=1, name="zone", metrics=self.metrics
        )

    @property
    def text(self) -> str:
        return generate_latest(self.registry).decode()

    @property
    def found(self) -> Samples:
        return samples(self.text)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with followed_log(tmp_path, partitions=1) as followed:
        made = Site(followed)
        with made.scheduler:
            yield made


def test_what_is_served_is_what_is_defined(site: Site) -> None:
    site.scheduler.place("resources=VCPU:1")
    with pytest.raises(NoValidHost):
        site.scheduler.place("resources=VCPU:9")
    with pytest.raises(NoValidHost):
        site.scheduler.resize(site.scheduler.place("resources=VCPU:1").consumer, {"VCPU": 99})
    check_defined(site.text, SCHEDULER_METRICS)


def test_moves(site: Site) -> None:
    site.followed.report("b")
    consumer = site.scheduler.place("resources=VCPU:1").consumer
    site.scheduler.move(consumer)
    site.scheduler.resize(consumer, {"VCPU": 2})
    with pytest.raises(NoValidHost):
        site.scheduler.resize(consumer, {"VCPU": 99})
    found = site.found
    assert value(found, "vacancy_scheduler_moves_total", kind="move", outcome="placed", **NAME) == 1
    for outcome in ("placed", "no_valid_host"):
        assert value(found, "vacancy_scheduler_moves_total", kind="resize", outcome=outcome, **NAME) == 1
    assert value(found, "vacancy_scheduler_move_seconds_count", **NAME) == 3
    assert value(found, "vacancy_scheduler_claims_total", verdict="accepted", **NAME) == 3


def test_placements_claims_and_latencies(site: Site) -> None:
    list(site.scheduler.place_many(["resources=VCPU:1"] * 4, in_flight=4))
    site.scheduler.place_gang(["resources=VCPU:1"] * 2)
    found = site.found
    assert value(found, "vacancy_scheduler_placements_total", outcome="placed", **NAME) == 6
    assert value(found, "vacancy_scheduler_claims_total", verdict="accepted", **NAME) == 6
    assert value(found, "vacancy_scheduler_query_seconds_count", **NAME) == 5  # one for the gang
    for name in ("claim", "placement"):
        assert value(found, f"vacancy_scheduler_{name}_seconds_count", **NAME) == 6
        assert value(found, f"vacancy_scheduler_{name}_seconds_sum", **NAME) > 0
    assert value(found, "vacancy_scheduler_requests_in_flight", **NAME) == 0
    assert value(found, "vacancy_scheduler_tables_age_seconds", **NAME) < 3600


@pytest.mark.parametrize(
    ("request_", "constraint", "resource_class"),
    [
        ("resources=VCPU:9", "resources", "VCPU"),
        ("resources=VCPU:1&required=HW_CPU_X86_AVX512F", "trait", ""),
        ("resources=MEMORY_MB:1", "resources", "MEMORY_MB"),
    ],
)
def test_no_valid_host_by_the_last_constraint(
    site: Site, request_: str, constraint: str, resource_class: str
) -> None:
    for _ in range(2):  # the second time it is known
        with pytest.raises(NoValidHost):
            site.scheduler.place(request_)
    labels = {"constraint": constraint, "class": resource_class, **NAME}
    assert value(site.found, "vacancy_scheduler_no_valid_host_total", **labels) == 2
    assert value(site.found, "vacancy_scheduler_placements_total", outcome="no_valid_host", **NAME) == 2


def test_requests_for_many_classes_make_no_endless_series() -> None:
    metrics = SchedulerMetrics(CollectorRegistry())
    names = [f"CUSTOM_{number}" for number in range(CLASSES_MAX + 9)]
    assert [metrics.class_label(name) for name in names] == [*names[:CLASSES_MAX], *[OTHERS] * 9]
    assert metrics.class_label(names[3]) == names[3]
    assert metrics.class_label("") == ""


def test_a_rejection(site: Site) -> None:
    again = PlacementRequest("resources=VCPU:1", consumer="one")
    site.scheduler.place(again)
    with pytest.raises(ConsumerExists):
        site.scheduler.place(again)
    assert value(site.found, "vacancy_scheduler_claims_total", verdict="consumer_exists", **NAME) == 1
    assert value(site.found, "vacancy_scheduler_placements_total", outcome="lost", **NAME) == 1


def test_a_caller_who_stops_leaves_nothing_in_flight(site: Site) -> None:
    outcomes = site.scheduler.place_many(["resources=VCPU:1"] * 6, in_flight=6)
    next(outcomes)
    outcomes.close()
    assert value(site.found, "vacancy_scheduler_requests_in_flight", **NAME) == 0


def test_two_schedulers_share_the_metrics_of_a_process(site: Site) -> None:
    followed = site.followed
    with Scheduler(
        followed.log, followed.store, followed.registry, name="other", metrics=site.metrics
    ) as other:
        other.place("resources=VCPU:1")
    site.scheduler.place("resources=VCPU:1")
    for name in ("zone", "other"):
        labels = {"scheduler": name, "outcome": "placed"}
        assert value(site.found, "vacancy_scheduler_placements_total", **labels) == 1
