"""The latency on the page is that of the histograms which schedulers serve, as Prometheus computes it."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, start_http_server

from tests.support.sites.ui_site import Fleet, served
from tests.ui.test_views import WAIT_S, get, get_json
from vacancy.clients.metrics.scheduler_metrics import SchedulerMetrics
from vacancy.ui.http.rendering import latency_text
from vacancy.ui.latency import quantile
from vacancy.ui.pages.status import plot

INF = math.inf


@pytest.mark.parametrize(
    ("buckets", "share", "expected"),
    [
        ({}, 0.5, None),
        ({0.1: 0.0, INF: 0.0}, 0.5, None),
        ({0.1: 10.0, 0.2: 10.0, INF: 10.0}, 0.5, 0.05),
        ({0.1: 5.0, 0.2: 10.0, INF: 10.0}, 0.75, 0.15),
        ({0.1: 0.0, 0.2: 10.0, INF: 10.0}, 0.99, 0.199),
        ({0.1: 1.0, INF: 100.0}, 0.99, 0.1),  # it took longer than the largest bound
    ],
)
def test_a_quantile(buckets: dict[float, float], share: float, expected: float | None) -> None:
    found = quantile(buckets, share)
    assert found == expected if expected is None else found == pytest.approx(expected)


def test_a_line_has_a_gap_where_nothing_is_known() -> None:
    assert plot([None, 1.0, None, 2.0], looks=4) == ("M200.0,31.0h0 M600.0,2.0h0", 2.0)
    assert plot([1.0, 2.0], looks=2)[0] == "M0.0,31.0h0 L600.0,2.0"
    assert [latency_text(one) for one in (None, 0.000_12, 0.0034, 0.12, 1.23)] == [
        *("–", "0.12\u2009ms", "3.4\u2009ms", "120\u2009ms", "1.2\u2009s"),
    ]


def test_the_status_has_the_latency_of_all_schedulers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vacancy.ui.latency.LOOK_S", 0.1)
    monkeypatch.setattr("vacancy.ui.latency.KEPT", 10_000)  # so that nothing is too old on a slow machine
    monkeypatch.setattr("vacancy.ui.latency._ANSWER_S", 60.0)
    fleet = Fleet(tmp_path, nodes=1)
    registries = [CollectorRegistry() for _ in range(2)]
    schedulers = [SchedulerMetrics(one) for one in registries]
    servers = [start_http_server(0, "127.0.0.1", one) for one in registries]
    urls = [f"http://127.0.0.1:{server.server_port}/metrics" for server, _ in servers]
    fleet.settings = fleet.settings.model_copy(update={"schedulers": (*urls, "http://127.0.0.1:1/metrics")})
    for one in schedulers:
        one.query_seconds.labels("before").observe(0.9)  # before the page looked: of no time that it knows
    with served(fleet) as address:
        began, found = time.monotonic(), dict[str, Any]()
        # Both have the name "before", and only the third address is silent: so the page has looked at both.
        while found.get("schedulers") != 1 or len(found["silent"]) != 1:
            assert time.monotonic() < began + WAIT_S, found
            found = get_json(f"{address}/status.json")["latency"]
        for name, one in zip(("a", "b"), schedulers, strict=True):
            for _ in range(50):
                one.query_seconds.labels(name).observe(0.000_2)
                one.claim_seconds.labels(name).observe(0.03 if name == "a" else 0.3)
        while found["kinds"][1]["count"] != 100:
            assert time.monotonic() < began + WAIT_S, found
            found = get_json(f"{address}/status.json")["latency"]
        query, claim, placement = found["kinds"]
        assert query["count"] == 100
        assert 0.000_1 < query["p50_s"] <= query["p99_s"] <= 0.000_25
        assert 0.025 < claim["p50_s"] <= 0.05
        assert 0.25 < claim["p99_s"] <= 0.5
        assert placement == {"kind": "placement", "count": 0, "p50_s": None, "p95_s": None, "p99_s": None}
        text = get(f"{address}/status")[1].decode()
        assert "No answer from http://127.0.0.1:1/metrics" in text
        assert "Claim, p99" in text
        assert "3 schedulers, the last five minutes" in text
    with served(fleet, redacted=True) as address:
        assert get_json(f"{address}/status.json")["latency"] is None
        assert b"schedulers" not in get(f"{address}/status")[1]
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()
    fleet.close()
