"""Dead letters: the records that the fold refused, why, and their bytes."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

from vacancy.resources.state.rows import DeadLetterRow
from vacancy.resources.state.tables import DEAD_LETTERS
from vacancy.ui.health import Health
from vacancy.ui.pages.page import Ask, Page
from vacancy.ui.site import Site
from vacancy.ui.tables import Tables

_SHOWN, _SHOWN_MAX = 100, 1_000
_LINE = 16


@dataclass(frozen=True, slots=True)
class Letter:
    """A record that was refused. `hex` is the start of its value as bytes, `value` the same as text; `size` is its whole
    length in bytes."""

    partition: int
    offset: int
    timestamp_ms: int
    reason: str
    key: str
    value: str
    hex: str
    size: int


async def page(site: Site, ask: Ask) -> Page:
    """The newest dead letters, the newest first."""
    count = ask.count("limit", _SHOWN, _SHOWN_MAX)
    partition = ask.partition()

    def read(tables: Tables) -> tuple[list[Letter], int, Health]:
        found, kept = _letters(tables, partition, count)
        return found, kept, tables.health(site.ends)

    found, kept, health = await site.read(ask.as_of, read)
    one = () if partition is None else ("--partition", str(partition))
    return Page(
        "dead-letters",
        "Dead letters",
        found,
        ("dead-letters", *one, "--limit", str(count)),
        {"health": health, "letters": found, "kept": kept, "partition": ask.get("partition")},
    )


def _letters(tables: Tables, partition: int | None, count: int) -> tuple[list[Letter], int]:
    """The newest `count` dead letters, the newest first, and how many are kept."""
    kept = [
        (at, row) for at, _, row in tables.reader.scan(DEAD_LETTERS) if partition is None or partition == at
    ]
    found = heapq.nsmallest(count, kept, key=lambda one: (-one[1].timestamp_ms, one[0], -one[1].offset))
    return [_letter(at, row) for at, row in found], len(kept)


def _letter(partition: int, row: DeadLetterRow) -> Letter:
    return Letter(
        partition,
        row.offset,
        row.timestamp_ms,
        row.reason,
        row.key.decode("utf-8", "backslashreplace"),
        row.value.decode("utf-8", "backslashreplace"),
        _hex(row.value),
        row.size,
    )


def _hex(data: bytes) -> str:
    """The bytes as people read them: offset, hexadecimal, characters."""
    lines = []
    for at in range(0, len(data), _LINE):
        part = data[at : at + _LINE]
        text = "".join(chr(one) if 32 <= one < 127 else "." for one in part)
        lines.append(f"{at:06x}  {part.hex(' '):<{3 * _LINE}} {text}")
    return "\n".join(lines)
