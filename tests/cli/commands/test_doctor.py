"""`vacancy doctor`: what it finds of hosts that are well and of hosts that are not, and that it changes nothing."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import Vacancy, node_file


def examined(vacancy: Vacancy, *words: object, code: int = 0) -> dict[str, list[dict[str, Any]]]:
    """The checks by subject."""
    ended = vacancy.run("doctor", *words, "--json")
    assert ended.code == code, ended
    found = json.loads(ended.out)
    by_subject: dict[str, list[dict[str, Any]]] = {}
    for check in found["checks"]:
        by_subject.setdefault(check["about"], []).append(check)
        assert check["state"] == "ok" or check["do"], check
    return by_subject


def test_a_host_that_is_well_beside_its_worker(tmp_path: Path) -> None:
    with Vacancy(tmp_path) as vacancy:
        vacancy("topics", "create", "--partitions", 2)
        vacancy("publish", "--once", "--file", node_file(tmp_path, "node-1"), "--no-wait")
        with vacancy.worker():
            ended = vacancy.run("doctor")
    assert (ended.code, ended.err) == (0, ""), ended
    lines = ended.out.splitlines()
    assert {line.split()[0] for line in lines[:-1]} == {"ok"}, ended.out
    assert lines[-1] == "no errors, 0 warnings"
    subjects = ("settings", "build", "file modes", "disk", "store", "permissions", "log", "clock", "worker")
    for subject in (*subjects, "lag", "rules"):
        assert any(line[9:].startswith(f"{subject} ") for line in lines), subject


def test_a_setting_that_is_invalid_is_a_check(tmp_path: Path) -> None:
    (tmp_path / "vacancy.toml").write_text("colour = 'red'\n")
    found = examined(Vacancy(tmp_path), code=5)
    assert [(one["state"], one["found"].partition(" (")[0]) for one in found["settings"]] == [
        ("error", "there is no setting 'colour'")
    ]


@pytest.fixture(scope="module")
def on_kafka(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vacancy]:
    """A host on Kafka, with a worker."""
    home = tmp_path_factory.mktemp("kafka")
    url = f"kafka://{kafka}/doctor-{uuid.uuid4().hex[:8]}"
    vacancy = Vacancy(home, log=url, store=str(home / "store"), web_port="off")
    vacancy("topics", "create", "--partitions", 2, "--replication", 1)
    vacancy("publish", "--once", "--file", node_file(home, "node-1"), "--no-wait")
    with vacancy.worker():
        yield vacancy
    vacancy.close()


@pytest.mark.kafka
def test_a_host_on_kafka(on_kafka: Vacancy) -> None:
    ends = [one["end"] for one in on_kafka.json("status")["partitions"]]
    found = examined(on_kafka)
    assert [one["found"] for one in found["topic"]] == [
        "replication is 1, not 3: a lost broker can lose records"
    ]
    assert found["brokers"][0]["found"].startswith("1 of 1 answer: ")
    assert found["permissions"][0]["found"] == (
        "this user can read the topic and append to it, and join the group of the store's workers"
    )
    states = {name: {one["state"] for one in ones} for name, ones in found.items() if name != "topic"}
    assert set().union(*states.values()) == {"ok"}, found
    assert {"clock", "lag", "worker", "rules", "log"} <= set(states)
    assert [one["end"] for one in on_kafka.json("status")["partitions"]] == ends, "nothing was appended"


@pytest.mark.kafka
def test_a_topic_that_loses_records(on_kafka: Vacancy, kafka: str) -> None:
    from kafka import KafkaAdminClient
    from kafka.admin import ConfigResource

    topic = on_kafka.environment["VACANCY_LOG"].rpartition("/")[2]
    admin = KafkaAdminClient(bootstrap_servers=kafka)
    try:
        admin.alter_configs(
            [ConfigResource("topic", topic, {"retention.ms": "60000", "cleanup.policy": "compact"})]
        )
    finally:
        admin.close()
    found = examined(on_kafka, code=5)
    errors = [one["found"] for one in found["topic"] if one["state"] == "error"]
    assert [text.split()[0] for text in errors] == ["cleanup.policy", "retention.ms"]


@pytest.mark.kafka
def test_brokers_that_do_not_answer(tmp_path: Path) -> None:
    vacancy = Vacancy(tmp_path, log="kafka://127.0.0.1:1/none")
    patient = ("--set", "bootstrap.timeout.ms=600000")  # longer than any test lasts
    found = examined(vacancy, "--timeout", 3, *patient, code=5)
    assert "refuses connections" in found["log"][0]["found"]
    assert not {"brokers", "topic", "clock"} & set(found)
