"""Installs a wheel in a new virtual environment, and runs the demo from another directory: `make dist`.

    python -m tests.support.packaging.clean_install dist/vacancy-*.whl

pip takes the dependencies from its index, so this needs the network, or a mirror.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).parents[3]
DEMO = ("demo", "--nodes", "20", "--schedulers", "2", "--requests", "100")


def extras() -> list[str]:
    """The extras of the package, without what only developers need."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [name for name in project["optional-dependencies"] if name != "dev"]


def check(wheel: Path, home: Path) -> None:
    """Install `wheel` in `home`, resolve its extras, and run it. Raises `CalledProcessError`."""
    venv.create(home / "venv", with_pip=True)
    programs = home / "venv/bin"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("VACANCY_", "PYTHON"))}
    environment = {**kept, "HOME": str(home), "XDG_STATE_HOME": str(home / "state")}

    def run(*words: object) -> None:
        print("+", *words, flush=True)  # noqa: T201 - progress of a command that takes minutes
        subprocess.run([*map(str, words)], check=True, cwd=home, env=environment)

    run(programs / "pip", "install", "--quiet", wheel)
    run(programs / "pip", "check")
    run(programs / "pip", "install", "--quiet", "--dry-run", f"{wheel}[{','.join(extras())}]")
    run(programs / "vacancy", "--version")
    run(programs / "vacancy", *DEMO)


def main() -> None:
    """The command. It ends with 1 where a step fails."""
    (wheel,) = map(Path, sys.argv[1:])
    with tempfile.TemporaryDirectory(prefix="vacancy-clean-install-") as home:
        check(wheel.absolute(), Path(home))


if __name__ == "__main__":
    main()
