"""Translates Kafka's errors: what happened, where, and what to do."""

from __future__ import annotations

import re
import ssl
from typing import Final

from kafka import errors

from vacancy.resources.model.errors import LogError, LogUnavailable, RecordTooLarge, UsageError, VacancyError

_REFUSED = (
    errors.SaslAuthenticationFailedError,
    errors.UnsupportedSaslMechanismError,
    errors.IllegalSaslStateError,
)
_TOO_LARGE = (errors.MessageSizeTooLargeError, errors.RecordListTooLargeError)
_TRY_AGAIN = (
    errors.RetriableError,
    OSError,
    # The producer lost its state at the broker: it is not known whether the record is in the log.
    errors.OutOfOrderSequenceNumberError,
    errors.UnknownProducerIdError,
    errors.InvalidProducerEpochError,
    errors.BrokerNotAvailableError,
)

_find_batch = re.compile(r"partition=(\d+)(?:\D* offset (\d+))?").search
_CUT_OFF = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
_OBSERVATIONS: Final = {
    "ECONNREFUSED": "refuses connections",
    "DNS Resolution failure": "has no known address",
    "EHOSTUNREACH": "cannot be reached",
    "ENETUNREACH": "cannot be reached",
    "timed out": "does not answer",
}


def refusal(error: Exception, where: str) -> VacancyError | None:
    """The error that a connection ended with, if a retry cannot help; None if it may."""
    if isinstance(error, _REFUSED):
        return translate_error(error, where)
    if isinstance(error, errors.InvalidReceiveError):
        do = "check security.protocol, and the port in the log's URL: the brokers may expect TLS there"
        return LogError("the server does not use the protocol of Kafka's client", where=where, do=do)
    inner = _inner(error)
    if isinstance(inner, ssl.SSLCertVerificationError):
        what = f"the brokers' certificate is not trusted ({inner.verify_message})"
        do = "check ssl.cafile, and that the host names in the log's URL are those of the certificates"
        return LogError(what, where=where, do=do)
    if isinstance(error, OSError) and not isinstance(error, ConnectionError | TimeoutError):
        # kafka-python wraps all others; only the set-up of the client's TLS context raises a plain OSError.
        what = f"Kafka's client cannot use the files of its TLS settings ({type(error).__name__})"
        return UsageError(
            what, where=where, do="check ssl.cafile, ssl.certfile, ssl.keyfile and ssl.password"
        )
    if isinstance(inner, ssl.SSLError) and not isinstance(inner, _CUT_OFF):
        do = "check that security.protocol and ssl.* match the brokers' settings"
        return LogError(f"Kafka and its client do not agree on TLS ({inner.reason})", where=where, do=do)
    return None


def _inner(error: Exception) -> BaseException:
    """The error that kafka-python wrapped, or the error itself."""
    if not isinstance(error, errors.KafkaConnectionError):
        return error
    wrapped = next((one for one in error.args if isinstance(one, BaseException)), error.__context__)
    return wrapped or error


def describe_connection_error(error: Exception) -> str:
    """How a connection failed, as text for an error message; "" if it is not known."""
    text = str(error)
    for part, observation in _OBSERVATIONS.items():
        if part in text:
            return observation
    return "closes connections" if isinstance(error, errors.KafkaConnectionError) else ""


def translate_error(error: Exception, where: str, observed: str = "") -> VacancyError:
    """`error` as an error of this project: LogUnavailable if a retry may help.

    `where` is the log and, if known, the partition; `observed` describes the failed connections. The client's own
    message is not repeated, because it could contain a setting.
    """
    kind = type(error).__name__
    if isinstance(error, errors.KafkaConfigurationError | ValueError | TypeError):
        return UsageError("Kafka's client refuses its settings", where=where, do=f"check them ({kind})")
    if isinstance(error, _REFUSED):
        return LogError("Kafka refused the credentials", where=where, do="check sasl.* and security.protocol")
    # A producer that may write to no topic gets no id; the client wraps that refusal in an error without a kind.
    no_id = type(error) is errors.KafkaError and errors.ClusterAuthorizationFailedError.__name__ in str(error)
    if no_id or isinstance(error, errors.AuthorizationError):
        do = "get the permissions to describe, read and write the topic (to create it: to create topics)"
        return LogError("Kafka does not allow this", where=where, do=do)
    if isinstance(error, _TOO_LARGE):
        do = "send less in one record, or raise max.message.bytes of the topic (`vacancy topics check` has the value)"
        return RecordTooLarge("a record is larger than the topic's max.message.bytes", where=where, do=do)
    if isinstance(error, errors.IllegalStateError):
        return LogError("the log is closed", where=where, do="open it again")
    if isinstance(error, errors.NotEnoughReplicasError | errors.NotEnoughReplicasAfterAppendError):
        do = "bring the brokers back, then try again"
        return LogUnavailable("Kafka has too few in-sync replicas to accept records", where=where, do=do)
    if isinstance(error, _TRY_AGAIN):
        do = "check that the brokers run, and that security.protocol and sasl.* match theirs, then try again"
        return LogUnavailable(f"Kafka did not answer in time ({observed or kind})", where=where, do=do)
    if isinstance(error, errors.CorruptRecordError):
        return damaged_records(error, where)
    return LogError(f"Kafka failed ({kind})", where=where, do="read the brokers' logs")


def damaged_records(error: Exception, where: str) -> LogError:
    """The error for a batch of records whose checksum is wrong: one of kafka-python or of aiokafka, whose texts name the
    partition, and that of kafka-python the offset, too."""
    partition, offset = found.groups() if (found := _find_batch(str(error))) else (None, None)
    named = [f", partition {partition}" if partition else "", f", offset {offset}" if offset else ""]
    return LogError(
        "records of the log are damaged: their checksum does not match",
        where=where + "".join(named),
        do="check the brokers' disks, and restore the partition from another replica or from a backup",
    )
