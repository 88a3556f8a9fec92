"""Points in time: what is written, and which position of a log it stands for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.logs.tape_log import TapeLog
from vacancy.clients.past.points import (
    Beginning,
    Point,
    log_time_at,
    parse_point,
    point_text,
    position_at,
    resolve,
    resolve_beginning,
)
from vacancy.resources.model.errors import LogError, UsageError
from vacancy.resources.model.record import Record


def log_of(*times: list[int]) -> TapeLog:
    return TapeLog(
        {p: [Record(p, o, at, b"", b"") for o, at in enumerate(one)] for p, one in enumerate(times)}
    )


class Trimmed(TapeLog):
    """A log whose partition 0 starts at offset 3."""

    def start(self) -> dict[int, int]:
        return {**super().start(), 0: 3}


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("0:7", {0: 7}),
        ("0:7,1:1", {0: 7, 1: 1}),
        ("0:7 1:1 2:4 3:1", {0: 7, 1: 1, 2: 4, 3: 1}),
        (" 3:1, 0:7 ", {0: 7, 3: 1}),
    ],
)
def test_positions(text: str, position: dict[int, int]) -> None:
    assert parse_point(text).position == position
    assert parse_point(point_text(position)).position == position


@pytest.mark.parametrize(
    ("text", "time_ms"),
    [
        ("1970-01-01T00:00:01.250Z", 1_250),
        ("1970-01-01T00:00:01Z", 1_000),
        ("1970-01-01T00:01", 60_000),
        ("1970-01-02", 86_400_000),
        ("1970-01-01T02:00:00+02:00", 0),
        ("2026-11-28T13:14:33.126Z", 1_795_871_673_126),
    ],
)
def test_times(text: str, time_ms: int) -> None:
    assert parse_point(text) == Point(text, time_ms=time_ms)


@pytest.mark.parametrize(
    ("text", "ago_ms"),
    [("-90s", 90_000), ("-30m", 1_800_000), ("-2h", 7_200_000), ("-1d", 86_400_000), ("-0.5h", 1_800_000)],
)
def test_times_before_now(text: str, ago_ms: int) -> None:
    assert parse_point(text) == Point(text, ago_ms=ago_ms)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "7",
        "0:",
        ":7",
        "0:7;1:1",
        "0:-1",
        "-2",
        "2h",
        "-2w",
        "2026-13-01",
        "0:7,",
        "0:" + "9" * 30,
        "-1:3",
    ],
)
def test_other_texts_are_refused_with_the_forms(text: str) -> None:
    with pytest.raises(UsageError, match="not a point in time") as raised:
        parse_point(text)
    assert "0:7,1:1" in str(raised.value)


def test_a_partition_is_named_once() -> None:
    with pytest.raises(UsageError, match="names partition 0 twice"):
        parse_point("0:7,0:8")


def test_a_time_is_before_the_first_later_record_of_each_partition() -> None:
    log = log_of([10, 30, 20, 40], [15, 25])
    for time_ms, position in {
        10: {0: 1, 1: 0},
        20: {0: 1, 1: 1},  # the record of time 20 came after that of time 30: log time was 30
        30: {0: 3, 1: 2},
        40: {0: 4, 1: 2},
    }.items():
        assert position_at(log, time_ms) == position
        assert resolve(Point("", time_ms=time_ms), log, now_ms=100) == position
        assert resolve(Point("", ago_ms=100 - time_ms), log, now_ms=100) == position


def test_what_came_since_a_time_before_a_young_log_is_all_of_it() -> None:
    log = log_of([10, 30], [15, 25])
    assert resolve_beginning(Point("-1d", ago_ms=100), log, now_ms=105) == Beginning({0: 0, 1: 0}, 10)
    assert resolve_beginning(Point("-1d", ago_ms=100), log, now_ms=112) == Beginning({0: 1, 1: 0})
    with pytest.raises(UsageError, match="before the log"):
        resolve_beginning(Point("1970-01-01", time_ms=0), log, now_ms=105)


def test_partitions_that_are_not_named_are_cut_at_the_log_time_of_those_that_are() -> None:
    log = log_of([10, 30, 20, 40], [15, 25, 35], [5, 30, 31])
    for text, position in {
        "0:1": {0: 1, 1: 0, 2: 1},
        "0:2": {0: 2, 1: 2, 2: 2},
        "0:3": {0: 3, 1: 2, 2: 2},  # its last record is of 20, but log time was 30 already
        "1:1": {0: 1, 1: 1, 2: 1},
        "0:1,1:3": {0: 1, 1: 3, 2: 3},
        "0:0": {0: 0, 1: 0, 2: 0},
        "0:4,1:0,2:1": {0: 4, 1: 0, 2: 1},
    }.items():
        assert resolve(parse_point(text), log) == position


@given(st.lists(st.integers(0, 9), min_size=1, max_size=20), st.data())
def test_log_time_is_the_highest_timestamp_so_far(times: list[int], data: st.DataObject) -> None:
    offset = data.draw(st.integers(1, len(times)))
    assert log_time_at(log_of(times), {0: offset}) == max(times[:offset])


def test_what_does_not_exist_is_refused() -> None:
    log = log_of([10, 30], [15])
    with pytest.raises(UsageError, match="no partition 2"):
        resolve(parse_point("2:1"), log)
    with pytest.raises(UsageError, match=r"position 0:3 does not exist.*the log ends at 0:2"):
        resolve(parse_point("0:3,1:1"), log)
    with pytest.raises(UsageError, match=r"before the log.*1970-01-01T00:00:00.010Z"):
        resolve(Point("", time_ms=9), log)
    with pytest.raises(UsageError, match="before the log"):
        resolve(parse_point("-99999999d"), log)
    with pytest.raises(UsageError, match="not come yet"):
        resolve(Point("", time_ms=101), log, now_ms=100)


def test_a_clock_of_the_log_that_is_ahead_of_this_host_is_no_error() -> None:
    assert resolve(Point("", time_ms=101), log_of([10, 200]), now_ms=100) == {0: 1}


def test_a_time_whose_records_are_gone_is_refused() -> None:
    log = Trimmed({0: [Record(0, o, 10 * o, b"", b"") for o in range(6)], 1: [Record(1, 0, 5, b"", b"")]})
    assert position_at(log, 30) == {0: 4, 1: 1}
    with pytest.raises(
        LogError, match=r"no longer has the records.*holds 3 to 6.*1970-01-01T00:00:00.030Z on"
    ):
        position_at(log, 29)
