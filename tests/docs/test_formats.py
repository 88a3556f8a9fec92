"""The page on formats is true: real files are decoded by its layouts, without the product's decoders."""

from __future__ import annotations

import json
import re
import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing
from hashlib import blake2b
from pathlib import Path
from typing import cast
from zlib import crc32

import msgspec
import pytest
from rocksdict import AccessType, Options, Rdict

from vacancy.clients.publisher.outbox import Outbox
from vacancy.clients.publisher.publisher import Publisher
from vacancy.clients.replay_tool.replay import digest
from vacancy.clients.runtime.bootstrap import new_log, open_store
from vacancy.projections.changefeed import entries, shared_ring
from vacancy.projections.store.metadata import MetadataRow
from vacancy.projections.store.partition_store import families
from vacancy.resources.classes.quantity import QuantityRecord
from vacancy.resources.classes.registry import Registry
from vacancy.resources.fold.rules_versions import RULES_VERSIONS
from vacancy.resources.model import events
from vacancy.resources.model.partitioner import covering_cells
from vacancy.resources.model.record import NewRecord
from vacancy.resources.state import rows

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/formats.md").read_text()
(CELL,) = covering_cells(1)
NODE = [
    events.ProviderReport(id="node-1", inventories={"VCPU": {"total": 8, "reserved": 2}}),
    events.ProviderReport(
        id="node-1:gpu",
        parent="node-1",
        inventories={"CUSTOM_GPU": {"total": 4}, "PGPU": {"devices": {"a": {}}}},
    ),
]
SKIPPED_FAMILIES = {"changes", "local"}


class Place:
    """A log, a store folded from it and an outbox, all closed or idle."""

    def __init__(self, path: Path) -> None:
        self.log = path / "log.db"
        self.store = path / "store"
        self.outbox = path / "outbox.db"
        self.registry = Registry()
        with closing(new_log(f"sqlite://{self.log}", 1, self.registry)) as log:
            with Outbox(self.outbox) as outbox:
                publisher = Publisher(log, "node-1", CELL, outbox)
                publisher.report(NODE)
                publisher.flush()
            log.append([NewRecord(CELL, b"{}")])  # a dead letter
            with open_store(self.store, log, self.registry) as store:
                for record in log.read(0, 0, 100):
                    store.apply(0, [record])
        self.digest = digest(self.store, self.registry)
        options = Options(raw_mode=True)
        names = families(self.registry, RULES_VERSIONS.newest)
        self.db = Rdict(
            str(self.store / "p00000"),
            options=options,
            column_families=dict.fromkeys(names, options),
            access_type=AccessType.read_only(),
        )
        self.families = {
            name: cast(dict[bytes, bytes], dict(self.db.get_column_family(name).items())) for name in names
        }


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    found = Place(tmp_path_factory.mktemp("formats"))
    yield found
    found.db.close()


def section(title: str) -> str:
    """The text below one heading, up to the next one."""
    (found,) = re.findall(rf"^##+ {re.escape(title)}\n(.*?)(?=^##|\Z)", PAGE, re.M | re.S)
    return str(found)


def test_each_family_is_listed_with_its_row() -> None:
    listed = re.findall(r"^\| `(\w+)` \|", section("Column families"), re.M)
    base = [table.family for table in RULES_VERSIONS.newest.tables]
    assert listed == [*base, "custom_quantities", "changes", "local"]
    fed = re.findall(r"^\| `(\w+)` \|.*\| yes \|$", section("Column families"), re.M)
    assert fed == [table.family for table in RULES_VERSIONS.newest.tables if table.fed] + [
        "custom_quantities"
    ]


@pytest.mark.parametrize("name", re.findall(r"^\| `(\w+Row)` \|", section("Rows"), re.M))
def test_the_fields_of_each_row_are_in_order(name: str) -> None:
    (fields,) = re.findall(rf"^\| `{name}` \| (.*) \|$", section("Rows"), re.M)
    assert re.findall(r"`(\w+)`", fields) == list(getattr(rows, name).__struct_fields__)


def test_every_row_type_is_listed() -> None:
    listed = set(re.findall(r"^\| `(\w+Row)` \|", section("Rows"), re.M))
    assert listed == {name for name in vars(rows) if name.endswith("Row")} - {"ClassRow"}


