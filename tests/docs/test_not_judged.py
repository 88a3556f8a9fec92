"""What the auditor does not judge: the code has no other reasons than the documented ones."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from vacancy.clients.auditor import not_judged

DOCS = Path(__file__).parents[2] / "docs"
AUDITOR = Path(not_judged.__file__).parent
SECTION = re.compile(r"### What verify does not judge\n(.*?)\n## ", re.DOTALL)


def test_the_documented_reasons_are_those_of_the_code() -> None:
    (section,) = SECTION.findall((DOCS / "operating.md").read_text())
    assert re.findall(r"^\| `(.*?)` \|", section, re.MULTILINE) == list(not_judged.REASONS)


def test_no_other_reason_is_given() -> None:
    used = set[str]()
    for path in AUDITOR.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and _is_reason(node):
                texts = [one for one in ast.walk(node.args[-1]) if isinstance(one, ast.Constant)]
                assert [one.value for one in texts if type(one.value) is str] == [], (
                    f"{path.name}:{node.lineno}"
                )
            name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
            if path.name != "not_judged.py" and name.isupper():
                used.add(name)
    assert {name for name, text in vars(not_judged).items() if text in not_judged.REASONS} <= used


def _is_reason(call: ast.Call) -> bool:
    """Whether a call makes an opaque objection, or says why something is left out."""
    function = call.func
    if isinstance(function, ast.Name) and function.id == "Objection":
        return isinstance(call.args[0], ast.Name) and call.args[0].id == "OPAQUE"
    return isinstance(function, ast.Attribute) and ast.unparse(function).endswith(
        ("leave_out", "unknown.add")
    )
