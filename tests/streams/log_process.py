"""A script that tests start as a separate process: `log_process.py append|follow|fill URL ...`."""

# ruff: noqa: T201  (its output is what the tests read)

from __future__ import annotations

import resource
import sys

from vacancy.resources.model.errors import VacancyError
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import NewRecord
from vacancy.streams.log import open_log


def append(url: str, name: str, batches: int) -> None:
    """Append batches of 1 to 5 records; print what was acknowledged as `partition offset name batch number`."""
    with open_log(url) as log:
        cells = covering_cells(log.partitions)
        for batch in range(batches):
            entries = [
                NewRecord(cells[(batch + n) % len(cells)], f"{name} {batch} {n}".encode())
                for n in range(1 + batch % 5)
            ]
            for entry, landed in zip(entries, log.append(entries), strict=True):
                print(landed.partition, landed.offset, entry.value.decode(), flush=True)


def follow(url: str, partition: int, count: int) -> None:
    """Read a partition from its start until `count` records were seen; print `offset value`."""
    with open_log(url) as log:
        position = 0
        while position < count:
            for record in log.read(partition, position, 50, timeout_s=90):
                print(record.offset, record.value.decode().replace("\n", " "), flush=True)
                position = record.offset + 1


def fill(url: str, size_max: int) -> None:
    """Append until files may not grow beyond `size_max` bytes; print how many appends held, then the error."""
    with open_log(url) as log:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size_max, size_max))
        for held in range(10_000):
            try:
                log.append([NewRecord("a", b"%d " % held + b"x" * 1000) for _ in range(10)])
            except VacancyError as error:
                print(held)
                print(type(error).__name__, error)
                return


if __name__ == "__main__":
    job, url, *rest = sys.argv[1:]
    if job == "append":
        append(url, rest[0], int(rest[1]))
    elif job == "follow":
        follow(url, int(rest[0]), int(rest[1]))
    else:
        fill(url, int(rest[0]))
