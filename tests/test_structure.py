"""The structure of the code: `resources/` is pure, imports follow the arrows between packages, functions stay small.

The rules are tests, so that nobody has to remember them; each failure says what to do instead.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOP_PACKAGES = ("resources", "projections", "streams", "clients", "cli", "testing", "placement_api", "ui")

PURE_IMPORTS = {
    *("__future__", "abc", "bisect", "collections", "dataclasses", "difflib", "enum", "functools", "hashlib"),
    *("heapq", "itertools", "json", "math", "operator", "re", "struct", "typing", "weakref", "zlib"),
    *("base64", "cryptography", "msgspec", "numpy", "os_traits", "pydantic", "pydantic_core"),
}
"""What the rules may stand on. Of cryptography they verify signatures of Ed25519: a function in C of its arguments, with one
answer (`resources/model/signatures.py`). Nothing here reads a file, a clock, a random number or a network. NumPy only where
a class projects its records into columns; os-traits only to check names before they are sent."""

ONLY_INSIDE_FUNCTIONS = {"cryptography", "numpy", "os_traits"}

IMPURE_CALLS = {
    "open",
    "print",
    "input",
    "eval",
    "exec",
    "compile",
    "__import__",
    "globals",
    "breakpoint",
    "id",
    "hash",
}
"""`id` and `hash` are here because their answers differ from process to process."""

MAY_IMPORT = {
    "resources": {"resources"},
    "projections": {"resources", "projections"},
    "streams": {"resources", "streams"},
    "clients": {"resources", "projections", "streams", "clients"},
    "cli": {"resources", "projections", "streams", "clients", "cli", "placement_api", "ui"},
    "placement_api": {"resources", "projections", "streams", "clients", "placement_api"},
    "testing": {"resources", "testing"},
    "ui": {"resources", "projections", "streams", "clients", "ui"},
}

MAY_IMPORT_OF_PACKAGES: dict[str, set[str]] = {
    "resources.model": set(),
    "resources.classes": {"resources.model", "resources.state"},
    "resources.state": {"resources.classes", "resources.model"},
    "resources.fold": {"resources.classes", "resources.model", "resources.state"},
    "projections.changefeed": {"resources.state"},
    "projections.store": {
        *("projections.changefeed",),
        *("resources.classes", "resources.fold", "resources.model", "resources.state"),
    },
    "projections.snapshots": {
        *("projections.store",),
        *("resources.classes", "resources.fold", "resources.model", "resources.state"),
    },
    "projections.view": {"resources.classes", "resources.fold", "resources.model", "resources.state"},
    "projections.reader": {
        *("projections.changefeed", "projections.store", "projections.view"),
        *("resources.classes", "resources.fold", "resources.model", "resources.state"),
    },
    "projections.query": {"projections.view", "resources.classes", "resources.model", "resources.state"},
    "projections.ranking": {"projections.query", "projections.view", "resources.model"},
    "projections.diagnostics": {
        *("projections.query", "projections.ranking", "projections.view"),
        *("resources.classes", "resources.model"),
    },
    "placement_api": {
        *("clients.runtime", "clients.signing", "clients.transactions"),
        *("placement_api.state",),
        *("projections.reader",),
        *("streams", "streams.pages"),
        *("resources.classes", "resources.model", "resources.state"),
    },
    "placement_api.objects": {"placement_api.state"},
    "placement_api.transfer": {
        *("clients.runtime", "clients.transactions"),
        *("placement_api.state",),
        *("projections.reader",),
        *("streams",),
        *("resources.classes", "resources.model"),
    },
    "placement_api.search": {"placement_api.objects", "placement_api.state"},
    "placement_api.state": {
        *("clients.runtime", "clients.transactions"),
        *("projections.reader",),
        *("streams",),
        *("resources.classes", "resources.model", "resources.state"),
    },
    "ui": {
        *("clients.history", "clients.inspection", "clients.metrics", "clients.past", "clients.runtime"),
        *("clients.scheduler",),
        *("ui.heat_map", "ui.http"),
        *("projections.reader", "projections.view"),
        *("streams", "streams.clocks", "streams.pages"),
        *("resources.classes", "resources.model", "resources.state"),
    },
    "ui.pages": {
        *("clients.history", "clients.inspection", "clients.past", "clients.request_language"),
        *("ui", "ui.heat_map"),
        *("projections.diagnostics", "projections.query", "projections.reader"),
        *("streams",),
        *("resources.classes", "resources.model", "resources.state"),
    },
    "ui.heat_map": {"projections.view", "resources.model", "streams.clocks", "ui"},
    "ui.http": {
        *("clients.history", "clients.inspection", "clients.past"),
        *("ui", "ui.heat_map", "ui.pages"),
        *("streams.clocks",),
        *("resources.model",),
    },
    "testing": {"resources.classes", "resources.model"},
    "streams": {"resources.model", "streams.archive", "streams.clocks", "streams.kafka", "streams.sqlite"},
    "streams.archive": {"resources.model", "streams", "streams.clocks", "streams.files"},
    "streams.faust": {
        *("streams", "streams.files", "streams.kafka", "streams.pages", "streams.worker"),
        *("resources.model",),
    },
    "streams.kafka": {"resources.model", "streams", "streams.clocks"},
    "streams.sqlite": {"resources.model", "streams", "streams.clocks", "streams.files"},
    "streams.worker": {"resources.model", "streams", "streams.clocks"},
    "streams.files": {"streams"},
    "streams.clocks": set(),
    "streams.pages": {"resources.model", "streams", "streams.worker"},
    "clients.archives": {
        *("clients.runtime", "clients.snapshots"),
        *("projections.snapshots",),
        *("streams", "streams.archive", "streams.kafka", "streams.sqlite"),
        *("resources.classes", "resources.model"),
    },
    "clients.auditor": {"resources.model"},
    "clients.signing": {"resources.model", "streams", "streams.clocks"},
    "clients.publisher": {
        *("clients.signing",),
        *("streams", "streams.clocks", "streams.files"),
        *("resources.classes", "resources.fold", "resources.model", "resources.state"),
    },
    "clients.request_language": {
        *("projections.query", "projections.ranking", "projections.view"),
        *("resources.classes", "resources.model"),
    },
    "clients.runtime": {
        *("clients.auditor", "clients.tracing"),
        *("projections.reader", "projections.snapshots", "projections.store"),
        *("streams", "streams.faust", "streams.pages", "streams.worker"),
        *("resources.classes", "resources.fold", "resources.model", "resources.state"),
    },
    "clients.replay_tool": {
        *("clients.auditor", "clients.runtime"),
        *("projections.reader", "projections.store"),
        *("streams",),
        *("resources.classes", "resources.fold", "resources.model", "resources.state"),
    },
    "clients.snapshots": {
        *("clients.replay_tool", "clients.runtime"),
        *("projections.snapshots", "projections.store"),
        *("streams", "streams.clocks"),
        *("resources.classes", "resources.fold", "resources.model"),
    },
    "clients.past": {
        *("clients.replay_tool", "clients.runtime"),
        *("projections.changefeed", "projections.reader", "projections.snapshots", "projections.store"),
        *("streams", "streams.clocks", "streams.worker"),
        *("resources.classes", "resources.fold", "resources.model"),
    },
    "clients.history": {
        *("clients.inspection", "clients.past", "clients.replay_tool", "clients.runtime"),
        *("clients.scheduler", "clients.snapshots"),
        *("projections.changefeed", "projections.diagnostics", "projections.query", "projections.reader"),
        *("projections.snapshots", "projections.store", "projections.view"),
        *("streams", "streams.clocks"),
        *("resources.classes", "resources.fold", "resources.model", "resources.state"),
    },
    "clients.inspection": {
        *("clients.request_language", "clients.scheduler"),
        *("projections.diagnostics", "projections.query", "projections.reader", "projections.store"),
        *("streams", "streams.clocks"),
        *("resources.classes", "resources.fold", "resources.model", "resources.state"),
    },
    "clients.doctor": {
        *("clients.publisher", "clients.runtime", "clients.signing"),
        *("projections.reader", "projections.store"),
        *("streams", "streams.clocks", "streams.faust", "streams.files", "streams.kafka"),
        *("streams.sqlite",),
        *("resources.classes", "resources.fold", "resources.model", "resources.state"),
    },
    "clients.metrics": {
        *("clients.publisher", "clients.scheduler"),
        *("projections.diagnostics", "projections.query", "projections.reader", "projections.snapshots"),
        *("streams.clocks", "streams.pages"),
        *("resources.fold", "resources.model", "resources.state"),
    },
    "clients.tracing": {
        *("clients.scheduler",),
        *("projections.diagnostics", "projections.query"),
        *("streams", "streams.clocks"),
        *("resources.model", "resources.state"),
    },
    "clients.scheduler": {
        *("clients.inspection", "clients.metrics", "clients.past", "clients.request_language"),
        *("clients.runtime", "clients.tracing"),
        *("projections.diagnostics", "projections.query", "projections.ranking", "projections.reader"),
        *("projections.view",),
        *("streams", "streams.clocks", "streams.files"),
        *("resources.classes", "resources.fold", "resources.model", "resources.state"),
    },
    "clients.admin": {
        *("clients.inspection", "clients.runtime", "clients.scheduler"),
        *("projections.reader",),
        *("streams", "streams.clocks"),
        *("resources.classes", "resources.fold", "resources.model", "resources.state"),
    },
    "clients.transactions": {
        *("clients.runtime", "clients.scheduler"),
        *("projections.reader",),
        *("streams",),
        *("resources.fold", "resources.model", "resources.state"),
    },
    "clients.demo": {
        *("clients.auditor", "clients.inspection", "clients.publisher", "clients.replay_tool"),
        *("clients.runtime", "clients.scheduler"),
        *("projections.query", "projections.ranking", "projections.reader"),
        *("streams", "streams.files"),
        *("resources.classes", "resources.model", "resources.state"),
    },
}
"""What each sub-package may import of this project besides itself. A package's own name stands for the modules that are in
none of its sub-packages. What a change needs beyond this table, it adds here, and so shows it to whoever reviews it.
Modules at the top of `clients/` join everything and may import any."""

ACYCLIC = ("placement_api", "projections", "streams", "ui")
"""The packages whose sub-packages import each other in one direction only."""

FUNCTION_LINES_MAX = 60

FOLDER_MODULES_MAX = 20
"""A folder with more modules than that has several subjects."""


def modules(top: str) -> list[Path]:
    return sorted((ROOT / top).rglob("*.py"))


def imports(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """(module, line) of every import, wherever it stands; relative ones begin with a dot."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or ""), node.lineno


