"""Converts Kafka client settings, given under their own names, into options of Faust.

The settings are the same as for the other clients (see `streams/kafka/settings.py`); settings that only other clients
have, such as those of a producer, are ignored.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any, Final

import faust
from faust.auth import GSSAPICredentials
from faust.types.auth import CredentialsT

from vacancy.resources.model.errors import UsageError
from vacancy.streams.kafka.settings import client_settings, own_name

SESSION_TIMEOUT_S: Final = 10.0
"""Without a heartbeat for this long, a worker's partitions are assigned to the others."""

_SECONDS: Final = {
    "session_timeout_ms": "broker_session_timeout",
    "heartbeat_interval_ms": "broker_heartbeat_interval",
    "request_timeout_ms": "broker_request_timeout",
    "max_poll_interval_ms": "broker_max_poll_interval",
}
_UNCHANGED: Final = {
    "max_partition_fetch_bytes": "consumer_max_fetch_size",
    "metadata_max_age_ms": "consumer_metadata_max_age_ms",
    "connections_max_idle_ms": "consumer_connections_max_idle_ms",
}
_DEFAULTS: Final[Mapping[str, Any]] = {
    "broker_check_crcs": True,
    "broker_session_timeout": SESSION_TIMEOUT_S,
    "broker_heartbeat_interval": SESSION_TIMEOUT_S / 5,
    "broker_rebalance_timeout": 30.0,
    "broker_request_timeout": 60.0,
}


def faust_options(servers: tuple[str, ...], given: Mapping[str, str]) -> dict[str, Any]:
    """The options of a Faust app that connects to `servers` with the settings `given`. Raises UsageError."""
    settings = client_settings("consumer", servers, given)
    named = {own_name(spelled) for spelled in given}
    options = dict(_DEFAULTS)
    options |= {ours: settings[name] / 1000 for name, ours in _SECONDS.items() if name in named}
    options |= {ours: settings[name] for name, ours in _UNCHANGED.items() if name in named}
    if options["broker_session_timeout"] > options["broker_request_timeout"]:
        raise UsageError(
            "session.timeout.ms is larger than request.timeout.ms", do="give a longer request.timeout.ms"
        )
    options["broker"] = [f"kafka://{server}" for server in servers]
    credentials = _credentials(settings)
    if credentials is not None:
        options["broker_credentials"] = credentials
    return options


def _credentials(settings: Mapping[str, Any]) -> CredentialsT | None:
    protocol = str(settings.get("security_protocol", "PLAINTEXT")).upper()
    if protocol == "PLAINTEXT":
        return None
    context = _context(settings) if protocol.endswith("SSL") else None
    if protocol == "SSL":
        return faust.SSLCredentials(context)
    mechanism = str(settings.get("sasl_mechanism") or "PLAIN").upper()
    if mechanism == "GSSAPI":
        return GSSAPICredentials(
            kerberos_service_name=settings.get("sasl_kerberos_service_name", "kafka"),
            kerberos_domain_name=settings.get("sasl_kerberos_domain_name"),
            ssl_context=context,
        )
    if mechanism not in ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"):
        raise UsageError(
            f"the worker cannot use sasl.mechanism={mechanism}",
            do="use PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or GSSAPI, or TLS certificates",
        )
    return faust.SASLCredentials(
        mechanism=mechanism,
        username=settings.get("sasl_plain_username"),
        password=settings.get("sasl_plain_password"),
        ssl_context=context,
    )


def _context(settings: Mapping[str, Any]) -> ssl.SSLContext:
    """The TLS context, with the same settings as the other clients. Raises UsageError for an unusable file."""
    try:
        context = ssl.create_default_context(cafile=settings.get("ssl_cafile"))
        context.check_hostname = settings.get("ssl_check_hostname", True)
        if certificate := settings.get("ssl_certfile"):
            context.load_cert_chain(certificate, settings.get("ssl_keyfile"), settings.get("ssl_password"))
        if revoked := settings.get("ssl_crlfile"):
            context.load_verify_locations(revoked)
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
        if ciphers := settings.get("ssl_ciphers"):
            context.set_ciphers(ciphers)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"the TLS files cannot be used: {error}",
            do="check ssl.cafile, ssl.certfile, ssl.keyfile, ssl.crlfile",
        ) from error
    return context
