"""Records are read in one pass or, where they have many brackets, in two: both accept the same, as the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.fuzz.fuzzed_log import FuzzedLog
from tests.support.logs.events_json import event, provider, reported
from vacancy.resources.fold.rules_versions import RULES_VERSIONS
from vacancy.resources.model import events
from vacancy.resources.model.errors import InvalidRecord

parse = RULES_VERSIONS.newest.parse


def read(value: bytes, brackets: int, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What the parser returns, or that it refuses the record."""
    monkeypatch.setattr(events, "BRACKETS_IN_ONE_PASS", brackets)
    try:
        return parse(value)
    except InvalidRecord:
        return InvalidRecord


def values() -> Iterator[bytes]:
    for seed in (1, 2, 3):
        for records in FuzzedLog(seed, 700).records.values():
            yield from (record.value for record in records)
    yield from (b"", b"[", b"[]", b"{}", b"null", b'{"specversion": "1.0"', b"\xff{[")


def test_both_ways_of_reading_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    accepted = 0
    for value in values():
        one, two = read(value, 10**9, monkeypatch), read(value, -1, monkeypatch)
        assert (type(one), one) == (type(two), two), value[:500]
        accepted += one is not InvalidRecord
    assert accepted > 500


def test_an_error_of_a_large_record_names_its_place() -> None:
    parts = [provider(f"p{n}", "p0", VCPU=4) for n in range(1, 1000)]
    parts[700]["traits"] = "CUSTOM_A"
    with pytest.raises(InvalidRecord, match=r"^data\.providers\.701\.traits: Input should be a valid tuple"):
        parse(reported("p0", [provider("p0"), *parts]))
    with pytest.raises(InvalidRecord, match=r"^Invalid JSON: EOF while parsing"):
        parse(reported("p0", parts)[:-5])
    with pytest.raises(InvalidRecord, match=r"^data\.root: Field required"):
        parse(event("node.reported.v1", {"pad": [{}] * 3000}))
