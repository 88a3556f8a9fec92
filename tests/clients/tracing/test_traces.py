"""One trace leads from a request through its claim in the log to the verdict of each worker."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from msgspec import Raw
from msgspec.structs import replace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import StatusCode

from tests.cli.command import STARTED_S, Vacancy
from vacancy.clients.demo.synthetic_fleet import node_reports
from vacancy.clients.runtime.bootstrap import installed_registry, new_log, open_store
from vacancy.clients.scheduler.client import Scheduler
from vacancy.clients.tracing.scheduler_tracing import SchedulerTracing
from vacancy.clients.tracing.switch import scheduler_tracing
from vacancy.clients.tracing.verdict_tracing import VerdictTracing
from vacancy.projections.store.store import Store
from vacancy.resources.fold.rules_versions import RULES_VERSIONS
from vacancy.resources.model.encoding.event_encoding import (
    AllocationWire,
    ClaimWire,
    encode_claims,
    encode_gang,
)
from vacancy.resources.model.encoding.trace_context import claim_contexts, trace_attributes
from vacancy.resources.model.errors import NoValidHost, UsageError
from vacancy.resources.model.events import BATCH_MAX, ClaimsRequestedV2, GangRequested, ProviderReport
from vacancy.resources.model.partitioner import cell_for
from vacancy.resources.model.record import NewRecord, Record
from vacancy.streams.log import Log
from vacancy.streams.worker.embedded_worker import EmbeddedWorker

CELL = cell_for("node-0", 1)
CONTEXTS = [f"00-{number:032x}-{number:016x}-01" for number in (1, 2)]


class Site(NamedTuple):
    """A log with one partition and four nodes, its traced worker and the spans of worker and schedulers."""

    log: Log
    store: Path
    spans: InMemorySpanExporter
    provider: TracerProvider

    def scheduler(self, provider: TracerProvider | None = None) -> Scheduler:
        tracing = SchedulerTracing(provider or self.provider)
        return Scheduler(self.log, self.store, installed_registry(), seed=1, tracing=tracing)

    def finished(self, name: str, count: int) -> list[ReadableSpan]:
        """The spans with this name, as soon as there are enough: a worker ends its own after the commit."""
        until = time.monotonic() + STARTED_S
        while len(found := [one for one in self.spans.get_finished_spans() if one.name == name]) < count:
            assert time.monotonic() < until, self.spans.get_finished_spans()
            time.sleep(0.01)
        assert len(found) == count
        return found


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    trees = [(ProviderReport(id=f"node-{n}", inventories={"VCPU": {"total": 4}}),) for n in range(4)]
    spans, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    with (
        new_log(f"sqlite://{tmp_path}/log.db", 1, installed_registry()) as log,
        open_store(tmp_path / "store", log, installed_registry()) as store,
    ):
        log.append(list(node_reports(trees, 1)))
        worker = _worker(log, store, provider)
        thread = threading.Thread(target=worker.run)
        thread.start()
        try:
            yield Site(log, tmp_path / "store", spans, provider)
        finally:
            worker.stop()
            thread.join()


def _worker(log: Log, store: Store, provider: TracerProvider) -> EmbeddedWorker:
    store.on_judged = VerdictTracing(store.id, provider)
    worker = EmbeddedWorker(log, store)
    while worker.step():
        pass
    return worker


def said(span: ReadableSpan) -> dict[str, Any]:
    """A span's attributes without the prefix."""
    return {name.removeprefix("vacancy."): value for name, value in (span.attributes or {}).items()}


def parent(span: ReadableSpan) -> int:
    assert span.parent is not None
    found: int = span.parent.span_id
    return found


def number(span: ReadableSpan) -> int:
    assert span.context is not None
    found: int = span.context.span_id
    return found


def test_a_placement_is_one_trace(site: Site) -> None:
    tracer = site.provider.get_tracer("caller")
    with site.scheduler() as scheduler, tracer.start_as_current_span("caller's request") as outer:
        outcome = scheduler.place("resources=VCPU:2")
    (judged,) = site.finished("vacancy judge", 1)
    (placed,), (claim,) = site.finished("vacancy place", 1), site.finished("vacancy claim", 1)
    (query,) = site.finished("vacancy query", 1)
    assert parent(placed) == outer.get_span_context().span_id
    assert parent(query) == parent(claim) == number(placed)
    assert parent(judged) == number(claim)
    assert len({one.context.trace_id for one in (placed, query, claim, judged) if one.context}) == 1
    ids = {"claim": outcome.claim, "cell": outcome.cell}
    assert said(placed).items() >= {**ids, "request": outcome.request, "outcome": "placed"}.items()
    assert said(claim).items() >= {**ids, "verdict": "accepted", "node": outcome.root}.items()
    assert said(judged).items() >= {**ids, "verdict": "accepted", "partition": 0}.items()


