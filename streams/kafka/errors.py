"""Kafka's errors, told as what, where and what to do."""

from __future__ import annotations

import ssl
from typing import Final

from kafka import errors

from vacancy.resources.model.errors import LogError, LogUnavailable, UsageError, VacancyError

_REFUSED = (
    errors.SaslAuthenticationFailedError,
    errors.UnsupportedSaslMechanismError,
    errors.IllegalSaslStateError,
)
_TOO_LARGE = (errors.MessageSizeTooLargeError, errors.RecordListTooLargeError)
_TRY_AGAIN = (
    errors.RetriableError,
    OSError,
    # The producer was cut off from what it had sent: whether the record is in the log is not known.
    errors.OutOfOrderSequenceNumberError,
    errors.UnknownProducerIdError,
    errors.InvalidProducerEpochError,
    errors.BrokerNotAvailableError,
)

_CUT_OFF = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
_SEEN: Final = {
    "ECONNREFUSED": "refuses connections",
    "DNS Resolution failure": "has no known address",
    "EHOSTUNREACH": "cannot be reached",
    "ENETUNREACH": "cannot be reached",
    "timed out": "does not answer",
}


def refusal(error: Exception, where: str) -> VacancyError | None:
    """What a connection ended with, where trying again cannot help; None where it may."""
    if isinstance(error, _REFUSED):
        return translate_error(error, where)
    if isinstance(error, errors.InvalidReceiveError):
        do = "check security.protocol, and the port in the log's URL: the brokers may expect TLS there"
        return LogError("The server speaks another protocol than Kafka's client", where=where, do=do)
    inner = _inner(error)
    if isinstance(inner, ssl.SSLCertVerificationError):
        what = f"The brokers' certificate is not trusted ({inner.verify_message})"
        do = "check ssl.cafile, and that the log's URL names the brokers as their certificates do"
        return LogError(what, where=where, do=do)
    if isinstance(error, OSError) and not isinstance(error, ConnectionError | TimeoutError):
        # Only the making of the client's side of TLS raises one that is not wrapped.
        what = f"Kafka's client cannot use the files of its TLS settings ({type(error).__name__})"
        return UsageError(
            what, where=where, do="check ssl.cafile, ssl.certfile, ssl.keyfile and ssl.password"
        )
    if isinstance(inner, ssl.SSLError) and not isinstance(inner, _CUT_OFF):
        do = "check that security.protocol and ssl.* are the brokers'"
        return LogError(f"Kafka and its client do not agree on TLS ({inner.reason})", where=where, do=do)
    return None


def _inner(error: Exception) -> BaseException:
    """What kafka-python wrapped, or the error itself."""
    if not isinstance(error, errors.KafkaConnectionError):
        return error
    wrapped = next((one for one in error.args if isinstance(one, BaseException)), error.__context__)
    return wrapped or error


def seen_as(error: Exception) -> str:
    """What became of a connection, for people; '' where it is not known."""
    text = str(error)
    for part, seen in _SEEN.items():
        if part in text:
            return seen
    return "closes connections" if isinstance(error, errors.KafkaConnectionError) else ""


def translate_error(error: Exception, where: str, seen: str = "") -> VacancyError:
    """`error` as a LogError: LogUnavailable if trying again may help. `where` is the log and, if known, the place;
    `seen` tells what came of its servers.

    No setting is repeated: a message of the client could hold one.
    """
    kind = type(error).__name__
    if isinstance(error, errors.KafkaConfigurationError | ValueError | TypeError):
        return UsageError("Kafka's client refuses its settings", where=where, do=f"check them ({kind})")
    if isinstance(error, _REFUSED):
        return LogError("Kafka refused the credentials", where=where, do="check sasl.* and security.protocol")
    if isinstance(error, errors.AuthorizationError):
        do = "ask for the rights to describe, read and write the topic (to make it: to create topics)"
        return LogError("Kafka does not allow this", where=where, do=do)
    if isinstance(error, _TOO_LARGE):
        do = "send less in one record, or raise the topic's max.message.bytes and max.request.size"
        return LogError("A record is too large for the log", where=where, do=do)
    if isinstance(error, errors.IllegalStateError):
        return LogError("The log is closed", where=where, do="open it again")
    if isinstance(error, errors.NotEnoughReplicasError | errors.NotEnoughReplicasAfterAppendError):
        do = "bring the brokers back, then try again"
        return LogUnavailable("Kafka has too few replicas in step to take records", where=where, do=do)
    if isinstance(error, _TRY_AGAIN):
        do = "check that the brokers are up, and that security.protocol and sasl.* are theirs, then try again"
        return LogUnavailable(f"Kafka did not answer in time ({seen or kind})", where=where, do=do)
    return LogError(f"Kafka failed ({kind})", where=where, do="look into the brokers' logs")
