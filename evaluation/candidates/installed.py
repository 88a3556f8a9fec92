"""Whether the program or library of a candidate is on this machine."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from typing import Final

from vacancy.resources.model.errors import UsageError

_SYSTEM_PATH: Final = "/usr/sbin:/usr/local/sbin:/sbin"
"""Debian installs servers here; an ordinary user does not have it on the path."""


def find_program(name: str) -> str | None:
    """The path of a program, or None."""
    return shutil.which(name) or shutil.which(name, path=_SYSTEM_PATH)


def program(name: str, package: str) -> str:
    """The path of a program. Raises `UsageError` with the Debian packages that have it."""
    found = find_program(name)
    if found is None:
        raise UsageError(f"there is no program {name}", do=f"install it with: apt-get install {package}")
    return found


def missing_parts(programs: Iterable[str], package: str, modules: Mapping[str, str]) -> str | None:
    """One line with what is not installed and how to install it, or None. `package`: the Debian packages of the programs.
    `modules`: Python module -> the package on PyPI that has it."""
    absent = [name for name in programs if find_program(name) is None]
    libraries = [name for module, name in modules.items() if find_spec(module) is None]
    commands = []
    if absent:
        commands.append(f"apt-get install {package}")
    if libraries:
        commands.append("pip install -e '.[evaluation]'")
    if not commands:
        return None
    return f"{', '.join([*absent, *libraries])} not found; install with: {' && '.join(commands)}"