def test_a_move_and_a_resize_are_traced(site: Site) -> None:
    with site.scheduler() as scheduler:
        consumer = scheduler.place("resources=VCPU:2").consumer
        outcome = scheduler.move(consumer)
        with pytest.raises(NoValidHost):
            scheduler.resize(consumer, {"VCPU": 99})
    move, resize = site.finished("vacancy move", 2)
    claim = next(one for one in site.finished("vacancy claim", 2) if said(one)["claim"] == outcome.claim)
    assert parent(claim) == number(move)
    assert said(claim).items() >= {"verdict": "accepted", "node": outcome.root, "cell": outcome.cell}.items()
    assert said(move).items() >= {"kind": "move", "consumer": consumer, "outcome": "placed"}.items()
    assert said(resize).items() >= {"kind": "resize", "outcome": "no_valid_host"}.items()
    assert resize.status.status_code.name == "ERROR"


def test_claims_of_one_record_keep_their_own_traces(site: Site) -> None:
    with site.scheduler() as scheduler:
        placed = list(scheduler.place_many(["resources=VCPU:1"] * 8, in_flight=8))
        gang = scheduler.place_gang(["resources=VCPU:1"] * 2)
    judged = site.finished("vacancy judge", 10)
    claims = {number(one): said(one)["claim"] for one in site.finished("vacancy claim", 10)}
    assert len({said(one)["offset"] for one in judged}) < 10
    assert {claims[parent(one)]: said(one)["claim"] for one in judged} == {
        one.claim: one.claim for one in (*placed, *gang)
    }
    assert len({one.context.trace_id for one in site.finished("vacancy place", 10) if one.context}) == 10


def test_a_request_without_a_host_is_an_error(site: Site) -> None:
    with site.scheduler() as scheduler, pytest.raises(NoValidHost):
        scheduler.place("resources=VCPU:5")
    (placed,) = site.finished("vacancy place", 1)
    assert said(placed)["outcome"] == "no_valid_host"
    assert placed.status.status_code is StatusCode.ERROR


def test_a_rejection_and_a_dead_letter(site: Site) -> None:
    now = int(time.time() * 1000)
    full = ClaimWire("full", "a", now + 60_000, [AllocationWire("node-0", {"VCPU": 9})])
    bad = ClaimWire("bad", "not an id", now + 60_000, [AllocationWire("node-0", {"VCPU": 1})])
    for claim, context in zip((full, bad), CONTEXTS, strict=True):
        value = encode_claims(claim.id, "/test", [claim], contexts=trace_attributes([context]))
        site.log.append([NewRecord(CELL, value)])
    spans = {said(one)["claim"]: one for one in site.finished("vacancy judge", 2)}
    assert said(spans["full"])["verdict"] == "no_room"
    assert said(spans["bad"])["verdict"] == "dead letter"
    assert spans["bad"].status.status_code is StatusCode.ERROR
    assert [parent(spans[name]) for name in ("full", "bad")] == [1, 2]


def test_what_is_not_sampled_leaves_no_trace_in_the_log(site: Site) -> None:
    before = site.log.end()[0]
    off = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    with site.scheduler(off) as scheduler:
        scheduler.place("resources=VCPU:1")
    records = site.log.read(0, before, 100)
    assert any(b"claims.requested" in one.value for one in records)
    assert not any(b"traceparent" in one.value for one in records)
    assert site.spans.get_finished_spans() == ()


CLAIMS = [
    ClaimWire(
        f"c{n}",
        f"k{n}",
        1_000,
        [AllocationWire("node", {"VCPU": 1})],
        spec=Raw(b'{"groups":[{"resources":{"VCPU":1}}]}'),
    )
    for n in range(2)
]


@pytest.mark.parametrize("version", [rules.version for rules in RULES_VERSIONS])
def test_no_rules_see_a_trace_context(version: int) -> None:
    """So a record folds to the same state with it and without it, on this build and on those before it."""
    rules = next(one for one in RULES_VERSIONS if one.version == version)
    contexts = trace_attributes(CONTEXTS)
    assert contexts is not None
    plain = [encode_claims("e", "/s", CLAIMS)]
    traced = [encode_claims("e", "/s", CLAIMS, contexts=contexts)]
    if ClaimsRequestedV2 in rules.event_models:
        plain.append(encode_claims("e", "/s", CLAIMS, newest=True))
        traced.append(encode_claims("e", "/s", CLAIMS, newest=True, contexts=contexts))
    if GangRequested in rules.event_models:
        plain.append(encode_gang("e", "/s", CLAIMS))
        traced.append(encode_gang("e", "/s", CLAIMS, contexts))
    for without, with_context in zip(plain, traced, strict=True):
        assert rules.parse(with_context) == rules.parse(without)
        assert claim_contexts(without) == {}
        assert claim_contexts(with_context) == dict(zip(("c0", "c1"), CONTEXTS, strict=True))


