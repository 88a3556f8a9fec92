"""Many placements at once, on a log and a store that a worker thread folds."""

from __future__ import annotations

import itertools
import json
import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from vacancy.clients.demo.synthetic_fleet import node_reports
from vacancy.clients.runtime.bootstrap import installed_registry, new_log, open_store
from vacancy.clients.scheduler import claims, pipeline, store_query
from vacancy.clients.scheduler.client import Scheduler
from vacancy.clients.scheduler.placement import PlacementRequest
from vacancy.projections.changefeed import bells
from vacancy.projections.query.compiled_request import CompiledRequest
from vacancy.projections.query.engine import find
from vacancy.projections.query.model import Candidate
from vacancy.resources.classes.quantity import QuantityRecord
from vacancy.resources.model.errors import NoValidHost
from vacancy.resources.model.events import ProviderReport
from vacancy.resources.model.partitioner import cell_for, partition_for
from vacancy.resources.model.request import RequestGroup, RequestSpec
from vacancy.streams.worker.embedded_worker import EmbeddedWorker

ONE = RequestSpec(groups=(RequestGroup(resources={"VCPU": 1}),))


@contextmanager
def scheduling(
    directory: Path, nodes: int, partitions: int, vcpus: int = 4, order: str = "random"
) -> Iterator[Scheduler]:
    """A scheduler over a number of nodes, each with a number of VCPUs."""
    trees = [(ProviderReport(id=f"node-{n}", inventories={"VCPU": {"total": vcpus}}),) for n in range(nodes)]
    with (
        new_log(f"sqlite://{directory}/log.db", partitions, installed_registry()) as log,
        open_store(directory / "store", log, installed_registry()) as store,
    ):
        log.append(list(node_reports(trees, partitions)))
        worker = EmbeddedWorker(log, store)
        while worker.step():
            pass
        thread = threading.Thread(target=worker.run)
        thread.start()
        try:
            with Scheduler(log, directory / "store", installed_registry(), seed=1, order=order) as made:
                yield made
        finally:
            worker.stop()
            thread.join()


def used(scheduler: Scheduler) -> list[QuantityRecord]:
    """What is taken of each node's VCPUs, as the tables have it now."""
    scheduler.reader.catch_up()
    view = scheduler.reader.view
    rows = [view.class_row(row, "VCPU") for row in view.row_of.values()]
    return [row.record for row in rows if row is not None]


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[Scheduler]:
    with scheduling(tmp_path, 1, 1) as made:
        yield made


@pytest.mark.timeout(240)
@pytest.mark.parametrize("in_flight", [1, 2, 3, 8])
def test_it_ends_when_all_are_decided_however_many_may_be_in_flight(
    scheduler: Scheduler, in_flight: int
) -> None:
    outcomes = list(scheduler.place_many([ONE] * 6, in_flight=in_flight))
    assert sorted(outcome.status for outcome in outcomes) == ["no_valid_host"] * 2 + ["placed"] * 4


@pytest.mark.timeout(240)
def test_it_ends_at_once_where_nothing_is_asked(scheduler: Scheduler) -> None:
    assert list(scheduler.place_many([])) == []


@pytest.mark.timeout(240)
def test_nothing_is_claimed_on_nodes_that_were_not_heard_from_for_so_long(scheduler: Scheduler) -> None:
    with pytest.raises(NoValidHost) as silent:
        scheduler.place(ONE, max_staleness_s=0)
    assert [one.alone for one in silent.value.explanation.constraints if one.kind == "heard"] == [1]
    stale = list(scheduler.place_many([ONE] * 2, max_staleness_s=0))
    assert [outcome.status for outcome in stale] == ["no_valid_host"] * 2
    assert scheduler.place(ONE, max_staleness_s=3600).status == "placed"


