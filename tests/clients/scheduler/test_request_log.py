"""What is recorded of requests: in few records, each where its requests live."""

from __future__ import annotations

import json
import tracemalloc
from collections import Counter

from vacancy.clients.scheduler.request_log import RequestLog
from vacancy.resources.model.events import encode_data
from vacancy.resources.model.partitioner import covering_cells, partition_for

SPEC = encode_data({"groups": []})


def test_requests_that_come_together_share_a_record_and_homes_share_the_requests() -> None:
    journal = RequestLog("s", 4, recording=True)
    homes, seen = Counter[int](), set[str]()
    for _ in range(64):
        ids = [journal.new_id() for _ in range(16)]
        for id_ in ids:
            journal.received(id_, SPEC)
        (entry,) = journal.take(patient=True)
        told = [one["id"] for one in json.loads(entry.value)["data"]["requests"]]
        assert told == ids
        (home,) = {partition_for(id_, 4) for id_ in ids}
        assert entry.key == covering_cells(4)[home]
        homes[home] += len(ids)
        seen.update(ids)
    assert len(seen) == 64 * 16
    assert len(homes) == 4
    assert min(homes.values()) > 128, "far less than the quarter that is 256"


def test_requests_with_ids_of_their_own_go_to_their_homes() -> None:
    journal = RequestLog("s", 3, recording=True)
    ids = [f"instance-{n}" for n in range(30)]
    for id_ in ids:
        journal.received(id_, SPEC)
    entries = journal.take()
    assert len(entries) == 3
    for entry in entries:
        for one in json.loads(entry.value)["data"]["requests"]:
            assert covering_cells(3)[partition_for(one["id"], 3)] == entry.key


def test_ids_that_nobody_hears_of_are_not_kept_for_their_homes() -> None:
    journal = RequestLog("s", 8, recording=False)
    tracemalloc.start()
    try:
        seen = {journal.new_id() for _ in range(1000)}
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(20_000):
            journal.new_id()
        assert tracemalloc.get_traced_memory()[0] - before < 100_000
    finally:
        tracemalloc.stop()
    assert len(seen) == 1000
