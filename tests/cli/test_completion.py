"""What shells offer at a TAB: fast, silent, and true."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.cli.command import Vacancy, node_file
from tests.support.processes.machine_speed import slowness
from vacancy.cli.completion import known_names, names_directory, offers, script

PROCESSOR_S = 0.3


def fake_names(kind: str, begin: str, given: Mapping[str, str]) -> list[str]:
    names = {
        "node": ["node-1", "node-2"],
        "provider": ["node-1", "node-1:gpu0"],
        "consumer": [f"vm-{given.get('--store', '1')}"],
    }
    return [one for one in names[kind] if one.startswith(begin)]


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("pub", "publish"),
        ("show pro", "provider"),
        ("show provider node-1:", "node-1:gpu0"),
        ("show consumer ", "vm-1"),
        ("show consumer --store 7 ", "vm-7"),
        ("show consumer --store=7 ", "vm-7"),
        ("release vm-1 v", "vm-1"),
        ("move vm-1 --to node", "node-1 node-2"),
        ("move vm-1 --to=node", "--to=node-1 --to=node-2"),
        ("move --ke", "--keep"),
        ("move --keep ", "vm-1"),
        ("place --order sp", "spread"),
        ("history ", "node-1 node-1:gpu0 node-2 vm-1"),
        ("provider taint node-1 ", ""),
        ("place --resources ", ""),
        ("nonsense more ", ""),
        ("completion ", "bash fish zsh"),
        ("classes ", "activate"),
    ],
)
def test_what_is_offered(line: str, offered: str) -> None:
    assert offers(line.split(" "), fake_names) == offered.split()


def test_files_are_offered(tmp_path: Path) -> None:
    (tmp_path / "one.json").touch()
    (tmp_path / "other").mkdir()
    (tmp_path / ".hidden").touch()
    assert offers(["publish", "--file", f"{tmp_path}/o"], fake_names) == [
        f"{tmp_path}/one.json",
        f"{tmp_path}/other/",
    ]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vacancy]:
    """A host with a store with a node and its GPU, whose names are known."""
    home = tmp_path_factory.mktemp("home")
    with Vacancy(home) as vacancy:
        vacancy.environment["XDG_CACHE_HOME"] = str(home / "cache")
        vacancy.environment["PATH"] = f"{home}:{vacancy.environment['PATH']}"
        vacancy("topics", "create", "--partitions", 1)
        vacancy("publish", "--once", "--no-wait", "--file", node_file(home, "node-1", gpus=1))
        vacancy("replay")
        complete(vacancy, "show", "provider", "")  # the names are read in the background
        until = time.monotonic() + 60
        while not list(home.glob("cache/vacancy/names/*/consumer")):
            assert time.monotonic() < until
            time.sleep(0.05)
        yield vacancy


def complete(vacancy: Vacancy, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "vacancy.cli.completion", "words", *words],
        capture_output=True,
        text=True,
        env=vacancy.environment,
        cwd=vacancy.home,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout


def test_names_are_offered_fast(home: Vacancy) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert complete(home, "show", "provider", "no") == "node-1\nnode-1:gpu0\n"
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Processor time, because other tests run beside this one; and they slow it down.
    spent_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert spent_s / slowness() < PROCESSOR_S


def test_it_is_silent_whatever_is_wrong(home: Vacancy) -> None:
    assert complete(home, "show", "provider", "--store", "/nowhere", "") == ""
    assert complete(home, "publish", "--file", "/nowhere/x") == ""
    assert complete(home, "--", "'") == ""
    (home.home / "vacancy.toml").write_text("not = = toml")
    assert complete(home, "show", "provider", "") == ""
    (home.home / "vacancy.toml").unlink()


def in_bash(line: str) -> list[str]:
    return [
        "bash",
        "-c",
        'source script.bash; COMP_LINE="$1"; COMP_POINT=${#1}; _vacancy; printf "%s\\n" "${COMPREPLY[@]}"',
        "-",
        line,
    ]


def in_fish(line: str) -> list[str]:
    return ["fish", "-c", "source script.fish; complete -C $argv[1]", line]


@pytest.mark.parametrize(("shell", "asks"), [("bash", in_bash), ("fish", in_fish)])
def test_a_shell_offers_them(home: Vacancy, shell: str, asks: Callable[[str], list[str]]) -> None:
    if shutil.which(shell) is None and "VACANCY_TEST_CANDIDATES" not in os.environ:
        pytest.skip(f"there is no {shell} here; `.ci/run` installs it")
    printed = home("completion", shell)
    assert printed == script(shell, sys.executable)
    (home.home / f"script.{shell}").write_text(printed)

    def offered(line: str) -> list[str]:
        done = subprocess.run(
            asks(line), capture_output=True, text=True, env=home.environment, cwd=home.home, check=True
        )
        assert done.stderr == ""
        return done.stdout.split()

    assert offered("vacancy pub") == ["publish"]
    assert offered("vacancy evacuate ") == ["node-1"]
    # bash takes what stands after a colon for a word of its own.
    assert offered("vacancy show provider node-1:") == ["gpu0" if shell == "bash" else "node-1:gpu0"]


def test_names_that_a_shell_would_change_are_not_offered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vacancy.cli.completion_names import _write

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    store = tmp_path / "store"
    store.mkdir()
    (store / "store.json").touch()
    names_directory(store).mkdir(parents=True)
    _write(names_directory(store) / "node", ["b", "a b", "$(id)", "a\nc", "-x", "ä", "a*"])
    assert known_names("node", "", {"--store": str(store)}) == ["b"]
