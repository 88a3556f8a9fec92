"""A virtual environment for another build of this package, with the dependencies of this one."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path


def make_environment(home: Path) -> tuple[Path, Path]:
    """A new virtual environment in `home`, without a package. Returns its Python and its folder of packages.

    Dependencies are those of this environment. A .pth file in a folder that a .pth file adds is not read, so the editable
    install of this tree is not found through it.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
    (packages,) = (home / "lib").glob("python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return home / "bin/python", packages


def outside(home: Path) -> dict[str, str]:
    """The environment of a process that knows nothing of this tree, with its state in `home`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("VACANCY_", "PYTHON"))}
    return {**kept, "HOME": str(home), "XDG_STATE_HOME": str(home / "state")}
