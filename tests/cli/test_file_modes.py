"""Other users of a host cannot read or write the files of the log, the store and the outbox, whatever the umask is."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.cli.command import Vacancy, node_file
from vacancy.clients.publisher.outbox import Outbox
from vacancy.clients.runtime.bootstrap import installed_registry, new_log, open_store


@contextmanager
def umask(bits: int) -> Iterator[None]:
    before = os.umask(bits)
    try:
        yield
    finally:
        os.umask(before)


def wider_than(home: Path, file_mode: int, directory_mode: int) -> dict[str, str]:
    """The files and directories below `home` whose modes have other bits than these."""
    found = {}
    for path in home.rglob("*"):
        with suppress(FileNotFoundError):  # a worker removes files, too
            full = path.lstat().st_mode
            if stat.S_IMODE(full) & ~(directory_mode if stat.S_ISDIR(full) else file_mode):
                found[str(path)] = oct(stat.S_IMODE(full))
    return found


@pytest.mark.parametrize(("bits", "file_mode", "directory_mode"), [(0, 0o640, 0o750), (0o077, 0o600, 0o700)])
def test_the_commands_make_files_for_their_user_only(
    tmp_path: Path, bits: int, file_mode: int, directory_mode: int
) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    description = node_file(tmp_path, "node-1")
    with (
        umask(bits),
        Vacancy(home, log=f"sqlite://{home}/site/log.db", store=f"{home}/stores/one") as vacancy,
    ):
        vacancy("topics", "create")
        vacancy("publish", "--once", "--file", description)
        with vacancy.worker() as said:
            vacancy("place", "--resources", "VCPU:1")
            assert wider_than(home, file_mode, directory_mode) == {}
        assert not any("chmod" in line for line in said)
        vacancy("replay", "--into", home / "again")
        demo = ("demo", "--nodes", 1, "--schedulers", 1, "--requests", 1, "--keep", home / "demo")
        assert vacancy.run(*demo).code == 0
    names = {path.name for path in home.rglob("*")}
    assert {"log.db", "store.json", "p00000.ring", "CURRENT", "demo", "again", "outbox"} <= names, names
    assert wider_than(home, file_mode, directory_mode) == {}


def test_the_worker_and_the_publisher_name_files_that_others_can_use(tmp_path: Path) -> None:
    with Vacancy(tmp_path, log=f"sqlite://{tmp_path}/log.db", store=f"{tmp_path}/the store") as vacancy:
        assert vacancy.run("topics", "create").code == 0
        outbox = tmp_path / "outbox.db"
        publish = ("publish", "--once", "--outbox", outbox, "--file", node_file(tmp_path, "node-1"))
        assert "chmod" not in vacancy.run(*publish).err
        with vacancy.worker():
            pass
        (tmp_path / "log.db").chmod(0o644)
        (tmp_path / "the store").chmod(0o755)
        outbox.chmod(0o660)
        with vacancy.worker() as said:
            pass
        assert [line for line in said if "chmod" in line] == [
            (
                f"vacancy: other users can read or write the log {tmp_path}/log.db; close it with"
                f" `chmod g-w,o= {tmp_path}/log.db`\n"
            ),
            (
                f"vacancy: other users can read or write the store {tmp_path}/the store; close it with"
                f" `chmod -R g-w,o= '{tmp_path}/the store'`\n"
            ),
        ]
        assert f"`chmod g-w,o= {outbox}`" in vacancy.run(*publish).err
        for line in said:
            if "chmod" in line:
                assert os.system(line.split("`")[1]) == 0  # noqa: S605
        with vacancy.worker() as said:
            pass
        assert not any("chmod" in line for line in said)


def test_programs_with_a_umask_of_their_own_make_closed_directories(tmp_path: Path) -> None:
    with umask(0):
        with (
            new_log(f"sqlite://{tmp_path}/log.db", 1, installed_registry()) as log,
            open_store(tmp_path / "store", log, installed_registry()),
            Outbox(tmp_path / "outbox.db"),
        ):
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
        assert {name: oct(mode) for name, mode in modes.items() if mode & 0o027} == {}
        assert {"log.db", "log.db-wal", "store", "outbox.db"} <= set(modes)
