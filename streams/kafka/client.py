"""Connecting to Kafka: a client that is ready, or one clear error and nothing left open."""

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
_ASK_AGAIN_S: Final = 0.1


def connect(kind: Kind, place: LogUrl, given: Mapping[str, str], timeout_s: float | None = None) -> Any:
    """kafka-python's client of this `kind`, connected: within `timeout_s` where that is less than the settings
    allow. Raises UsageError, LogError or LogUnavailable."""
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
        # A client that fails while it connects leaves its thread and its sockets behind.
        for one in networks:
            one.looked()
            with contextlib.suppress(Exception):
                one.close()
        refused = next((one.refused for one in networks if one.refused is not None), None)
        raise refused or translate_error(error, place.url, "".join(one.seen for one in networks)) from error
    for one in networks:
        one.looked()
    return client


def call_broker(ask: Callable[[], Answer], timeout_s: float = ANSWER_S) -> Answer:
    """What an admin client is answered. It asks any one broker, also one that died a moment ago and is not missed by
    the others yet: then it is asked again, and another broker with it. Raises what came last, after `timeout_s`."""
    until = time.monotonic() + timeout_s
    while True:
        try:
            return ask()
        except RetriableError:
            if time.monotonic() + _ASK_AGAIN_S > until:
                raise
        time.sleep(_ASK_AGAIN_S)


@contextlib.contextmanager
def translated_errors(where: str) -> Iterator[None]:
    """Turn Kafka's errors into this product's."""
    try:
        yield
    except (KafkaError, OSError) as error:
        raise translate_error(error, where) from error
