"""Flipped bits and cut files of a topic while its broker is stopped: noticed or harmless, never wrong.

`VACANCY_FUZZ_DAMAGES` is how many partitions are damaged, one file each (`make explore`).
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fuzz.damage.sites import Reports
from tests.support.processes.kafka_server import KafkaCluster
from tests.support.sites.damaged_files import damage, flip
from vacancy.clients.replay_tool.replay import read_all
from vacancy.clients.runtime.bootstrap import installed_registry, new_log
from vacancy.clients.runtime.worker_process import WorkerProcess
from vacancy.resources.model.errors import LogError
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import NewRecord, Record
from vacancy.streams.log import open_log

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(0)]

DAMAGES = int(os.environ.get("VACANCY_FUZZ_DAMAGES", "5"))
RECORDS, BATCH = 120, 10
BEFORE_RECORDS = 61
"""Bytes of a batch of Kafka's before its records."""


@dataclass
class Damaged:
    """A topic whose partitions are damaged. `records` are those it had, `what` is the damage of each partition. `flipped` is another
    one, of one partition with a flipped bit in a record."""

    url: str
    flipped: str
    records: dict[int, list[Record]]
    what: dict[int, str]

    def read(self, partition: int) -> list[Record]:
        """What can be read of a partition now."""
        found: list[Record] = []
        with open_log(self.url) as log:
            end = log.end()[partition]
            while len(found) < end:
                found += log.read(partition, len(found), end - len(found), timeout_s=5.0)
            if found != self.records[partition]:
                # The broker has cut the partition. Whoever had read what is gone must notice.
                log.read(partition, len(self.records[partition]), 1, timeout_s=5.0)
        return found

    def outcome(self, partition: int) -> str:
        """What came of the damage: `noticed`, `harmless`, or another text, which is an error."""
        try:
            found = self.read(partition)
        except LogError as error:
            return "noticed" if f"partition {partition}" in str(error) else f"not named: {error}"
        return "harmless" if found == self.records[partition] else f"silent: {len(found)} records"


def filled(url: str, partitions: int, values: Sequence[bytes]) -> dict[int, list[Record]]:
    """Make a topic that has all values in each partition. Returns its records."""
    new_log(url, partitions, installed_registry()).close()
    with open_log(url) as log:
        for at in range(0, len(values), BATCH):
            for cell in covering_cells(partitions):
                log.append([NewRecord(cell, value) for value in values[at : at + BATCH]])
        return read_all(log)


def in_a_record(segment: bytes) -> int:
    """A place in the records of the batch in the middle. Of what precedes them the checksum does not cover all: the offset (8 bytes),
    the length of the rest (4), the leader's epoch and the version (5)."""
    batches, at = [], 0
    while at + 12 <= len(segment):
        batches.append(at)
        at += 12 + int.from_bytes(segment[at + 8 : at + 12], "big")
    first, end = [*batches, at][len(batches) // 2 :][:2]
    return (first + BEFORE_RECORDS + end) // 2


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Damaged]:
    """A topic of a running broker. Partition 0 has one flipped bit in a record, the others have any damage."""
    home, rng = tmp_path_factory.mktemp("broker"), random.Random(1)
    with KafkaCluster(home) as cluster:
        url, flipped = (f"kafka://{cluster.servers}/{name}" for name in ("events", "flipped"))
        values = Reports(rng).some(RECORDS)
        made = Damaged(url, flipped, filled(url, 1 + DAMAGES, values), {})
        filled(flipped, 1, values)
        cluster.stop(1)
        for partition in made.records:
            files = home / "broker-1" / "data" / f"events-{partition}"
            (segment,) = files.glob("*.log")
            if partition == 0:
                flip(segment, in_a_record(segment.read_bytes()))
            else:
                chosen = rng.choice([segment, segment, segment, *sorted(files.glob("*index"))])
                made.what[partition] = damage(rng, chosen)
        (segment,) = (home / "broker-1" / "data" / "flipped-0").glob("*.log")
        flip(segment, in_a_record(segment.read_bytes()))
        cluster.restart(1)
        yield made


def test_damage_of_a_topic_is_noticed_or_harmless(damaged: Damaged) -> None:
    outcomes = {what: damaged.outcome(partition) for partition, what in damaged.what.items()}
    assert {what: how for what, how in outcomes.items() if how not in ("noticed", "harmless")} == {}
    assert "noticed" in outcomes.values()


def test_a_flipped_bit_is_named_with_its_place(damaged: Damaged) -> None:
    with pytest.raises(LogError) as caught:
        damaged.read(0)
    assert re.search(r"checksum does not match \(kafka://.*, partition 0, offset \d+\)", str(caught.value))


def test_a_worker_does_not_fold_damaged_records(damaged: Damaged, tmp_path: Path) -> None:
    with (
        pytest.raises(LogError, match=r"checksum does not match.*partition 0"),
        WorkerProcess(damaged.flipped, tmp_path / "store") as worker,
    ):
        worker.wait_ready(300)
