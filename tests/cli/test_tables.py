"""Tables at terminals of different widths."""

from __future__ import annotations

import os
import pty
import re
import struct
import subprocess
import sys
import termios
from fcntl import ioctl

import pytest

from vacancy.cli.output import row_paragraph

WIDE = (
    "from vacancy.cli.output import emit_table; emit_table(('PARTITION', 'POSITION', 'LOG TIME', 'DEAD LETTERS', 'STORE'),"
    " [(0, 1204, '2026-11-29T06:50:33.226Z', 0, 'f33b0ddd805641d1a41d5f8f75fcd676'), (1, 7, '', 12, 'none')])"
)


def at_width(width: int) -> list[str]:
    """The lines that a program writes to a terminal of this width."""
    inside, outside = pty.openpty()
    ioctl(outside, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    subprocess.run(
        [sys.executable, "-c", WIDE],
        stdout=outside,
        check=True,
        env={**os.environ, "TERM": "xterm", "COLUMNS": ""},
    )
    os.close(outside)
    text = b""
    while True:
        try:
            text += os.read(inside, 65536)
        except OSError:
            break
    os.close(inside)
    return re.sub("\x1b\\[[0-9;]*m", "", text.decode()).splitlines()


@pytest.mark.parametrize(
    ("width", "lines"),
    [
        (
            120,
            [
                "PARTITION  POSITION  LOG TIME                  DEAD LETTERS  STORE",
                "        0      1204  2026-11-29T06:50:33.226Z             0  f33b0ddd805641d1a41d5f8f75fcd676",
                "        1         7                                      12  none",
            ],
        ),
        (
            84,
            [
                "PARTITION  POSITION  LOG TIME                  DEAD LETTERS  STORE",
                "        0      1204  2026-11-29T06:50:33.226Z             0  f33b0ddd805641d1a41d5f8",
                "                                                             f75fcd676",
                "        1         7                                      12  none",
            ],
        ),
        (
            60,
            [
                "PARTITION 0",
                "  POSITION 1204  LOG TIME 2026-11-29T06:50:33.226Z",
                "  DEAD LETTERS 0  STORE f33b0ddd805641d1a41d5f8f75fcd676",
                "PARTITION 1",
                "  POSITION 7  DEAD LETTERS 12  STORE none",
            ],
        ),
    ],
)
def test_a_table_fits_the_terminal(width: int, lines: list[str]) -> None:
    assert [line.rstrip() for line in at_width(width)] == lines


def test_a_long_cell_has_lines_of_its_own() -> None:
    assert row_paragraph(("A", "B", "C"), ("1", "x" * 30, "2"), 20) == [
        "A 1",
        "  B xxxxxxxxxxxxxxxx",
        "    xxxxxxxxxxxxxx",
        "  C 2",
    ]
