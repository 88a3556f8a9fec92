"""Every kind of damage to the file of a log is reported as an error of this project, or changes nothing that is read.

`VACANCY_FUZZ_DAMAGES` is how many of each kind are tried (`make explore`).
"""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.streams.conftest import opening_entries
from vacancy.resources.model.errors import LogError, VacancyError
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import NewRecord, Record
from vacancy.streams.log import create_log, open_log

DAMAGES = 10 * int(os.environ.get("VACANCY_FUZZ_DAMAGES", "12"))
CELLS = covering_cells(2)
Records = dict[int, list[Record]]
Damage = Callable[[random.Random, bytearray], None]


class Damaged:
    """A file that is damaged again and again. `records` are those that were written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with create_log(f"sqlite://{path}", 2, opening_entries(2)) as log:
            for number in range(12):
                value = b"%d " % number + b"x" * (20 if number % 3 else 5_000)
                log.append([NewRecord(CELLS[number % 2], value)])
            self.records = {partition: log.read(partition, 0, 100) for partition in range(2)}
        self._content = path.read_bytes()

    def restored(self) -> bytearray:
        """The undamaged content, with no other file beside the log's."""
        for suffix in ("-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        return bytearray(self._content)

    def read(self) -> Records:
        """All that a program can read, in several reads, and append one record."""
        found: Records = {}
        with open_log(f"sqlite://{self.path}") as log:
            log.identity()
            for partition, end in log.end().items():
                found[partition] = []
                while len(found[partition]) < end:
                    found[partition] += log.read(partition, len(found[partition]), 4)
                assert log.read(partition, end, 4) == []
            log.append([NewRecord(CELLS[0], b"more")])
        return found

    def judge(self, what: str) -> str:
        """How the damage ended: `noticed` or `harmless`. It fails where it is neither."""
        try:
            found = self.read()
        except VacancyError:
            return "noticed"
        assert found == self.records, what
        return "harmless"


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Damaged:
    return Damaged(tmp_path_factory.mktemp("log") / "log.db")


def flip(rng: random.Random, content: bytearray) -> None:
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)


def flip_of_what_is_used(rng: random.Random, content: bytearray) -> None:
    content[rng.choice([at for at, byte in enumerate(content) if byte])] ^= 1 << rng.randrange(8)


def two_bytes(rng: random.Random, content: bytearray) -> None:
    used = [at for at, byte in enumerate(content) if byte]
    for _ in range(2):
        content[rng.choice(used)] = rng.randrange(256)


def cut(rng: random.Random, content: bytearray) -> None:
    del content[rng.randrange(len(content)) :]


def cut_after_a_page(rng: random.Random, content: bytearray) -> None:
    del content[8192 * rng.randrange(len(content) // 8192) :]


def page_of_another(rng: random.Random, content: bytearray) -> None:
    to, of = (8192 * rng.randrange(len(content) // 8192) for _ in range(2))
    content[to : to + 8192] = content[of : of + 8192]


def zeros(rng: random.Random, content: bytearray) -> None:
    at, size = rng.randrange(len(content)), rng.randrange(1, 4096)
    content[at : at + size] = bytes(len(content[at : at + size]))


KINDS: list[Damage] = [flip, flip_of_what_is_used, two_bytes, cut, cut_after_a_page, page_of_another, zeros]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_damaged_file_is_noticed_or_read_as_it_was(kind: Damage, damaged: Damaged) -> None:
    ended = []
    for seed in range(DAMAGES):
        content = damaged.restored()
        kind(random.Random(seed), content)
        damaged.path.write_bytes(content)
        ended.append(damaged.judge(f"{kind.__name__}, seed {seed}"))
    assert "noticed" in ended


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM records WHERE partition = 1 AND offset = 3",
        "DELETE FROM records WHERE partition = 1 AND offset = 6",
        "DELETE FROM records WHERE partition = 1 AND offset > 0",
        "DELETE FROM records WHERE partition = 1",
        "DELETE FROM records",
        "UPDATE records SET partition = 0, offset = 70 WHERE partition = 1 AND offset = 3",
        "UPDATE records SET offset = 'three' WHERE partition = 1 AND offset = 3",
        "UPDATE records SET offset = x'03' WHERE partition = 1 AND offset = 6",
        "UPDATE records SET timestamp_ms = 'now' WHERE partition = 1 AND offset = 3",
        "UPDATE records SET timestamp_ms = x'00' WHERE partition = 1 AND offset = 6",
        "UPDATE records SET key = 'text' WHERE partition = 1 AND offset = 3",
        "UPDATE records SET key = 5 WHERE partition = 1 AND offset = 3",
        "UPDATE records SET value = 'text' WHERE partition = 1 AND offset = 3",
        "UPDATE records SET value = 2.5 WHERE partition = 1 AND offset = 6",
        "UPDATE records SET checksum = 'sum' WHERE partition = 1 AND offset = 3",
        "UPDATE records SET uptime = 'long' WHERE partition = 0",
        "UPDATE meta SET value = 'two' WHERE name = 'partitions'",
        "UPDATE meta SET value = 3 WHERE name = 'partitions'",
        "UPDATE meta SET value = x'07' WHERE name = 'end_0'",
        "DELETE FROM meta",
        "DROP TABLE meta",
        "DROP TABLE records",
        "ALTER TABLE records DROP COLUMN checksum",
        "ALTER TABLE records RENAME COLUMN value TO other",
    ],
)
def test_what_another_program_changes_is_noticed(sql: str, damaged: Damaged) -> None:
    damaged.path.write_bytes(damaged.restored())
    with contextlib.closing(sqlite3.connect(damaged.path)) as db:
        db.execute(sql)
        db.commit()
    with pytest.raises(LogError):
        damaged.read()


def test_a_file_of_an_earlier_build_has_no_ends_and_gets_them(damaged: Damaged) -> None:
    damaged.path.write_bytes(damaged.restored())
    with contextlib.closing(sqlite3.connect(damaged.path)) as db:
        db.execute("DELETE FROM meta WHERE name LIKE 'end%'")
        db.commit()
    assert damaged.read() == damaged.records  # and appends to partition 0
    with contextlib.closing(sqlite3.connect(damaged.path)) as db:
        assert db.execute("SELECT name, value FROM meta WHERE name LIKE 'end%'").fetchall() == [("end_0", 8)]
        db.execute("DELETE FROM records WHERE partition = 0 AND offset = 7")
        db.commit()
    with open_log(f"sqlite://{damaged.path}") as log:
        with pytest.raises(LogError, match="records are missing"):
            log.end()
        with pytest.raises(LogError, match="damaged"):
            log.append([NewRecord(CELLS[0], b"more")])
