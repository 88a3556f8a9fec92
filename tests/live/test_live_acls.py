"""The permissions that the page on threats gives each role, on a real broker: each can do its work and nothing else."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from kafka import KafkaAdminClient
from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    ResourcePattern,
    ResourceType,
)

from tests.cli.command import Vacancy, node_file
from tests.support.processes.command_process import Ended
from tests.support.processes.kafka_server import KafkaCluster
from tests.test_structure import ROOT

pytestmark = pytest.mark.kafka

SECRET = "correct-horse"  # noqa: S105
ROLES = ("publisher", "scheduler", "worker", "operator", "reader")
PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule"
USERS = " ".join(f'user_{role}="{SECRET}"' for role in ROLES)
PROPERTIES = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users": "User:ANONYMOUS",
    "sasl.enabled.mechanisms": "PLAIN",
    "listener.name.sasl.plain.sasl.jaas.config": f"{PLAIN} required {USERS};",
}


def acls_of_the_page() -> list[ACL]:
    """The permissions that the page's `kafka-acls` commands give."""
    text = (ROOT / "docs/threat-model.md").read_text().replace("\\\n", " ")
    commands = re.findall(r"^kafka-acls\.sh .*$", text, re.M)
    found = []
    for command in commands:
        words = shlex.split(command)
        values: dict[str, list[str]] = {}
        for name, value in zip(words, [*words[1:], ""], strict=True):
            if name.startswith("--"):
                values.setdefault(name, []).append(value)
        kind = ResourceType.TOPIC if "--topic" in values else ResourceType.GROUP
        (name,) = values["--topic" if kind is ResourceType.TOPIC else "--group"]
        prefixed = values.get("--resource-pattern-type") == ["prefixed"]
        pattern = ACLResourcePatternType.PREFIXED if prefixed else ACLResourcePatternType.LITERAL
        assert set(values) <= {
            *("--bootstrap-server", "--command-config", "--add", "--allow-principal", "--operation"),
            *("--topic", "--group", "--resource-pattern-type"),
        }, command
        found += [
            ACL(
                values["--allow-principal"][0],
                "*",
                ACLOperation[re.sub("(?<=[a-z])(?=[A-Z])", "_", operation).upper()],
                ACLPermissionType.ALLOW,
                ResourcePattern(kind, name, pattern),
            )
            for operation in values["--operation"]
        ]
    assert {acl.principal for acl in found} == {f"User:{role}" for role in ROLES}
    return found


class Site:
    """A broker with the page's permissions, and `vacancy` as each role."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._commands = ExitStack()
        self._users: dict[str, Vacancy] = {}
        self.cluster = KafkaCluster(
            directory / "kafka", listeners={"SASL": "SASL_PLAINTEXT"}, properties=PROPERTIES
        )
        try:
            admin = KafkaAdminClient(bootstrap_servers=self.cluster.servers)
            admin.create_acls(acls_of_the_page())
            admin.close()
        except BaseException:
            self.cluster.close()
            raise

    def as_(self, role: str) -> Vacancy:
        """The command lines of a role: one process runs all of them."""
        if role not in self._users:
            self._users[role] = self._commands.enter_context(self._user(role))
        return self._users[role]

    def close(self) -> None:
        """End the processes of all roles, and the broker."""
        self._commands.close()
        self.cluster.close()

    def _user(self, role: str) -> Vacancy:
        home = self.directory / role
        home.mkdir(exist_ok=True)
        (home / "vacancy.toml").write_text(
            "[kafka]\n"
            '"security.protocol" = "SASL_PLAINTEXT"\n'
            '"sasl.mechanism" = "PLAIN"\n'
            f'"sasl.username" = "{role}"\n'
            f'"sasl.password" = "{SECRET}"\n'
        )
        url = f"kafka://{self.cluster.servers_of('SASL')}/vacancy"
        return Vacancy(home, log=url, store=str(self.directory / "store"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The operator makes the log; the worker follows it."""
    with closing(Site(tmp_path_factory.mktemp("acls"))) as site:
        made = site.as_("operator").run_shared("topics", "create", "--partitions", 1, "--replication", 1)
        assert made.code == 0, made
        with site.as_("worker").serving("worker", "--web-port", "off", until="caught up"):
            yield site


def refused(ended: Ended) -> str:
    """The one line of a command that Kafka does not allow."""
    assert ended.code == 1, ended
    (line,) = ended.err.splitlines()
    assert line.startswith("vacancy: Kafka does not allow this (kafka://"), line
    return line


def test_each_role_can_do_its_work(site: Site, tmp_path: Path) -> None:
    file = node_file(tmp_path, "node-1")
    done = site.as_("publisher").run_shared("publish", "--once", "--file", file, "--store", tmp_path / "none")
    assert done.code == 0, done
    placed = site.as_("scheduler").run_shared("place", "--resources", "VCPU:1", "--consumer", "c-1")
    assert placed.code == 0, placed
    closed = site.as_("operator").run_shared("provider", "disable", "node-1", "--reason", "fans")
    assert closed.code == 0, closed
    checked = site.as_("operator").run_shared("topics", "check")
    assert checked.code in (0, 5), checked
    read = site.as_("reader").run_shared("replay", "--into", tmp_path / "copy")
    assert read.code == 0, read
    assert site.as_("reader").run_shared("verify").code == 0


@pytest.mark.parametrize("role", ["publisher", "scheduler", "reader", "worker"])
def test_only_operators_create_topics_and_read_their_settings(site: Site, role: str) -> None:
    user = site.as_(role)
    other = user.environment["VACANCY_LOG"].replace("/vacancy", "/other")
    refused(user.run_shared("topics", "create", "--log", other, "--replication", 1))
    refused(user.run_shared("topics", "check"))


@pytest.mark.parametrize(
    ("role", "found"),
    [
        ("publisher", "this user cannot read the topic: it can publish inventory, and nothing else"),
        ("reader", "this user cannot append to the topic: it can read, replay and verify, and nothing else"),
        ("scheduler", "this user can read and append; it cannot join group vacancy-"),
        ("worker", "this user can read the topic and append to it, and join the group"),
    ],
)
def test_the_doctor_says_what_a_role_may_do(site: Site, role: str, found: str) -> None:
    ended = site.as_(role).run_shared("doctor", "--json")
    assert ended.code == 0, ended
    checks = json.loads(ended.out)["checks"]
    (permissions,) = (one for one in checks if one["about"] == "permissions")
    assert permissions["found"].startswith(found)
    assert any("its settings were not checked" in one["found"] for one in checks)


def test_a_reader_cannot_write(site: Site, tmp_path: Path) -> None:
    reader = site.as_("reader")
    refused(reader.run_shared("publish", "--once", "--file", node_file(tmp_path, "node-2")))
    refused(reader.run_shared("provider", "disable", "node-1"))


def test_a_publisher_cannot_read_the_log(site: Site, tmp_path: Path) -> None:
    refused(site.as_("publisher").run_shared("replay", "--into", tmp_path / "copy"))
