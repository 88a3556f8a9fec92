"""Counts the lines of an adapter, for the report."""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from collections.abc import Callable, Iterable
from pathlib import Path
from types import CodeType, FrameType, TracebackType
from typing import Any, Final, Self

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
    return len(_lines(source))


def _lines(source: str) -> set[int]:
    """The numbers of the lines with code."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in _IGNORED:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            lines.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return lines


class CodeRun:
    """Counts the lines of the functions that run, as a context. Only functions of these Python files count, each whole and once."""

    def __init__(self, modules: Iterable[Path]) -> None:
        self._modules = {str(module) for module in modules}
        self._ran: set[CodeType] = set()

    def __enter__(self) -> Self:
        self._before = sys.getprofile()
        sys.setprofile(self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        sys.setprofile(self._before)

    def _note(self, frame: FrameType, event: str, argument: Any) -> None:
        if event == "call" and frame.f_code.co_filename in self._modules:
            self._ran.add(frame.f_code)

    def add(self, functions: Iterable[Callable[..., Any]]) -> None:
        """Count functions that did not run here."""
        self._ran.update(function.__code__ for function in functions)

    def lines(self) -> set[tuple[str, int]]:
        """(file, number) of each line."""
        found: set[tuple[str, int]] = set()
        for name in {code.co_filename for code in self._ran}:
            starts = {code.co_firstlineno for code in self._ran if code.co_filename == name}
            source = Path(name).read_text()
            within = {
                line
                for node in ast.walk(ast.parse(source))
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                and _first_line(node) in starts
                for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
            }
            found |= {(name, line) for line in within & _lines(source)}
        return found


def _first_line(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> int:
    """The line that the code object of a function has as its first."""
    decorators = [] if isinstance(node, ast.Lambda) else node.decorator_list
    return min(one.lineno for one in (node, *decorators))
