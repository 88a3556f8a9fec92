"""What the doctor finds of a host on SQLite on which one thing is wrong; and that it changes no byte."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import pytest

from tests.support.sites.snapshot_site import PARTITIONS, REGISTRY, SnapshotSite, snapshot_site
from vacancy.clients.doctor.check import Check, CheckState
from vacancy.clients.doctor.doctor import examine
from vacancy.clients.runtime.bootstrap import new_log
from vacancy.streams.log import open_log
from vacancy.streams.settings import config_file, load_settings


@pytest.fixture(scope="module")
def folded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a log and a store that no worker has open."""
    home = tmp_path_factory.mktemp("folded")
    with snapshot_site(home):
        return home


@pytest.fixture
def home(folded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, and an environment without settings."""
    for name in [name for name in os.environ if name.startswith("VACANCY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    copy = tmp_path / "home"
    shutil.copytree(folded, copy)
    monkeypatch.chdir(copy)
    return copy


def fingerprint(home: Path) -> dict[str, tuple[int, str]]:
    """The mode and the content of each file, without SQLite's files that come and go with a reader."""
    return {
        str(path.relative_to(home)): (path.stat().st_mode, sha256(path.read_bytes()).hexdigest())
        for path in sorted(home.rglob("*"))
        if path.is_file() and not path.name.endswith(("-shm", "-wal"))
    }


def examined(home: Path) -> list[Check]:
    """All checks, which change nothing."""
    before = fingerprint(home)
    settings = load_settings(log=f"sqlite://{home}/log.db", store=home / "store", web_port="off")
    found = list(examine(settings, config_file(None)))
    assert fingerprint(home) == before
    assert all(check.do or check.state is CheckState.OK for check in found), found
    return found


def changed(home: Path, *statements: str) -> None:
    """Change the file of the log."""
    with closing(sqlite3.connect(home / "log.db", isolation_level=None)) as db:
        for statement in statements:
            db.execute(statement)


def more_records(home: Path) -> None:
    with open_log(f"sqlite://{home}/log.db") as log:
        SnapshotSite(log, home).report(3)


def other_log(home: Path) -> None:
    (home / "log.db").unlink()
    new_log(f"sqlite://{home}/log.db", PARTITIONS, REGISTRY).close()


def lost_tables(home: Path) -> None:
    for table in (home / "store").glob("p*/*.sst"):
        table.unlink()


def no_manifest(home: Path) -> None:
    (home / "store/store.json").unlink()


def cut(home: Path) -> None:
    changed(home, "DELETE FROM records WHERE offset > 0", "UPDATE meta SET value = 1 WHERE name LIKE 'end_%'")


def other_record(home: Path) -> None:
    changed(
        home,
        "UPDATE records SET key = x'00', checksum = NULL WHERE offset > 0",
        "INSERT INTO meta VALUES ('unchecked_0', 99), ('unchecked_1', 99)",
    )


def clock_ahead(home: Path) -> None:
    no_store(home)  # it would differ from what the log has now
    changed(
        home,
        "UPDATE records SET timestamp_ms = (unixepoch() + 7200) * 1000, checksum = NULL WHERE offset > 0",
        "INSERT INTO meta VALUES ('unchecked_0', 99), ('unchecked_1', 99)",
    )


def format_1(home: Path) -> None:
    changed(home, "UPDATE meta SET value = 1 WHERE name = 'format'")


def no_log(home: Path) -> None:
    (home / "log.db").unlink()


def no_database(home: Path) -> None:
    (home / "log.db").write_bytes(b"not a database" * 1000)


def wide(home: Path) -> None:
    (home / "store").chmod(0o755)


def no_store(home: Path) -> None:
    shutil.rmtree(home / "store")


@pytest.mark.parametrize(
    ("change", "state", "about", "found", "do"),
    [
        (more_records, "error", "worker", "no worker has this store open, and 3 records", "`vacancy worker`"),
        (other_log, "error", "store", "it was folded from log", "the store's own log"),
        (lost_tables, "error", "store", "No such file or directory", "--rebuild"),
        (no_manifest, "error", "store", "the store has no manifest", "rebuild"),
        (cut, "error", "store", "and the log ends at 1", "rebuild the store"),
        (other_record, "error", "store", "another record than the one that was folded", "rebuild the store"),
        (clock_ahead, "warning", "clock", "h ahead of this host's clock", "NTP"),
        (format_1, "error", "log", "has format 1", "start a worker of this build"),
        (no_log, "error", "log", "there is no log", "vacancy topics create"),
        (no_database, "error", "log", "it is not an SQLite database", "the log's own file"),
        (wide, "warning", "file modes", "other users can read or write the store", "chmod -R g-w,o="),
        (no_store, "warning", "store", "there is no store", "start `vacancy worker`"),
    ],
)
def test_what_is_wrong_is_named(
    home: Path, change: Callable[[Path], None], state: str, about: str, found: str, do: str
) -> None:
    assert {check.about for check in examined(home) if check.state is not CheckState.OK} == {"worker"}
    change(home)
    checks = examined(home)
    matching = [one for one in checks if (one.about, one.state) == (about, state) and found in one.found]
    assert matching, checks
    assert all(do in one.do for one in matching)
    others = {one.about for one in checks if one.state is CheckState.ERROR} - {about}
    assert not others, checks


def test_names_in_the_environment_that_are_no_settings(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VACANCY_STOER", "VACANCY_KAFKA_SSL_CAFILE", "VACANCY_CELL"):
        monkeypatch.setenv(name, "x")
    (warning,) = (one for one in examined(home) if one.about == "settings" and one.do)
    assert warning.found == "the environment has VACANCY_STOER, and there is no such setting"


def test_a_secret_that_others_can_read(home: Path) -> None:
    file = home / "vacancy.toml"
    file.write_text('[kafka]\n"sasl.password" = "hidden"\n')
    file.chmod(0o644)
    (warning,) = (one for one in examined(home) if one.about == "settings" and one.do)
    assert "has a secret of Kafka, and other users can read it (mode 0644)" in warning.found
    assert "hidden" not in str(examined(home))
    file.chmod(0o600)
    assert not [one for one in examined(home) if one.about == "settings" and one.do]
