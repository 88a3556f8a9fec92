"""A Kafka log: exported, imported with its timestamps, trimmed, and read on from the archive."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from tests.clients.archives.conftest import ArchivedSite
from tests.streams.archive.test_archive import records_of
from tests.support.snapshot_site import REGISTRY, SnapshotSite
from vacancy.clients.archives.importing import import_log
from vacancy.clients.archives.trim import prepare_trim, trim
from vacancy.clients.replay_tool.replay import replay
from vacancy.clients.runtime.bootstrap import new_log
from vacancy.clients.runtime.worker_process import WorkerProcess
from vacancy.resources.model.errors import LogError
from vacancy.streams.kafka.importing import KafkaImport
from vacancy.streams.kafka.topic import check_topic
from vacancy.streams.log import open_log
from vacancy.streams.log_url import parse_log_url


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
            (record,) = imported.read(partition, before[partition], 1, timeout_s=10)
            assert record.timestamp_ms >= expected[-1].timestamp_ms
        assert not [one for one in check_topic(second) if "timestamp" in one]

        plan = archived.plan(snapshot)
        trim(log, plan)
        assert log.start() == plan.before
        assert all(plan.before.values())
        assert archived.site.fold() == live
        with WorkerProcess(url, archived.site.store) as worker:
            worker.wait_ready()
            worker.check()
    with archived.joined() as joined:
        assert records_of(joined) == expected
        assert replay(joined, tmp_path / "joined", REGISTRY).whole == live.whole
