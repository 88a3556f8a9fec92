"""Settings of a Kafka client as librdkafka has them: other names, and in places other values, than kafka-python's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Final

from vacancy.streams.kafka.settings import client_settings, own_name

SASL_MECHANISMS: Final = frozenset({"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"})
"""Those that librdkafka's wheels have and that need a name and a password only."""

_FIXED: Final[Mapping[str, Any]] = {
    "acks": "all",
    "enable.idempotence": True,
    # A record that is refused ends the producer, before those after it are sent.
    "enable.gapless.guarantee": True,
    # Records do not expire one by one: `LibrdkafkaSender` ends all of them together, so that there is no gap.
    "message.timeout.ms": 0,
    "allow.auto.create.topics": False,
    # A scheduler waits for each record.
    "linger.ms": 0,
    "socket.nagle.disable": True,
    # As kafka-python's producer: records are kept, however many there are, until the brokers answer.
    "queue.buffering.max.messages": 0,
    "queue.buffering.max.kbytes": 2_147_483_647,
}


def _same(value: Any) -> Any:
    return value


def _checked(value: bool) -> str:
    return "https" if value else "none"


_NAMES: Final[Mapping[str, tuple[str, Callable[[Any], Any]]]] = {
    "batch_size": ("batch.size", _same),
    "client_id": ("client.id", _same),
    "compression_type": ("compression.type", _same),
    "connections_max_idle_ms": ("connections.max.idle.ms", _same),
    "linger_ms": ("linger.ms", _same),
    "max_in_flight_requests_per_connection": ("max.in.flight.requests.per.connection", _same),
    "max_request_size": ("message.max.bytes", _same),
    "metadata_max_age_ms": ("topic.metadata.refresh.interval.ms", _same),
    "receive_buffer_bytes": ("socket.receive.buffer.bytes", _same),
    "reconnect_backoff_max_ms": ("reconnect.backoff.max.ms", _same),
    "reconnect_backoff_ms": ("reconnect.backoff.ms", _same),
    "request_timeout_ms": ("socket.timeout.ms", _same),
    "retry_backoff_ms": ("retry.backoff.ms", _same),
    "sasl_mechanism": ("sasl.mechanism", _same),
    "sasl_plain_password": ("sasl.password", str),
    "sasl_plain_username": ("sasl.username", _same),
    "security_protocol": ("security.protocol", _same),
    "send_buffer_bytes": ("socket.send.buffer.bytes", _same),
    "ssl_cafile": ("ssl.ca.location", _same),
    "ssl_certfile": ("ssl.certificate.location", _same),
    "ssl_check_hostname": ("ssl.endpoint.identification.algorithm", _checked),
    "ssl_ciphers": ("ssl.cipher.suites", _same),
    "ssl_crlfile": ("ssl.crl.location", _same),
    "ssl_keyfile": ("ssl.key.location", _same),
    "ssl_password": ("ssl.key.password", str),
}
_RANGES: Final[Mapping[str, tuple[int, int]]] = {
    "batch_size": (1, 2_147_483_647),
    "connections_max_idle_ms": (0, 2_147_483_647),
    "linger_ms": (0, 900_000),
    "max_in_flight_requests_per_connection": (1, 5),
    "max_request_size": (1_000, 1_000_000_000),
    "metadata_max_age_ms": (-1, 3_600_000),
    "receive_buffer_bytes": (0, 100_000_000),
    "reconnect_backoff_max_ms": (0, 3_600_000),
    "reconnect_backoff_ms": (0, 3_600_000),
    "request_timeout_ms": (10, 300_000),
    "retry_backoff_ms": (1, 300_000),
    "send_buffer_bytes": (0, 100_000_000),
}
"""The least and the largest values that librdkafka takes. kafka-python takes others, too."""

_RECONNECT_MS: Final = 100
"""`reconnect.backoff.ms` where nothing else is asked for. librdkafka demands that the longest pause is not shorter."""

_OWN: Final = frozenset({"bootstrap_timeout_ms", "delivery_timeout_ms", "max_block_ms"})
"""Settings that `LibrdkafkaSender` keeps itself."""
_WITHOUT_EFFECT: Final = frozenset(
    {"client_dns_lookup", "metrics_enabled", "metrics_num_samples", "metrics_sample_window_ms"}
)


@dataclass(frozen=True, slots=True)
class LibrdkafkaSettings:
    """`configuration` is librdkafka's; it is not printed, because it has passwords. Times are in seconds, sizes in bytes."""

    configuration: Mapping[str, Any] = field(repr=False)
    connect_s: float
    block_s: float
    delivery_s: float
    record_bytes_max: int


def librdkafka_settings(servers: tuple[str, ...], given: Mapping[str, str]) -> LibrdkafkaSettings | None:
    """Settings of a producer, from those that a user gave for any client. None where librdkafka is not installed, or has no
    setting for one of them, or does not take its value: then kafka-python's producer has to do it. Raises `UsageError` as
    `client_settings`."""
    values = client_settings("producer", servers, given)
    if find_spec("confluent_kafka") is None:
        return None
    asked = {own_name(spelled) for spelled in given} & values.keys()
    if asked - _NAMES.keys() - _OWN - _WITHOUT_EFFECT:
        return None
    if values.get("security_protocol", "").startswith("SASL") and (
        values.get("sasl_mechanism") not in SASL_MECHANISMS
    ):
        return None
    if not _takes(values):
        return None
    if (
        "ssl_certfile" in values
    ):  # kafka-python looks for the key there, too; librdkafka would go without the certificate
        values.setdefault("ssl_keyfile", values["ssl_certfile"])
    configuration = {
        named: convert(values[name]) for name, (named, convert) in _NAMES.items() if name in values
    }
    configuration["bootstrap.servers"] = ",".join(servers)
    return LibrdkafkaSettings(
        {**_FIXED, **configuration},
        connect_s=values["bootstrap_timeout_ms"] / 1000,
        block_s=values["max_block_ms"] / 1000,
        delivery_s=values["delivery_timeout_ms"] / 1000,
        record_bytes_max=values["max_request_size"],
    )


def _takes(values: Mapping[str, Any]) -> bool:
    """Whether librdkafka takes these numbers."""
    if values.get("reconnect_backoff_ms", _RECONNECT_MS) > values["reconnect_backoff_max_ms"]:
        return False
    return all(least <= values[name] <= most for name, (least, most) in _RANGES.items() if name in values)
