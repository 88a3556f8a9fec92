"""Each command has examples in its help, and the command line accepts them."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from vacancy.cli.examples import EXAMPLES
from vacancy.cli.main import app


def leaves(command: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The commands that do something: path -> command."""
    below = getattr(command, "commands", {})
    if not below or path == "classes":
        yield path, command
    for name, one in below.items():
        yield from leaves(one, f"{path} {name}".strip())


COMMANDS = dict(leaves(typer.main.get_command(app)))


def test_each_command_has_examples() -> None:
    assert set(EXAMPLES) == set(COMMANDS)


@pytest.mark.parametrize("path", EXAMPLES)
def test_the_examples_of_a_command_are_accepted(path: str) -> None:
    for what, line in EXAMPLES[path]:
        assert what[:1].isupper() or not what[:1].isalpha(), what
        words = shlex.split(line)
        depth = len(path.split())
        assert words[:depth] == path.split(), line
        COMMANDS[path].make_context(path, words[depth:])


def test_they_are_at_the_end_of_the_help() -> None:
    command = COMMANDS["show consumer"]
    with command.make_context("consumer", ["web-1"]) as context:
        end = command.get_help(context).splitlines()[-3:]
    assert [line.strip() for line in end] == [
        "Examples:",
        "# What it holds, since when, by which claim",
        "vacancy show consumer web-1",
    ]
