"""Writes cli/completion_table.py, what shells complete, from the commands themselves: `make docs`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import typer

from vacancy.cli.main import app

MODULE = Path(__file__).parents[3] / "cli/completion_table.py"

_HEAD = '''"""The commands with their options and arguments, for the completion of shells. Generated: run `make docs`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple


class Command(NamedTuple):
    """What may follow a command. Each option has the kind of its value, "" if it has none; so has each argument, of which the last
    may be repeated. Kinds: `node`, `provider`, `consumer`, `name` (one of the three), `file`, `text`, or choices with bars."""

    arguments: tuple[str, ...]
    options: Mapping[str, str]


'''

_KINDS: Final = {
    "consumer": "consumer",
    "consumers": "consumer",
    "node": "node",
    "provider": "provider",
    "root": "node",
    "in_tree": "node",
    "not_node": "node",
    "to": "node",
    "for_consumer": "consumer",
    "config": "file",
    "store": "file",
    "file": "file",
    "request": "file",
    "into": "file",
    "outbox": "file",
    "running": "file",
    "typical": "file",
    "gang": "file",
    "order": "best_fit|least_fragmentation|pack|random|spread",
    "shell": "bash|fish|zsh",
}
_ARGUMENTS: Final = {"show provider": "provider", "show consumer": "consumer", "history": "name"}
"""The kind of what a command asks for by a name that says less than that."""


def _commands(command: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    yield path, command
    for name, one in getattr(command, "commands", {}).items():
        yield from _commands(one, f"{path} {name}".strip())


def _kind(path: str, parameter: Any) -> str:
    if getattr(parameter, "is_flag", False):
        return ""
    is_option = parameter.opts[0].startswith("-")
    return (not is_option and _ARGUMENTS.get(path)) or _KINDS.get(parameter.name, "text")


def module() -> str:
    """The text of the module."""
    lines = []
    for path, command in _commands(typer.main.get_command(app)):
        arguments = tuple(_kind(path, one) for one in command.params if not one.opts[0].startswith("-"))
        options = {
            option: _kind(path, one)
            for one in command.params
            for option in (*one.opts, *one.secondary_opts)
            if option.startswith("--")
        }
        lines.append(
            f"    {path!r}: Command({arguments!r}, {dict(sorted({**options, '--help': ''}.items()))!r}),"
        )
    body = "COMMANDS: Final[Mapping[str, Command]] = {\n" + "\n".join(lines) + "\n}\n"
    ruff = Path(sys.executable).with_name("ruff")
    done = subprocess.run(
        [ruff, "format", "-"],
        input=_HEAD + body,
        capture_output=True,
        text=True,
        check=True,
        cwd=MODULE.parent,
    )
    return done.stdout


if __name__ == "__main__":
    MODULE.write_text(module())
