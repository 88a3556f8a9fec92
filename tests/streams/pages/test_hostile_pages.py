"""The pages of a worker can be read by programs and shown on a terminal, whatever text is in names and errors."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.streams.worker.test_partition_ownership import Tables
from tests.support.processes.kafka_server import free_ports
from vacancy.resources.model.errors import Halt, VacancyError
from vacancy.streams.pages import metrics
from vacancy.streams.pages.not_ready_server import NotReadyServer
from vacancy.streams.printable import printable_lines
from vacancy.streams.settings import WebAddress
from vacancy.streams.worker.partition_ownership import PartitionOwnership

BAD = (
    'quote " backslash \\ brace { } comma , \r\nvacancy_worker_ready{log="forged"} 1\n\x1b]0;owned\x07\x1b[2J\x9b31m'
    "\x7f\u202e\u2066\u2028\u200b\ufeff"
)


class Source:
    """The state of a worker whose log has a bad name, and one of whose partitions stopped with a bad error."""

    ready, ticks, log_name = False, 3, BAD

    def __init__(self) -> None:
        self.errors: list[VacancyError] = []
        self.ownership = PartitionOwnership(Tables(), BAD, on_failed=self.errors.append)
        self.ownership.open(0)
        self.ownership.errors[0] = Halt(f"class {BAD}", where=f"node {BAD}", do=BAD)


def check_text(text: str) -> None:
    """A page has no character that a terminal obeys, but for the ends of lines."""
    assert text == printable_lines(text)


def samples(text: str) -> list[Any]:
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def test_metrics_parse_and_forge_nothing() -> None:
    text = metrics.render(Source())
    check_text(text)
    found = samples(text)
    assert {sample.labels["log"] for sample in found} == {found[0].labels["log"]}
    assert "quote" in found[0].labels["log"]
    assert [sample.value for sample in found if sample.name == "vacancy_worker_ready"] == [0.0]
    assert [sample.value for sample in found if sample.name == "vacancy_worker_partition_stopped"] == [1.0]


def test_the_status_parses() -> None:
    text = json.dumps(metrics.status(Source()))  # as the page does
    check_text(text)
    found = json.loads(text)
    assert found["log"] == BAD
    assert found["errors"]["0"].startswith("class quote")


@pytest.mark.parametrize("page", ["ready", "status", "metrics"])
def test_the_pages_of_a_worker_that_waits(page: str) -> None:
    (port,) = free_ports(1)
    server = NotReadyServer(WebAddress(port=port), BAD)
    try:
        server.show(time.monotonic(), BAD)
        address = f"http://127.0.0.1:{port}/{page}"
        try:
            with urllib.request.urlopen(address, timeout=60) as answer:
                text = answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                text = error.read().decode()
    finally:
        server.close()
    check_text(text)
    if page == "metrics":
        (sample,) = samples(text)
        assert (sample.name, sample.value) == ("vacancy_worker_ready", 0.0)
        assert "quote" in sample.labels["log"]
    else:
        assert json.loads(text)["ready"] is False