def impurities(source: str) -> list[str]:
    """What makes a module of the rules impure, one line each."""
    tree = ast.parse(source)
    top = {
        name
        for node in tree.body
        for name, _ in imports(ast.Module([node], []))
        if isinstance(node, ast.Import)
    }
    top |= {node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom)}
    found = []
    for name, line in imports(tree):
        package = name.split(".")[0]
        if package == "vacancy":
            if not name.startswith("vacancy.resources"):
                found.append(
                    f"line {line} imports {name}: the rules know no other package; hand it in as an argument"
                )
        elif package not in PURE_IMPORTS:
            found.append(
                f"line {line} imports {name}: the rules do no I/O and ask no clock; "
                "what they need comes as an argument, from streams/ or clients/"
            )
        elif package in ONLY_INSIDE_FUNCTIONS and name in top:
            found.append(f"line {line} imports {name} at the top: import it in the function that needs it")
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in IMPURE_CALLS:
            found.append(f"line {node.lineno} calls {node.func.id}(): its answer is not the same everywhere")
        if isinstance(node, ast.Global | ast.Nonlocal):
            found.append(f"line {node.lineno} rebinds {', '.join(node.names)}: return what changed instead")
    return found


@pytest.mark.parametrize("path", modules("resources"), ids=lambda path: str(path.name))
def test_the_rules_are_pure(path: Path) -> None:
    assert impurities(path.read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        *(
            f"import {name}"
            for name in ("os", "time", "random", "threading", "kafka", "rocksdict", "faust", "uuid")
        ),
        *(
            "from pathlib import Path",
            "from datetime import datetime",
            "import socket as s",
            "import sqlite3",
        ),
        *("import asyncio", "import secrets", "import logging", "import structlog", "from . import names"),
        *(
            "from vacancy.projections.view.fleet import View",
            "import vacancy.streams.log",
            "from vacancy import clients",
        ),
        *("import numpy as np", "def f() -> None:\n    import time", "if True:\n    import os.path"),
        *(
            "x = open('f')",
            "print(1)",
            "eval('1')",
            "hash('a')",
            "__import__('os')",
            "def f():\n    global x\n    x = 1",
        ),
    ],
)
def test_what_is_impure_is_noticed(source: str) -> None:
    assert len(impurities(source)) == 1


