"""No text of a log, a file or an argument reaches a terminal with characters that control it.

Every command runs on a log that has such text in each field that accepts text. The commands and their options are read
from the program itself, so a command that is added fails here until it has arguments below.
"""

from __future__ import annotations

import ast
import json
import os
import pty
import re
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from tests.cli.command import EXECUTABLE, Vacancy
from tests.support.logs.events_json import event
from tests.support.processes.command_process import Ended
from tests.test_structure import ROOT
from vacancy.cli.main import app
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import NewRecord
from vacancy.streams.log import open_log
from vacancy.streams.printable import printable, printable_lines

BAD = (
    "\x1b]0;owned\x07\x1b[2J\x9b31m\x7f\r\nforged \u202e\u2066\u061c\u2028\u200b\ufeff\ue000\U000e0041\ufe0f"
)
CELL = covering_cells(1)[0]
SMALL = ("--resources", "VCPU:1")
ARGUMENTS: dict[str, tuple[object, ...]] = {
    "audit": (),
    "bisect": ("candidates --resources VCPU:1",),
    "candidates": SMALL,
    "classes activate": (),
    "classes": (),
    "completion": ("bash",),
    "confirm": ("c-1",),
    "dead-letters": (),
    "demo": ("--nodes", 1, "--schedulers", 1, "--requests", 1),
    "diff": ("0:1",),
    "digest": (),
    "doctor": (),
    "evacuate": ("node-1", "--dry-run"),
    "history": ("node-1", "--all"),
    "log export": ("--to", "archive"),
    "log import": ("--from", "archive", "--log", "sqlite://imported.db"),
    "log show": ("0:0", "--count", 9, "--full"),
    "log tail": ("--count", 1000),
    "move": ("c-1", "--timeout", 1),
    "place": (*SMALL, "--consumer", "c-2"),
    "placement compare": ("--with", "nowhere.conf"),
    "placement export": ("--to", "nowhere.conf"),
    "placement import": ("--from", "nowhere.conf"),
    "placement serve": ("--placement-config", "nowhere"),
    "ui": ("--host", "192.0.2.1"),
    "provider adopt": ("node-1", "--timeout", 1),
    "provider aggregate": ("node-1", "--add", "rack"),
    "provider device": ("node-1", "81:00.0", "--disable", "--reason", BAD, "--timeout", 1),
    "provider disable": ("node-1", "--reason", BAD),
    "provider drain": ("node-1", "--reason", BAD),
    "provider enable": ("node-1",),
    "provider override": ("node-1", "VCPU", "--ratio", "2"),
    "provider rename": ("node-1", "node-9", "--timeout", 1),
    "provider retire": ("node-1", "--timeout", 1),
    "provider set": ("node-1", "--attribute", f"other={BAD}"),
    "provider taint": ("node-1", "dedicated=gpu", "--timeout", 1),
    "provider trait": ("node-1", "--add", "CUSTOM_OTHER"),
    "publish": ("--once", "--file", "node-1.json"),
    "quota list": (),
    "quota set": ("project-1", "VCPU:100", "--timeout", 1),
    "quota show": ("project-1",),
    "release": ("c-2",),
    "replay": ("--into", "second"),
    "resize": ("c-2", "--resources", "VCPU:1", "--timeout", 1),
    "rules activate": (1,),
    "rules show": (),
    "rules withdraw": (),
    "settle": ("c-1", "--timeout", 0.1),
    "signing make-key": ("printable.key",),
    "signing pin": ("--operator-key", "printable.key", "--timeout", 1),
    "signing public-key": ("printable.key",),
    "signing register": ("node-1", "0" * 64, "--operator-key", "printable.key", "--timeout", 1),
    "signing require": ("--none", "--operator-key", "printable.key", "--timeout", 1),
    "signing revoke": ("node-1", "--operator-key", "printable.key", "--timeout", 1),
    "signing rotate": ("node-1", "0" * 64, "--operator-key", "printable.key", "--timeout", 1),
    "signing show": (),
    "signing unpin": ("0" * 64, "--operator-key", "printable.key", "--timeout", 1),
    "show claim": ("claim-1",),
    "show consumer": ("c-1",),
    "show group": (f"{CELL}/web",),
    "show nodes": (),
    "show provider": ("node-1",),
    "show request": ("request-1",),
    "snapshot create": ("--snapshots", "kept"),
    "snapshot list": ("--snapshots", "kept"),
    "snapshot prune": ("--snapshots", "kept", "--keep", 1),
    "snapshot restore": ("--snapshots", "kept", "--store", "restored"),
    "snapshot verify": ("--snapshots", "kept"),
    "metrics": (),
    "status": (),
    "topics check": (),
    "topics create": (),
    "topics trim": ("--prepare",),
    "typical": ("CUSTOM_GPU",),
    "update": ("c-2", "--project", "p-2", "--timeout", 1),
    "usage": (),
    "verify": (),
    "why-not": ("node-1", "--resources", "VCPU:1000"),
    "worker": ("--web-port", "off", "--log", "nowhere"),
}
"""Every command with its arguments. `worker` runs besides, on the log itself."""
BROKEN = ("replay", "demo", "ui")
"""Commands that are slow, or serve until they are stopped, and whose arguments the others have too."""


