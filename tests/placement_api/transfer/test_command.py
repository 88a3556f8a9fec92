"""`vacancy placement import`, `export` and `compare`, as an operator runs them."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.cli.command import STARTED_S, Vacancy
from tests.placement_api.transfer.placement_database import (
    dump,
    empty_database,
    execute,
    fleet_database,
    random_fleet,
)

HIDDEN = "s3cret"


@pytest.fixture(scope="module")
def vacancy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vacancy]:
    """A log, a worker, and commands."""
    home = tmp_path_factory.mktemp("moves")
    with Vacancy(home, log=f"sqlite://{home}/log.db", store=str(home / "store")) as command:
        command("topics", "create", "--partitions", "1")
        with command.serving("worker", until="caught up"):
            yield command


def test_the_way_of_an_operator(vacancy: Vacancy, tmp_path: Path) -> None:
    """Try, copy, compare, change the source, copy the rest, go back."""
    source, target = tmp_path / "source.db", tmp_path / "target.db"
    url = fleet_database(source, random_fleet(3))
    at = ("--cell", "way")

    assert "to write: 6 names, 12 providers, 20 consumers" in vacancy(
        "placement", "import", "--from", url, *at, "--dry-run"
    )
    assert vacancy("placement", "import", "--from", url, *at).splitlines()[-1] == "equal"
    assert "is not empty: 12 providers" in vacancy.fails(1, "placement", "import", "--from", url, *at)

    execute(source, "UPDATE resource_providers SET name = 'renamed', generation = 90 WHERE id = 3")
    ended = vacancy.run_shared("placement", "compare", "--with", url, *at, "--json")
    assert ended.code == 5
    assert [(one["kind"], one["target"]) for one in json.loads(ended.out)["differences"]][1][
        0
    ] == "generation"
    copied = vacancy.json("placement", "import", "--from", url, *at, "--continue")
    assert copied["to_write"] == {"names": 0, "providers": 1, "consumers": 0}
    assert copied["comparison"]["differences"] == []

    vacancy("placement", "export", "--to", empty_database(target), *at)
    before, after = dump(source), dump(target)
    for rows in (before, after):
        rows.pop("generations")
    assert before == after
    error = vacancy.fails(1, "placement", "export", "--to", f"sqlite:///{target}", *at)
    assert "the database is not empty: table resource_providers has rows" in error


def test_placement_conf_names_the_database(vacancy: Vacancy, tmp_path: Path) -> None:
    file = tmp_path / "placement.conf"
    file.write_text(f"[placement_database]\nconnection = {empty_database(tmp_path / 'p.db')}\n")
    assert vacancy("placement", "compare", "--with", file, "--cell", "nothing").splitlines()[-1] == "equal"


@pytest.mark.parametrize(
    ("place", "code", "error"),
    [
        ("ftp://host/x", 2, "is neither a database nor an API of Placement"),
        ("/no/such/placement.conf", 2, "cannot read /no/such/placement.conf"),
        ("sqlite:////no/such.db", 1, "there is no such file"),
        ("mysql+nothing://host/x", 2, "there is no dialect for mysql+nothing://host/x"),
        ("mysql+mysqldb://host/x", 2, "the database driver MySQLdb is not installed"),
        (f"mysql+pymysql://ada:{HIDDEN}@127.0.0.1:9/x", 1, "the database answers: "),
        (f"postgresql+psycopg://ada:{HIDDEN}@127.0.0.1:9/x", 1, "the database answers: "),
        (f"postgresql+psycopg://ada:{HIDDEN}@[/x", 1, "failed to resolve host '['"),
        (f"http://ada:{HIDDEN}@127.0.0.1:9", 2, "has a user"),
        ("http://127.0.0.1:9", 1, "no answer: "),
    ],
)
def test_a_place_that_cannot_be_read_is_one_line(vacancy: Vacancy, place: str, code: int, error: str) -> None:
    found = vacancy.fails(code, "placement", "import", "--from", place)
    assert error in found
    assert HIDDEN not in found


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("DROP TABLE consumer_types", "this is no database of Placement: it has no table consumer_types"),
        (
            "UPDATE alembic_version SET version_num = 'b4ed3a175331'",
            "its schema has version b4ed3a175331, and",
        ),
        ("DROP TABLE alembic_version", "its schema has version none, and"),
    ],
)
def test_another_schema_is_one_line(vacancy: Vacancy, statement: str, error: str, tmp_path: Path) -> None:
    url = empty_database(tmp_path / "p.db")
    execute(tmp_path / "p.db", statement)
    for words in (("import", "--from"), ("export", "--to"), ("compare", "--with")):
        assert error in vacancy.fails(1, "placement", *words, url)


def test_a_file_that_is_no_database_is_one_line(vacancy: Vacancy, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("no database " * 100)
    assert "file is not a database" in vacancy.fails(
        1, "placement", "import", "--from", f"sqlite:///{tmp_path}/x"
    )


def test_an_import_that_was_killed_goes_on(vacancy: Vacancy, tmp_path: Path) -> None:
    """SIGKILL in the middle. Nothing is there twice after it is run again, and the two are equal."""
    url = fleet_database(tmp_path / "source.db", random_fleet(31, providers=150, consumers=150))
    words = ("placement", "import", "--from", url, "--cell", "killed")
    process = vacancy.start(*words)
    until = time.monotonic() + STARTED_S
    while _records(vacancy, "killed") < 4 and process.poll() is None:
        assert time.monotonic() < until
        time.sleep(0.005)
    process.kill()
    process.communicate()
    copied = vacancy.json(*words, "--continue")
    assert copied["to_write"]["providers"] < 150, "it goes on"
    assert copied["refusals"] == copied["comparison"]["differences"] == []
    assert copied["comparison"]["compared"]["consumer"] == 150


def _records(vacancy: Vacancy, cell: str) -> int:
    """The records of a cell: the worker may write ticks to the log at any time."""
    with closing(sqlite3.connect(vacancy.home / "log.db", timeout=STARTED_S)) as log:
        counted = log.execute("SELECT count(*) FROM records WHERE key = ?", (cell.encode(),))
        found: int = counted.fetchone()[0]
    return found
