"""Connecting to Kafka: a client that is ready, or one clear error and nothing left open."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from kafka.errors import KafkaError
from kafka.net.compat import KafkaNetClient

from vacancy.streams.kafka_errors import told
from vacancy.streams.kafka_settings import CLIENTS, Kind, client_settings
from vacancy.streams.log_url import LogUrl


def connect(kind: Kind, place: LogUrl, given: Mapping[str, str]) -> Any:
    """kafka-python's client of this `kind`, connected. Raises UsageError, LogError or LogUnavailable."""
    settings = client_settings(kind, place.servers, given)
    networks: list[KafkaNetClient] = []

    def network(**configuration: Any) -> KafkaNetClient:
        networks.append(KafkaNetClient(**configuration))
        return networks[-1]

    try:
        return CLIENTS[kind](kafka_client=network, **settings)
    except (KafkaError, ValueError, TypeError, OSError) as error:
        # A client that fails while it connects leaves its thread and its sockets behind.
        for one in networks:
            with contextlib.suppress(Exception):
                one.close()
        raise told(error, place.url) from error


@contextlib.contextmanager
def telling(where: str) -> Iterator[None]:
    """Turn Kafka's errors into this product's."""
    try:
        yield
    except (KafkaError, OSError) as error:
        raise told(error, where) from error
