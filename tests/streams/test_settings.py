"""Settings: their precedence, the settings file, and secrets that are never shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from vacancy.resources.model.errors import UsageError
from vacancy.streams.settings import is_secret, kafka_pairs, load_settings, masked


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("LOG", "STORE", "CELL", "CONFIG", "KAFKA", "KAFKA_SASL_MECHANISM", "KAFKA_SASL_PASSWORD"):
        monkeypatch.delenv(f"VACANCY_{name}", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", "/var/state")
    monkeypatch.chdir(tmp_path)


FILE = """
log = "kafka://file:9092/events"
store = "/file/store"
cell = "file"

[kafka]
security.protocol = "SASL_SSL"
"sasl.mechanism" = "SCRAM-SHA-512"
sasl.password = "hunter2"
ssl.check.hostname = false
request.timeout.ms = 5000
"""


def test_defaults_are_under_the_state_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings()
    assert settings.log == "sqlite:///var/state/vacancy/log.db"
    assert settings.store == Path("/var/state/vacancy/store")
    assert (settings.cell, settings.kafka) == (None, {})
    for value in ("", "relative"):
        monkeypatch.setenv("XDG_STATE_HOME", value)
        monkeypatch.setenv("HOME", "/home/someone")
        assert load_settings().store == Path("/home/someone/.local/state/vacancy/store")


def test_precedence_is_flag_environment_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Path("vacancy.toml").write_text(FILE)
    assert load_settings().cell == "file"
    monkeypatch.setenv("VACANCY_CELL", "environment")
    assert load_settings().cell == "environment"
    assert load_settings(cell="flag").cell == "flag"
    assert load_settings(cell="flag").log == "kafka://file:9092/events"
    other = tmp_path / "other.toml"
    other.write_text('store = "/other"')
    monkeypatch.setenv("VACANCY_CONFIG", str(other))
    assert load_settings().store == Path("/other")
    assert load_settings(config=tmp_path / "vacancy.toml").store == Path("/file/store")


def test_kafka_settings_are_merged_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("vacancy.toml").write_text(FILE)
    assert load_settings().kafka == {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.password": "hunter2",
        "ssl.check.hostname": "false",
        "request.timeout.ms": "5000",
    }
    monkeypatch.setenv("VACANCY_KAFKA_SASL_MECHANISM", "PLAIN")
    monkeypatch.setenv("VACANCY_KAFKA_SASL_PASSWORD", "from the environment")
    settings = load_settings(kafka=["sasl.mechanism=GSSAPI", "client.id=a=b"])
    assert settings.kafka["sasl.mechanism"] == "GSSAPI"
    assert settings.kafka["sasl.password"] == "from the environment"
    assert settings.kafka["security.protocol"] == "SASL_SSL"
    assert settings.kafka["client.id"] == "a=b"


def test_paths_and_urls_become_absolute(tmp_path: Path) -> None:
    settings = load_settings(log="sqlite://log.db", store="store")
    assert settings.log == f"sqlite://{tmp_path}/log.db"
    assert settings.store == tmp_path / "store"


def test_no_secret_is_shown() -> None:
    Path("vacancy.toml").write_text(FILE)
    settings = load_settings(kafka=["ssl.keyfile=/secret/place", "oauth.client.secret=sesame"])
    for shown in (repr(settings), str(settings), f"{settings}", repr([settings])):
        for secret in ("hunter2", "/secret/place", "sesame"):
            assert secret not in shown
        assert "'sasl.password': '********'" in shown
        assert "SCRAM-SHA-512" in shown
    assert masked(settings.kafka)["security.protocol"] == "SASL_SSL"


@pytest.mark.parametrize(
    "name", ["sasl.password", "ssl.password", "ssl.keyfile", "sasl.jaas.config", "a.Secret", "x.token"]
)
def test_names_of_secrets(name: str) -> None:
    assert is_secret(name)


@pytest.mark.parametrize("name", ["security.protocol", "sasl.mechanism", "ssl.cafile", "client.id"])
def test_names_of_no_secrets(name: str) -> None:
    assert not is_secret(name)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("log = ", r"not valid TOML.*vacancy\.toml"),
        ('logg = "memory://a"', r"no setting 'logg'.*vacancy\.toml.*log, store, cell, kafka"),
        ("log = 7", r"setting 'log' is invalid.*vacancy\.toml"),
        ('kafka = "hunter2"', r"setting 'kafka' is invalid.*vacancy\.toml"),
        ('log = "postgres://h/hunter2"', "not a log URL"),
        ('log = "kafka://u:hunter2@h:1/t"', "must not contain a user name or password"),
    ],
)
def test_the_error_for_an_invalid_file_names_the_problem(content: str, message: str) -> None:
    Path("vacancy.toml").write_text(content)
    with pytest.raises(UsageError, match=message) as raised:
        load_settings()
    assert "\n" not in str(raised.value)
    assert "hunter2" not in str(raised.value) or "postgres" in content


def test_a_named_file_must_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"settings file does not exist.*nowhere\.toml"):
        load_settings(config="nowhere.toml")
    monkeypatch.setenv("VACANCY_CONFIG", "elsewhere.toml")
    with pytest.raises(UsageError, match=r"settings file does not exist.*elsewhere\.toml"):
        load_settings()


def test_the_error_for_an_invalid_variable_does_not_repeat_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VACANCY_KAFKA", "hunter2")
    with pytest.raises(UsageError, match="environment") as raised:
        load_settings()
    assert "hunter2" not in str(raised.value)
    assert raised.value.__cause__ is None


@pytest.mark.parametrize("pair", ["hunter2", "=hunter2"])
def test_an_invalid_name_value_pair(pair: str) -> None:
    with pytest.raises(UsageError, match="name=value") as raised:
        kafka_pairs([pair])
    assert "hunter2" not in str(raised.value)
