"""Fixtures and settings shared by all tests."""

from __future__ import annotations

import gc
import os
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.support.processes.kafka_server import KafkaCluster, KafkaNotStarted

# A commit must pass or fail whenever it is tested: the examples are the same each time, and `make explore`
# looks for new ones. Neither an example nor its making has a time limit: how long it takes depends on what else the machine does.
_ANY_TIME = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("same", _ANY_TIME, derandomize=True, max_examples=40)
settings.register_profile("new", _ANY_TIME, derandomize=False)
settings.load_profile(os.environ.get("VACANCY_EXAMPLES", "same"))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish() -> None:
    """Collect sockets that kafka-python has not closed (see `filterwarnings`), while their warnings can be ignored.

    After the last test every warning is an error.
    """
    gc.unfreeze()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the longest files first, so that with `pytest -n 3` the last one does not run alone."""
    shared = ("mortal_kafka", "three_brokers")
    files = (
        *("tests/evaluation/comparison/test_quick_comparison.py", "tests/live/test_live_killed.py"),
        *("tests/faults/test_killed.py", "tests/test_docs.py", "tests/cli/test_examples_run.py"),
    )
    long = {
        file
        for item in items
        if (file := item.nodeid.partition("::")[0]) in files
        or any(name in shared for name in getattr(item, "fixturenames", ()))
    }
    items.sort(key=lambda item: item.nodeid.partition("::")[0] not in long)


_SHARED = pytest.StashKey[ExitStack]()
_SERVERS = pytest.StashKey[str]()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """The processes of `pytest -n` share one broker: each of its own would cost the processor as much as many tests."""
    if "VACANCY_TEST_KAFKA" in os.environ:
        return
    config: pytest.Config = node.config
    if _SHARED not in config.stash:
        shared = config.stash.setdefault(_SHARED, ExitStack())
        directory = shared.enter_context(TemporaryDirectory(prefix="vacancy-kafka-"))
        with suppress(KafkaNotStarted):  # the tests that need it say why
            config.stash[_SERVERS] = shared.enter_context(_cluster(Path(directory))).servers
    node.workerinput["kafka"] = config.stash.get(_SERVERS, "")


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the broker that the processes shared."""
    config.stash.get(_SHARED, ExitStack()).close()


@pytest.fixture(scope="session")
def kafka(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Kafka broker, `host:port`: the one in `VACANCY_TEST_KAFKA`, or one started for this run.

    If no broker can be started, the tests fail. Skipped tests would look as if Kafka worked.
    """
    shared: dict[str, str] = getattr(request.config, "workerinput", {})
    if given := os.environ.get("VACANCY_TEST_KAFKA") or shared.get("kafka"):
        yield given
        return
    with _started(tmp_path_factory.mktemp("kafka")) as cluster:
        yield cluster.servers


@contextmanager
def _started(directory: Path, **options: Any) -> Iterator[KafkaCluster]:
    try:
        cluster = _cluster(directory, **options)
    except KafkaNotStarted as error:
        pytest.fail(str(error), pytrace=False)
    with cluster:
        yield cluster


def _cluster(directory: Path, **options: Any) -> KafkaCluster:
    try:
        return KafkaCluster(directory / "first", **options)
    except KafkaNotStarted:  # another process may have used a port that was free when it was chosen
        return KafkaCluster(directory / "second", **options)


@pytest.fixture(scope="module")
def _mortal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    with _started(tmp_path_factory.mktemp("mortal"), far=True) as cluster:
        yield cluster


@pytest.fixture
def mortal_kafka(_mortal: KafkaCluster) -> KafkaCluster:
    """A running broker that the test may kill. Its proxies can interrupt the connections to it."""
    _mortal.bring_up(1)
    return _mortal


@pytest.fixture(scope="module")
def three_brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    """A cluster of three brokers. A test that kills brokers must restart them."""
    with _started(tmp_path_factory.mktemp("three"), brokers=3) as cluster:
        yield cluster
