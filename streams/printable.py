"""Text from the log, from files and from other programs, made safe for a terminal.

A log accepts free text: reasons, attribute values, keys of records, whole records that are refused. Such text can contain
control characters that move the cursor or change what the terminal shows, and direction marks that reorder a line.
Everything that this product writes for people therefore goes through `printable`: answers, messages, log lines,
tracebacks, the labels of metrics.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
import unicodedata
from types import TracebackType
from typing import Any, Final

_INVISIBLE: Final = frozenset(
    (
        *(0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x3164, 0xFFA0),
        *(*range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)),
    )
)
"""Characters that Unicode counts as letters or marks and that show nothing: fillers and variation selectors."""
_INVISIBLE_CATEGORIES: Final = frozenset(("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"))


def printable(text: str) -> str:
    r"""`text` on one line, with every character that a terminal does not show as one visible character replaced by its
    escape, as in `\n`, `\x1b`, `\u202e`, `\U000e0041`.

    These are the Unicode categories of control, format, surrogate, private and unassigned characters, the separators of
    lines and paragraphs, and letters that show nothing. Spaces stay.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(character) if _is_hidden(character) else character for character in text)


def printable_lines(text: str, indent: str = "") -> str:
    """As `printable`, for text of several lines: its line feeds stay, and each line starts with `indent`."""
    return "\n".join(indent + printable(line) for line in text.split("\n"))


def _is_hidden(character: str) -> bool:
    return unicodedata.category(character) in _INVISIBLE_CATEGORIES or ord(character) in _INVISIBLE


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


INDENT: Final = "  "
"""Starts each line of a traceback, so that no text in an error can look like a line of its own."""


# -- what a process writes by itself ------------------------------------------------------------------------------


def make_process_printable() -> None:
    """From now on, the log lines of the standard library and the tracebacks of this process are printable.

    Lines of a traceback are indented, so that no text in an error can look like a line of its own.
    """
    logging.setLogRecordFactory(_PrintableRecord)
    sys.excepthook = _write_traceback
    threading.excepthook = _write_thread_traceback


def traceback_text(
    kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
) -> str:
    """The traceback as printable text of several lines, without a line feed at its end. All lines are indented."""
    return printable_lines("".join(traceback.format_exception(kind, error, trace)).rstrip("\n"), INDENT)


class _PrintableRecord(logging.LogRecord):
    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        if self.exc_info and self.exc_info[0] is not None:
            self.exc_text = traceback_text(*self.exc_info)  # formatters use it instead of formatting it again

    def getMessage(self) -> str:  # noqa: N802, the name is the library's
        return printable(super().getMessage())


def _write_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    sys.stderr.write(f"vacancy: an error of the program itself:\n{traceback_text(kind, error, trace)}\n")


def _write_thread_traceback(arguments: threading.ExceptHookArgs) -> None:
    if issubclass(arguments.exc_type, SystemExit):
        return
    name = "unknown" if arguments.thread is None else arguments.thread.name
    trace = traceback_text(arguments.exc_type, arguments.exc_value, arguments.exc_traceback)
    sys.stderr.write(f"vacancy: an error of the program itself in thread {printable(name)}:\n{trace}\n")
