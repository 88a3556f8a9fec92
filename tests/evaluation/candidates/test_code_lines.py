"""Lines of an adapter are counted without comments, docstrings and blank lines."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))  # `evaluation` is not installed

from evaluation.candidates.code_lines import CodeRun, lines_of

SOURCE = '''\
"""A module
of two lines."""

# A comment.
STATEMENT = """\\
SELECT 1
"""


def run(
    name: str,
) -> str:
    """A docstring."""
    return name  # a comment behind code
'''


def test_only_code_counts() -> None:
    assert lines_of(SOURCE) == 7


RUN = '''\
def outer(value):
    """A docstring."""
    found = [one for one in value if inner(one)]

    return found


def inner(value):
    return value > 1


def never():
    return 1
'''


def test_only_functions_that_ran_count(tmp_path: Path) -> None:
    path = tmp_path / "adapter.py"
    path.write_text(RUN)
    spec = importlib.util.spec_from_file_location("adapter", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with CodeRun([path]) as code:
        assert module.outer([1, 2]) == [2]
        lines_of(RUN)  # another file
    assert {line for _, line in code.lines()} == {1, 3, 5, 8, 9}
    code.add([module.never])
    assert len(code.lines()) == 7
