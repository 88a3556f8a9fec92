"""One hash over the rows of a partition's tables, independent of how the store reached them.

A live store, a replayed one and any other replica have the same digest at the same position: that equality is the
project's main test. The digest leaves out what belongs to one store: the feed, the position's checksum, the store's
id. It also leaves out the reason of a dead letter: its text comes in part from the libraries that read the record,
and changes with their versions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b

from msgspec.structs import replace

from vacancy.resources.classes.registry import Registry
from vacancy.resources.fold.rules_versions import RULES_VERSIONS
from vacancy.resources.state.rule_set import RulesVersions
from vacancy.resources.state.tables import DEAD_LETTERS

Scan = Callable[[str], Iterable[tuple[bytes, bytes]]]
"""(key, encoded row) of one family, by key."""


def partition_digest(scan: Scan, registry: Registry, versions: RulesVersions = RULES_VERSIONS) -> str:
    """The digest of one partition: over families, keys and rows, each after its length in bytes."""
    whole = blake2b(digest_size=16)
    for family in digested_families(registry, versions):
        # Each family has a hash of its own, and an empty one adds nothing. So an installed plugin that is not used,
        # and a table of a version that is not in force, change no digest.
        count, part = 0, blake2b(digest_size=16)
        for key, value in _without_reasons(scan(family)) if family == DEAD_LETTERS.family else scan(family):
            part.update(len(key).to_bytes(4, "little") + key + len(value).to_bytes(4, "little") + value)
            count += 1
        if count:
            whole.update(f"{family} {count} ".encode() + part.digest())
    return whole.hexdigest()


def digested_families(registry: Registry, versions: RulesVersions = RULES_VERSIONS) -> tuple[str, ...]:
    """The column families that are in the digest: those of the tables, and of the classes."""
    newest = versions.newest
    return (*(table.family for table in newest.tables), *sorted(registry.families_of(newest.classes)))


def _without_reasons(letters: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
    for key, data in letters:
        yield key, DEAD_LETTERS.encode(replace(DEAD_LETTERS.decode(data), reason=""))


def store_digest(partitions: Iterable[str]) -> str:
    """The digest of a store, from those of its partitions in ascending order."""
    whole = blake2b(digest_size=16)
    for one in partitions:
        whole.update(one.encode())
    return whole.hexdigest()


def as_scan(items: Callable[[], Iterator[tuple[str, bytes, bytes]]]) -> Scan:
    """A scan over (family, key, row) items, as a state in memory returns them."""
    return lambda family: ((key, row) for name, key, row in items() if name == family)