@pytest.mark.parametrize(
    ("contexts", "found"),
    [
        ([None, CONTEXTS[1]], {"c1": CONTEXTS[1]}),
        ([CONTEXTS[0], None], {"c0": CONTEXTS[0]}),
        (["00-no-context-01", None], {}),
        ([CONTEXTS[0] + "\n", None], {}),
        ([CONTEXTS[0]], {}),  # fewer than claims
        ([f"00-{0:032x}-{1:016x}-01", f"00-{1:032x}-{0:016x}-01"], {}),  # ids that no span has
    ],
)
def test_contexts_of_some_claims(contexts: list[str | None], found: dict[str, str]) -> None:
    value = encode_claims("e", "/s", CLAIMS, contexts=trace_attributes(contexts))
    assert claim_contexts(value) == found


@pytest.mark.parametrize(
    "value", [b'"traceparent":', b'{"traceparent":1,"data":{"claims":[]}}', b"[" * 10_000 + b'"traceparent":']
)
def test_a_hostile_record_is_not_traced(value: bytes) -> None:
    assert claim_contexts(value) == {}


def test_what_no_claim_can_be_called_is_not_traced() -> None:
    """A refused record is traced as well, so what it names comes into log lines and spans."""
    for name in ("a\n{}", "\x1b[2J", "x" * 201, ""):
        claims = [replace(CLAIMS[0], id=name), CLAIMS[1]]
        value = encode_claims("e", "/s", claims, contexts=trace_attributes(CONTEXTS))
        assert claim_contexts(value) == {"c1": CONTEXTS[1]}
    many = [replace(CLAIMS[0], id=f"c{number}") for number in range(BATCH_MAX + 1)]
    contexts = [CONTEXTS[0]] * len(many)
    assert claim_contexts(encode_claims("e", "/s", many, contexts=trace_attributes(contexts))) == {}
    whole = encode_claims("e", "/s", many[:-1], contexts=trace_attributes(contexts[:-1]))
    assert len(claim_contexts(whole)) == BATCH_MAX


def test_the_key_of_a_refused_record_is_printable(caplog: pytest.LogCaptureFixture) -> None:
    value = encode_claims("e", "/s", CLAIMS, contexts=trace_attributes(CONTEXTS))
    record = Record(0, 7, int(time.time() * 1000), b"\x1b[2J\n" * 1_000, value)
    with caplog.at_level("INFO", "vacancy.worker"):
        VerdictTracing("s", TracerProvider(shutdown_on_exit=False))(record, {}, 1, refused=True)
    cells = {vars(line)["cell"] for line in caplog.records}
    assert len(caplog.records) == 2
    assert all(cell.isprintable() and len(cell) < 2_000 for cell in cells)


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [one for one in sys.modules if one.startswith("vacancy.clients.tracing.")]:
        if not name.endswith(".switch"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(UsageError, match=r"pip install 'vacancy\[otel\]'"):
        scheduler_tracing()


def test_two_processes(tmp_path: Path) -> None:
    """A worker and a scheduler write spans and log lines with one trace id to their standard errors."""
    with Vacancy(tmp_path, tracing="1") as vacancy:
        vacancy.environment["OTEL_TRACES_EXPORTER"] = "console"
        nodes = [{"id": "node-a", "inventories": {"VCPU": {"total": 4}}}]
        (tmp_path / "node.json").write_text(json.dumps(nodes))
        vacancy("publish", "--once", "--file", tmp_path / "node.json")
        with vacancy.serving("--verbose", "worker", "--web-port", "off", until="caught up") as worker_said:
            placed = vacancy.run("--verbose", "place", "--resources", "VCPU:1", "--json")
        assert placed.code == 0, placed.err
        claim = json.loads(placed.out)["claim"]
    here, there = (spans_and_lines(text) for text in (placed.err, "".join(worker_said)))
    (judged,) = there["vacancy judge"]
    (sent,) = here["vacancy claim"]
    assert judged["parent_id"] == sent["context"]["span_id"]
    assert judged["context"]["trace_id"] == sent["context"]["trace_id"]
    names = [one["resource"]["attributes"]["service.name"] for one in (sent, judged)]
    assert names == ["vacancy-scheduler", "vacancy-worker"]
    (ended,), (line,) = here["request ended"], there["claim judged"]
    assert ended["claim"] == line["claim"] == judged["attributes"]["vacancy.claim"] == claim
    assert f"0x{ended['trace_id']}" == f"0x{line['trace_id']}" == sent["context"]["trace_id"]


def spans_and_lines(text: str) -> dict[str, list[dict[str, Any]]]:
    """The spans by their names, and the log lines by their events."""
    found: dict[str, list[dict[str, Any]]] = {}
    for line in text.splitlines():
        if line.startswith("{"):
            one = json.loads(line)
            found.setdefault(one.get("name") or one.get("event"), []).append(one)
    return found
