"""The partition of a cell: murmur2 of the record key, as in Kafka's Java producer and kafka-python.

It is a rule and not a client setting: a record in another partition is a dead letter.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from struct import unpack
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MASK = 0xFFFFFFFF
_M = 0x5BD1E995
_SEED = 0x9747B28C
_MANY = 16
"""From this number of keys on, arrays are faster than hashing one by one."""


def murmur2(data: bytes) -> int:
    """The 32-bit murmur2 hash of `data`, unsigned (Austin Appleby's, with Kafka's seed)."""
    length = len(data)
    h = (_SEED ^ length) & _MASK
    whole = length & ~3
    for word in unpack(f"<{whole // 4}I", data[:whole]):
        k = word * _M & _MASK
        h = (h * _M ^ (k ^ (k >> 24)) * _M) & _MASK
    if length > whole:
        h = (h ^ int.from_bytes(data[whole:], "little")) * _M & _MASK
    h = (h ^ (h >> 13)) * _M & _MASK
    return h ^ (h >> 15)


# Enough for cells and for open requests. The number of request ids has no limit, and each cached id takes about 250 bytes:
# a worker that cached 65,536 ids grew by 15 MB in its first hour.
@lru_cache(maxsize=4096)
def partition_for(key: bytes | str, partitions: int) -> int:
    """The partition of a record with this key in a log with this number of partitions. The answer is kept: do not ask for keys
    that are longer than ids (`names.ID_PATTERN`)."""
    data = key.encode() if isinstance(key, str) else key
    return (murmur2(data) & 0x7FFFFFFF) % partitions


def partitions_for(keys: Sequence[str], partitions: int) -> list[int]:
    """`partition_for` of many keys. Keys of equal length are hashed together, as arrays."""
    if len(keys) < _MANY:
        return [(murmur2(key.encode()) & 0x7FFFFFFF) % partitions for key in keys]
    import numpy as np

    encoded = [key.encode() for key in keys]
    by_length: dict[int, list[int]] = {}
    for at, data in enumerate(encoded):
        by_length.setdefault(len(data), []).append(at)
    found = np.zeros(len(keys), dtype=np.int64)
    for length, places in by_length.items():
        padded = -(-length // 4) * 4
        data = b"".join(encoded[at].ljust(padded, b"\0") for at in places)
        words = np.frombuffer(data, dtype="<u4").reshape(len(places), padded // 4)
        found[places] = (_murmur2_many(words.T, length) & 0x7FFFFFFF) % partitions
    return [int(partition) for partition in found]


def _murmur2_many(words: NDArray[np.uint32], length: int) -> NDArray[np.uint32]:
    """`murmur2` of keys of one length: the first words of all, then the second, …; the last padded with zeros."""
    import numpy as np

    m, by_13, by_15, by_24 = np.uint32(_M), np.uint32(13), np.uint32(15), np.uint32(24)
    whole = length // 4
    h: NDArray[np.uint32] = np.full(words.shape[1], _SEED ^ length, dtype=np.uint32)
    for word in words[:whole]:
        k = word * m
        h = (h * m) ^ ((k ^ (k >> by_24)) * m)
    for word in words[whole:]:
        h = (h ^ word) * m
    h = (h ^ (h >> by_13)) * m
    return h ^ (h >> by_15)


@lru_cache(maxsize=64)
def covering_cells(partitions: int, prefix: str = "auto") -> tuple[str, ...]:
    """One cell name for each partition, in order: the first of `prefix-0`, `prefix-1`, … that hashes to the partition."""
    names: dict[int, str] = {}
    number = 0
    while len(names) < partitions:
        name = f"{prefix}-{number}"
        names.setdefault(partition_for(name, partitions), name)
        number += 1
    return tuple(names[partition] for partition in range(partitions))


def cell_for(root: str, partitions: int) -> str:
    """The cell of a root provider without a configured cell: chosen from `covering_cells` by the hash of its id."""
    return covering_cells(partitions)[partition_for(root, partitions)]
