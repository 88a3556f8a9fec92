"""`make explore` runs the long form of each test that has one: a variable sets how much is tried, or the marker `long`."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
TESTS = ROOT / "tests"
NOT_LONG = {"VACANCY_SEED", "VACANCY_TEST_CANDIDATES", "VACANCY_TEST_KAFKA", "VACANCY_TEST_KAFKA_LIBS"}
"""Variables that repeat a run, or name what is installed."""


def read_variables() -> set[tuple[str, str]]:
    """(file, variable) for each variable that sets how much a test tries."""
    return {
        (path.relative_to(ROOT).as_posix(), name)
        for path in TESTS.rglob("*.py")
        for name in re.findall(r'environ(?:\.get\(|\[)\s*"(VACANCY_[A-Z_]+)"', path.read_text())
        if name not in NOT_LONG
    }


def explore_lines() -> list[tuple[set[str], set[Path]]]:
    """(variables, paths of tests) of each command of `make explore`."""
    recipe = (ROOT / "Makefile").read_text().partition("\nexplore:")[2].partition("\n\n")[0]
    return [
        (
            set(re.findall(r"\b(VACANCY_[A-Z_]+)=", line)),
            {ROOT / one for one in re.findall(r"tests/\S+", line)},
        )
        for line in recipe.splitlines()
    ]


def test_make_explore_reaches_each_long_form() -> None:
    lines = explore_lines()
    missing = [
        f"{file}: {name}"
        for file, name in sorted(read_variables())
        if not any(
            name in names
            and (not Path(file).name.startswith("test_") or {ROOT / file, *(ROOT / file).parents} & paths)
            for names, paths in lines
        )
    ]
    assert missing == [], "add the variable, with this file, to `explore` in the Makefile"


def test_make_explore_runs_the_tests_that_are_marked_as_long() -> None:
    assert "pytest -q -m long\n" in (ROOT / "Makefile").read_text()


def test_what_make_explore_sets_is_read_by_its_tests() -> None:
    read = {name for _, name in read_variables()} | NOT_LONG
    for names, paths in explore_lines():
        assert names <= read
        assert [path for path in paths if not path.exists()] == []
