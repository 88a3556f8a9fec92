"""The wheel and the source distribution: both have every module, nothing else, and the wheel runs without the source tree."""

from __future__ import annotations

import email
import json
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.support.packaging.site_environment import make_environment, outside
from tests.test_structure import ROOT, TOP_PACKAGES, modules

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The wheel, built from the source distribution, and the source distribution, built from this tree."""
    out = tmp_path_factory.mktemp("dist")
    # Without isolation: pip would download setuptools. `build` makes the wheel from the source distribution.
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,), (source,) = out.glob("*.whl"), out.glob("*.tar.gz")
    return wheel, source


def in_wheel(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as file:
        return {name for name in file.namelist() if ".dist-info/" not in name}


def test_the_wheel_has_every_module_and_its_data_and_nothing_else(built: tuple[Path, Path]) -> None:
    expected = {f"vacancy/{package}/py.typed" for package in TOP_PACKAGES}
    for package in TOP_PACKAGES:
        expected |= {f"vacancy/{path.relative_to(ROOT)}" for path in modules(package)}
    expected |= {f"vacancy/{path.relative_to(ROOT)}" for path in package_data()}
    assert in_wheel(built[0]) == expected, "list new data in pyproject.toml, and new packages in setup.py"


def package_data() -> list[Path]:
    """Files of the packages that are no modules."""
    return [
        path
        for package in TOP_PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    ]


def test_the_source_distribution_builds_this_wheel_and_leaves_tests_out(built: tuple[Path, Path]) -> None:
    """The wheel above was built from it. Here: what else is in it."""
    with tarfile.open(built[1]) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    assert {"LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml", "setup.py"} <= names
    folders = {name.partition("/")[0] for name in names if "/" in name}
    assert folders == {*TOP_PACKAGES, "vacancy.egg-info"}


def test_twine_finds_nothing_wrong(built: tuple[Path, Path]) -> None:
    """Among other things the README renders as the long description."""
    command = [sys.executable, "-m", "twine", "check", "--strict", *map(str, built)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_metadata_names_version_licence_extras_and_the_command(built: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(built[0]) as file:
        (folder,) = {name.partition("/")[0] for name in file.namelist() if ".dist-info/" in name}
        metadata = email.message_from_bytes(file.read(f"{folder}/METADATA"))
        commands = file.read(f"{folder}/entry_points.txt").decode()
    assert metadata["Version"] == PROJECT["version"]
    assert metadata["License-Expression"] == "Apache-2.0"
    assert set(metadata.get_all("Provides-Extra") or ()) == set(PROJECT["optional-dependencies"])
    assert commands.split() == ["[console_scripts]", "vacancy", "=", "vacancy.cli.main:main"]


def test_it_runs_where_the_source_tree_is_not(built: tuple[Path, Path], tmp_path: Path) -> None:
    """In a virtual environment of its own. `make dist` runs the demo, with dependencies from the network."""
    python, packages = make_environment(tmp_path / "venv")
    with zipfile.ZipFile(built[0]) as file:
        file.extractall(packages)  # noqa: S202 - the wheel that was just built
    log = ("--log", f"sqlite://{tmp_path}/log.db")
    program = f"""
import sys
from vacancy.cli import main
print(main.__file__)
for words in (("topics", "create"), ("replay", "--into", "{tmp_path}/store", "--json")):
    sys.argv = ["vacancy", *words, *{log!r}]
    assert main.main() == 0
"""
    done = subprocess.run(
        [python, "-c", program],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=outside(tmp_path),
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.partition("\n")[0]).is_relative_to(packages)
    assert json.loads(done.stdout[done.stdout.index("{") :])["position"]
