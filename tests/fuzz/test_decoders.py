"""Whatever bytes a decoder gets, it gives what was written or its own error: never another exception, never something else.

Inputs are valid ones with changes: of JSON values, of numbers in msgpack, of bytes; cut, repeated, joined. A fixed number is tried in CI.
`VACANCY_DECODER_SECONDS` is how long each decoder is tried instead, with `VACANCY_FUZZ_FIRST` as the first seed (`make explore`).
`VACANCY_SEED` repeats one seed.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.fuzz.events.mutations import VALUES, slots
from tests.recorded_logs.recording import read_recording
from tests.support.models.memory_state import MemoryState
from vacancy.projections.changefeed import shared_ring
from vacancy.projections.changefeed.entries import FeedEntry, decode_entry, encode_entry
from vacancy.projections.changefeed.shared_ring import RingReader, RingWriter, ring_path
from vacancy.projections.snapshots import manifest as snapshots
from vacancy.projections.store.manifest import FILE, Manifest, read_manifest, write_manifest
from vacancy.projections.store.metadata import MetadataRow, decode_metadata, encode_metadata
from vacancy.projections.store.state_digests import DigestsRow, decode_digests
from vacancy.resources.fold.fold import fold
from vacancy.resources.fold.rules_versions import RULES_VERSIONS
from vacancy.resources.model import events
from vacancy.resources.model.errors import InvalidRecord, LogError, StoreCorrupt, StoreMismatch
from vacancy.resources.model.record import Record
from vacancy.streams.archive import manifest as archives
from vacancy.streams.archive.segment import SegmentReader, encode_segment

SECONDS = float(os.environ.get("VACANCY_DECODER_SECONDS", "0"))
INPUTS = 400
"""How many inputs each decoder gets in CI."""
FIRST = int(os.environ.get("VACANCY_SEED", os.environ.get("VACANCY_FUZZ_FIRST", "1")))
VERSIONS = (1, 4, RULES_VERSIONS.newest.version)
UNREADABLE = (msgspec.MsgspecError, struct.error, ValueError)
"""What a decoder of rows raises. RocksDB's checksums find damage before; these rows were written by something else."""


# -- changes --------------------------------------------------------------------------------------------------------


def changed(rng: random.Random, seeds: list[bytes]) -> bytes:
    """A valid input with one to four changes."""
    data = rng.choice(seeds)
    for _ in range(rng.randint(1, 4)):
        data = rng.choice((_json_value, _json_value, _bits, _cut, _repeated, _joined, _integer))(
            rng, data, seeds
        )
    return data


def _json_value(rng: random.Random, data: bytes, seeds: list[bytes]) -> bytes:
    """Another value, a value of another place, one field less or more: where the input is JSON or msgpack."""
    for decode, encode in ((json.loads, _to_json), (_from_msgpack, msgspec.msgpack.encode)):
        with contextlib.suppress(Exception):
            document = decode(data)
            places = list(slots(document))
            if not places:
                continue
            at, name = rng.choice(places)
            how = rng.random()
            if how < 0.6:
                at[name] = rng.choice(VALUES)  # type: ignore[index]
            elif how < 0.8:
                other, other_name = rng.choice(places)
                at[name] = json.loads(json.dumps(other[other_name]))  # type: ignore[index]
            elif isinstance(at, dict):
                at["extra" if how < 0.9 else str(rng.random())] = at.pop(str(name))
            else:
                del at[name]  # type: ignore[arg-type]
            return encode(document)
    return _bits(rng, data, seeds)


def _to_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _from_msgpack(data: bytes) -> Any:
    return msgspec.msgpack.decode(data)


def _bits(rng: random.Random, data: bytes, seeds: list[bytes]) -> bytes:
    out = bytearray(data or b"\0")
    for _ in range(rng.choice((1, 1, 2, 8))):
        out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)


def _cut(rng: random.Random, data: bytes, seeds: list[bytes]) -> bytes:
    at, size = rng.randrange(len(data) + 1), rng.choice((1, 4, len(data)))
    return data[:at] + data[at + size :]


def _repeated(rng: random.Random, data: bytes, seeds: list[bytes]) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + data[at : at + rng.randint(1, 32)] * rng.randint(2, 50) + data[at:]


def _joined(rng: random.Random, data: bytes, seeds: list[bytes]) -> bytes:
    other = rng.choice(seeds)
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]