def commands(group: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """All commands that do something, with their names."""
    if not hasattr(group, "commands"):
        yield name, group
        return
    if name and getattr(group, "invoke_without_command", False):
        yield name, group
    for one, command in group.commands.items():
        yield from commands(command, f"{name} {one}".strip())


ALL = dict(commands(typer.main.get_command(app)))
WITH_FILES = 2
"""Of the commands that have an option in common, those that get the name of a file in it. All get the text itself."""


def values(command: str) -> Iterator[tuple[str, ...]]:
    """What is given besides to a command: the text in each of its arguments and options, and the name of a file that has it."""
    for one in ALL[command].params:
        if getattr(one, "is_flag", False):
            continue
        argument = one.param_type_name == "argument"
        same = [name for name in sorted(ALL) if any(one.opts == other.opts for other in ALL[name].params)]
        file = "bad.toml" if one.name == "config" else "bad.json"
        for text in (BAD, file) if argument or command in same[:WITH_FILES] else (BAD,):
            yield (text,) if argument else (one.opts[0], text)


def hostile_records(now_ms: int) -> Iterator[NewRecord]:
    """Records with the text in each field, valid ones first."""
    attributes = {"text": BAD, "kind": "x"}
    inventories = {"VCPU": {"total": 8}, "MEMORY_MB": {"total": 16384}}
    root = {"id": "node-1", "inventories": inventories, "attributes": attributes}
    gpu = {
        "id": "gpu",
        "parent": "node-1",
        "inventories": {"CUSTOM_GPU": {"total": 2}},
        "attributes": {"text": 7},
    }
    node = {"root": "node-1", "incarnation": f"{1:016x}", "sequence": 1}
    spec = {"groups": [{"resources": {"VCPU": 1}, "where": BAD}]}
    settings = {"status": "enabled", "reason": BAD, "attributes": {"own": BAD}}
    claim = {
        "id": "claim-1",
        "consumer": "c-1",
        "consumer_type": BAD,
        "request": "request-1",
        "spec": spec,
        "allocations": [{"provider": "node-1", "resources": {"VCPU": 1, "MEMORY_MB": 1}}],
        "deadline_ms": now_ms + 500_000,
        "hold_until_ms": now_ms + 600_000,
        "decided": {"policy": BAD},
        "memberships": [{"group": f"{CELL}/web", "policy": "anti-affinity"}],
    }
    closed = {"id": "request-1", "outcome": "no_valid_host", "reason": BAD}
    events: tuple[tuple[str, dict[str, Any]], ...] = (
        ("node.reported.v1", {**node, "providers": [root, gpu]}),
        ("facts.set.v1", {"provider": "node-1", "revision": 1, "facts": settings}),
        ("requests.received.v1", {"requests": [{"id": "request-1", "spec": spec}]}),
        ("requests.closed.v1", {"requests": [closed]}),
        ("claims.requested.v1", {"claims": [claim]}),
        ("node.reported.v1", {**node, "sequence": 2, BAD: BAD}),
        ("claims.requested.v1", {"claims": [{**claim, BAD: 1, "id": BAD}]}),
        (
            "facts.set.v1",
            {"provider": BAD, "revision": 1, "facts": {"status": BAD, "overrides": {BAD: {BAD: BAD}}}},
        ),
        ("facts.set.v1", {"provider": "node-1", "revision": 2, "facts": {"overrides": {"VCPU": {BAD: BAD}}}}),
        (
            "node.reported.v1",
            {**node, "sequence": 3, "providers": [{**root, "inventories": {"VCPU": {BAD: BAD}}}]},
        ),
        (f"made.{BAD}.v1", {BAD: BAD}),
    )
    for type_, data in events:
        yield NewRecord(CELL, event(type_, data).replace(b'"/tests"', json.dumps(BAD).encode()))
    for key in (CELL, BAD):
        yield NewRecord(key, BAD.encode())
        yield NewRecord(key, event("node.heartbeat.v1", {**node, "sequence": 9}))


@pytest.fixture(scope="module")
def vacancy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vacancy]:
    """A log full of such text, and a worker that follows it."""
    home = tmp_path_factory.mktemp("hostile")
    with Vacancy(home, log=f"sqlite://{home}/log.db", store=str(home / "store")) as vacancy:
        vacancy("topics", "create", "--partitions", 1)
        with open_log(vacancy.environment["VACANCY_LOG"]) as log:
            log.append(list(hostile_records(time.time_ns() // 1_000_000)))
        (home / "node-1.json").write_text(
            json.dumps([{"id": "node-1", "inventories": {"VCPU": {"total": 8}}, "attributes": {"text": BAD}}])
        )
        (home / "bad.json").write_text(json.dumps({BAD: BAD, "providers": [{BAD: BAD}]}))
        (home / "bad.toml").write_text(f"{json.dumps(BAD)} = {json.dumps(BAD)}")
        with vacancy.worker() as said:
            yield vacancy
        assert_printable("worker", Ended(0, "", "".join(said)))


def assert_printable(command: object, ended: Ended) -> None:
    for text in (ended.out, ended.err):
        assert printable_lines(text) == text, command
        assert not re.search("^forged", text, re.M), command


def test_every_command_has_arguments_here() -> None:
    assert set(ARGUMENTS) == set(ALL)


def test_the_log_is_as_hostile_as_it_should_be(vacancy: Vacancy) -> None:
    letters = vacancy.json("dead-letters")["dead_letters"]
    assert len(letters) == 9, [one["reason"] for one in letters]
    assert any(BAD in one["value"] for one in letters)
    assert vacancy.json("show", "consumer", "c-1")[0]["consumer_type"] == BAD
    assert vacancy.json("show", "provider", "node-1")["providers"][0]["attributes"]["text"] == BAD
    assert printable(BAD) in vacancy("show", "provider", "node-1")
    assert printable(BAD) in vacancy("show", "consumer", "c-1")
    assert printable(BAD)[:40] in vacancy("dead-letters")


@pytest.mark.parametrize("name", sorted(ALL))
def test_the_output_of_every_command_is_printable(vacancy: Vacancy, name: str) -> None:
    words = (*name.split(), *ARGUMENTS[name])
    names = {text for one in ALL[name].params for text in one.opts}
    ended = vacancy.run_shared(*words)
    assert_printable(words, ended)
    assert "--json" not in names or name in BROKEN or _is_json(vacancy.run_shared(*words, "--json"))
    assert_printable(name, vacancy.run_shared(*name.split(), "--help"))
    if name in BROKEN:
        return
    for given in values(name):
        assert_printable((*words, *given), vacancy.run_shared(*words, *given))
    assert_printable(words, vacancy.run_shared(*name.split(), *[BAD] * 3))
    assert_printable(words, vacancy.run_shared(*words, f"--{BAD}"))


def _is_json(ended: Ended) -> bool:
    assert_printable("--json", ended)
    try:
        return not ended.out or json.loads(ended.out) is not None
    except json.JSONDecodeError:  # one document for each line
        return all(json.loads(line) for line in ended.out.splitlines())


@pytest.mark.parametrize(
    "name", ["show provider", "show consumer", "dead-letters", "status", "provider disable"]
)
def test_a_terminal_receives_no_escapes_but_those_of_its_style(vacancy: Vacancy, name: str) -> None:
    words = [str(EXECUTABLE), *name.split(), *map(str, ARGUMENTS[name])]
    inside, outside = pty.openpty()
    subprocess.run(words, stdout=outside, stderr=outside, env=vacancy.environment, timeout=60, check=True)
    os.close(outside)
    shown = b""
    while True:
        try:
            shown += os.read(inside, 65536)
        except OSError:
            break
    os.close(inside)
    text = re.sub("\x1b\\[[0-9;]*m", "", shown.decode()).replace("\r\n", "\n")
    assert text
    assert printable_lines(text) == text


def test_only_the_modules_for_output_write_to_a_stream() -> None:
    may = {"cli/output.py", "clients/runtime/logging.py", "streams/printable.py"}
    printing = {
        "cli/completion.py",
        "streams/faust/worker.py",
        "streams/faust/entrypoint.py",
        "clients/runtime/child_process.py",
    }
    for top in ("cli", "clients", "streams", "projections", "resources"):
        for path in (ROOT / top).rglob("*.py"):
            name = str(path.relative_to(ROOT))
            for node in ast.walk(ast.parse(path.read_text())):
                if not isinstance(node, ast.Call):
                    continue
                text = ast.unparse(node)
                if not re.match(
                    r"(print|Console|typer\.(echo|secho)|click\.echo|sys\.std(out|err)\.write)\(", text
                ):
                    continue
                assert name in may or (
                    name in printing and re.search(r"printable\(|traceback_text\(", text)
                ), f"{name}:{node.lineno} writes {text}: use emit, emit_table or note of cli/output.py"
