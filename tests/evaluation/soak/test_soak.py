"""A short soak test: every process is killed, nothing is lost; and the comparison of memory by thirds."""

from __future__ import annotations

import argparse
import random
import time
from collections import Counter
from pathlib import Path
from uuid import uuid4

import pytest

from evaluation.soak import command as soak
from evaluation.soak.changes import KINDS
from evaluation.soak.journal import journal_of
from evaluation.soak.processes import SoakSite
from evaluation.soak.report import Sample, judge_memory
from tests.support.processes.kafka_server import KafkaCluster

CHANGES = {
    "vacancy.cell.move.ended.v1",
    "vacancy.claims.requested.v2",
    "vacancy.consumer.replaced.v2",
    "vacancy.consumer.updated.v1",
    "vacancy.facts.set.v2",
    "vacancy.gang.requested.v1",
    "vacancy.quota.share.set.v1",
}
"""Events besides those of placements and releases."""


@pytest.mark.kafka
def test_whichever_process_is_killed_nothing_is_lost(mortal_kafka: KafkaCluster, tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    soak.add_arguments(parser)
    # With this seed the broker is the last one: how long it takes to be back depends on the machine.
    arguments = parser.parse_args(["--minutes", "0.4", "--every", "4.5", "--rate", "100", "--seed", "6"])
    with soak.made_log(f"kafka://{mortal_kafka.servers}/soak-{uuid4().hex[:12]}") as log:
        site = SoakSite(log.url, tmp_path, arguments.rate, int(time.time() * 1000), deadline_s=8.0)
        found = soak.Soak(site, log, mortal_kafka, arguments, enough=lambda: has_done_enough(site)).run()
    assert found["ok"], found
    assert found["kills"].keys() == {"worker one", "scheduler one", "publisher", "broker"}
    assert (found["not_judged"], found["not_judged_for"]) == (0, {})
    assert found["events"].keys() >= CHANGES
    assert found["records"] > 1_000
    assert found["accepted"] > 20
    assert found["memory"]["worker two"]["first_third_mb"] > 10


def has_done_enough(site: SoakSite) -> bool:
    """Whether the schedulers placed some consumers and changed them in every way, which takes long on a slow machine."""
    done = Counter(what for host in soak.HOSTS for what, *_ in journal_of(site.journal(f"scheduler-{host}")))
    return done["placed"] > 80 and done["changing"] > 2 * len(KINDS)


def sampled(part: str, lives: int, grows: float) -> list[Sample]:
    """A process of 100 MB that gains `grows` MB per minute over 30 minutes, in a number of lives."""
    noise = random.Random(1)
    length = 1800 / lives
    return [
        Sample(
            part,
            1 + int(at // length),
            at,
            at % length,
            100 + at / 60 * grows + min(at % length, 60) / 3 + noise.random(),
        )
        for at in range(0, 1800, 5)
    ]


@pytest.mark.parametrize("lives", [1, 8])
def test_memory_is_compared_at_equal_ages(lives: int) -> None:
    killed = ["part"] if lives > 1 else []
    flat = judge_memory(sampled("part", lives, 0.0), 1800, killed)["part"]
    assert abs(flat["growth"]) < 0.02
    grown = judge_memory(sampled("part", lives, 0.5), 1800, killed)["part"]
    assert grown["growth"] > soak.GROWTH_MAX
    assert grown["lives"] == lives


def test_without_comparable_samples_nothing_is_judged() -> None:
    early = [sample for sample in sampled("part", 8, 0.0) if sample.at_s < 500]
    assert judge_memory(early, 1800, ["part"])["part"]["growth"] is None