def test_keys_and_rows_of_a_node(place: Place) -> None:
    node = msgspec.msgpack.decode(place.families["nodes"][f"{CELL}\0node-1".encode()])
    assert [sequence for _, sequence in node[0]] == [1]
    provider = msgspec.msgpack.decode(place.families["providers"][f"{CELL}\0node-1:gpu".encode()])
    assert provider[:2] == ["node-1", "node-1"]
    opened = msgspec.msgpack.decode(place.families["partition"][b""])
    assert opened[1:3] == [0, 1]
    (letter,) = place.families["dead_letters"].items()
    assert letter[0] == struct.pack(">I", 0)


def test_a_counted_class_row(place: Place) -> None:
    assert ", ".join(f"`{name}`" for name in QuantityRecord.__struct_fields__) in " ".join(
        section("A class row").split()
    )
    data = place.families["VCPU"][f"{CELL}\0node-1".encode()]
    assert len(data) == 89
    assert struct.unpack("<2q?9q", data) == (-1, 1, True, 8, 2, 1, 8, 1, 1000, 0, -1, -1)
    custom = place.families["custom_quantities"][f"CUSTOM_GPU\0{CELL}\0node-1:gpu".encode()]
    assert struct.unpack_from("<q", custom, 17) == (4,)


def test_a_device_class_row(place: Place) -> None:
    data = place.families["PGPU"][f"{CELL}\0node-1:gpu".encode()]
    columns = place.registry.table("PGPU").resource_class.columns
    values = struct.unpack_from(f"<{len(columns)}q", data, 17)
    assert dict(zip(columns, values, strict=True))["free"] == 1
    assert isinstance(msgspec.msgpack.decode(data[17 + 8 * len(columns) :]), list)


def test_the_stores_own_row(place: Place) -> None:
    names = re.findall(r"`\[(store, .*?)\]`", section("The store's own row"))
    assert names == [", ".join(MetadataRow.__struct_fields__)]
    local = msgspec.msgpack.decode(place.families["local"][b"local"])
    store, position, checksum, first, next_, rules, epoch, number, size, manifest_checksum = local
    manifest = json.loads((place.store / "store.json").read_text())
    assert (manifest["format"], manifest["store"], manifest["partitions"]) == (1, store, 1)
    assert rules == RULES_VERSIONS.newest.version
    assert set(manifest) == set(re.findall(r"^\| `(\w+)` \|", section("The manifest"), re.M))
    with closing(sqlite3.connect(place.log)) as db:
        time_ms, key, value = db.execute(
            "SELECT timestamp_ms, key, value FROM records WHERE offset = ?", (position - 1,)
        ).fetchone()
    assert checksum == crc32(value, crc32(key, time_ms & 0xFFFFFFFF))
    assert sorted(place.families["changes"]) == [struct.pack(">Q", n) for n in range(first, next_)]
    assert 0 < epoch <= 2**63
    written = (place.store / "p00000" / f"MANIFEST-{number:06d}").read_bytes()
    assert 0 < size < len(written)  # it was closed, and so flushed, after the last commit
    assert manifest_checksum == crc32(written[:size])


def test_a_feed_entry(place: Place) -> None:
    names = re.findall(r"`\[(position, .*?)\]`", section("The change feed"))
    assert names == [", ".join(entries.FeedEntry.__struct_fields__)]
    feed = place.families["changes"]
    position, time_ms, images, rules, start, checksum = msgspec.msgpack.decode(feed[struct.pack(">Q", 1)])
    assert (start, position, rules) == (1, 2, RULES_VERSIONS.newest.version)
    with closing(sqlite3.connect(place.log)) as db:
        stamp_ms, record_key, value = db.execute(
            "SELECT timestamp_ms, key, value FROM records WHERE offset = 1"
        ).fetchone()
    assert checksum == crc32(value, crc32(record_key, stamp_ms & 0xFFFFFFFF))
    assert time_ms > 0
    assert images[-1][0] == "nodes"
    changed = {table: dict(zip(keys, values, strict=True)) for table, keys, values in images}
    key = f"CUSTOM_GPU\0{CELL}\0node-1:gpu".encode()
    assert changed["CUSTOM_GPU"][key] == place.families["custom_quantities"][key]
    assert f"At most {entries.ENTRIES_MAX:,} entries\nand {entries.BYTES_MAX >> 20} MiB" in PAGE


