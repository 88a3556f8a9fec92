"""A child process: what it sends, the errors that it sends, and how its end is noticed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from vacancy.clients.runtime.child_process import ChildProcess, wait_for_any
from vacancy.resources.model.errors import StoreInUse, VacancyError


def echo(parent: Connection, first: str) -> None:
    parent.send(first)
    while True:
        parent.send(parent.recv())


def fail(_parent: Connection) -> None:
    raise StoreInUse("another process writes this store", where="p00001", do="stop that worker first")


def crash(_parent: Connection) -> None:
    raise KeyError("unexpected")


def leave_a_file(parent: Connection, path: Path) -> None:
    try:
        parent.send("started")
        parent.recv()
    finally:
        path.write_text("left in order")


def ignore_sigterm(parent: Connection) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    parent.send("started")
    parent.recv()


def test_it_receives_and_sends() -> None:
    with ChildProcess("the echo", echo, "first") as child:
        assert child.receive(20) == "first"
        child.send({"a": (1, b"2")})
        assert child.receive(20) == {"a": (1, b"2")}
        assert wait_for_any([child], 0) == []
        assert not child.poll(0)
    assert multiprocessing.active_children() == []
    assert child.exit_code == 128 + signal.SIGTERM


def test_its_error_keeps_its_type_and_text() -> None:
    with ChildProcess("the child", fail) as child:
        with pytest.raises(
            StoreInUse, match=r"^another process writes this store \(p00001\); stop that"
        ) as caught:
            child.receive(20)
        child.join(20)
    assert (caught.value.where, caught.value.do) == ("p00001", "stop that worker first")
    assert child.exit_code == 1


def test_the_end_of_one_that_sent_no_error_is_noticed(capfd: pytest.CaptureFixture[str]) -> None:
    with ChildProcess("the child", crash, where="here") as child:
        assert wait_for_any([child], 20) == [child]
        with pytest.raises(
            VacancyError, match=r"^the child ended with code 1 and sent no error \(here\); see"
        ):
            child.receive(20)
    assert "KeyError: 'unexpected'" in capfd.readouterr().err


def test_one_that_is_killed_is_noticed() -> None:
    with ChildProcess("the echo", echo, "first") as child:
        child.receive(20)
        os.kill(child.pid, signal.SIGKILL)
        with pytest.raises(VacancyError, match=r"the echo ended with code -9 \(SIGKILL\)"):
            child.receive(20)
        with pytest.raises(VacancyError, match="SIGKILL"):
            child.send("more")
        assert "SIGKILL" in str(child.last_error())


def test_one_that_sends_nothing_in_time_is_reported() -> None:
    with ChildProcess("the echo", echo, "first") as child:
        child.receive(20)
        with pytest.raises(VacancyError, match=r"the echo sent nothing for 0\.1 s"):
            child.receive(0.1)


def test_on_sigterm_it_leaves_its_blocks(tmp_path: Path) -> None:
    with ChildProcess("the child", leave_a_file, tmp_path / "file") as child:
        child.receive(20)
    assert (tmp_path / "file").read_text() == "left in order"


def test_one_that_ignores_sigterm_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vacancy.clients.runtime.child_process._END_S", 0.1)
    with ChildProcess("the child", ignore_sigterm) as child:
        child.receive(20)
    assert child.exit_code == -signal.SIGKILL


def test_it_does_not_outlive_its_parent(tmp_path: Path) -> None:
    script = (
        "import os, sys; sys.path[:0] = sys.argv[1:2]\n"
        "from tests.clients.runtime.test_child_process import echo\n"
        "from vacancy.clients.runtime.child_process import ChildProcess\n"
        "if __name__ == '__main__':\n"
        "    child = ChildProcess('the echo', echo, 'first')\n"
        "    child.receive(20)\n"
        "    print(child.pid, flush=True)\n"
        "    os._exit(0)\n"
    )
    (tmp_path / "parent.py").write_text(script)
    command = [sys.executable, str(tmp_path / "parent.py"), str(Path(__file__).parents[3])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    give_up_at = time.monotonic() + 20
    while Path(f"/proc/{int(done.stdout)}").exists():
        assert time.monotonic() < give_up_at
        time.sleep(0.02)