def _integer(rng: random.Random, data: bytes, seeds: list[bytes]) -> bytes:
    """A length or a number at its limits, in the place of 1 to 8 bytes."""
    size = rng.choice((1, 2, 4, 8))
    at = rng.randrange(max(len(data) - size, 0) + 1)
    return (
        data[:at]
        + rng.choice((b"\0", b"\xff", b"\x7f", b"\x80", b"\xdf", b"\xdd")) * size
        + data[at + size :]
    )


# -- decoders -------------------------------------------------------------------------------------------------------


@dataclass
class Target:
    """A decoder: valid inputs, the function that decodes one and checks what it gives, and the errors that it may raise."""

    seeds: list[bytes]
    check: Callable[[bytes], None]
    errors: tuple[type[Exception], ...]
    slowest_s: float = field(default=0.0)


@cache
def recording_of_newest() -> Any:
    return read_recording(f"version_{RULES_VERSIONS.newest.version}")


def event_decoder(version: int, _home: Path) -> Target:
    """Of the rules of that version. What it reads is written again, and reads as the same."""
    rules = RULES_VERSIONS.of(version)
    page = (Path(__file__).parents[2] / "docs/events.md").read_text()
    seeds = [text.encode() for text in re.findall(r"^```json[^\n]*\n(.*?)^```", page, re.M | re.S)]
    seeds += [record.value for record in recording_of_newest().records[::9]]

    def is_valid(seed: bytes) -> bool:
        with contextlib.suppress(InvalidRecord):
            return bool(rules.parse(seed))
        return False

    def check(data: bytes) -> None:
        event = rules.parse(data)
        again = events.encode(event)
        assert events.encode(rules.parse(again)) == again

    return Target([seed for seed in seeds if is_valid(seed)], check, (InvalidRecord,))


def row_decoder() -> Target:
    """Of the rows of all tables. The first byte of an input says which table."""
    recording = recording_of_newest()
    state = MemoryState()
    for record in recording.records:
        if record.partition == 0:
            state.commit(fold(state, record, recording.registry))
    tables = [table for table, rows in state._rows.items() if rows]
    seeds = [
        bytes([number]) + table.encode(row)
        for number, table in enumerate(tables)
        for row in list(state._rows[table].values())[:6]
    ]

    def check(data: bytes) -> None:
        table = tables[data[0] % len(tables)] if data else tables[0]
        row = table.decode(data[1:])
        assert table.decode(table.encode(row)) == row

    return Target(seeds, check, UNREADABLE)


def own_row_decoders() -> Target:
    """Of the rows in which a store records of itself, and of the entries of the change feed."""
    entry = FeedEntry(7, 5, [("nodes", [b"k"], [b"v"]), ("providers", [b"a", b"b"], [None, b""])], 6, 6, 9)
    metadata = msgspec.convert(["s", *[1] * (len(MetadataRow.__struct_fields__) - 1)], MetadataRow)
    seeds = [
        b"e" + encode_entry(entry),
        b"m" + encode_metadata(metadata),
        b"d" + msgspec.msgpack.encode(DigestsRow()),
    ]

    def check(data: bytes) -> None:
        decode = {b"e": decode_entry, b"m": decode_metadata}.get(data[:1], decode_digests)
        decode(data[1:])

    return Target(seeds, check, UNREADABLE)


def store_manifest_decoder(home: Path) -> Target:
    write_manifest(home, Manifest(store="a" * 32, log="l" * 32, partitions=3, classes=("PORTS",)))
    seed = (home / FILE).read_bytes()

    def check(data: bytes) -> None:
        (home / FILE).write_bytes(data)
        assert isinstance(read_manifest(home), Manifest)

    return Target([seed], check, (StoreCorrupt, StoreMismatch))


def snapshot_manifest_decoder() -> Target:
    """It has a checksum of all the rest, so it reads as it was written or not at all."""
    file = snapshots.SnapshotFile("000001.sst", 10, 5, "0" * 64)
    partitions = tuple(snapshots.SnapshotPartition(p, 7, 1, 5, 6, "d" * 32, (file,)) for p in range(2))
    values: dict[str, Any] = {
        "format": snapshots.FORMAT,
        "id": "one",
        "partitions": partitions,
        "classes": (),
    }
    for name, kind in snapshots.SnapshotManifest.__annotations__.items():
        values.setdefault(name, 1 if kind == "int" else "x")
    seed = snapshots.encode_manifest(snapshots.SnapshotManifest(**values))

    def check(data: bytes) -> None:
        snapshots.decode_manifest(data, "one", "here")
        assert data == seed

    return Target([seed], check, (StoreCorrupt, StoreMismatch))


