"""A broker with authentication: the worker uses the same settings as the other clients."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka import KafkaAdminClient
from kafka.admin import ScramMechanism, UserScramCredentialUpsertion

from tests.live.site import WorkerCommand, report, said, until, wait_for, worker_here
from tests.support.processes.kafka_server import KafkaCluster
from vacancy.clients.replay_tool.replay import replay
from vacancy.clients.runtime.bootstrap import installed_registry, new_log
from vacancy.resources.model.errors import LogUnavailable, VacancyError
from vacancy.streams.log import open_log
from vacancy.streams.settings import load_settings

pytestmark = pytest.mark.kafka

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/threat-model.md").read_text()
SECRET = "correct-horse"  # noqa: S105
PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule"
JAAS = f'{PLAIN} required user_me="{SECRET}";'
SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule"


class Secured:
    """A broker with a listener for each way to log in, and the settings for it."""

    def __init__(self, directory: Path) -> None:
        self.certificate = directory / "broker.pem"
        _make_certificate(self.certificate, directory / "broker.key")
        _pack(self.certificate, directory / "broker.key", directory / "broker.p12")
        client, key = directory / "client.pem", directory / "client.key"
        _make_certificate(client, key, "-passout", f"pass:{SECRET}")
        keystore = {"type": "PKCS12", "location": str(directory / "broker.p12"), "password": SECRET}
        properties = {
            **_recipe_of_the_page(directory),
            "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256",
            **{f"listener.name.{name}.plain.sasl.jaas.config": JAAS for name in ("sasl", "sasltls")},
            "listener.name.sasltls.sasl.enabled.mechanisms": "PLAIN",
            "listener.name.sasl.scram-sha-256.sasl.jaas.config": f"{SCRAM} required;",
            **{
                f"listener.name.{name}.ssl.keystore.{setting}": value
                for name in ("tls", "sasltls", "mutual")
                for setting, value in keystore.items()
            },
            "listener.name.mutual.ssl.client.auth": "required",
            "listener.name.mutual.ssl.truststore.type": "PEM",
            "listener.name.mutual.ssl.truststore.location": str(client),
        }
        listeners = {"SASL": "SASL_PLAINTEXT", "TLS": "SSL", "SASLTLS": "SASL_SSL", "MUTUAL": "SSL"}
        listeners["SASL_SSL"] = "SASL_SSL"
        self.cluster = KafkaCluster(directory / "kafka", listeners=listeners, properties=properties)
        admin = KafkaAdminClient(bootstrap_servers=self.cluster.servers)
        admin.alter_user_scram_credentials(
            [
                UserScramCredentialUpsertion("scrammer", ScramMechanism.SCRAM_SHA_256, SECRET),
                _user_of_the_page(),
            ]
        )
        admin.close()
        tls = {"security.protocol": "SSL", "ssl.cafile": str(self.certificate)}
        mine = {"ssl.certfile": str(client), "ssl.keyfile": str(key), "ssl.password": SECRET}
        self.settings = {
            "PLAIN": _sasl("PLAIN", "me"),
            "SCRAM": _sasl("SCRAM-SHA-256", "scrammer"),
            "TLS": tls,
            "SASLTLS": {**_sasl("PLAIN", "me"), **tls, "security.protocol": "SASL_SSL"},
            "MUTUAL": {**tls, **mine},
        }

    def url(self, way: str) -> str:
        """The URL of the way's log."""
        listener = "SASL" if way in {"PLAIN", "SCRAM"} else way
        return f"kafka://{self.cluster.servers_of(listener)}/by-{way.lower()}"


def _block(page: str, name: str) -> str:
    (found,) = re.findall(rf"^```\S+ {re.escape(name)}\n(.*?)^```$", page, re.M | re.S)
    return str(found)


def _recipe_of_the_page(directory: Path) -> dict[str, str]:
    """Run the page's commands for a certificate in `directory`. Returns the page's settings of the broker that has it."""
    directory.mkdir(exist_ok=True)
    commands = _block(PAGE, "certificate").replace("DNS:k1", "IP:127.0.0.1")
    subprocess.run(["bash", "-e", "-c", commands], cwd=directory, check=True, capture_output=True)
    settings = _block(PAGE, "server.properties").replace("/etc/kafka", str(directory))
    return dict(line.split("=", 1) for line in settings.splitlines())


def _user_of_the_page() -> UserScramCredentialUpsertion:
    """What the page's `kafka-configs.sh` adds, whose own start takes seconds."""
    ((mechanism, password, user),) = re.findall(
        r"--add-config '([\w-]+)=\[password=(\S+)\]' --entity-type users --entity-name (\w+)", PAGE
    )
    return UserScramCredentialUpsertion(user, ScramMechanism[mechanism.replace("-", "_")], password)


def _sasl(mechanism: str, user: str) -> dict[str, str]:
    return {
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": mechanism,
        "sasl.username": user,
        "sasl.password": SECRET,
    }


def _make_certificate(certificate: Path, key: Path, *guarded: str) -> None:
    """`guarded`: how the key is, if it is."""
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-subj", "/CN=127.0.0.1", "-days", "2"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*make, *(guarded or ("-nodes",)), *names], check=True, capture_output=True)


