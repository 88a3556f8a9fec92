"""The installed package has every module of the source tree, and its type information; the image copies all of it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.test_structure import ROOT, TOP_PACKAGES, modules


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(("vacancy", *(part for part in parts if part != "__init__")))


@pytest.mark.parametrize("package", TOP_PACKAGES)
def test_every_module_is_installed(package: str) -> None:
    missing = [name for name in map(module_name, modules(package)) if find_spec(name) is None]
    assert not missing, (
        "setup.py does not list its package, or the installation is old: run `make .venv/.dev`"
    )
    spec = find_spec(f"vacancy.{package}")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    assert (Path(next(iter(spec.submodule_search_locations))) / "py.typed").is_file()


@pytest.mark.parametrize("package", TOP_PACKAGES)
def test_every_folder_with_modules_is_a_package(package: str) -> None:
    folders = {path.parent for path in modules(package)}
    missing = [str(one.relative_to(ROOT)) for one in folders if not (one / "__init__.py").is_file()]
    assert not missing, "add an __init__.py: setup.py finds packages by it"


def test_nothing_else_is_installed() -> None:
    spec = find_spec("vacancy")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    installed = {
        entry.name
        for location in spec.submodule_search_locations
        for entry in Path(location).iterdir()
        if entry.name != "__pycache__"
    }
    assert installed == set(TOP_PACKAGES)
