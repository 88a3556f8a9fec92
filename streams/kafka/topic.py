"""The topic of a Kafka log: creates it, and checks the settings and partitions of an existing one."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from kafka import TopicPartition
from kafka.admin import ConfigResource
from kafka.errors import NoError, TopicAlreadyExistsError, UnknownTopicOrPartitionError, for_code

from vacancy.resources.model.errors import LogError, UsageError
from vacancy.resources.model.record import NewRecord
from vacancy.streams.kafka.client import ANSWER_S, call_broker, connect, translated_errors
from vacancy.streams.kafka.errors import translate_error
from vacancy.streams.kafka.sender import close_producer
from vacancy.streams.kafka.settings import MESSAGE_BYTES
from vacancy.streams.log import existing_log, missing_log
from vacancy.streams.log_url import LogUrl, parse_log_url

REPLICATION: Final = 3
_VISIBLE_S: Final = 1.0
_OPENING_S: Final = 30.0
_CONFIGURATION: Final = {
    "message.timestamp.type": "LogAppendTime",
    "cleanup.policy": "delete",
    "retention.ms": "-1",
    "retention.bytes": "-1",
}
_SIZE: Final = "max.message.bytes"
_WHY: Final = {
    "message.timestamp.type": "brokers must set log time, or a node with a wrong clock shifts every deadline",
    "cleanup.policy": "a verdict depends on all earlier records, so none may be compacted",
    "retention.ms": "new stores would lack older records",
    "retention.bytes": "new stores would lack the oldest records",
}


def count_partitions(place: LogUrl, settings: Mapping[str, str], timeout_s: float | None = None) -> int:
    """The number of partitions of the topic. Raises LogError if there is no such topic."""
    until = time.monotonic() + (ANSWER_S if timeout_s is None else timeout_s)
    with (
        contextlib.closing(connect("admin", place, settings, timeout_s)) as admin,
        translated_errors(place.url),
    ):
        return len(_describe(admin, place, until - time.monotonic())["partitions"])


def _describe(admin: Any, place: LogUrl, timeout_s: float = ANSWER_S) -> dict[str, Any]:
    """The cluster's description of the topic. Not every broker knows a new topic at once, so this retries for a while."""
    deadline = time.monotonic() + _VISIBLE_S
    while True:
        (topic,) = call_broker(lambda: admin.describe_topics([place.place]), timeout_s)
        error = for_code(topic["error_code"])
        if error is NoError and topic["partitions"]:
            found: dict[str, Any] = topic
            return found
        if error is not UnknownTopicOrPartitionError and not error.retriable:
            raise translate_error(error(), place.url)
        if time.monotonic() > deadline:
            raise (
                missing_log(place.url)
                if error is UnknownTopicOrPartitionError
                else translate_error(error(), place.url)
            )
        time.sleep(0.05)


def create_topic(
    place: LogUrl, openings: Sequence[NewRecord], replication: int | None, settings: Mapping[str, str]
) -> None:
    """Create the topic and write one opening entry as the first record of each partition.

    `replication` defaults to 3, or to the number of brokers if less. With three replicas or more, two must have a
    record before it is acknowledged. Raises LogError if the topic exists or cannot be created.
    """
    with contextlib.closing(connect("admin", place, settings)) as admin, translated_errors(place.url):
        replicas, configuration = topic_configuration(admin, place, replication)
        topic = {"num_partitions": len(openings), "replication_factor": replicas, "configs": configuration}
        try:
            admin.create_topics({place.place: topic})
        except TopicAlreadyExistsError as error:
            raise existing_log(place.url) from error
        admin.wait_for_topics([place.place], timeout_ms=30_000)
    _open_partitions(place, openings, settings)


def topic_configuration(admin: Any, place: LogUrl, replication: int | None) -> tuple[int, dict[str, str]]:
    """The number of replicas and the settings of the topic of a new log. `replication` as in `create_topic`. Raises
    UsageError if there are not as many brokers."""
    known = call_broker(admin.describe_cluster)["brokers"]
    brokers = sum(not broker.get("is_fenced", False) for broker in known)
    replicas = min(REPLICATION, brokers) if replication is None else replication
    if not 1 <= replicas <= brokers:
        raise UsageError(
            f"replication {replicas} needs {replicas} brokers, but there are {brokers}",
            where=place.url,
            do="start more brokers, or give a smaller --replication",
        )
    in_sync = "2" if replicas >= REPLICATION else "1"
    return replicas, {**_CONFIGURATION, _SIZE: str(MESSAGE_BYTES), "min.insync.replicas": in_sync}


def _open_partitions(place: LogUrl, openings: Sequence[NewRecord], settings: Mapping[str, str]) -> None:
    """Write the opening record of each partition, and check that it is the first one."""
    do = "delete the topic and create the log again, before anything else writes to it"
    producer = connect("producer", place, settings)
    try:
        with translated_errors(place.url):
            futures = [
                producer.send(place.place, value=value, key=key.encode(), partition=partition)
                for partition, (key, value) in enumerate(openings)
            ]
            offsets = [future.get(timeout=_OPENING_S).offset for future in futures]
    except LogError as error:
        raise LogError(
            f"the topic was created but its opening records were not written: {error.what}",
            where=place.url,
            do=do,
        ) from error
    finally:
        close_producer(producer, 1.0)
    if any(offsets):
        taken = [partition for partition, offset in enumerate(offsets) if offset]
        raise LogError(
            "another program wrote to the topic first", where=f"{place.url}, partitions {taken}", do=do
        )