def _pack(certificate: Path, key: Path, packed: Path) -> None:
    pack = ["openssl", "pkcs12", "-export", "-in", str(certificate), "-inkey", str(key), "-name", "broker"]
    store = ["-out", str(packed), "-passout", f"pass:{SECRET}"]
    subprocess.run([*pack, *store], check=True, capture_output=True)


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    made = Secured(tmp_path_factory.mktemp("secured"))
    with made.cluster:
        yield made


@pytest.mark.parametrize("way", ["PLAIN", "SCRAM", "TLS", "SASLTLS", "MUTUAL"])
def test_it_follows_a_log_that_is_guarded(way: str, secured: Secured, tmp_path: Path) -> None:
    settings, url = secured.settings[way], secured.url(way)
    with new_log(url, 2, installed_registry(), replication=None, **settings) as log:
        log.append([report("a", "node-1")])
        with worker_here(url, tmp_path / "store", **settings) as app:
            log.append([report("a", "node-2")])
            wait_for(tmp_path / "store", log.end())
            until(lambda: app.position == log.end(), "it does not know its position")  # of another thread
        assert said(tmp_path / "store").position == log.end()
        if way not in COMMANDED:
            return
        given = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
        with WorkerCommand(log, tmp_path / "store", *given) as worker:
            assert worker.get("/ready").code == 200
            assert SECRET not in worker.get("/status").text + worker.get("/metrics").text


def test_the_recipe_of_the_pages_makes_and_follows_a_log(
    secured: Secured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The certificate, the settings of the broker and the user of the threat model, and the `vacancy.toml` of operating."""
    servers = secured.cluster.servers_of("SASL_SSL")
    text = _block((ROOT / "docs/operating.md").read_text(), "vacancy.toml")
    text = text.replace("k1:9092,k2:9092,k3:9092", servers).replace("/var/lib/vacancy", str(tmp_path))
    text = text.replace("/etc/ssl/certs/kafka.pem", str(secured.certificate.parent / "k1.crt"))
    (tmp_path / "vacancy.toml").write_text(text)
    monkeypatch.setenv("VACANCY_KAFKA_SASL_PASSWORD", SECRET)
    found = load_settings(config=tmp_path / "vacancy.toml")
    assert found.log is not None
    with new_log(found.log, 2, installed_registry(), replication=1, **found.kafka) as log:
        log.append([report("a", "node-1")])
        assert replay(log, tmp_path / "store", installed_registry()).position == log.end()
    with pytest.raises(VacancyError, match="Kafka refused the credentials"):
        open_log(found.log, **{**found.kafka, "sasl.password": "wrong-secret"})


COMMANDED = {"PLAIN", "MUTUAL"}
"""The ways that are also given to the command. Together they have every kind of setting."""

WRONG = {
    "password": ("PLAIN", {"sasl.password": "wrong-secret"}, "Kafka refused the credentials"),
    "mechanism": ("PLAIN", {"sasl.mechanism": "SCRAM-SHA-512"}, "Kafka refused the credentials"),
    "user": ("SCRAM", {"sasl.username": "nobody"}, "Kafka refused the credentials"),
    "no login": ("NONE", {}, "Kafka refused the credentials"),
    "certificate": ("TLS", {"ssl.cafile": ""}, "certificate is not trusted"),
    "file": ("TLS", {"ssl.cafile": "/not/there.pem"}, "cannot use the files of its TLS settings"),
    "password over TLS": ("SASLTLS", {"sasl.password": "wrong-secret"}, "Kafka refused the credentials"),
    "no certificate": (
        "MUTUAL",
        {"ssl.certfile": "", "ssl.keyfile": "", "ssl.password": ""},
        "do not agree on TLS",
    ),
    "key's password": (
        "MUTUAL",
        {"ssl.password": "wrong-secret"},
        "cannot use the files of its TLS settings",
    ),
    "no TLS": ("TLS", {"security.protocol": "PLAINTEXT"}, "does not use the protocol"),
}
"""What is wrong -> the way to log in, settings that differ from its own, and what is said of them."""


@pytest.mark.parametrize("what", WRONG)
def test_settings_that_are_wrong_are_reported_at_once(what: str, secured: Secured) -> None:
    """Brokers that are away are waited for; these are there, and would say the same again."""
    way, differing, told = WRONG[what]
    url = f"kafka://{secured.cluster.servers}/by-plain" if way == "NONE" else secured.url(way)
    patient = {"bootstrap.timeout.ms": "600000"}  # longer than any test lasts
    settings = {**secured.settings["PLAIN" if way == "NONE" else way], **patient, **differing}
    with pytest.raises(VacancyError, match=told) as raised:
        open_log(url, **settings)
    assert not isinstance(raised.value, LogUnavailable)
    assert "wrong-secret" not in str(raised.value)


def test_a_worker_with_a_wrong_password_ends(secured: Secured, tmp_path: Path) -> None:
    settings = {**secured.settings["PLAIN"], "sasl.password": "wrong-secret"}
    given = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    worker = WorkerCommand(secured.url("PLAIN"), tmp_path / "store", *given)
    ended = worker.start().ended()
    assert ended.code == 1
    assert ended.lines[-1].startswith("vacancy: Kafka refused the credentials")
    assert not any("does not answer" in line or "wrong-secret" in line for line in ended.lines)
