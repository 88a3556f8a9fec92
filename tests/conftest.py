"""What all tests share."""

from __future__ import annotations

import gc
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.support.kafka_server import KafkaCluster, KafkaNotStarted

# A commit must pass or fail whenever it is tested: the examples are the same each time, and `make explore`
# looks for new ones.
settings.register_profile("same", derandomize=True)
settings.register_profile("new", derandomize=False)
settings.load_profile(os.environ.get("VACANCY_EXAMPLES", "same"))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish() -> None:
    """kafka-python leaves sockets that never connected to the garbage collector (see `filterwarnings`). What is left
    of them is collected here, while it can be ignored: after the last test every warning is an error."""
    gc.unfreeze()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest goes first, so that under `pytest -n 3` nobody ends up waiting for one file."""
    shared = ("mortal_kafka", "three_brokers")
    files = ("tests/live/test_live_killed.py", "tests/faults/test_killed.py", "tests/test_docs.py")
    long = {
        file
        for item in items
        if (file := item.nodeid.partition("::")[0]) in files
        or any(name in shared for name in getattr(item, "fixturenames", ()))
    }
    items.sort(key=lambda item: item.nodeid.partition("::")[0] not in long)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Kafka broker, `host:port`: that of `VACANCY_TEST_KAFKA`, or one started for this run.

    Where none can be had the tests fail: a suite that skips them would say that Kafka works.
    """
    if given := os.environ.get("VACANCY_TEST_KAFKA"):
        yield given
        return
    with _started(tmp_path_factory.mktemp("kafka")) as cluster:
        yield cluster.servers


@contextmanager
def _started(directory: Path, **options: Any) -> Iterator[KafkaCluster]:
    try:
        try:
            cluster = KafkaCluster(directory / "first", **options)
        except KafkaNotStarted:  # perhaps somebody took a port that was free when it was chosen
            cluster = KafkaCluster(directory / "second", **options)
    except KafkaNotStarted as error:
        pytest.fail(str(error), pytrace=False)
    with cluster:
        yield cluster


@pytest.fixture(scope="session")
def _mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    with _started(tmp_path_factory.mktemp("mortal"), far=True) as cluster:
        yield cluster


@pytest.fixture
def mortal_kafka(_mortal: KafkaCluster) -> KafkaCluster:
    """A broker that the test may kill, and that can be reached through lines that can be cut. It runs now."""
    _mortal.bring_up(1)
    return _mortal


@pytest.fixture(scope="session")
def three_brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    """A cluster of three. Who kills some of it starts them again."""
    with _started(tmp_path_factory.mktemp("three"), brokers=3) as cluster:
        yield cluster
