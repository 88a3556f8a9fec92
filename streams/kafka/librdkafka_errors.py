"""Translates librdkafka's errors into errors of this project."""

from __future__ import annotations

from typing import Any, Final

from kafka import errors

from vacancy.resources.model.errors import LogError, UsageError, VacancyError
from vacancy.streams.kafka.errors import translate_error

_AUTHENTICATION: Final = -169
_SSL: Final = -181
_PURGED_IN_FLIGHT: Final = -151
_TIMED_OUT: Final = -192
_SETTINGS: Final = frozenset({-186, -145})
"""`_INVALID_ARG`, `_UNSUPPORTED_FEATURE`: only when a producer is made."""

_OBSERVATIONS: Final = {
    "Connection refused": "refuses connections",
    "Failed to resolve": "has no known address",
    "No route to host": "cannot be reached",
    "Network is unreachable": "cannot be reached",
    "Disconnected": "closes connections",
    "timed out": "does not answer",
}


def translate(error: Any, where: str, observed: str = "") -> VacancyError:
    """An error of librdkafka (a `KafkaError` of confluent_kafka) as `errors.translate_error` has it: LogUnavailable if a retry
    may help. Its text is not repeated, because it could contain a setting."""
    code: int = error.code()
    if code > 0:  # the broker's
        return translate_error(errors.for_code(code)(), where)
    if code == _AUTHENTICATION:
        return translate_error(errors.SaslAuthenticationFailedError(), where)
    if code == _SSL:
        if "certificate verify failed" in error.str():
            what = "the brokers' certificate is not trusted"
            do = "check ssl.cafile, and that the host names in the log's URL are those of the certificates"
            return LogError(what, where=where, do=do)
        do = "check that security.protocol and ssl.* match the brokers' settings"
        return LogError("Kafka and its client do not agree on TLS", where=where, do=do)
    if code in _SETTINGS:
        return UsageError(
            "Kafka's client refuses its settings", where=where, do=f"check them ({error.name()})"
        )
    return translate_error(errors.KafkaTimeoutError(), where, observed or error.name().removeprefix("_"))


def is_final(error: Any) -> bool:
    """Whether a retry of a connection that ended with this error cannot help."""
    return error.code() in (_AUTHENTICATION, _SSL)


def may_be_appended(error: Any) -> bool:
    """Whether a record with this error may be in the log, or was refused by itself: what the brokers refuse its producer for says
    nothing about it."""
    code: int = error.code()
    return code > 0 or code in (_PURGED_IN_FLIGHT, _TIMED_OUT)


def describe(error: Any) -> str:
    """How a connection failed, as text for an error message: `127.0.0.1:9092 refuses connections`; "" if it is not known."""
    text: str = error.str()
    how = next((said for part, said in _OBSERVATIONS.items() if part in text), "")
    server = text.split("://")[-1].split("/")[0].split(": ")[0]
    return f"{server} {how}" if how and ":" in server else ""
