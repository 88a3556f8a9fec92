"""What several commits changed, taken in at once: as if one by one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vacancy.projections.changefeed.entries import FeedEntry, Images, joined, verdicts
from vacancy.projections.reader import overlay
from vacancy.projections.reader.overlay import Overlay
from vacancy.resources.state.tables import GROUPS, NODES, PROVIDERS, VERDICTS

IN_ORDER = (NODES.name, PROVIDERS.name, GROUPS.name)
TABLES = (*IN_ORDER, VERDICTS.name, "VCPU", "MEMORY_MB")

rows = st.dictionaries(st.sampled_from([b"a", b"b", b"c"]), st.none() | st.binary(max_size=2), max_size=3)
commits = st.lists(st.dictionaries(st.sampled_from(TABLES), rows, max_size=4), max_size=8)


def entries_of(commits: list[dict[str, dict[bytes, bytes | None]]]) -> list[FeedEntry]:
    return [
        FeedEntry(
            number, number, [(table, list(rows), list(rows.values())) for table, rows in commit.items()]
        )
        for number, commit in enumerate(commits)
    ]


def history(images: list[Images]) -> list[Any]:
    """Each image of a table whose order means something, with the classes' rows as they were before it; and at the end."""
    classes: dict[tuple[str, bytes], bytes | None] = {}
    said: list[Any] = []
    for table, keys, values in images:
        if table in IN_ORDER:
            said.append((table, keys, values, dict(classes)))
        elif table != VERDICTS.name:
            classes.update({(table, key): value for key, value in zip(keys, values, strict=True)})
    return [*said, classes]


@given(commits)
def test_joined_images_say_the_same(commits: list[dict[str, dict[bytes, bytes | None]]]) -> None:
    entries = entries_of(commits)
    apart = [images for entry in entries for images in entry.images]
    together = list(joined(entries))
    assert history(together) == history(apart)
    assert VERDICTS.name not in [table for table, _, _ in together]
    told = [commit.get(VERDICTS.name, {}) for commit in commits]
    assert verdicts(entries) == [
        (key, data) for rows in told for key, data in rows.items() if data is not None
    ]
    assert entries == entries_of(commits), "entries are shared and must stay as they are"


def test_rows_of_one_class_come_at_once() -> None:
    entries = entries_of([{"VCPU": {b"a": b"1", b"b": b"1"}}, {"VCPU": {b"b": b"2", b"c": b"2"}}])
    assert list(joined(entries)) == [("VCPU", [b"a", b"b", b"c"], [b"1", b"2", b"2"])]


@given(commits, st.integers(0, 5), st.sets(st.integers(0, 8)))
def test_the_newest_of_each_row_is_kept(
    commits: list[dict[str, dict[bytes, bytes | None]]], lately_max: int, asked: set[int]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(overlay, "_LATELY_MAX", lately_max)
        kept = Overlay(leave_out=(VERDICTS.name,))
        expected: dict[str, dict[bytes, bytes | None]] = {}
        for number, entry in enumerate(entries_of(commits)):
            kept.add(entry)
            for table, keys, values in entry.images:
                expected.setdefault(table, {}).update(zip(keys, values, strict=True))
            expected.pop(VERDICTS.name, None)
            if number in asked:
                assert {table: kept.of(table) for table in expected} == expected
            assert len(kept) >= sum(map(len, expected.values()))
        assert kept.of(VERDICTS.name) == {}
        assert {table: kept.of(table) for table in expected} == expected
        assert len(kept) == sum(map(len, expected.values()))
        kept.clear()
        assert not len(kept)
        assert all(kept.of(table) == {} for table in TABLES)