def archive_manifest_decoder() -> Target:
    segments = tuple(archives.Segment(0, first, first + 5, 1, 2, 2, 3, 100, "0" * 64) for first in (0, 5))
    seed = archives.encode_manifest(archives.ArchiveManifest(archives.FORMAT, "log", 2, segments))

    def check(data: bytes) -> None:
        archives.decode_manifest(data, "here")
        assert data == seed

    return Target([seed], check, (LogError,))


def segment_reader() -> Target:
    """Of a segment of an archive whose checksum is right although somebody changed it: its manifest was written with it.

    What it reads may be other records then, of the same partition and offsets: a fold judges them as it judges a log.
    """
    records = [
        Record(3, 7 + number, 1_700_000_000_000 + number, b"cell", bytes([number]) * 40)
        for number in range(9)
    ]
    segment, seed = encode_segment(records, "log")

    def check(data: bytes) -> None:
        reader = SegmentReader(data, segment, "log", "here")
        found = [one for offset in range(segment.first, segment.end) for one in reader.read(offset, 1)]
        assert [(one.partition, one.offset) for one in found] == [(3, 7 + number) for number in range(9)]
        assert all(type(one.key) is type(one.value) is bytes for one in found)
        assert data != seed or found == records

    return Target([seed], check, (LogError,))


def ring_reader(home: Path) -> Target:
    """A ring that something wrote into: a reader gets entries as they were written, or none."""
    partition = home / "p00000"
    partition.mkdir()
    written = {number: bytes([number]) * (number + 1) for number in range(20)}
    writer = RingWriter(partition, 77, 0)
    for number, entry in written.items():
        writer.add(number, entry)
    writer.close()
    path = ring_path(partition)
    whole = path.read_bytes()
    begins = shared_ring._DATA
    parts = (slice(0, 40), slice(40, 40 + 20 * 20), slice(begins, begins + 300))

    def check(data: bytes) -> None:
        part = parts[data[0] % len(parts)] if data else parts[0]
        with path.open("r+b") as file:
            file.seek(part.start)
            file.write(data[1 : 1 + part.stop - part.start])
        reader = RingReader(partition)
        try:
            number, epoch = reader.look()
            for first, end in ((0, 20), (5, 6), (max(number - 1, 0), number), (0, number)):
                found = reader.entries(first, end, epoch)
                assert found is None or found == [written[at] for at in range(first, end)] or epoch != 77
        finally:
            reader.close()
            with path.open("r+b") as file:
                file.seek(part.start)
                file.write(whole[part])

    seeds = [bytes([at]) + whole[part] for at, part in enumerate(parts)]
    return Target(seeds, check, ())


TARGETS: dict[str, Callable[[Path], Target]] = {
    **{f"events of version {version}": partial(event_decoder, version) for version in VERSIONS},
    "rows": lambda _: row_decoder(),
    "rows of the store": lambda _: own_row_decoders(),
    "manifest of a store": store_manifest_decoder,
    "manifest of a snapshot": lambda _: snapshot_manifest_decoder(),
    "manifest of an archive": lambda _: archive_manifest_decoder(),
    "segment of an archive": lambda _: segment_reader(),
    "ring": ring_reader,
}


def seeds_to_try() -> Iterator[int]:
    """The seeds: a fixed number of them, or as many as the time allows."""
    if "VACANCY_SEED" in os.environ:
        yield FIRST
        return
    until = time.monotonic() + SECONDS
    seed = FIRST
    while seed < FIRST + INPUTS or time.monotonic() < until:
        yield seed
        seed += 1


@pytest.mark.parametrize("name", TARGETS)
def test_a_decoder_gives_what_was_written_or_its_own_error(name: str, tmp_path: Path) -> None:
    target = TARGETS[name](tmp_path)
    for valid in target.seeds:
        target.check(valid)
    read = 0
    for seed in seeds_to_try():
        data = changed(random.Random(seed), target.seeds)
        try:
            target.check(data)
            read += 1
        except target.errors:
            pass
        except Exception as error:
            raise AssertionError(
                f"VACANCY_SEED={seed}: {type(error).__name__} for {data[:2000]!r}"
            ) from error
    if "VACANCY_SEED" not in os.environ and "manifest of a" not in name:
        assert read, "some of the changed inputs are valid"
