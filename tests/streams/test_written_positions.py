"""A log that remembers up to where it was written through it."""

from __future__ import annotations

import uuid

from tests.streams.conftest import opening_entries
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import NewRecord
from vacancy.streams.log import create_log
from vacancy.streams.written_positions import WrittenLog

CELLS = covering_cells(4)


def test_the_position_after_what_was_written() -> None:
    inner = create_log(f"memory://{uuid.uuid4()}", 4, opening_entries(4))
    closed: list[dict[int, int]] = []
    log = WrittenLog(inner, lambda: closed.append(log.written))
    assert log.written == {}
    log.append([NewRecord(CELLS[1], b"a"), NewRecord(CELLS[1], b"b")])
    assert log.written == {1: 3}
    inner.append([NewRecord(CELLS[1], b"of another"), NewRecord(CELLS[2], b"of another")])
    receipt = log.send([NewRecord(CELLS[3], b"c")])
    receipt.wait()
    receipt.wait()
    assert log.written == {1: 3, 3: 2}
    assert (log.end(), log.identity(), log.start()) == (inner.end(), inner.identity(), inner.start())
    assert log.offset_after(1, 0) == 0
    assert [one.value for one in log.read(1, 1, 2, timeout_s=90)] == [b"a", b"b"]
    log.trim(1, 2)
    assert inner.start()[1] == 2
    log.close()
    log.close()
    assert closed == [{1: 3, 3: 2}]
