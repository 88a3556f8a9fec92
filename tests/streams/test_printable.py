"""What people see is printable: log lines, tracebacks, and text from the log."""

from __future__ import annotations

import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

from vacancy.streams.printable import printable, printable_lines


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text, größer, 資源", "plain text, größer, 資源"),
        ("a\tb\r\nc\x1b[2J\x7f", r"a\tb\r\nc\x1b[2J\x7f"),
        ("\x9b31m\u202e\u2066\u200f\u061c", r"\x9b31m\u202e\u2066\u200f\u061c"),
        ("\u2028\u2029\u200b\ufeff\ue000\u0378", r"\u2028\u2029\u200b\ufeff\ue000\u0378"),
        ("\U000e0041\ud800\ufe0f\u3164", r"\U000e0041\ud800\ufe0f\u3164"),
        ("[red]not markup[/red] :smile:", "[red]not markup[/red] :smile:"),
    ],
)
def test_hidden_characters_are_replaced_by_their_escapes(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_every_character_of_a_hidden_category_is_replaced() -> None:
    for number in range(sys.maxunicode + 1):
        shown = printable(chr(number))
        assert all(
            unicodedata.category(one) not in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") for one in shown
        )


def test_the_line_feeds_of_several_lines_stay() -> None:
    assert printable_lines("one\n\x1btwo\n") == "one\n\\x1btwo\n"


PROGRAM = r"""
import logging, threading
from vacancy.streams.printable import make_process_printable
make_process_printable()
bad = "\x1b[2J\nvacancy: forged \u202e"
logging.warning("message %s", bad)
try:
    raise ValueError(bad)
except ValueError:
    logging.exception("caught")
def fail():
    raise KeyError(bad) from ValueError(bad)
thread = threading.Thread(target=fail)
thread.start()
thread.join()
raise RuntimeError(bad)
"""

STRUCTURED = r"""
import logging
from vacancy.clients.runtime.logging import configure_logs
configure_logs(verbose=True)
bad = "\x1b[2J\nvacancy: forged \u202e"
import structlog
structlog.get_logger().warning(bad, field=bad, other=[bad])
logging.warning("message %s", bad)
try:
    raise ValueError(bad)
except ValueError:
    structlog.get_logger().exception(bad)
    logging.exception("caught")
"""

CHILD = r"""
from vacancy.clients.runtime.child_process import ChildProcess
from vacancy.resources.model.errors import VacancyError
def fail(parent):
    raise RuntimeError("\x1b[2J\nvacancy: forged \u202e")
if __name__ == "__main__":
    with ChildProcess("the child", fail, where="here") as child:
        try:
            child.receive()
        except VacancyError as error:
            assert "ended with code 1" in str(error), error
"""


@pytest.mark.parametrize("program", [PROGRAM, STRUCTURED, CHILD], ids=["plain", "structured", "child"])
def test_log_lines_and_tracebacks_are_printable(program: str, tmp_path: Path) -> None:
    file = tmp_path / "program.py"
    file.write_text(program)
    ended = subprocess.run([sys.executable, file], capture_output=True, text=True, timeout=60, check=False)
    assert printable_lines(ended.stderr) == ended.stderr
    assert "forged" in ended.stderr
    assert "\nvacancy: forged" not in ended.stderr
    assert ended.stdout == ""
