"""A broken fleet raises its alerts: the real metrics of a worker, of a publisher, of a scheduler and of the fleet, before and after, are the
series that Prometheus' own rule checker gets."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest

from tests.cli.command import STARTED_S
from tests.clients.metrics.metric_text import Samples, samples, text_of, value
from tests.support.sites.snapshot_site import REGISTRY, SnapshotSite, snapshot_site
from tests.test_monitoring import FOLDER, RULES, needs_promtool, promtool
from vacancy.clients.metrics.fleet_metrics import FleetMetrics
from vacancy.clients.metrics.publisher_metrics import PublisherMetrics
from vacancy.clients.metrics.scheduler_metrics import SchedulerMetrics
from vacancy.clients.publisher.outbox import Outbox, OutboxKind, Outgoing
from vacancy.clients.runtime.worker_process import run_worker
from vacancy.clients.scheduler.client import Scheduler
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.projections.snapshots.storage import SnapshotStorage
from vacancy.resources.fold.rules_versions import RULES_VERSION
from vacancy.resources.model import events
from vacancy.resources.model.errors import Halt
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import NewRecord
from vacancy.streams.settings import WebAddress

HEALTHY_STEPS, BROKEN_STEPS, STEP_S = 20, 40, 30
"""The series have the samples of the healthy fleet for ten minutes, then those of the broken one for twenty."""

CELLS = covering_cells(2)

EXPECTED = {
    "VacancyPartitionStopped",
    "VacancyStoresDiffer",
    "VacancyDeadLetters",
    "VacancySilentNodes",
    "VacancyClassFull",
    "VacancyOutboxGrows",
    "VacancyNoValidHost",
}


class Fleet:
    """A log with 20 nodes, a worker that serves its metrics, a reader of its store, a scheduler and a node's outbox."""

    def __init__(self, site: SnapshotSite, worker: str) -> None:
        self.log, self.worker = site.log, worker
        self.reader = StoreReader(site.store, REGISTRY, with_view=False)
        self.counted = CollectorRegistry()
        self.scheduler = Scheduler(
            site.log, site.store, REGISTRY, name="z", metrics=SchedulerMetrics(self.counted)
        )
        self.outbox = Outbox(site.home / "outbox.db")
        self.silent_s = 3600.0

    def scrape(self) -> dict[str, Samples]:
        """The samples of each job."""
        with urllib.request.urlopen(f"http://{self.worker}/metrics", timeout=60) as answer:
            worker = answer.read().decode()
        fleet = FleetMetrics(
            self.reader, silent_s=self.silent_s, snapshots=SnapshotStorage(str(self.reader.path / "none"))
        )
        return {
            "vacancy": samples(worker),
            "vacancy-fleet": samples(text_of(fleet)),
            "scheduler": samples(generate_latest(self.counted).decode()),
            "node": samples(text_of(PublisherMetrics("node-a", self.outbox))),
        }

    def worker_value(self, name: str, partition: int) -> float:
        return value(
            self.scrape()["vacancy"],
            f"vacancy_worker_{name}",
            log=self.log.name,
            partition=str(partition),
        )

    def append(self, cell: str, event: events.Event | bytes) -> int:
        """Append an event. Returns its offset."""
        data = event if isinstance(event, bytes) else events.encode(event)
        (at,) = self.log.append([NewRecord(cell, data)])
        return at.offset

    def close(self) -> None:
        self.scheduler.close()
        self.reader.close()
        self.outbox.close()


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with snapshot_site(tmp_path) as site:
        stop: SimpleQueue[None] = SimpleQueue()
        ready: SimpleQueue[Any] = SimpleQueue()

        def work() -> None:
            with suppress(Halt):  # it raises at its end why a partition stopped
                run_worker(site.log.url, site.store, web=WebAddress(port=0), stop=stop, on_ready=ready.put)

        worker = threading.Thread(target=work)
        worker.start()
        made = None
        try:
            made = Fleet(site, ready.get(timeout=STARTED_S).web_address)
            yield made
        finally:
            if made is not None:
                made.close()
            stop.put(None)
            worker.join()


def until(true: Callable[[], bool]) -> None:
    give_up = time.monotonic() + STARTED_S
    while not true():
        assert time.monotonic() < give_up
        time.sleep(0.05)


