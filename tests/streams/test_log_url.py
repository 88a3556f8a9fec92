"""Log URLs: their meaning, and errors for invalid ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from vacancy.resources.model.errors import UsageError
from vacancy.streams.log_url import archive_place, parse_log_url


@pytest.mark.parametrize(
    ("url", "scheme", "place", "name"),
    [
        ("memory://tests", "memory", "tests", "tests"),
        ("sqlite:///var/lib/vacancy/log.db", "sqlite", "/var/lib/vacancy/log.db", "log"),
        ("sqlite:////var/log.db", "sqlite", "/var/log.db", "log"),
        ("sqlite://log.db", "sqlite", str(Path.cwd() / "log.db"), "log"),
        ("archive+file:///var/report", "archive", "file:///var/report", "report"),
        ("archive+file:////var/report/", "archive", "file:///var/report", "report"),
        ("archive+file://report", "archive", f"file://{Path.cwd()}/report", "report"),
        ("archive+s3://bucket/vacancy", "archive", "s3://bucket/vacancy", "vacancy"),
        ("kafka://a:9092/events", "kafka", "events", "events"),
        ("kafka://a:9092,[::1]:9093/cloud.events-1", "kafka", "cloud.events-1", "cloud.events-1"),
    ],
)
def test_valid_urls(url: str, scheme: str, place: str, name: str) -> None:
    parsed = parse_log_url(url)
    assert (parsed.scheme, parsed.place, parsed.name) == (scheme, place, name)
    assert parse_log_url(parsed.url) == parsed


def test_kafka_servers() -> None:
    assert parse_log_url("kafka://a:1,b:2/t").servers == ("a:1", "b:2")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "log.db",
        "memory://",
        "sqlite://",
        "sqlite:///var/",
        "postgres://h/db",
        "archive+file://",
        "archive+s3:///",
        "archive+://x",
        "kafka://a:9092",
        "kafka:///topic",
        "kafka://a/topic",
        "kafka://a:x/topic",
        "kafka://a:99999/topic",
        "kafka://a:9092/to/pic",
        "kafka://a:9092/tópic",
        "kafka://a:9092/" + "t" * 250,
    ],
)
def test_invalid_urls(url: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_log_url(url)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("url", ["kafka://me:hunter2@a:9092/topic", "archive+s3://me:hunter2@bucket/here"])
def test_a_password_in_a_url_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_log_url(url)
    assert "hunter2" not in str(raised.value)


def test_an_archive_is_named_by_a_directory_too() -> None:
    for text in ("kept", f"{Path.cwd()}/kept/", "archive+file://kept", f"file://{Path.cwd()}/kept"):
        assert archive_place(text) == f"file://{Path.cwd()}/kept"
    assert archive_place("~/kept") == f"file://{Path.home()}/kept"
