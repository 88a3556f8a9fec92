"""Placement's HTTP layer uses of its state layer what this package replaces, and nothing else.

A new release of openstack-placement that changes the seam fails here, with a line for each difference.
"""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from vacancy.placement_api.substitution import PATCHED, REPLACED

spec = importlib.util.find_spec("placement")
assert spec is not None
assert spec.origin is not None
UPSTREAM = Path(spec.origin).parent
OURS = Path(__file__).parents[2] / "placement_api"

NOT_REPLACED = {
    "placement.objects.research_context",
    "placement.objects.allocation_candidate",
    "placement.objects.reshaper",
    "placement.objects.rp_candidates",
}
"""Modules of the state layer that stay Placement's."""

NOT_USED = ("tests", "db", "cmd")
"""Parts of Placement that the API does not run: its tests, its tables, its commands for a database."""

NEVER_CALLED = {
    *("consumer.create_incomplete_consumers", "consumer.delete_consumers_if_no_allocations"),
    *("project.ensure_incomplete_project", "user.ensure_incomplete_user"),
    "resource_provider.set_root_provider_ids",
}
"""Public functions of the state layer that only Placement's own commands and state layer call."""


def file_of(module: str) -> Path:
    return UPSTREAM.joinpath(*module.split(".")[1:]).with_suffix(".py")


def ours(module: str) -> Path:
    return OURS.joinpath(*REPLACED[module].split(".")[2:]).with_suffix(".py")


def kept_modules() -> Iterator[Path]:
    for path in sorted(UPSTREAM.rglob("*.py")):
        parts = path.relative_to(UPSTREAM).with_suffix("").parts
        if parts[0] not in NOT_USED and ".".join(("placement", *parts)) not in REPLACED:
            yield path


def replaced_aliases(tree: ast.Module) -> dict[str, str]:
    """Name in a module -> the replaced module that it stands for."""
    return {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if f"{node.module}.{alias.name}" in REPLACED
    }


def names_in(path: Path) -> set[str]:
    """Names that a module defines at its top."""
    found: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return found


def test_the_state_layer_has_the_modules_that_are_known() -> None:
    found = {
        f"placement.objects.{path.stem}"
        for path in (UPSTREAM / "objects").glob("*.py")
        if path.stem != "__init__"
    }
    known = {name for name in REPLACED if name.startswith("placement.objects.")} | NOT_REPLACED
    assert found == known, f"openstack-placement changed its state layer: {sorted(found ^ known)}"


def test_what_the_kept_modules_use_is_there() -> None:
    missing = []
    for path in kept_modules():
        tree = ast.parse(path.read_text())
        aliases = replaced_aliases(tree)
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id in aliases
            ):
                module = aliases[node.value.id]
                if node.attr not in names_in(ours(module)):
                    missing.append(f"{path.relative_to(UPSTREAM)}:{node.lineno} uses {module}.{node.attr}")
    assert not missing, "write these in vacancy.placement_api"


def signatures(path: Path) -> dict[str, list[str]]:
    """Public function or method -> its arguments."""
    found: dict[str, list[str]] = {}
    for node in ast.parse(path.read_text()).body:
        inner = (
            [(f"{node.name}.", one) for one in node.body] if isinstance(node, ast.ClassDef) else [("", node)]
        )
        for prefix, one in inner:
            if isinstance(one, ast.FunctionDef):
                found[prefix + one.name] = [
                    argument.arg for argument in (*one.args.args, *one.args.kwonlyargs)
                ]
    return found


def public(signature: str) -> bool:
    return all(not part.startswith("_") or part == "__init__" for part in signature.split("."))


@pytest.mark.parametrize("module", sorted(name for name in REPLACED if ".objects." in name))
def test_public_functions_have_the_arguments_of_placement(module: str) -> None:
    theirs, mine = signatures(file_of(module)), signatures(ours(module))
    name = module.rpartition(".")[2]
    different = [
        f"{module}.{function}({', '.join(arguments)}): ours has {mine.get(function)}"
        for function, arguments in theirs.items()
        if public(function) and f"{name}.{function}" not in NEVER_CALLED and mine.get(function) != arguments
    ]
    assert not different


@pytest.mark.parametrize("module", sorted(PATCHED))
def test_exactly_the_functions_that_ask_sql_are_replaced(module: str) -> None:
    source = file_of(module).read_text()
    asks = {
        node.name
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef)
        if any(isinstance(inner, ast.Attribute) and inner.attr == "session" for inner in ast.walk(node))
    }
    assert asks == set(PATCHED[module]), f"{module} asks SQL in other functions than those that are replaced"
    theirs, mine = signatures(file_of(module)), signatures(OURS / "search/candidate_queries.py")
    assert {name: theirs[name] for name in asks} == {name: mine[name] for name in asks}


def test_the_substitution_is_in_force_and_no_sql_is_used() -> None:
    script = (
        "from vacancy.placement_api import substitution; substitution.install()\n"
        "from placement import db_api, deploy, util\n"
        "from placement.objects import trait, research_context\n"
        "assert db_api.__name__ == 'vacancy.placement_api.objects.db_api', db_api\n"
        "assert trait.__name__ == 'vacancy.placement_api.objects.trait', trait\n"
        "from vacancy.placement_api.schema_validation import KeptValidators\n"
        "assert isinstance(util.jsonschema, KeptValidators)\n"
        "assert research_context.get_sharing_providers.__module__ == 'vacancy.placement_api.search.candidate_queries'\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_schemas_are_checked_where_kept_validators_stand_in() -> None:
    """`schema_validation` stands in for the name `jsonschema` in `placement.util`. It must be how requests are checked there."""
    used: dict[str, set[str]] = {}
    for path in kept_modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == "jsonschema"
            ):
                used.setdefault(str(path.relative_to(UPSTREAM)), set()).add(node.attr)
    expected = {
        "util.py": {"FormatChecker", "ValidationError", "validate"},
        "handlers/trait.py": {"ValidationError", "validate"},
    }
    assert used == expected, (
        f"Placement uses jsonschema in another way: {used}; look whether placement_api/schema_validation.py still stands in for it"
    )


def test_schemas_are_constants() -> None:
    """Kept validators are found by the identity of a schema: one that is made for each request would get a new one each time."""
    made = [
        f"{path.relative_to(UPSTREAM)}:{call.lineno}"
        for path in kept_modules()
        for function in ast.walk(ast.parse(path.read_text()))
        if isinstance(function, ast.FunctionDef)
        for call in ast.walk(function)
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr in ("extract_json", "validate_query_params")
        and not isinstance(call.args[1], ast.Name | ast.Attribute)
    ]
    assert made == [], "these schemas are not constants of a module"
