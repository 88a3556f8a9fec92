"""A host loses its connection to the brokers, while another host continues."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path

import pytest

from tests.cli.command import Vacancy, node_file
from tests.live.hosts import Host, fleet
from tests.live.site import WAIT_S, new_topic, until
from tests.support.logs.events_json import provider, reported
from tests.support.processes.kafka_server import KafkaCluster
from vacancy.clients.inspection.lookup import nodes
from vacancy.clients.runtime.bootstrap import installed_registry
from vacancy.clients.scheduler.client import Scheduler
from vacancy.clients.scheduler.placement import Outcome, PlacementRequest
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.model.record import NewRecord
from vacancy.resources.model.request import RequestGroup, RequestSpec
from vacancy.streams.clocks.clock import wall_ms
from vacancy.streams.log import open_log

pytestmark = pytest.mark.kafka

TIMEOUT_S = 6.0
HASTY_S = 8.0
"""How long a claim may wait that arrives too late."""

OWN = "CUSTOM_SEAT"
"""A class that only this test requests: the other host goes on placing, and must not take what was claimed here."""
ONE = RequestSpec(groups=(RequestGroup(resources={OWN: 1}),))


def test_a_host_is_cut_off_while_another_continues(mortal_kafka: KafkaCluster, tmp_path: Path) -> None:
    (line,) = mortal_kafka.proxies()
    with line, new_topic(mortal_kafka.servers) as log:
        far_url = log.url.replace(mortal_kafka.servers, mortal_kafka.proxied_servers)
        log.append([NewRecord("cell-0", reported("seats", [provider("seats", CUSTOM_SEAT=8)]))], 60)
        with fleet(log, tmp_path, [log.url, far_url]) as running, open_log(far_url) as far_log:
            near, far = running.hosts
            with (
                Scheduler(far_log, far.store, installed_registry(), deadline_s=120.0) as patient,
                Scheduler(far_log, far.store, installed_registry(), deadline_s=HASTY_S) as hasty,
                Vacancy(tmp_path, log=far_url, store=str(far.store)) as vacancy,
            ):
                for scheduler in (patient, hasty):  # so they have been in touch with the brokers
                    scheduler.release([scheduler.place(ONE)])
                read_ms = patient.candidates(ONE).as_of_ms
                line.cut()
                cut_ms, placed = wall_ms(), near.journal_lines("placed")
                late = vacancy.start("publish", "--interval", "1", "--file", node_file(tmp_path, "late-1"))
                too_late = claim_while_away(hasty, "hasty")
                in_time = claim_while_away(patient, "patient")
                check_reads_go_on(patient, vacancy, read_ms, cut_ms)
                assert patient.settle(in_time, timeout_s=0.5).status == "unknown"
                far.scheduler.kill_and_start()
                until(lambda: near.journal_lines("placed") > placed + 10, "the near host does not go on")
                time.sleep(max(0.0, too_late.deadline_ms + 2_000 - wall_ms()) / 1000)
                line.restore()
                check_settled(patient, vacancy, in_time, too_late)
                far.goes_on()
                check_published_late(late, near)
            found = running.conclude()
    assert found["after_deadline"] >= 1  # the hasty one's, at least


def claim_while_away(scheduler: Scheduler, consumer: str) -> Outcome:
    """A claim without a verdict within its timeout. It takes that long once, and not twice."""
    started = time.monotonic()
    request = PlacementRequest(ONE, consumer=consumer)
    (outcome,) = scheduler.place_many([request], timeout_s=TIMEOUT_S)
    assert time.monotonic() - started < 2 * TIMEOUT_S
    assert outcome.status == "unknown"
    assert "the log has not confirmed that it has the claim" in outcome.reason
    return outcome


def check_reads_go_on(scheduler: Scheduler, vacancy: Vacancy, read_ms: int, cut_ms: int) -> None:
    """Queries answer from the records read before the interruption, and report their position. `read_ms` is the log time that
    was read before it, `cut_ms` when it was."""
    found = scheduler.candidates(ONE)
    assert found.candidates
    assert read_ms <= found.as_of_ms <= cut_ms
    away_s = (wall_ms() - cut_ms) / 1000
    told = vacancy.run_shared("candidates", "--resources", "VCPU:1")
    assert told.code == 0
    age_s = re.search(r"as of .*, ([\d.]+) s old", told.err)
    assert age_s is not None
    assert float(age_s[1]) > away_s - 1.0


def check_settled(scheduler: Scheduler, vacancy: Vacancy, patient: Outcome, hasty: Outcome) -> None:
    """Claims that were sent arrive later: one before its deadline, one after."""
    found = scheduler.settle(patient, timeout_s=WAIT_S)
    assert (found.status, found.claim) == ("placed", patient.claim)
    assert vacancy.json("settle", "patient")["claim"] == patient.claim
    assert scheduler.settle(hasty, timeout_s=WAIT_S).status == "void"
    known = ("--claim", hasty.claim, "--cell", hasty.cell, "--deadline-ms", hasty.deadline_ms)
    assert "its deadline has passed" in vacancy.fails(4, "settle", "hasty", *known)
    assert scheduler.place(PlacementRequest(ONE, consumer="hasty")).status == "placed"


def check_published_late(publisher: subprocess.Popen[str], near: Host) -> None:
    """A publisher that was started while the brokers were down has waited for them."""
    with StoreReader(near.store, installed_registry()) as reader:
        until(lambda: "late-1" in {node.root for node in nodes(reader)}, "it did not publish")
    publisher.terminate()
    _, said = publisher.communicate(timeout=WAIT_S)
    assert publisher.returncode == 0, said
    assert "log does not answer; waiting" in said
    assert "log answers" in said
