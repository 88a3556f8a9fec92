"""Whether the program or library of a candidate is on this machine, and the length of an adapter."""

from __future__ import annotations

import ast
import shutil
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
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


def code_lines(*files: str) -> int:
    """The lines of these files of this directory without comments, docstrings and blank lines."""
    return sum(_code_lines((Path(__file__).parent / file).read_text()) for file in files)


def _code_lines(text: str) -> int:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    prose: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, documented) and ast.get_docstring(node) is not None:
            prose.update(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    return sum(
        number not in prose and bool(line.strip()) and not line.lstrip().startswith("#")
        for number, line in enumerate(text.splitlines(), 1)
    )
