"""What is not installed is said in one line, with the commands that install it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))  # `evaluation` is not installed

from evaluation.candidates.installed import missing_parts, program
from vacancy.resources.model.errors import UsageError

ABSENT = "no-such-program"


def test_what_is_missing_is_named_with_its_command() -> None:
    assert missing_parts(["sh"], "dash", {"json": "json"}) is None
    assert missing_parts(["sh", ABSENT], "a b", {"json": "json"}) == (
        "no-such-program not found; install with: apt-get install a b"
    )
    assert missing_parts([ABSENT], "a", {"no_such_module": "its-package"}) == (
        "no-such-program, its-package not found; install with: apt-get install a && pip install -e '.[evaluation]'"
    )


def test_a_program_that_is_needed_and_missing_is_an_error() -> None:
    assert Path(program("sh", "dash")).name == "sh"
    with pytest.raises(UsageError, match="install it with: apt-get install a"):
        program(ABSENT, "a")
