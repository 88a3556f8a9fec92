"""What a publisher counts, in a file, on a port, and in a registry."""

from __future__ import annotations

import time
import urllib.request
from pathlib import Path

import pytest

from tests.cli.command import STARTED_S, Vacancy, node_file
from tests.clients.metrics.metric_text import check_defined, samples, text_of, value
from vacancy.clients.metrics.publisher_metrics import PUBLISHER_METRICS, PublisherMetrics, write_metrics
from vacancy.clients.publisher.outbox import Outbox
from vacancy.clients.publisher.publisher import Publisher
from vacancy.clients.publisher.service import PublishService
from vacancy.clients.runtime.bootstrap import installed_registry, new_log
from vacancy.resources.model.errors import UsageError
from vacancy.resources.model.events import ProviderReport

NODE = {"node": "a"}


def test_an_outbox_that_grows_while_the_log_is_away(tmp_path: Path) -> None:
    trees = [(ProviderReport(id="a", inventories={"VCPU": {"total": count}}),) for count in (1, 2)]
    inventories = iter(trees)
    with Outbox(tmp_path / "outbox.db") as outbox:
        metrics = PublisherMetrics("a", outbox)
        with new_log(f"sqlite://{tmp_path}/log.db", 1, installed_registry()) as log:
            publisher = Publisher(log, "a", "c", outbox)
            service = PublishService(publisher, lambda: next(inventories), flush_timeout_s=60.0)
            metrics.attach(publisher, service)
            service.run_once()
            found = samples(text_of(metrics))
            check_defined(text_of(metrics), PUBLISHER_METRICS)
        assert value(found, "vacancy_publisher_outbox_events", **NODE) == 0
        assert value(found, "vacancy_publisher_events_total", **NODE) == 1
        assert value(found, "vacancy_publisher_log_answers", **NODE) == 1
        assert abs(time.time() - value(found, "vacancy_publisher_last_event_time_seconds", **NODE)) < 3600
        service.run_once()  # the log is closed
        service.run_once()  # and the inventory cannot be collected
        found = samples(text_of(metrics))
    assert value(found, "vacancy_publisher_outbox_events", **NODE) == 1
    assert value(found, "vacancy_publisher_outbox_bytes", **NODE) > 50
    assert value(found, "vacancy_publisher_outbox_durable", **NODE) == 1
    assert value(found, "vacancy_publisher_log_answers", **NODE) == 0
    assert value(found, "vacancy_publisher_inventory_errors_total", **NODE) == 1


def test_before_the_log_answers_there_is_the_outbox(tmp_path: Path) -> None:
    with Outbox(tmp_path / "outbox.db") as outbox:
        file = tmp_path / "vacancy.prom"
        write_metrics(file, PublisherMetrics("a", outbox))
        found = samples(file.read_text())
    assert value(found, "vacancy_publisher_outbox_events", **NODE) == 0
    assert value(found, "vacancy_publisher_log_answers", **NODE) == 0


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    with Outbox(tmp_path / "outbox.db") as outbox, pytest.raises(UsageError, match="cannot be written"):
        write_metrics(tmp_path / "none" / "vacancy.prom", PublisherMetrics("a", outbox))


def test_the_command_writes_a_file_and_serves_a_port(tmp_path: Path) -> None:
    file = tmp_path / "vacancy.prom"
    with Vacancy(tmp_path) as vacancy:
        words = ("publish", "--file", node_file(tmp_path, "a"), "--metrics-file", file, "--metrics-port", "0")
        with vacancy.serving(*words, until="publishing a") as said:
            (address,) = [line.split("//")[1].strip() for line in said if "metrics at" in line]
            until = time.monotonic() + STARTED_S
            while value(samples(file.read_text()), "vacancy_publisher_events_total", **NODE) < 1:
                assert time.monotonic() < until
                time.sleep(0.05)
            with urllib.request.urlopen(f"http://{address}", timeout=60) as answer:
                check_defined(answer.read().decode(), PUBLISHER_METRICS)
