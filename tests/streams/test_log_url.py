"""Log URLs: their meaning, and errors for invalid ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from vacancy.resources.model.errors import UsageError
from vacancy.streams.log_url import parse_log_url


@pytest.mark.parametrize(
    ("url", "scheme", "place", "name"),
    [
        ("memory://tests", "memory", "tests", "tests"),
        ("sqlite:///var/lib/vacancy/log.db", "sqlite", "/var/lib/vacancy/log.db", "log"),
        ("sqlite:////var/log.db", "sqlite", "/var/log.db", "log"),
        ("sqlite://log.db", "sqlite", str(Path.cwd() / "log.db"), "log"),
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


def test_a_password_in_a_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(UsageError) as raised:
        parse_log_url("kafka://me:hunter2@a:9092/topic")
    assert "hunter2" not in str(raised.value)