def delete_records(place: LogUrl, settings: Mapping[str, str], partition: int, before: int) -> None:
    """Delete the records of a partition below `before`. Raises LogError if Kafka does not allow it."""
    topic = TopicPartition(place.place, partition)
    with contextlib.closing(connect("admin", place, settings)) as admin, translated_errors(place.url):
        call_broker(lambda: admin.delete_records({topic: before}))


class TopicProblem(NamedTuple):
    """A problem of a topic, in one sentence. `serious`: records can be neither read nor written, or verdicts can change."""

    text: str
    serious: bool


class TopicState(NamedTuple):
    """A topic as the brokers describe it: its partitions, the fewest replicas of one, its configuration by Kafka's names (None
    where this user may not read it), its problems, and what this user may do with it (`READ`, `WRITE` …; None: the
    brokers do not say)."""

    partitions: int
    replicas: int
    configuration: Mapping[str, str] | None
    problems: tuple[TopicProblem, ...]
    operations: frozenset[str] | None


def check_topic(url: str, **client_settings: str) -> list[str]:
    """The problems of the topic of a Kafka log, one sentence each; empty if there are none.

    Raises LogError if there is no such topic or if this user may not read its settings, LogUnavailable if Kafka does not answer.
    """
    found = topic_state(url, None, client_settings)
    if found.configuration is None:
        do = "get the permission to describe the settings of the topic (DescribeConfigs)"
        raise LogError("Kafka does not allow this", where=parse_log_url(url).url, do=do)
    return [problem.text for problem in found.problems]


def topic_state(url: str, timeout_s: float | None, client_settings: Mapping[str, str]) -> TopicState:
    """The topic of a Kafka log as its brokers describe it, within about `timeout_s`.

    Raises LogError if there is no such topic, LogUnavailable if Kafka does not answer.
    """
    place = parse_log_url(url)
    answer_s = ANSWER_S if timeout_s is None else timeout_s
    with (
        contextlib.closing(connect("admin", place, client_settings, timeout_s)) as admin,
        translated_errors(place.url),
    ):
        topic = _describe(admin, place, answer_s)
        resource = ConfigResource("topic", place.place)
        described = call_broker(lambda: admin.describe_configs([resource], config_filter="all"), answer_s)
    partitions = topic["partitions"]
    # The client drops the error of a resource, and every topic has settings: so none means not allowed.
    found = described["topic"][place.place]
    configuration = {name: str(entry["value"]) for name, entry in found.items()} or None
    problems = [] if configuration is None else _configuration_problems(configuration, partitions)
    operations = topic.get("authorized_operations")
    return TopicState(
        len(partitions),
        min(len(partition["replica_nodes"]) for partition in partitions),
        configuration,
        (*problems, *_partition_problems(configuration or {}, partitions)),
        None if operations is None else frozenset(operations),
    )


def _configuration_problems(
    configuration: Mapping[str, str], partitions: Sequence[Mapping[str, Any]]
) -> list[TopicProblem]:
    problems = [
        TopicProblem(f"{name} is {configuration.get(name)}, not {required}: {_WHY[name]}", serious=True)
        for name, required in _CONFIGURATION.items()
        if configuration.get(name) != required
    ]
    replicas = min(len(partition["replica_nodes"]) for partition in partitions)
    in_sync = int(configuration.get("min.insync.replicas", 1))
    texts = []
    if replicas < REPLICATION:
        texts.append(f"replication is {replicas}, not {REPLICATION}: a lost broker can lose records")
    elif in_sync < 2:
        texts.append(
            f"min.insync.replicas is {in_sync}, not 2: a record can be acknowledged by one broker and lost"
        )
    if in_sync >= replicas > 1:
        texts.append(
            f"min.insync.replicas is {in_sync} of {replicas} replicas: the loss of one broker stops all writes"
        )
    if configuration.get("unclean.leader.election.enable") == "true":
        texts.append(
            "unclean.leader.election.enable is true: acknowledged records can be lost, and their verdicts with them"
        )
    if int(configuration.get(_SIZE, MESSAGE_BYTES)) < MESSAGE_BYTES:
        texts.append(
            f"{_SIZE} is {configuration[_SIZE]}, below {MESSAGE_BYTES}: the reports of large nodes do not fit"
        )
    return [*problems, *(TopicProblem(text, serious=False) for text in texts)]


def _partition_problems(
    configuration: Mapping[str, str], partitions: Sequence[Mapping[str, Any]]
) -> list[TopicProblem]:
    problems = []
    in_sync = int(configuration.get("min.insync.replicas", 1))
    for partition in sorted(partitions, key=lambda one: int(one["partition_index"])):
        number, isr = partition["partition_index"], len(partition["isr_nodes"])
        text = ""
        if partition["leader_id"] < 0:
            text = f"partition {number} has no leader: it can be neither read nor written"
        elif isr < in_sync:
            text = f"partition {number} has {isr} in-sync replicas, {in_sync} are needed to write"
        elif isr < len(partition["replica_nodes"]):
            text = f"partition {number} has {isr} of {len(partition['replica_nodes'])} replicas in sync"
        if text:
            problems.append(TopicProblem(text, serious=partition["leader_id"] < 0 or isr < in_sync))
    return problems