def break_it(fleet: Fleet) -> None:
    """All at once: a full class, dead letters, another state elsewhere, silent nodes, a full outbox, a stopped partition."""
    placed = list(fleet.scheduler.place_many(["resources=VCPU:4"] * 20, in_flight=8))
    assert [one.status for one in placed] == ["placed"] * 20
    refused = list(fleet.scheduler.place_many(["resources=VCPU:4"] * 4, in_flight=1))
    assert [one.status for one in refused] == ["no_valid_host"] * 4
    fleet.append(CELLS[0], b"{")
    other = events.StateMarkedData(store=uuid.uuid4().hex)
    marked = fleet.append(CELLS[0], events.StateMarked(id="mark", source="/other", data=other))
    digest = events.StateDigestedData(store=other.store, position=marked + 1, digest="0" * 32)
    fleet.append(CELLS[0], events.StateDigested(id="digest", source="/other", data=digest))
    event = Outgoing("c", OutboxKind.FULL, "0" * 16, 1, b"{}")
    fleet.outbox.put("node-a", event)
    newer = events.Rules(version=RULES_VERSION + 1)
    fleet.append(CELLS[1], events.RulesProposed(id="newer", source="/op", data=newer))
    answer = events.RulesSupportedData(proposal="newer", store=other.store)
    fleet.append(CELLS[1], events.RulesSupported(id="answer", source="/other", data=answer))
    fleet.append(CELLS[1], events.RulesActivated(id="activated", source="/op", data=newer))
    fleet.silent_s = 0.0
    until(lambda: fleet.worker_value("differing_stores", 0) == 1)
    until(lambda: fleet.worker_value("partition_stopped", 1) == 1)


def series(before: dict[str, Samples], after: dict[str, Samples]) -> list[dict[str, str]]:
    """The input series of promtool: what each job served, for a while, and then what it serves when all is broken. A counter goes on
    to count as it did."""
    found = [
        {"series": 'up{job="vacancy", instance="vacancy:1"}', "values": f"1x{HEALTHY_STEPS + BROKEN_STEPS}"}
    ]
    for job, samples_after in after.items():
        for (name, labels), broken in samples_after.items():
            healthy = before[job].get((name, labels), 0.0)
            named = {"job": job, "instance": f"{job}:1", **dict(labels)}
            text = ", ".join(f"{label}={json.dumps(content)}" for label, content in named.items())
            grows = broken - healthy if name.endswith("_total") and job == "scheduler" else 0
            values = f"{healthy}+0x{HEALTHY_STEPS} {broken}+{grows}x{BROKEN_STEPS}"
            found.append({"series": f"{name}{{{text}}}", "values": values})
    return found


def firing(at_step: int, alerts: set[str]) -> dict[str, Any]:
    """The test that these alerts fire then, and no others."""
    expected = [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in sorted(alerts)]
    return {
        "expr": 'count by (alertname) (count by (alertname, job) (ALERTS{alertstate="firing"}))',
        "eval_time": f"{at_step * STEP_S}s",
        "exp_samples": expected,
    }


@needs_promtool
def test_what_is_broken_raises_its_alert_and_nothing_else_does(fleet: Fleet, tmp_path: Path) -> None:
    assert {rule["alert"] for rule in RULES} >= EXPECTED
    until(lambda: value(fleet.scrape()["vacancy"], "vacancy_worker_ready", log=fleet.log.name) == 1)
    before = fleet.scrape()
    break_it(fleet)
    after = fleet.scrape()
    test = {
        "interval": f"{STEP_S}s",
        "input_series": series(before, after),
        "promql_expr_test": [
            firing(HEALTHY_STEPS - 1, set()),
            firing(HEALTHY_STEPS + 14, EXPECTED - {"VacancyOutboxGrows"}),  # it takes ten minutes
            firing(HEALTHY_STEPS + 24, EXPECTED - {"VacancyDeadLetters"}),  # no more came since
        ],
    }
    file = tmp_path / "broken.yml"
    rules = {"rule_files": [str(FOLDER / "alerts.yml")], "evaluation_interval": f"{STEP_S}s"}
    file.write_text(yaml.safe_dump({**rules, "tests": [test]}))
    assert "SUCCESS" in promtool("test", "rules", file)
