"""What all tests share."""

from __future__ import annotations

import gc
import os
import warnings
from collections.abc import Iterator

import pytest

from tests.kafka_server import KafkaCluster, KafkaNotStarted


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish() -> None:
    """kafka-python leaves sockets that never connected to the garbage collector (see `filterwarnings`). What is left
    of them is collected here, while it can be ignored: after the last test every warning is an error."""
    gc.unfreeze()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


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
