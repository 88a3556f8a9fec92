"""Connects to Kafka: returns a connected client, or raises one clear error and leaves nothing open."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeVar

from kafka.errors import KafkaError, RetriableError

from vacancy.streams.kafka.errors import translate_error
from vacancy.streams.kafka.network import Network
from vacancy.streams.kafka.settings import CLIENTS, Kind, client_settings
from vacancy.streams.log_url import LogUrl

Answer = TypeVar("Answer")

ANSWER_S: Final = 10.0
_RETRY_S: Final = 0.1


def connect(kind: Kind, place: LogUrl, given: Mapping[str, str], timeout_s: float | None = None) -> Any:
    """Connect kafka-python's client of this `kind`, within `timeout_s` if that is less than the settings allow.

    Raises UsageError, LogError or LogUnavailable.
    """
    settings = client_settings(kind, place.servers, given)
    if timeout_s is not None:
        settings["bootstrap_timeout_ms"] = min(settings["bootstrap_timeout_ms"], int(timeout_s * 1000))
    networks: list[Network] = []

    def network(**configuration: Any) -> Network:
        networks.append(Network(place.url, **configuration))
        return networks[-1]

    try:
        client = CLIENTS[kind](kafka_client=network, **settings)
    except (KafkaError, ValueError, TypeError, OSError) as error:
        # A client that fails while it connects does not close its thread and its sockets.
        for one in networks:
            one.stop_observing()
            with contextlib.suppress(Exception):
                one.close()
        refused = next((one.refused for one in networks if one.refused is not None), None)
        raise refused or translate_error(
            error, place.url, ", ".join(filter(None, (one.observed for one in networks)))
        ) from error
    for one in networks:
        one.stop_observing()
    return client


def call_broker(request: Callable[[], Answer], timeout_s: float = ANSWER_S) -> Answer:
    """Send a request of an admin client, and retry it for up to `timeout_s`.

    An admin client sends to any broker, also to one that has just died without the others having noticed; a retry may
    choose another. Raises the last error after `timeout_s`.
    """
    until = time.monotonic() + timeout_s
    while True:
        try:
            return request()
        except RetriableError:
            if time.monotonic() + _RETRY_S > until:
                raise
        time.sleep(_RETRY_S)


@contextlib.contextmanager
def translated_errors(where: str) -> Iterator[None]:
    """Translate Kafka's errors into errors of this project."""
    try:
        yield
    except (KafkaError, OSError) as error:
        raise translate_error(error, where) from error
