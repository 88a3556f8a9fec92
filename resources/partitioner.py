"""Which partition a cell lives in: murmur2 of the record key, as Kafka's Java producer and kafka-python do it.

It is a rule, not a client setting: the fold refuses a record that stands in another partition.
"""

from __future__ import annotations

from functools import lru_cache
from struct import unpack

_MASK = 0xFFFFFFFF
_M = 0x5BD1E995
_SEED = 0x9747B28C


def murmur2(data: bytes) -> int:
    """The 32-bit murmur2 hash of `data`, unsigned (Austin Appleby's, with Kafka's seed)."""
    length = len(data)
    h = (_SEED ^ length) & _MASK
    whole = length & ~3
    for word in unpack(f"<{whole // 4}I", data[:whole]):
        k = word * _M & _MASK
        h = (h * _M & _MASK) ^ ((k ^ (k >> 24)) * _M & _MASK)
    if length > whole:
        h = (h ^ int.from_bytes(data[whole:], "little")) * _M & _MASK
    h = (h ^ (h >> 13)) * _M & _MASK
    return h ^ (h >> 15)


# Enough for cells and for requests that are under way. Ids of requests are without end, and each that is kept here takes
# some 250 bytes: a worker that kept 65,536 of them grew by 15 MB in its first hour.
@lru_cache(maxsize=4096)
def partition_for(key: bytes | str, partitions: int) -> int:
    """The partition of a record with this key in a log of so many partitions."""
    data = key.encode() if isinstance(key, str) else key
    return (murmur2(data) & 0x7FFFFFFF) % partitions


@lru_cache(maxsize=64)
def covering_cells(partitions: int, prefix: str = "auto") -> tuple[str, ...]:
    """One cell name for each partition, in their order: the first of `prefix-0`, `prefix-1`, … that lands there."""
    names: dict[int, str] = {}
    number = 0
    while len(names) < partitions:
        name = f"{prefix}-{number}"
        names.setdefault(partition_for(name, partitions), name)
        number += 1
    return tuple(names[partition] for partition in range(partitions))


def cell_for(root: str, partitions: int) -> str:
    """The cell that a root provider joins when it was not told one: by hash of its id over `covering_cells`."""
    return covering_cells(partitions)[partition_for(root, partitions)]
