"""Keys go where Kafka's own clients would send them."""

from __future__ import annotations

import random

import pytest
from kafka.partitioner import murmur2 as kafka_murmur2

from vacancy.resources.model.partitioner import covering_cells, murmur2, partition_for, partitions_for

# Signed results, as Java has them: the vectors of Kafka's own UtilsTest.
JAVA_VECTORS = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize("key", JAVA_VECTORS)
def test_vectors_of_java(key: bytes) -> None:
    assert murmur2(key) == JAVA_VECTORS[key] & 0xFFFFFFFF


def test_same_as_kafka_python_for_any_bytes() -> None:
    rng = random.Random(20260101)
    for length in range(64):
        for _ in range(20):
            key = rng.randbytes(length)
            assert murmur2(key) == kafka_murmur2(key)
            assert partition_for(key, 12) == (kafka_murmur2(key) & 0x7FFFFFFF) % 12


@pytest.mark.parametrize("partitions", [1, 2, 7, 12, 64])
def test_many_keys_go_where_each_by_itself_would(partitions: int) -> None:
    rng = random.Random(20260101)
    keys = ["".join(rng.choices("abc019-.\u00e9\u4e2d", k=rng.randrange(24))) for _ in range(500)]
    assert partitions_for(keys, partitions) == [partition_for(key, partitions) for key in keys]
    for few in (0, 1, 7):
        assert partitions_for(keys[:few], partitions) == [
            partition_for(key, partitions) for key in keys[:few]
        ]


@pytest.mark.parametrize("partitions", [1, 2, 7, 12, 64])
def test_covering_cells_cover_every_partition_once(partitions: int) -> None:
    cells = covering_cells(partitions)
    assert [partition_for(cell, partitions) for cell in cells] == list(range(partitions))
    assert all(cell.startswith("zone-") for cell in covering_cells(partitions, "zone"))