def test_the_ring(place: Place) -> None:
    data = (place.store / "p00000.ring").read_bytes()
    assert f"a file of {len(data):,} bytes" in section("The ring")
    layout = re.findall(r"^\| ([\d,]+) \| (\d[^|]*) \|", section("The ring"), re.M)
    assert layout[:5] == [
        ("0", "8"),
        ("8", "8"),
        ("16", "4 + 4 + 4"),
        ("40", f"{shared_ring.SLOTS:,} × 20"),
        (f"{40 + 20 * shared_ring.SLOTS:,}", f"{shared_ring.DATA_BYTES:,}"),
    ]
    next_, epoch, *newest = struct.unpack_from("<QQIII", data)
    assert next_ == 3
    assert epoch == msgspec.msgpack.decode(place.families["local"][b"local"])[6]
    for number in range(next_):
        said, *slot = struct.unpack_from("<QIII", data, 40 + 20 * (number % 8192))
        start, length, checksum = slot
        entry = data[163_880 + start : 163_880 + start + length]
        assert (said, checksum) == (number, crc32(entry, crc32(struct.pack("<QQ", number, epoch))))
        assert entry == place.families["changes"][struct.pack(">Q", number)]
    assert newest == slot


def test_the_digest(place: Place) -> None:
    whole = blake2b(digest_size=16)
    base = [table.family for table in RULES_VERSIONS.newest.tables]
    classes = sorted(set(place.families) - set(base) - SKIPPED_FAMILIES)
    for name in [*base, *classes]:
        part = blake2b(digest_size=16)
        found = sorted(place.families[name].items())
        for key, value in found:
            if name == "dead_letters":
                row = msgspec.msgpack.decode(value)
                row[2] = ""
                value = msgspec.msgpack.encode(row)
            part.update(struct.pack("<I", len(key)) + key + struct.pack("<I", len(value)) + value)
        if found:
            whole.update(f"{name} {len(found)} ".encode() + part.digest())
    assert whole.hexdigest() == place.digest.partitions[0]
    assert blake2b(whole.hexdigest().encode(), digest_size=16).hexdigest() == place.digest.whole


@pytest.mark.parametrize("title", ["The SQLite log", "The outbox"])
def test_the_databases(place: Place, title: str) -> None:
    file = place.log if title == "The SQLite log" else place.outbox
    text = section(title)
    listed: dict[str, list[str]] = {}
    table = ""
    for name, columns in re.findall(r"^\| (?:`(\w+)`)? *\| ((?:`\w+`(?:, )?)+) \|", text, re.M):
        table = name or table
        listed.setdefault(table, []).extend(re.findall(r"`(\w+)`", columns))
    with closing(sqlite3.connect(file)) as db:
        for name, columns in listed.items():
            there = [row[1] for row in db.execute("SELECT * FROM pragma_table_info(?)", (name,))]
            assert sorted(columns) == sorted(there)
        (application,) = db.execute("PRAGMA application_id").fetchone()
    assert f"`0x{application:08x}`" in text
    assert set(listed) == ({"meta", "records", "times"} if title == "The SQLite log" else {"pending", "home"})


def test_a_record_of_the_log(place: Place) -> None:
    with closing(sqlite3.connect(place.log)) as db:
        found = db.execute("SELECT partition, offset, key, value FROM records ORDER BY offset").fetchall()
        checked = db.execute(
            "SELECT partition, offset, timestamp_ms, key, value, checksum FROM records"
        ).fetchall()
        meta = dict(db.execute("SELECT name, value FROM meta").fetchall())
    assert [row[:3] for row in found] == [(0, n, CELL.encode()) for n in range(3)]
    assert meta == {"format": 2, "partitions": 1, "end_0": 3}
    assert json.loads(found[1][3])["type"] == "vacancy.node.reported.v1"
    for *place_of, key, value, checksum in checked:
        assert checksum == crc32(value, crc32(key, crc32(struct.pack("<3q", *place_of))))
