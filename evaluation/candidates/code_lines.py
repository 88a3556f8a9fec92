"""Counts the lines of an adapter, for the report."""

from __future__ import annotations

import ast
import io
import tokenize
from pathlib import Path
from typing import Final

_IGNORED: Final = (
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
)


def code_lines(*modules: str) -> int:
    """The lines with code in these Python files (`__file__`), without comments, docstrings and blank lines."""
    return sum(lines_of(Path(module).read_text()) for module in modules)


def lines_of(source: str) -> int:
    """The same of source text."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in _IGNORED:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            lines.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(lines)
