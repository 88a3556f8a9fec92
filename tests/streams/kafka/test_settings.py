"""Kafka client settings: names, values, settings that are not allowed, and secrets that are never shown."""

from __future__ import annotations

from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer

from vacancy.resources.model.errors import UsageError
from vacancy.streams.kafka.settings import Kind, client_settings

SERVERS = ("a:1", "b:2")


def test_names_and_values_become_those_of_the_client() -> None:
    found = client_settings(
        "consumer",
        SERVERS,
        {
            "security.protocol": "SASL_SSL",
            "sasl.username": "me",
            "sasl_mechanism": "PLAIN",
            "ssl.ca.location": "/ca.pem",
            "ssl.check.hostname": "false",
            "request.timeout.ms": "20000",
            "receive-buffer-bytes": "65536",
            "api.version": "4.0",
        },
    )
    expected = {
        "bootstrap_servers": ["a:1", "b:2"],
        "security_protocol": "SASL_SSL",
        "sasl_plain_username": "me",
        "sasl_mechanism": "PLAIN",
        "ssl_cafile": "/ca.pem",
        "ssl_check_hostname": False,
        "request_timeout_ms": 20000,
        "receive_buffer_bytes": 65536,
        "api_version": (4, 0),
        "group_id": None,
        "auto_offset_reset": "none",
    }
    assert expected.items() <= found.items()


@pytest.mark.parametrize(
    ("kind", "client"),
    [("admin", KafkaAdminClient), ("consumer", KafkaConsumer), ("producer", KafkaProducer)],
)
def test_each_client_gets_only_what_it_knows(kind: Kind, client: Any) -> None:
    given = {
        "linger.ms": "5",
        "fetch.min.bytes": "10",
        "security.protocol": "SSL",
        "compression.type": "gzip",
    }
    found = client_settings(kind, SERVERS, given)
    assert set(found) <= set(client.DEFAULT_CONFIG)
    assert ("linger_ms" in found) == (kind == "producer")
    assert ("fetch_min_bytes" in found) == (kind == "consumer")
    assert found["security_protocol"] == "SSL"


def test_producers_are_durable_and_idempotent() -> None:
    found = client_settings("producer", SERVERS, {"delivery.timeout.ms": "1000"})
    assert (found["acks"], found["enable_idempotence"], found["delivery_timeout_ms"]) == ("all", True, 1000)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("acks", "is not allowed"),
        ("enable.idempotence", "is not allowed"),
        ("group.id", "is not allowed"),
        ("auto.offset.reset", "is not allowed"),
        ("check.crcs", "is not allowed"),
        ("bootstrap.servers", "log's URL"),
        ("transactional.id", "does not use transactions"),
        ("ssl.context", "as text"),
        ("ssl.truststore.location", "no Kafka setting"),
    ],
)
def test_settings_that_are_not_allowed(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as raised:
        client_settings("producer", SERVERS, {name: "hunter2"})
    assert name in str(raised.value)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize("name", ["ssl.check.hostname", "request.timeout.ms", "api.version"])
def test_invalid_values(name: str) -> None:
    with pytest.raises(UsageError, match=name) as raised:
        client_settings("admin", SERVERS, {name: "hunter2"})
    assert "hunter2" not in str(raised.value)
    assert raised.value.__cause__ is None


def test_one_setting_under_two_names() -> None:
    with pytest.raises(UsageError, match="twice"):
        client_settings("admin", SERVERS, {"sasl.password": "a", "sasl.plain.password": "b"})


def test_secrets_do_not_show_where_clients_print_their_settings() -> None:
    found = client_settings("admin", SERVERS, {"sasl.password": "hunter2", "ssl.password": "hunter2"})
    assert "hunter2" not in repr(found)
    assert found["sasl_plain_password"].encode() == b"hunter2"