def test_what_is_pure_is_let_pass() -> None:
    assert impurities("import re\ndef f() -> int:\n    import numpy as np\n    return np.zeros(3)") == []


@pytest.mark.parametrize("top", TOP_PACKAGES)
def test_imports_between_packages_go_one_way(top: str) -> None:
    wrong = []
    for path in modules(top):
        for name, line in imports(ast.parse(path.read_text())):
            package, _, rest = name.partition(".")
            other = rest.split(".")[0]
            if package in ("evaluation", "tests") or (package == "vacancy" and other not in MAY_IMPORT[top]):
                wrong.append(f"{path.relative_to(ROOT)}:{line} imports {name}")
            elif name.startswith("."):
                wrong.append(f"{path.relative_to(ROOT)}:{line} imports {name}: name the package in full")
    allowed = ", ".join(sorted(MAY_IMPORT[top]))
    assert not wrong, (
        f"{top}/ may import of this project only {allowed}: join packages in clients/runtime/bootstrap.py"
    )


CONTRACT = ("resource_class", "registry")
"""The modules of `resources/classes/` that name no class to whoever imports them."""

KNOW_CLASSES = ("resources/classes", "clients/publisher/host", "clients/request_language/numa_syntax.py")
"""The rules of the classes; what reports a host's inventories; the syntax of one class."""

