"""A child process: what it sends, the errors that it sends, and how its end is noticed."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from vacancy.clients.runtime.child_process import ChildProcess, wait_for_any
from vacancy.clients.runtime.folded_log import RecordRefused
from vacancy.resources.model.errors import NoValidHost, SearchGivenUp, StoreInUse, VacancyError
from vacancy.streams.log import AppendedAt


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
        assert child.receive(90) == "first"
        child.send({"a": (1, b"2")})
        assert child.receive(90) == {"a": (1, b"2")}
        assert wait_for_any([child], 0) == []
        assert not child.poll(0)
    assert multiprocessing.active_children() == []
    assert child.exit_code == 128 + signal.SIGTERM


ERRORS = (
    StoreInUse("another process writes this store", where="p00001", do="stop that worker first"),
    SearchGivenUp("the budget was spent", "c1"),
    RecordRefused("the release of vm-1", "unknown_claim", AppendedAt(1, 7, 0)),
    NoValidHost("no valid host", where="c1", explain=lambda: "not in another process"),
)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_every_error_can_be_sent(error: VacancyError) -> None:
    """An error whose parameters are not those of its base was a TypeError where it was received."""
    received = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert (type(received), str(received)) == (type(error), str(error))
    known = {name: value for name, value in vars(error).items() if not callable(value)}
    assert known.items() <= vars(received).items()


def test_its_error_keeps_its_type_and_text() -> None:
    with ChildProcess("the child", fail) as child:
        with pytest.raises(
            StoreInUse, match=r"^another process writes this store \(p00001\); stop that"
        ) as caught:
            child.receive(90)
        child.join(90)
    assert (caught.value.where, caught.value.do) == ("p00001", "stop that worker first")
    assert child.exit_code == 1


def test_the_end_of_one_that_sent_no_error_is_noticed(capfd: pytest.CaptureFixture[str]) -> None:
    with ChildProcess("the child", crash, where="here") as child:
        assert wait_for_any([child], 90) == [child]
        with pytest.raises(
            VacancyError, match=r"^the child ended with code 1 and sent no error \(here\); see"
        ):
            child.receive(90)
    assert "KeyError: 'unexpected'" in capfd.readouterr().err


def test_one_that_is_killed_is_noticed() -> None:
    with ChildProcess("the echo", echo, "first") as child:
        child.receive(90)
        os.kill(child.pid, signal.SIGKILL)
        with pytest.raises(VacancyError, match=r"the echo ended with code -9 \(SIGKILL\)"):
            child.receive(90)
        with pytest.raises(VacancyError, match="SIGKILL"):
            child.send("more")
        assert "SIGKILL" in str(child.last_error())


def test_one_that_sends_nothing_in_time_is_reported() -> None:
    with ChildProcess("the echo", echo, "first") as child:
        child.receive(90)
        with pytest.raises(VacancyError, match=r"the echo sent nothing for 0\.1 s"):
            child.receive(0.1)


def test_on_sigterm_it_leaves_its_blocks(tmp_path: Path) -> None:
    with ChildProcess("the child", leave_a_file, tmp_path / "file") as child:
        child.receive(90)
    assert (tmp_path / "file").read_text() == "left in order"


def test_one_that_ignores_sigterm_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vacancy.clients.runtime.child_process._END_S", 0.1)
    with ChildProcess("the child", ignore_sigterm) as child:
        child.receive(90)
    assert child.exit_code == -signal.SIGKILL


def test_it_does_not_outlive_its_parent(tmp_path: Path) -> None:
    script = (
        "import os, sys; sys.path[:0] = sys.argv[1:2]\n"
        "from tests.clients.runtime.test_child_process import echo\n"
        "from vacancy.clients.runtime.child_process import ChildProcess\n"
        "if __name__ == '__main__':\n"
        "    child = ChildProcess('the echo', echo, 'first')\n"
        "    child.receive(90)\n"
        "    print(child.pid, flush=True)\n"
        "    os._exit(0)\n"
    )
    (tmp_path / "parent.py").write_text(script)
    command = [sys.executable, str(tmp_path / "parent.py"), str(Path(__file__).parents[3])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    give_up_at = time.monotonic() + 90
    while Path(f"/proc/{int(done.stdout)}").exists():
        assert time.monotonic() < give_up_at
        time.sleep(0.02)
