"""One hash over what a partition's tables say, however they came to say it.

Live, replayed and any other replica agree on it at the same position: that equality is the project's main
test. Left out is what is a store's own: the feed, the position's checksum, the store's id; and why a record was
refused, which is told in the words of the libraries that read it, and changes with their versions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b

from msgspec.structs import replace

from vacancy.resources.classes.registry import Registry
from vacancy.resources.state.tables import BASE_TABLES, DEAD_LETTERS

Scan = Callable[[str], Iterable[tuple[bytes, bytes]]]
"""(key, encoded row) of one family, by key."""


def partition_digest(scan: Scan, registry: Registry) -> str:
    """The digest of one partition: over families, keys and rows, each told with its length."""
    whole = blake2b(digest_size=16)
    for family in (*(table.family for table in BASE_TABLES), *sorted(registry.families)):
        # Families are hashed apart, so that one that is empty weighs nothing: a plugin that was installed and
        # never used changes no digest.
        count, part = 0, blake2b(digest_size=16)
        for key, value in _without_reasons(scan(family)) if family == DEAD_LETTERS.family else scan(family):
            part.update(len(key).to_bytes(4, "little") + key + len(value).to_bytes(4, "little") + value)
            count += 1
        if count:
            whole.update(f"{family} {count} ".encode() + part.digest())
    return whole.hexdigest()


def _without_reasons(letters: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
    for key, data in letters:
        yield key, DEAD_LETTERS.encode(replace(DEAD_LETTERS.decode(data), reason=""))


def store_digest(partitions: Iterable[str]) -> str:
    """The digest of all partitions together, given theirs in order."""
    whole = blake2b(digest_size=16)
    for one in partitions:
        whole.update(one.encode())
    return whole.hexdigest()


def as_scan(items: Callable[[], Iterator[tuple[str, bytes, bytes]]]) -> Scan:
    """A scan over (family, key, row) items, as a state in memory gives them."""
    return lambda family: ((key, row) for name, key, row in items() if name == family)
