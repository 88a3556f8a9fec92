"""Makes a Kafka log of records that have their offsets and timestamps already.

Brokers stamp the records of a log (`LogAppendTime`). So the topic is made with `CreateTime`, the records are sent with their own
timestamps, and the setting is changed at the end. Records keep the timestamps with which they came.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from kafka.admin import ConfigResource
from kafka.errors import TopicAlreadyExistsError

from vacancy.resources.model.errors import LogError
from vacancy.resources.model.record import Record
from vacancy.streams.kafka.client import call_broker, connect, translated_errors
from vacancy.streams.kafka.sender import close_producer
from vacancy.streams.kafka.topic import topic_configuration
from vacancy.streams.log import existing_log
from vacancy.streams.log_url import LogUrl

_TYPE: Final = "message.timestamp.type"
_BOUND: Final = "message.timestamp.after.max.ms"
_UNBOUNDED: Final = str(2**63 - 2)
"""How far a timestamp may be ahead of the broker's clock while records are imported. No other program sets this number, so it
marks a topic whose import has not ended."""

_SENT_S: Final = 60.0
_CHANGED_S: Final = 30.0
_PAUSE_S: Final = 0.1


class KafkaImport:
    """A topic that is being made, or whose import was not finished. Raises `LogError` if another topic has its name."""

    def __init__(
        self, place: LogUrl, partitions: int, settings: Mapping[str, str], replication: int | None
    ) -> None:
        self._place, self._settings = place, settings
        with contextlib.closing(connect("admin", place, settings)) as admin, translated_errors(place.url):
            self._create(admin, partitions, replication)
            found = self._described(admin)
            if (found.get(_TYPE), found.get(_BOUND)) != ("CreateTime", _UNBOUNDED):
                raise existing_log(place.url)
        self._producer = connect("producer", place, settings)

    def _create(self, admin: Any, partitions: int, replication: int | None) -> None:
        replicas, configuration = topic_configuration(admin, self._place, replication)
        configuration |= {_TYPE: "CreateTime", _BOUND: _UNBOUNDED}
        topic = {"num_partitions": partitions, "replication_factor": replicas, "configs": configuration}
        with contextlib.suppress(TopicAlreadyExistsError):
            admin.create_topics({self._place.place: topic})
            admin.wait_for_topics([self._place.place], timeout_ms=30_000)

    def _described(self, admin: Any) -> dict[str, str]:
        resource = ConfigResource("topic", self._place.place)
        described = call_broker(lambda: admin.describe_configs([resource], config_filter="all"))
        found = described["topic"][self._place.place]
        if not found:  # the client drops the error of a resource, and every topic has settings
            do = "get the permission to describe and change the settings of the topic (DescribeConfigs, AlterConfigs)"
            raise LogError("Kafka does not allow this", where=self._place.url, do=do)
        return {name: str(one["value"]) for name, one in found.items()}

    def _is_stamped(self, admin: Any) -> bool:
        """Whether the brokers stamp new records."""
        found = self._described(admin)
        return found.get(_TYPE) == "LogAppendTime" and found.get(_BOUND) != _UNBOUNDED

    def add(self, records: Sequence[Record]) -> None:
        """Append the next records of a partition. Raises `LogError` if one of them gets another offset."""
        with translated_errors(self._place.url):
            futures = [
                self._producer.send(
                    self._place.place,
                    value=record.value,
                    key=record.key,
                    partition=record.partition,
                    timestamp_ms=record.timestamp_ms,
                )
                for record in records
            ]
            offsets = [future.get(timeout=_SENT_S).offset for future in futures]
        for record, offset in zip(records, offsets, strict=True):
            if record.offset != offset:
                raise LogError(
                    f"a record got offset {offset}, not {record.offset}: another program writes to the topic",
                    where=f"{self._place.url}, partition {record.partition}",
                    do="stop it, delete the topic, and import the archive again",
                )

    def finish(self) -> None:
        """Let the brokers stamp all later records."""
        changes = {_TYPE: "LogAppendTime", _BOUND: ("DELETE", None)}
        with (
            contextlib.closing(connect("admin", self._place, self._settings)) as admin,
            translated_errors(self._place.url),
        ):
            admin.alter_configs([ConfigResource("topic", self._place.place, configs=changes)])
            # The broker that is asked may learn of the change after the one that made it.
            deadline = time.monotonic() + _CHANGED_S
            while not (changed := self._is_stamped(admin)) and time.monotonic() < deadline:
                time.sleep(_PAUSE_S)
        if not changed:
            raise LogError(
                "the topic has all records, but its settings cannot be changed",
                where=self._place.url,
                do="get the permission to change the settings of the topic (AlterConfigs), then run this again",
            )

    def close(self) -> None:
        """Disconnect."""
        close_producer(self._producer, 1.0)
