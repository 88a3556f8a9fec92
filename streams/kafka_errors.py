"""Kafka's errors, told as what, where and what to do."""

from __future__ import annotations

from kafka import errors

from vacancy.resources.errors import LogError, LogUnavailable, UsageError, VacancyError

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


def told(error: Exception, where: str) -> VacancyError:
    """`error` as a LogError: LogUnavailable if trying again may help. `where` is the log and, if known, the place.

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
        return LogUnavailable(f"Kafka did not answer in time ({kind})", where=where, do=do)
    return LogError(f"Kafka failed ({kind})", where=where, do="look into the brokers' logs")
