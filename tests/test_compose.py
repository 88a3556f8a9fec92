"""`compose.yaml` is a valid Compose file, its brokers have the settings of the tests, and its commands exist."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose
from typer.testing import CliRunner

from tests.support.processes.kafka_server import REPLICATED, SHARED, VERSION
from vacancy.cli.main import app

FILE = Path(__file__).parent.parent / "compose.yaml"
BROKERS = ("kafka", "kafka-2", "kafka-3")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(FILE.read_text())
    return found


def variable(setting: str) -> str:
    """The environment variable of a broker's setting in the image."""
    return "KAFKA_" + setting.upper().replace(".", "_")


def test_it_follows_the_compose_specification(compose: dict[str, Any]) -> None:
    # As JSON, because its reader does not know YAML's merged maps.
    assert set(PyCompose.from_json(json.dumps(compose)).service_names()) == {
        *BROKERS,
        "topic",
        "worker",
        "publisher",
        "metrics",
        "prometheus",
        "grafana",
    }


@pytest.mark.parametrize("broker", BROKERS)
def test_brokers_have_the_settings_of_the_tests(compose: dict[str, Any], broker: str) -> None:
    service = compose["services"][broker]
    assert service["image"] == f"apache/kafka:{VERSION}"
    environment = service["environment"]
    assert {name: environment[variable(name)] for name in SHARED} == SHARED
    assert {environment[variable(name)] for name in REPLICATED} == {"${REPLICATION:-1}"}
    of_its_own = {"NODE_ID", "PROCESS_ROLES", "LISTENERS", "ADVERTISED_LISTENERS", "LOG_DIRS"}
    of_the_cluster = {
        "CONTROLLER_QUORUM_VOTERS",
        "CONTROLLER_LISTENER_NAMES",
        "INTER_BROKER_LISTENER_NAME",
        "LISTENER_SECURITY_PROTOCOL_MAP",
    }
    rest = {f"KAFKA_{name}" for name in of_its_own | of_the_cluster} | {"CLUSTER_ID"}
    assert set(environment) == rest | {variable(name) for name in (*SHARED, *REPLICATED)}


def test_one_broker_by_default_and_three_in_a_profile(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert [services[broker].get("profiles") for broker in BROKERS] == [None, ["three"], ["three"]]
    assert [services[broker]["environment"]["KAFKA_NODE_ID"] for broker in BROKERS] == ["1", "2", "3"]


def test_ports_are_published_on_loopback_only(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


COMMANDS = {"worker", "publish", "metrics", "topics", "check", "create"}


def test_its_commands_exist(compose: dict[str, Any]) -> None:
    services = compose["services"]
    lines = [services[name]["command"] for name in ("worker", "publisher", "metrics")]
    script = services["topic"]["command"][0].replace("${REPLICATION:-1}", "1")
    lines += [shlex.split(part)[1:] for part in script.split("||") if part.strip().startswith("vacancy ")]
    assert len(lines) == 5
    for words in lines:
        options = [word for word in words if word.startswith("--")]
        command = [word for word in words if word in COMMANDS]
        said = CliRunner().invoke(app, [*command, "--help"])
        assert said.exit_code == 0
        assert all(option in said.output for option in options), (words, said.output)


def test_every_volume_and_dependency_exists(compose: dict[str, Any]) -> None:
    services = compose["services"]
    used = {v.partition(":")[0] for service in services.values() for v in service.get("volumes", ())}
    assert {name for name in used if not name.startswith("./")} == set(compose["volumes"])
    needed = {name for service in services.values() for name in service.get("depends_on", ())}
    assert needed <= set(services)


def test_the_image_has_every_package() -> None:
    copied = (FILE.parent / "Dockerfile").read_text()
    kept = (FILE.parent / ".dockerignore").read_text().splitlines()
    for package in ("resources", "projections", "streams", "clients", "cli", "testing"):
        assert f"COPY {package} {package}" in copied
        assert f"!{package}" in kept
