"""Lines of an adapter are counted without comments, docstrings and blank lines."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))  # `evaluation` is not installed

from evaluation.candidates.code_lines import lines_of

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
