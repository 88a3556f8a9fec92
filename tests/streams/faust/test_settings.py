"""Kafka client settings under their own names, as the worker's client gets them."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

import faust
import pytest
from faust.auth import GSSAPICredentials
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth

from vacancy.resources.model.errors import UsageError
from vacancy.streams.faust.settings import faust_options

SERVERS = ("one:9092", "two:9093")


def test_without_settings_it_connects_in_plain_text() -> None:
    options = faust_options(SERVERS, {})
    assert options["broker"] == ["kafka://one:9092", "kafka://two:9093"]
    assert "broker_credentials" not in options
    assert options["broker_heartbeat_interval"] * 3 <= options["broker_session_timeout"]


def test_timeouts_and_sizes_under_their_own_names() -> None:
    options = faust_options(
        SERVERS,
        {
            "session.timeout.ms": "20000",
            "heartbeat.interval.ms": "2500",
            "request_timeout_ms": "40000",
            "max.poll.interval.ms": "600000",
            "max.partition.fetch.bytes": "65536",
            "metadata.max.age.ms": "1000",
            "connections.max.idle.ms": "60000",
            "linger.ms": "5",  # a producer's
        },
    )
    assert options["broker_session_timeout"] == 20.0
    assert options["broker_heartbeat_interval"] == 2.5
    assert options["broker_request_timeout"] == 40.0
    assert options["broker_max_poll_interval"] == 600.0
    assert options["consumer_max_fetch_size"] == 65_536
    assert options["consumer_metadata_max_age_ms"] == 1000
    assert options["consumer_connections_max_idle_ms"] == 60_000
    assert options["broker_check_crcs"] is True
    faust.App("test", **options)


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_sasl_in_plain_text(mechanism: str) -> None:
    given = {
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": mechanism,
        "sasl.username": "me",
        "sasl.password": "hunter2",
    }
    credentials = faust_options(SERVERS, given)["broker_credentials"]
    assert "hunter2" not in repr(credentials)
    assert credentials_to_aiokafka_auth(credentials) == {
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": mechanism,
        "sasl_plain_username": "me",
        "sasl_plain_password": "hunter2",
        "ssl_context": None,
    }


def test_sasl_over_tls() -> None:
    given = {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "me",
        "sasl.password": "hunter2",
    }
    auth = credentials_to_aiokafka_auth(faust_options(SERVERS, given)["broker_credentials"])
    assert auth["security_protocol"] == "SASL_SSL"
    assert auth["ssl_context"].verify_mode is ssl.CERT_REQUIRED
    assert auth["ssl_context"].check_hostname


def test_kerberos() -> None:
    given = {
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "GSSAPI",
        "sasl.kerberos.service.name": "k",
    }
    credentials = faust_options(SERVERS, given)["broker_credentials"]
    assert isinstance(credentials, GSSAPICredentials)
    assert credentials.kerberos_service_name == "k"


def test_tls_with_a_client_certificate(tmp_path: Path) -> None:
    certificate, key = tmp_path / "me.pem", tmp_path / "me.key"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-subj", "/CN=me", "-days", "2"]
    secret = ["-passout", "pass:hunter2", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command, *secret], check=True, capture_output=True)
    given = {
        "security.protocol": "SSL",
        "ssl.cafile": str(certificate),
        "ssl.certfile": str(certificate),
        "ssl.keyfile": str(key),
        "ssl.password": "hunter2",
        "ssl.check.hostname": "false",
    }
    auth = credentials_to_aiokafka_auth(faust_options(SERVERS, given)["broker_credentials"])
    assert auth["security_protocol"] == "SSL"
    assert [one["subject"] for one in auth["ssl_context"].get_ca_certs()] == [((("commonName", "me"),),)]
    assert auth["ssl_context"].check_hostname is False
    with pytest.raises(UsageError, match=r"TLS files cannot be used.*ssl\.keyfile") as raised:
        faust_options(SERVERS, {**given, "ssl.password": "wrong-secret"})
    assert "wrong-secret" not in str(raised.value)


def test_unusable_settings_are_refused() -> None:
    with pytest.raises(UsageError, match="TLS files cannot be used"):
        faust_options(SERVERS, {"security.protocol": "SSL", "ssl.cafile": "/not/there.pem"})
    with pytest.raises(UsageError, match=r"cannot use sasl\.mechanism=OAUTHBEARER"):
        faust_options(SERVERS, {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "OAUTHBEARER"})
    with pytest.raises(UsageError, match=r"session\.timeout\.ms is larger than request\.timeout\.ms"):
        faust_options(SERVERS, {"session.timeout.ms": "90000"})
    with pytest.raises(UsageError, match=r"there is no Kafka setting 'sasl\.pasword'"):
        faust_options(SERVERS, {"sasl.pasword": "hunter2"})
