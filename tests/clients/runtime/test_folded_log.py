"""A writer knows what became of its record, and never writes to another log than its store's."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from tests.support.logs.followed_log import followed_log
from vacancy.clients.runtime import folded_log
from vacancy.clients.runtime.bootstrap import new_log
from vacancy.clients.runtime.folded_log import (
    FoldedLog,
    RecordRefused,
    SameLogCheck,
    check_same_log,
    following_store,
    refusal_of,
)
from vacancy.clients.scheduler.client import Scheduler
from vacancy.clients.scheduler.placement import PlacementRequest
from vacancy.resources.model import events
from vacancy.resources.model.errors import LogUnavailable, OutcomeUnknown, StoreMismatch
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import NewRecord, Record
from vacancy.resources.state.tables import DEAD_LETTERS_MAX

LOOK = "`vacancy status`"


def tick(cell: str) -> NewRecord:
    return NewRecord(cell, events.encode(events.Tick(id=uuid.uuid4().hex, source="/test")))


def test_a_record_that_is_applied_returns_its_place(tmp_path: Path) -> None:
    with followed_log(tmp_path) as site:
        folded = FoldedLog(site.log, site.reader)
        (at,) = folded.write([tick("c")], "the tick", LOOK)
        assert site.reader.position[at.partition] > at.offset
        assert refusal_of(site.reader, at) is None


def test_a_refused_record_has_the_reason_of_its_dead_letter(tmp_path: Path) -> None:
    with followed_log(tmp_path) as site:
        folded = FoldedLog(site.log, site.reader)
        with pytest.raises(RecordRefused, match="the report of n was refused: ") as raised:
            folded.write([tick("c"), NewRecord("c", b"{"), tick("c")], "the report of n", LOOK)
        assert raised.value.exit_code == 1
        assert raised.value.at.offset == site.reader.position[raised.value.at.partition] - 2
        assert "`vacancy dead-letters`" in str(raised.value)


def test_what_the_store_has_not_read_is_not_known_yet(tmp_path: Path) -> None:
    with followed_log(tmp_path, follow=False) as site:
        with pytest.raises(OutcomeUnknown, match="not known yet: the log has the tick") as raised:
            FoldedLog(site.log, site.reader, timeout_s=0.02).write([tick("c")], "the tick", LOOK)
        assert raised.value.exit_code == 6
        before = site.reader.position
        FoldedLog(site.log, site.reader, wait=False).write([tick("c")], "the tick", LOOK)
        assert site.reader.position == before, "it did not wait"


def test_dead_letters_that_are_gone_leave_the_outcome_unknown(tmp_path: Path) -> None:
    with followed_log(tmp_path, partitions=1) as site:
        folded = FoldedLog(site.log, site.reader)
        (at,) = folded.write([tick("c")], "the tick", LOOK)
        bad = site.log.append([NewRecord("c", b"{")] * (DEAD_LETTERS_MAX - 1))
        folded.wait_for(bad, "bad records", LOOK)
        folded.check_refused([at], "the tick")
        folded.wait_for(site.log.append([NewRecord("c", b"{")]), "a bad record", LOOK)
        with pytest.raises(OutcomeUnknown, match="no longer has the dead letters of that time"):
            folded.check_refused([at], "the tick")


# -- another log --------------------------------------------------------------------------------------------------


def test_nothing_is_written_to_a_log_that_was_made_again(tmp_path: Path) -> None:
    with followed_log(tmp_path) as site, new_log(f"memory://{uuid.uuid4()}", 2, site.registry) as other:
        site.report("node-1")
        with site.scheduler() as scheduler:
            scheduler.place(PlacementRequest("resources=VCPU:1", consumer="held-1"))
        before = other.end()
        with Scheduler(other, site.store, site.registry) as scheduler:
            for write in (
                lambda: scheduler.place("resources=VCPU:1", timeout_s=0.1),
                lambda: scheduler.place("resources=VCPU:1", timeout_s=0.1),
                lambda: scheduler.release(["held-1"]),
                lambda: scheduler.settle("held-1"),
            ):
                with pytest.raises(StoreMismatch, match="this is another log than the store's") as raised:
                    write()
                assert raised.value.exit_code == 1
        with pytest.raises(StoreMismatch, match="nothing was written"):
            FoldedLog(other, site.reader)
        assert other.end() == before
        check_same_log(site.log, site.reader)


def test_a_log_that_lost_its_end_is_another_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that was put back from a backup has the same id."""
    with followed_log(tmp_path) as site:
        (at,) = FoldedLog(site.log, site.reader).write([tick("c")], "the tick", LOOK)
        ends = {**site.log.end(), at.partition: at.offset}
        monkeypatch.setattr(site.log, "end", lambda: ends)
        with pytest.raises(
            StoreMismatch, match=f"it ends at offset {at.offset}, and the store has read up to"
        ):
            check_same_log(site.log, site.reader)


def test_a_store_of_another_log_does_not_follow_this_one(tmp_path: Path) -> None:
    with followed_log(tmp_path) as site, new_log(f"memory://{uuid.uuid4()}", 2, site.registry) as other:
        with following_store(site.store, site.registry, other, {0}) as reader:
            assert reader is None
        with following_store(tmp_path / "nowhere", site.registry, site.log, {0}) as reader:
            assert reader is None
        (at,) = site.log.append([tick(covering_cells(2)[1])])
        with following_store(site.store, site.registry, site.log, {1}) as reader:
            assert reader is not None
            assert reader.position[0] == 0, "this partition is not read"
            FoldedLog(site.log, reader).wait_for([at], "the tick", LOOK)
            assert reader.position[1] == at.offset + 1


class Silent:
    """A log that does not answer, and counts how often it is read."""

    name = "silent"

    def __init__(self) -> None:
        self.asked = 0

    def read(self, *_: object) -> list[Record]:
        self.asked += 1
        return []

    def send(self, entries: list[NewRecord], timeout_s: float) -> None:
        assert not entries, "nothing is written to a log that was not checked"


def test_a_log_that_does_not_answer_is_not_asked_again_by_the_next_step_of_a_placement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folded_log, "_SILENT_S", 3600.0)
    silent = Silent()
    with followed_log(tmp_path) as site:
        check = SameLogCheck(silent, site.reader)  # type: ignore[arg-type]
        for _ in range(3):
            with pytest.raises(LogUnavailable, match=r"the log did not answer within 0\.1 s"):
                check.check(0.1)
        assert (silent.asked, check.done) == (1, False)
        monkeypatch.setattr(folded_log, "_SILENT_S", 0.0)
        with pytest.raises(LogUnavailable):
            check.check(0.1)
        assert silent.asked == 2