CLASS_NAMES = ("PCI_DEVICE", "SRIOV_NET_VF", "PGPU", "FPGA", "VGPU", "GPU_SHARE", "NUMA_CELL", "PORT")


@pytest.mark.parametrize("top", ["resources", "projections", "streams", "clients", "cli", "testing"])
def test_the_contract_of_resource_classes_is_closed(top: str) -> None:
    """The fold, the query engine and the command line import no class and compare no name of one."""
    wrong = []
    for path in modules(top):
        place = path.relative_to(ROOT).as_posix()
        if place.startswith(KNOW_CLASSES):
            continue
        tree = ast.parse(path.read_text())
        for name, line in imports(tree):
            inside = name.removeprefix("vacancy.resources.classes.")
            if inside != name and inside not in CONTRACT:
                wrong.append(f"{place}:{line} imports {name}")
        wrong += [
            f"{place}:{node.lineno} compares with {value.value}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Compare)
            for value in (node.left, *node.comparators)
            if isinstance(value, ast.Constant) and value.value in CLASS_NAMES
        ]
    assert not wrong, "ask the class, by the contract in resources/classes/resource_class.py"


def package_of(module: tuple[str, ...]) -> str:
    """The sub-package of a module, given as its path from the root; its top, if it is in none."""
    return ".".join(module[:2]) if (ROOT.joinpath(*module[:2])).is_dir() else module[0]


