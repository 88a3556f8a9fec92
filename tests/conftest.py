"""What all tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.kafka_server import KafkaCluster, KafkaNotStarted


def pytest_configure(config: pytest.Config) -> None:
    # kafka-python reads its message schemas through functions that Python 3.11 calls deprecated.
    config.addinivalue_line("filterwarnings", "ignore:(read|open)_text is deprecated:DeprecationWarning")
    # It also leaves sockets that never connected to the garbage collector, which comes in any later test.
    config.addinivalue_line(
        "filterwarnings", r"ignore:unclosed <socket.*laddr=\('0.0.0.0', \d+\)>:ResourceWarning"
    )


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Kafka broker, `host:port`: that of `VACANCY_TEST_KAFKA`, or one started for this run.

    Where none can be had the tests fail: a suite that skips them would say that Kafka works.
    """
    if given := os.environ.get("VACANCY_TEST_KAFKA"):
        yield given
        return
    try:
        cluster = KafkaCluster(tmp_path_factory.mktemp("kafka"))
    except KafkaNotStarted as error:
        pytest.fail(str(error), pytrace=False)
    with cluster:
        yield cluster.servers
