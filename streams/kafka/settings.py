"""Converts Kafka client settings, given as text under Kafka's names, into arguments of kafka-python.

`security.protocol` and `security_protocol` are the same. Settings that this package depends on cannot be changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer

from vacancy.resources.model.errors import UsageError
from vacancy.streams.log import KEY_BYTES_MAX, RECORD_BYTES_MAX
from vacancy.streams.settings import MASK, is_secret

Kind = Literal["admin", "consumer", "producer"]

MESSAGE_BYTES: Final = RECORD_BYTES_MAX + KEY_BYTES_MAX + 1_024
"""The largest record that a log takes, and what Kafka adds to it in a batch of its own."""

CLIENTS: Final[Mapping[Kind, Any]] = {
    "admin": KafkaAdminClient,
    "consumer": KafkaConsumer,
    "producer": KafkaProducer,
}

# Names used by the Java client and librdkafka, where kafka-python has other names.
_ALSO_CALLED: Final = {
    "sasl_username": "sasl_plain_username",
    "sasl_password": "sasl_plain_password",
    "ssl_ca_location": "ssl_cafile",
    "ssl_certificate_location": "ssl_certfile",
    "ssl_key_location": "ssl_keyfile",
    "ssl_key_password": "ssl_password",
}
_FIXED: Final[Mapping[Kind, Mapping[str, Any]]] = {
    "admin": {},
    "consumer": {
        "group_id": None,
        "enable_auto_commit": False,
        "auto_offset_reset": "none",
        "allow_auto_create_topics": False,
        "check_crcs": True,
    },
    "producer": {
        "acks": "all",
        "enable_idempotence": True,
        "allow_auto_create_topics": False,
    },
}
_DEFAULTS: Final[Mapping[Kind, Mapping[str, Any]]] = {
    "admin": {"bootstrap_timeout_ms": 10_000, "reconnect_backoff_max_ms": 1_000},
    "consumer": {
        "bootstrap_timeout_ms": 10_000,
        "metrics_enabled": False,
        # A newly requested partition waits until the broker has answered the fetch of the others.
        "fetch_max_wait_ms": 100,
        "reconnect_backoff_max_ms": 1_000,
    },
    "producer": {
        "bootstrap_timeout_ms": 10_000,
        "metrics_enabled": False,
        "max_block_ms": 10_000,
        # Records are kept until a broker that failed is back; callers that wait have their own timeout.
        "delivery_timeout_ms": 300_000,
        "batch_size": 262_144,
        "max_request_size": MESSAGE_BYTES,
        "reconnect_backoff_max_ms": 1_000,
    },
}
_OBJECTS: Final = {
    "key_serializer", "value_serializer", "key_deserializer", "value_deserializer", "partitioner", "selector",
    "kafka_client", "metric_reporters", "socket_options", "ssl_context", "sasl_oauth_token_provider",
    "default_offset_commit_callback", "partition_assignment_strategy",
}  # fmt: skip
_NOT_ALLOWED: Final = {
    "bootstrap_servers": "name the servers in the log's URL",
    "transactional_id": "omit it: this log does not use transactions",
    "retries": "omit it, and set delivery.timeout.ms",
    "isolation_level": "omit it: every record is read",
    "group_instance_id": "omit it: partitions are read without a group",
    **{name: "omit it: the log depends on its value" for fixed in _FIXED.values() for name in fixed},
}
_NUMBERS_WITHOUT_DEFAULT: Final = {"receive_buffer_bytes", "send_buffer_bytes"}


class _Secret(str):
    """A password whose `repr` is a mask: clients print their settings."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(MASK)


def client_settings(kind: Kind, servers: tuple[str, ...], given: Mapping[str, str]) -> dict[str, Any]:
    """The keyword arguments for kafka-python's client of this `kind`.

    Raises UsageError for a setting that no client has, that is not allowed, or whose value is invalid; the message
    names the setting and never repeats the value.
    """
    known = CLIENTS[kind].DEFAULT_CONFIG
    converted: dict[str, Any] = {}
    for spelled, value in given.items():
        name = own_name(spelled)
        if name in converted:
            raise UsageError(f"the Kafka setting {spelled!r} is given twice, under two names", do="omit one")
        converted[name] = _value(name, spelled, value)
    chosen = {**_DEFAULTS[kind], **converted, **_FIXED[kind], "bootstrap_servers": list(servers)}
    return {name: value for name, value in chosen.items() if name in known}


def own_name(spelled: str) -> str:
    """kafka-python's name for a setting. Raises UsageError if there is none, or if the setting is not allowed."""
    name = spelled.strip().lower().replace(".", "_").replace("-", "_")
    name = _ALSO_CALLED.get(name, name)
    if name in _NOT_ALLOWED:
        raise UsageError(f"the Kafka setting {spelled!r} is not allowed", do=_NOT_ALLOWED[name])
    if name in _OBJECTS:
        raise UsageError(f"the Kafka setting {spelled!r} cannot be given as text", do="omit it")
    if not any(name in client.DEFAULT_CONFIG for client in CLIENTS.values()):
        raise UsageError(
            f"there is no Kafka setting {spelled!r}", do="see the settings of kafka-python's clients"
        )
    return name


def _value(name: str, spelled: str, text: str) -> Any:
    defaults = [c.DEFAULT_CONFIG[name] for c in CLIENTS.values() if name in c.DEFAULT_CONFIG]
    sample = 0 if name in _NUMBERS_WITHOUT_DEFAULT else defaults[0]
    try:
        if isinstance(sample, bool):
            return {"true": True, "false": False}[text.strip().lower()]
        if isinstance(sample, int | float):
            return int(text)
        if name == "api_version":
            return tuple(int(part) for part in text.split("."))
    except (ValueError, KeyError):
        kind = "true or false" if isinstance(sample, bool) else "a whole number"
        raise UsageError(f"the Kafka setting {spelled!r} is not {kind}", do="correct it") from None
    return _Secret(text) if is_secret(name) else text
