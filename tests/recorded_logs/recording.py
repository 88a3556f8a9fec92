"""The format of recorded logs: a text file with one JSON object a line, compressed with xz.

The first line says which log it is: its UUID, how many partitions it has, and which plugin classes its rules may
allow. Each other line is a record: partition, offset, timestamp, key and value, as they were in the log. A key or
a value is text where its bytes are UTF-8, else base64 under a name that ends in `_base64`.
"""

from __future__ import annotations

import json
import lzma
import sqlite3
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.classes.ports_class import Ports
from vacancy.clients.replay_tool.replay import Digest
from vacancy.resources.classes.registry import Registry
from vacancy.resources.model.record import NewRecord, Record
from vacancy.streams.log import Log, create_log, open_log
from vacancy.streams.sqlite.schema import checksums

HERE = Path(__file__).parent
DIGESTS = HERE / "digests.json"
FORMAT = 1


class Recording(NamedTuple):
    """A log as it was: `plugins` are the classes beyond the standard ones that a build needs to fold it. Partitions
    follow each other, each with its records by offset."""

    name: str
    log: str
    partitions: int
    plugins: tuple[str, ...]
    records: tuple[Record, ...]

    @property
    def registry(self) -> Registry:
        """The classes that the log is folded with."""
        return Registry([Ports()] if Ports.name in self.plugins else [])

    @property
    def ends(self) -> dict[int, int]:
        """Partition -> the offset after its last record."""
        return {record.partition: record.offset + 1 for record in self.records}


def path_of(name: str) -> Path:
    """The file of a recorded log."""
    return HERE / f"{name}.log.xz"


def recorded(name: str, records: Mapping[int, Sequence[Record]], plugins: Sequence[str] = ()) -> Recording:
    """A recording of these records, by partition. The log's UUID is that of its first record."""
    log = json.loads(records[0][0].value)["data"]["log"]
    flat = tuple(record for partition in sorted(records) for record in records[partition])
    return Recording(name, log, len(records), tuple(plugins), flat)


def write_recording(recording: Recording) -> int:
    """Write a recording to its file. Returns the file's size."""
    head = {
        "format": FORMAT,
        "name": recording.name,
        "log": recording.log,
        "partitions": recording.partitions,
        "plugins": recording.plugins,
        "records": len(recording.records),
    }
    lines = [json.dumps(head), *(json.dumps(_as_json(record)) for record in recording.records), ""]
    data = lzma.compress("\n".join(lines).encode(), preset=9 | lzma.PRESET_EXTREME)
    path_of(recording.name).write_bytes(data)
    return len(data)


def read_recording(name: str) -> Recording:
    """Read a recording from its file."""
    with lzma.open(path_of(name), "rt", encoding="utf-8") as lines:
        head = json.loads(next(lines))
        if head["format"] != FORMAT:
            raise ValueError(f"{path_of(name)} has format {head['format']}, not {FORMAT}")
        records = tuple(_as_record(json.loads(line)) for line in lines)
    if len(records) != head["records"]:
        raise ValueError(f"{path_of(name)} has {len(records)} records, not {head['records']}")
    return Recording(head["name"], head["log"], head["partitions"], tuple(head["plugins"]), records)


def restore(recording: Recording, path: Path) -> Log:
    """The recording as a SQLite log at `path`, with its own offsets and timestamps."""
    openings = [
        NewRecord(record.key.decode(), record.value) for record in recording.records if record.offset == 0
    ]
    url = f"sqlite://{path.absolute()}"
    create_log(url, recording.partitions, openings).close()
    with closing(sqlite3.connect(path)) as db, db:
        # The log itself would stamp the records with the time of now, and refuse those in the wrong partition.
        db.execute("DELETE FROM records")
        db.executemany(
            "INSERT INTO records (partition, offset, timestamp_ms, key, value, checksum) VALUES (?, ?, ?, ?, ?, ?)",
            [(*record, *checksums([record])) for record in recording.records],
        )
    return open_log(url)


# -- records as JSON ------------------------------------------------------------------------------------------


def _as_json(record: Record) -> dict[str, Any]:
    said = {"partition": record.partition, "offset": record.offset, "timestamp_ms": record.timestamp_ms}
    return said | _bytes_as_json("key", record.key) | _bytes_as_json("value", record.value)


def _bytes_as_json(name: str, data: bytes) -> dict[str, str]:
    try:
        return {name: data.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": b64encode(data).decode()}


def _as_record(said: Mapping[str, Any]) -> Record:
    key, value = _bytes_of("key", said), _bytes_of("value", said)
    return Record(said["partition"], said["offset"], said["timestamp_ms"], key, value)


def _bytes_of(name: str, said: Mapping[str, Any]) -> bytes:
    text = said.get(name)
    return b64decode(said[f"{name}_base64"]) if text is None else text.encode()


# -- digests --------------------------------------------------------------------------------------------------


def read_digests() -> dict[str, Any]:
    """What `digests.json` says, by the log's name."""
    found: dict[str, Any] = json.loads(DIGESTS.read_text()) if DIGESTS.exists() else {}
    return found


def digest_of(name: str) -> Digest:
    """The digest of a recorded log, as it was when the log was recorded."""
    said = read_digests()[name]
    partitions = tuple(one["digest"] for one in said["partitions"])
    return Digest(said["whole"], partitions, {p: one["position"] for p, one in enumerate(said["partitions"])})


def verdicts_of(name: str) -> str:
    """The hash of a recorded log's verdicts, as it was when the log was recorded."""
    found: str = read_digests()[name]["verdicts"]
    return found


def dead_letters_of(name: str) -> dict[str, list[list[int]]]:
    """Kind -> (partition, offset) of the records that were refused for that, as noted when the log was recorded."""
    found: dict[str, list[list[int]]] = read_digests()[name].get("dead_letters", {})
    return found


def write_digest(
    name: str, digest: Digest, verdicts: str, letters: Mapping[str, Iterable[Sequence[int]]]
) -> None:
    """Write a recorded log's digest beside the others, with the hash of its verdicts."""
    partitions = [{"position": digest.position[p], "digest": one} for p, one in enumerate(digest.partitions)]
    said: dict[str, Any] = {"whole": digest.whole, "verdicts": verdicts, "partitions": partitions}
    if letters:
        said["dead_letters"] = {kind: list(map(list, places)) for kind, places in sorted(letters.items())}
    DIGESTS.write_text(_shown(read_digests() | {name: said}))


def _shown(digests: Mapping[str, Any]) -> str:
    """JSON with one line for each partition and each kind of dead letter."""
    logs = []
    for name, said in sorted(digests.items()):
        fields = [f'"{field}": {json.dumps(said[field])}' for field in ("whole", "verdicts")]
        rows = ",\n      ".join(json.dumps(one) for one in said["partitions"])
        fields.append(f'"partitions": [\n      {rows}\n    ]')
        if "dead_letters" in said:
            kinds = ",\n      ".join(
                f"{json.dumps(kind)}: {json.dumps(places)}" for kind, places in said["dead_letters"].items()
            )
            fields.append(f'"dead_letters": {{\n      {kinds}\n    }}')
        logs.append(f"  {json.dumps(name)}: {{\n    " + ",\n    ".join(fields) + "\n  }")
    return "{\n" + ",\n".join(logs) + "\n}\n"
