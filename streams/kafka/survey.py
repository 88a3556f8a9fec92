"""What a client of this host can see of a Kafka cluster: its brokers, and what its user may do. Nothing here appends a record."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple

from kafka.errors import KafkaError

from vacancy.streams.kafka.client import ANSWER_S, call_broker, connect, translated_errors
from vacancy.streams.kafka.errors import describe_connection_error
from vacancy.streams.log_url import LogUrl

_CONNECT_S: Final = 2.0
_AT_ONCE: Final = 16


class Broker(NamedTuple):
    """A broker, and the address at which it tells clients to reach it. `failed` is how a connection to it failed, "" if it did
    not. A `fenced` broker is known and serves nobody."""

    id: int
    address: str
    fenced: bool
    failed: str


def brokers(place: LogUrl, settings: Mapping[str, str], timeout_s: float = ANSWER_S) -> list[Broker]:
    """The brokers of the cluster by id, each with the result of one connection from this host.

    Raises LogUnavailable if no server of the log's URL answers within about `timeout_s`, LogError if Kafka refuses.
    """
    with (
        contextlib.closing(connect("admin", place, settings, timeout_s)) as admin,
        translated_errors(place.url),
    ):
        found = call_broker(admin.describe_cluster, timeout_s)["brokers"]
    with ThreadPoolExecutor(min(_AT_ONCE, max(1, len(found)))) as pool:
        return sorted(pool.map(_look, found))


def _look(broker: Mapping[str, Any]) -> Broker:
    host, port = str(broker["host"]), int(broker["port"])
    fenced = bool(broker.get("is_fenced", False))
    failed = "" if fenced else _failed(host, port)
    return Broker(int(broker["broker_id"]), f"{host}:{port}", fenced, failed)


def _failed(host: str, port: int) -> str:
    try:
        socket.create_connection((host, port), _CONNECT_S).close()
    except socket.gaierror:
        return "has no known address"
    except TimeoutError:
        return "does not answer"
    except ConnectionRefusedError:
        return "refuses connections"
    except OSError as error:
        return describe_connection_error(error) or "cannot be reached"
    return ""


def group_operations(
    place: LogUrl, settings: Mapping[str, str], group: str, timeout_s: float = ANSWER_S
) -> frozenset[str] | None:
    """What this user may do with a consumer group: `READ`, `DESCRIBE`, `DELETE`. Empty if it may not even see it; None if the
    brokers do not say. The group need not exist. Raises LogUnavailable."""
    with (
        contextlib.closing(connect("admin", place, settings, timeout_s)) as admin,
        translated_errors(place.url),
    ):
        found = call_broker(lambda: _described(admin, group), timeout_s)
    if found is None:
        return frozenset()
    operations = found.get("authorized_operations")  # also of a group that is not there
    return None if operations is None else frozenset(operations)


def _described(admin: Any, group: str) -> Mapping[str, Any] | None:
    """The description of a group; None where this user may not describe it."""
    try:
        found: Mapping[str, Any] = admin.describe_groups([group])[group]
    except KafkaError as error:
        if "Authorization" in type(error).__name__:
            return None
        raise
    return None if "uthoriz" in str(found.get("error") or "") else found
