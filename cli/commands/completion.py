"""`vacancy completion`."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Annotated

import typer

from vacancy.cli.completion import script
from vacancy.cli.output import emit


class Shell(StrEnum):
    """The shells for which there is a script."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(
    shell: Annotated[Shell, typer.Argument(help="The shell: bash, zsh or fish.")],
) -> None:
    """Print the script that lets a shell complete commands, options, and the names of nodes, providers and consumers.

    Load it at the start of each shell, or write it to the place where the shell looks for such scripts. Names are those in this host's
    store. They are read in the background, so the first TAB may offer none.
    """
    for line in script(shell.value, sys.executable).splitlines():
        emit(line)
