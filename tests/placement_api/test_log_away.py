"""The broker is down: reads go on and say as of when they are, writes answer 503 and say what is known."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import pytest

from tests.live.site import new_topic
from tests.placement_api.site import START_S, Site, claim, providers_with
from tests.support.processes.kafka_server import KafkaCluster

pytestmark = [pytest.mark.kafka, pytest.mark.long]
"""`test_serve.py` has the short form: a log in SQLite that another writer keeps."""


def test_a_broker_that_is_down(mortal_kafka: KafkaCluster, tmp_path: Path) -> None:
    with new_topic(mortal_kafka.servers) as log, ExitStack() as stack:
        site = Site(tmp_path, stack, log=log.url, processes=1)
        one, _ = providers_with(site, 4)
        first, second = f"/allocations/{uuid4()}", f"/allocations/{uuid4()}"
        assert site.ask(site.connect(), "PUT", first, claim(one))[0] == 204
        mortal_kafka.kill(1)
        status, body, _ = site.ask(site.connect(), "PUT", second, claim(one))
        assert status == 503
        detail = body["errors"][0]["detail"]
        assert "nothing was written" in detail or "it is not known whether it was written" in detail
        site.check_read(one, 1)
        mortal_kafka.restart(1)
        until = time.monotonic() + START_S
        while (status := site.ask(site.connect(), "PUT", second, claim(one))[0]) == 503:
            assert time.monotonic() < until
        assert status in (204, 409), "409: the first one was written after all"
        assert site.ask(site.connect(), "GET", second)[1]["consumer_generation"] == 1
        site.check_read(one, 2)
        assert site.verify()["audit"]["overcommitted"] == 0
