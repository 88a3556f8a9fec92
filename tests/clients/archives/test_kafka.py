"""A Kafka log: exported, imported with its timestamps, trimmed, and read on from the archive; SIGKILL of an import and a trim.

`VACANCY_ARCHIVE_KILLS` is how many moments of each are tried (`make explore`).
"""

from __future__ import annotations

import os
import random
import uuid
from pathlib import Path

import pytest

from tests.clients.archives import actors
from tests.clients.archives.conftest import ArchivedSite
from tests.streams.archive.test_archive import records_of
from tests.support.processes.killed_process import killed_within, seconds_of
from tests.support.sites.snapshot_site import REGISTRY, SnapshotSite
from vacancy.clients.archives.importing import import_log
from vacancy.clients.archives.trim import prepare_trim, trim
from vacancy.clients.replay_tool.replay import replay
from vacancy.clients.replay_tool.trimmed import fold_trimmed
from vacancy.clients.runtime.bootstrap import new_log
from vacancy.clients.runtime.worker_process import WorkerProcess
from vacancy.resources.model.errors import LogError
from vacancy.streams.kafka.importing import KafkaImport
from vacancy.streams.kafka.topic import check_topic
from vacancy.streams.log import open_log
from vacancy.streams.log_url import parse_log_url

KILLS = int(os.environ.get("VACANCY_ARCHIVE_KILLS", "2"))
RNG = random.Random(os.environ.get("VACANCY_SEED", "7"))


@pytest.mark.kafka
def test_the_whole_way_of_a_kafka_log(kafka: str, tmp_path: Path) -> None:
    url, second = f"kafka://{kafka}/log-{uuid.uuid4()}", f"kafka://{kafka}/log-{uuid.uuid4()}"
    with new_log(url, 2, REGISTRY) as log:
        archived = ArchivedSite(SnapshotSite(log, tmp_path))
        archived.site.report()
        prepare_trim(log)
        snapshot = archived.snapshot()
        archived.site.report(5)
        archived.export()
        live, expected = archived.site.fold(), records_of(log)

        with archived.archive() as archive:
            with pytest.raises(LogError, match="exists already"):
                import_log(archive, url)
            half = KafkaImport(parse_log_url(second), 2, {}, None)
            half.add(archive.read(0, 0, 3))
            half.close()
            assert import_log(archive, second).records == len(expected) - 3
            with pytest.raises(LogError, match="exists already"):
                import_log(archive, second)
        with open_log(second) as imported:
            assert imported.identity() == log.identity()
            assert records_of(imported) == expected
            assert replay(imported, tmp_path / "imported", REGISTRY).whole == live.whole
            before = imported.end()
            ArchivedSite(SnapshotSite(imported, tmp_path)).site.report(1)
            partition = next(p for p, end in imported.end().items() if end > before[p])
            (record,) = imported.read(partition, before[partition], 1, timeout_s=90)
            assert record.timestamp_ms >= expected[-1].timestamp_ms
        assert not [one for one in check_topic(second) if "timestamp" in one]

        plan = archived.plan(snapshot)
        trim(log, plan)
        assert log.start() == plan.before
        assert all(plan.before.values())
        assert archived.site.fold() == live
        late, said = tmp_path / "late", list[str]()
        fold_trimmed(log, late, REGISTRY, archive=archived.archive_url, report=said.append)
        assert f"lacks {plan.records} of these records" in said[0]
        fold_trimmed(log, late, REGISTRY, archive=archived.archive_url, report=said.append)
        assert len(said) == 1
        assert replay(log, late, REGISTRY) == live
        with WorkerProcess(url, archived.site.store) as worker:
            worker.wait_ready()
            worker.check()
    with archived.joined() as joined:
        assert records_of(joined) == expected
        assert replay(joined, tmp_path / "joined", REGISTRY).whole == live.whole


@pytest.mark.kafka
def test_a_killed_import_is_completed_by_the_next(kafka: str, tmp_path: Path) -> None:
    with new_log(f"sqlite://{tmp_path}/log.db", 2, REGISTRY) as log:
        archived = ArchivedSite(SnapshotSite(log, tmp_path))
        archived.site.report(2000)
        archived.export(500)
        expected, identity = records_of(log), log.identity()
    seconds = seconds_of(actors.import_, archived.archive_url, f"kafka://{kafka}/log-{uuid.uuid4()}")
    for _ in range(KILLS):
        url = f"kafka://{kafka}/log-{uuid.uuid4()}"
        killed_within(RNG, seconds, actors.import_, archived.archive_url, url)
        with archived.archive() as archive:
            try:
                import_log(archive, url)
            except LogError as error:
                assert "exists already" in str(error)  # noqa: PT017 - it ended before it was killed
        with open_log(url) as imported:
            assert imported.identity() == identity
            assert records_of(imported) == expected
        assert not [one for one in check_topic(url) if "timestamp" in one]


@pytest.mark.kafka
def test_a_killed_trim_loses_nothing(kafka: str, tmp_path: Path) -> None:
    with new_log(f"kafka://{kafka}/log-{uuid.uuid4()}", 2, REGISTRY, replication=1) as log:
        archived = ArchivedSite(SnapshotSite(log, tmp_path))
        snapshots = str(tmp_path / "snapshots")
        for _ in range(KILLS):
            archived.site.report(50)
            prepare_trim(log)
            snapshot = archived.snapshot()
            archived.export()
            with archived.joined() as joined:
                expected = records_of(joined)
            killed_within(RNG, 0.1, actors.trim, log.url, archived.archive_url, snapshots, snapshot)
            identity = log.identity()
            with archived.joined() as joined:
                assert records_of(joined) == expected
                assert joined.identity() == identity
            plan = archived.plan(snapshot)
            trim(log, plan)
            assert log.start() == plan.before
            with archived.joined() as joined:
                assert records_of(joined) == expected
            archived.site.fold()