def packages() -> list[str]:
    """All sub-packages, and packages with modules of their own."""
    every = {
        package_of(path.relative_to(ROOT).with_suffix("").parts)
        for top in MAY_IMPORT
        for path in modules(top)
        if path.stem != "__init__"
    }
    return sorted(every - {"resources", "projections", "clients", "cli", "cli.commands", "cli.options"})


def test_each_sub_package_has_a_line_in_the_table() -> None:
    assert packages() == sorted(MAY_IMPORT_OF_PACKAGES)


@pytest.mark.parametrize("package", sorted(MAY_IMPORT_OF_PACKAGES))
def test_a_sub_package_imports_what_the_table_says(package: str) -> None:
    allowed = MAY_IMPORT_OF_PACKAGES[package] | {package}
    wrong = []
    for path in modules(package.split(".")[0]):
        if package_of(path.relative_to(ROOT).with_suffix("").parts) != package:
            continue
        for name, line in imports(ast.parse(path.read_text())):
            if name.startswith("vacancy.") and package_of(tuple(name.split(".")[1:])) not in allowed:
                wrong.append(f"{path.relative_to(ROOT)}:{line} imports {name}")
    assert not wrong, f"{package} may import {', '.join(sorted(allowed))}: see MAY_IMPORT_OF_PACKAGES"


@pytest.mark.parametrize("top", ACYCLIC)
def test_sub_packages_do_not_import_each_other_in_circles(top: str) -> None:
    left = {
        name: {other for other in others if other.startswith(f"{top}.")}
        for name, others in MAY_IMPORT_OF_PACKAGES.items()
        if name.startswith(f"{top}.")
    }
    while ready := [name for name, others in left.items() if others.isdisjoint(left)]:
        for name in ready:
            del left[name]
    assert not left, "these sub-packages import each other: move what both need into a third"


@pytest.mark.parametrize("top", [*TOP_PACKAGES, "evaluation"])
def test_functions_stay_small(top: str) -> None:
    large = []
    for path in modules(top):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                told = ast.get_docstring(node) is not None and len(node.body) > 1
                first = node.body[1 if told else 0].lineno  # neither its text nor its options are logic
                lines = (node.end_lineno or 0) - first + 1
                if lines > FUNCTION_LINES_MAX:
                    large.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name} has {lines} lines")
    assert not large, f"more than {FUNCTION_LINES_MAX} lines: name its steps and make them functions"


@pytest.mark.parametrize("top", [*TOP_PACKAGES, "evaluation", "tests"])
def test_folders_stay_small(top: str) -> None:
    counts = Counter(path.parent.relative_to(ROOT).as_posix() for path in modules(top))
    large = [
        f"{folder} has {count} modules" for folder, count in counts.items() if count > FOLDER_MODULES_MAX
    ]
    assert not large, f"more than {FOLDER_MODULES_MAX} modules: give each subject a folder of its own"


def test_the_rules_load_without_the_other_packages_and_heavy_libraries() -> None:
    names = ", ".join(
        "vacancy." + path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
        for path in modules("resources")
        if path.stem != "__init__"
    )
    heavy = "'numpy', 'rocksdict', 'faust', 'kafka', 'structlog', 'os_traits', 'vacancy.projections', 'vacancy.streams'"
    script = f"import {names}; import sys; sys.exit(' '.join(name for name in ({heavy}) if name in sys.modules) or 0)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=os.environ, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


TEST_FOLDERS_WITHOUT_A_PACKAGE = {
    "docs",
    "faults",
    "fuzz",
    "live",
    "recorded_logs",
    "simulator",
    "support",
    "upgrades",
}
"""Tests of the documentation and of the whole system, helpers and data."""


def test_test_folders_mirror_the_packages() -> None:
    homeless = [
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        if path.relative_to(ROOT / "tests").parts[0] not in TEST_FOLDERS_WITHOUT_A_PACKAGE
        and path.parent != ROOT / "tests"
        and not (ROOT / path.parent.relative_to(ROOT / "tests") / "__init__.py").is_file()
    ]
    assert not homeless, "move each test module to tests/PACKAGE/SUB_PACKAGE of the module that it tests"
