"""Partitions lose their leader, one of three brokers, while the schedulers of two hosts race."""

from __future__ import annotations

from pathlib import Path

import pytest
from kafka import KafkaAdminClient

from tests.live.hosts import fleet
from tests.live.site import new_topic, until
from tests.support.processes.kafka_server import KafkaCluster
from vacancy.streams.kafka.client import call_broker
from vacancy.streams.kafka.topic import check_topic
from vacancy.streams.log_url import parse_log_url

pytestmark = [pytest.mark.kafka, pytest.mark.long]  # the scenario "crash" on three brokers is its short form


def test_a_leader_is_lost_under_load(three_brokers: KafkaCluster, tmp_path: Path) -> None:
    with new_topic(three_brokers.servers) as log:
        topic = parse_log_url(log.url).place
        until(lambda: not check_topic(log.url), "not all replicas are in step")
        with fleet(log, tmp_path, [log.url, log.url]) as running:
            lost = leader(three_brokers.servers, topic, 0)
            three_brokers.kill(lost)
            for host in running.hosts:
                host.goes_on()
            assert leader(three_brokers.servers, topic, 0) != lost
            three_brokers.restart(lost, wait=False)
            until(lambda: not check_topic(log.url), "not all replicas are in step again")
            found = running.conclude()
        assert found["accepted"] > 50


def leader(servers: str, topic: str, partition: int) -> int:
    """The broker that leads a partition."""
    admin = KafkaAdminClient(bootstrap_servers=servers.split(","))
    try:
        (described,) = call_broker(lambda: admin.describe_topics([topic]))
        return next(
            int(one["leader_id"]) for one in described["partitions"] if one["partition_index"] == partition
        )
    finally:
        admin.close()