@pytest.mark.timeout(240)
def test_the_log_is_reported_since_when_a_node_had_to_be_heard_from(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the query itself, and not of the moment later at which its answer is written down."""
    asked: list[int | None] = []

    def noting(*given: Any, **named: Any) -> list[Candidate]:
        asked.append(named["heard_since_ms"])
        time.sleep(0.02)
        return find(*given, **named)

    monkeypatch.setattr(store_query, "find", noting)
    (outcome,) = scheduler.place_many([ONE], max_staleness_s=0)
    assert outcome.status == "no_valid_host"
    told = [json.loads(record.value) for record in scheduler.log.read(0, 0, 1000)]
    (closed,) = [event["data"] for event in told if event["type"] == "vacancy.requests.closed.v1"]
    assert [request["heard_since_ms"] for request in closed["requests"]] == asked


@contextmanager
def judged_one_cell_at_a_time(directory: Path, go_on: threading.Event | None = None) -> Iterator[Scheduler]:
    """A scheduler over 40 nodes in 4 cells, whose claims are never all judged in one moment. With `go_on`, no record is folded after the
    first one with claims before that is set."""
    trees = [(ProviderReport(id=f"node-{n}", inventories={"VCPU": {"total": 64}}),) for n in range(40)]
    with (
        new_log(f"sqlite://{directory}/log.db", 4, installed_registry()) as log,
        open_store(directory / "store", log, installed_registry()) as store,
    ):
        log.append(list(node_reports(trees, 4)))
        for partition in range(4):
            store.apply(partition, log.read(partition, 0, 1000))
        ended = threading.Event()

        def fold() -> None:
            for partition in itertools.cycle(range(4)):
                if ended.wait(0.005):
                    return
                if records := log.read(partition, store.position()[partition], 1):
                    store.apply(partition, records)
                    if b"claims.requested" in records[0].value:
                        while not (go_on is None or go_on.is_set() or ended.wait(0.005)):
                            pass

        thread = threading.Thread(target=fold)
        thread.start()
        try:
            with Scheduler(log, directory / "store", installed_registry(), seed=1) as made:
                yield made
        finally:
            ended.set()
            thread.join()


@pytest.mark.timeout(240)
def test_claims_of_those_who_stopped_asking_are_not_counted_for_ever(tmp_path: Path) -> None:
    go_on = threading.Event()
    with judged_one_cell_at_a_time(tmp_path, go_on) as scheduler:
        outcomes = scheduler.place_many([ONE] * 20, in_flight=20)
        next(outcomes)
        assert list(scheduler.reader.view.reservations), "all were judged at once"
        outcomes.close()
        assert not list(scheduler.reader.view.reservations)
        go_on.set()
        until = time.monotonic() + 90
        while sum(one.used for one in used(scheduler)) < 20:
            assert time.monotonic() < until
            time.sleep(0.05)
        assert scheduler.place(ONE).status == "placed"


@pytest.mark.timeout(240)
def test_placing_one_while_many_are_under_way_takes_no_verdicts_from_them(tmp_path: Path) -> None:
    with judged_one_cell_at_a_time(tmp_path) as scheduler:
        waited = 0
        for outcome in scheduler.place_many([ONE] * 60, in_flight=20):
            assert outcome.status == "placed"
            assert outcome.claim_ms < 10_000, "a verdict came by and was not told: the tables had to be asked"
            waited += bool(list(scheduler.reader.view.reservations))
            assert scheduler.place(ONE).status == "placed"
        assert waited


@pytest.mark.timeout(240)
def test_claims_of_one_moment_share_a_record_and_all_cells_get_their_part(tmp_path: Path) -> None:
    with scheduling(tmp_path, 400, 4, vcpus=16) as scheduler:
        outcomes = list(scheduler.place_many([ONE] * 3200, in_flight=64))
        assert {outcome.status for outcome in outcomes} == {"placed"}
        cells = Counter(outcome.cell for outcome in outcomes)
        nodes = Counter(cell_for(f"node-{n}", 4) for n in range(400))
        for cell, there in nodes.items():
            assert 0.4 * there / 400 < cells[cell] / 3200 < 2.5 * there / 400
        records = [
            json.loads(record.value)
            for partition in range(4)
            for record in scheduler.log.read(partition, 0, 10_000)
        ]
        claims = [len(r["data"]["claims"]) for r in records if r["type"] == "vacancy.claims.requested.v2"]
        assert sum(claims) == 3200
        assert sum(claims) / len(claims) > 8, "claims of one moment are in records of their own"


@pytest.mark.timeout(240)
def test_the_request_of_a_single_placement_is_in_the_partition_of_its_claim(tmp_path: Path) -> None:
    with scheduling(tmp_path, 40, 4) as scheduler:
        placed = [scheduler.place(ONE) for _ in range(16)]
        assert len({one.cell for one in placed}) > 1
        for one in placed:
            assert partition_for(one.request, 4) == partition_for(one.cell, 4)


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("order", "least", "most"), [("spread", 12, 12), ("spread:6", 7, 12), ("pack:3", 2, 3), ("pack", 1, 1)]
)
def test_a_claim_goes_to_one_of_the_best(tmp_path: Path, order: str, least: int, most: int) -> None:
    """12 alike nodes of 16 VCPUs: by `spread` a node that was taken from is not among the best again while others
    were not, by `pack` it always is."""
    with scheduling(tmp_path, 12, 1, vcpus=16, order=order) as scheduler:
        roots = {scheduler.place(ONE).root for _ in range(12)}
    assert least <= len(roots) <= most


def test_a_job_goes_only_the_ways_of_the_table() -> None:
    for start, goal in itertools.product(pipeline.JobState, repeat=2):
        job = pipeline.PlacementJob(
            PlacementRequest(ONE), CompiledRequest(ONE), "c", 0.0, id="r", state=start
        )
        if goal in pipeline.TRANSITIONS[start]:
            job.move_to(goal)
            assert job.state is goal
        else:
            with pytest.raises(RuntimeError, match=f"from {start.name} to {goal.name}"):
                job.move_to(goal)
            assert job.state is start, "a step that is not allowed changed the state"


def test_every_state_is_reached_and_can_be_left_but_the_last() -> None:
    goals = {goal for ways in pipeline.TRANSITIONS.values() for goal in ways}
    assert goals == set(pipeline.JobState) - {pipeline.JobState.QUERYING}
    assert [state for state, ways in pipeline.TRANSITIONS.items() if not ways] == [pipeline.JobState.DONE]


def test_a_verdict_is_looked_for_often_once_it_can_be_there() -> None:
    pacing = pipeline.PollPacing()
    for _ in range(3):
        pacing.note(0.010)
    looks, now = 0, 0.0
    while now < 0.010:
        pause = pacing.pause_s(now)
        looks, now = looks + 1, now + pause
    assert looks < 10, "the CPU of many looks is wasted while no verdict can be there"
    assert now - 0.010 < 0.001
    assert pacing.pause_s(60.0) == pacing.pause_of_many_s(60.0, 0.0) == 0.005


def test_of_many_claims_verdicts_are_looked_for_as_often_as_they_take() -> None:
    pacing = pipeline.PollPacing()
    assert pacing.pause_of_many_s(0.0, 0.0) == 0.0005
    assert pacing.pause_of_many_s(0.024, 0.0) == 0.003
    assert pacing.pause_of_many_s(0.001, 0.008) == 0.004


def test_a_bell_is_relied_on_while_it_announces_verdicts(tmp_path: Path) -> None:
    bell = tmp_path / "bell"
    bell.touch()
    pacing = pipeline.PollPacing(bell)
    for rings, longest_s in ((False, 0.001), (True, 0.020), (True, 0.020), (False, 0.001)):
        pacing.wait(0.001)  # from the first time on it watches
        if rings:
            bell.write_bytes(b"")
            pacing.wait(0.001)
        pacing.note(0.00125)
        assert pacing.longest_s(0.0) == longest_s
    pacing.close()
    pacing.wait(0.001)


def test_the_ids_of_a_process_have_one_bell(tmp_path: Path) -> None:
    assert claims.ID_PREFIX == bells.SIGNIFICANT
    ids = [next(claims.new_ids()) for _ in range(3)]
    found = {bells.bell_path(tmp_path, one.encode()) for one in (*ids, claims.id_prefix())}
    assert len(found) == 1


@pytest.mark.timeout(240)
def test_schedulers_place_beside_a_worker_without_bells(tmp_path: Path) -> None:
    with scheduling(tmp_path, nodes=2, partitions=2) as scheduler:
        shutil.rmtree(tmp_path / "store" / bells.DIRECTORY)  # as a build leaves it that knows none
        placed = [scheduler.place(ONE).root for _ in range(8)]
    assert Counter(placed) == {"node-0": 4, "node-1": 4}


@pytest.mark.timeout(240)
def test_a_source_without_a_request_yet_is_asked_again(scheduler: Scheduler) -> None:
    # The second request is made only once the first has its outcome: the source has nothing in between.
    placed, asked = Counter[str](), Counter[str]()

    def source() -> Iterator[PlacementRequest | None]:
        yield PlacementRequest(ONE, consumer="first")
        while not placed:
            asked["nothing yet"] += 1
            yield None
        yield PlacementRequest(ONE, consumer="second")

    for outcome in scheduler.place_many(source(), in_flight=8):
        placed[outcome.consumer] += 1
    assert placed == {"first": 1, "second": 1}
    assert asked["nothing yet"] > 0
