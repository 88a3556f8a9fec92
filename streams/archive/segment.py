"""The file of a segment: Parquet with zstd, one row for each record.

The same records give the same bytes with the same version of pyarrow. What is read is compared with the manifest, and
nothing of a segment is used before all of it was checked.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from hashlib import sha256
from typing import Any, Final

from vacancy.resources.model.errors import UsageError
from vacancy.resources.model.record import Record
from vacancy.streams.archive.manifest import Segment, damaged, record_checksum

ROW_GROUP: Final = 2_000
"""Records that are decoded at a time."""

_COLUMNS: Final = ("partition", "offset", "timestamp", "key", "value")
_LOG: Final = b"vacancy.log"
_LEVEL: Final = 3


def _pyarrow() -> Any:
    """pyarrow with its Parquet module: only archives need it. Raises `UsageError` if it is not installed."""
    try:
        import pyarrow as pa
        import pyarrow.parquet
    except ImportError as error:
        raise UsageError(
            f"archives need pyarrow, which is not installed here ({error})",
            do="install it: pip install 'vacancy[archive]'",
        ) from None
    return pa


def _schema(pa: Any, log: str) -> Any:
    types = (pa.int32(), pa.int64(), pa.timestamp("ms", tz="UTC"), pa.binary(), pa.binary())
    fields = [pa.field(name, kind, nullable=False) for name, kind in zip(_COLUMNS, types, strict=True)]
    return pa.schema(fields, metadata={_LOG: log.encode()})


def encode_segment(records: Sequence[Record], log: str) -> tuple[Segment, bytes]:
    """The segment and its file with these records, consecutive ones of one partition of the log with this id."""
    pa = _pyarrow()
    partitions, offsets, times, keys, values = zip(*records, strict=True)
    times_ms = pa.array(times, pa.int64())
    columns = [
        pa.array(partitions, pa.int32()),
        pa.array(offsets, pa.int64()),
        times_ms.cast(pa.timestamp("ms", tz="UTC")),
        pa.array(keys, pa.binary()),
        pa.array(values, pa.binary()),
    ]
    file = io.BytesIO()
    pa.parquet.write_table(
        pa.Table.from_arrays(columns, schema=_schema(pa, log)),
        file,
        row_group_size=ROW_GROUP,
        compression="zstd",
        compression_level=_LEVEL,
        use_dictionary=["key"],
        write_statistics=["partition", "offset", "timestamp"],
    )
    data = file.getvalue()
    segment = Segment(
        partition=partitions[0],
        first=offsets[0],
        end=offsets[-1] + 1,
        first_ms=times[0],
        last_ms=times[-1],
        latest_ms=max(times),
        last_checksum=record_checksum(records[-1]),
        size=len(data),
        sha256=sha256(data).hexdigest(),
    )
    return segment, data


class SegmentReader:
    """Reads the records of one segment. `data` is its file, whose checksum was compared already.

    Raises `LogError` where the file is not what the manifest says: another log, other offsets or timestamps.
    """

    def __init__(self, data: bytes, segment: Segment, log: str, where: str) -> None:
        self._pa = _pyarrow()
        self._segment, self._where = segment, where
        self._group, self._records = -1, list[Record]()
        try:
            self._file = self._pa.parquet.ParquetFile(self._pa.BufferReader(data))
            problem = self._problem(log)
            if not problem and record_checksum(self.last_record()) != segment.last_checksum:
                problem = "its last record is another one"
            self._group = -1
        except (self._pa.ArrowException, OSError, ValueError, KeyError) as error:
            raise damaged(
                f"a segment of the archive is not a file of Parquet: {type(error).__name__}", where
            ) from error
        if problem:
            raise damaged(f"a segment of the archive is not what the manifest says: {problem}", where)

    def _problem(self, log: str) -> str:
        """What differs from the manifest, "" if nothing does."""
        one, schema = self._segment, self._file.schema_arrow
        if not schema.equals(_schema(self._pa, log)):
            columns = ", ".join(f"{field.name} {field.type}" for field in schema)
            return f"it has the columns {columns}"
        found = (schema.metadata or {}).get(_LOG, b"").decode(errors="replace")
        if found != log:
            return f"it is of log {found}, not of {log}"
        table = self._file.read(columns=["partition", "offset", "timestamp"], use_threads=False)
        partitions, offsets = table["partition"].to_pylist(), table["offset"].to_pylist()
        times = self._times(table)
        if offsets != list(range(one.first, one.end)) or set(partitions) != {one.partition}:
            return f"it has not the offsets {one.first} to {one.end} of partition {one.partition}"
        if (times[0], times[-1], max(times)) != (one.first_ms, one.last_ms, one.latest_ms):
            return "its records have other timestamps"
        self._times_ms = times
        return ""

    def _times(self, table: Any) -> list[int]:
        found: list[int] = table["timestamp"].cast(self._pa.int64()).to_pylist()
        return found

    def last_record(self) -> Record:
        """The last record."""
        return self.read(self._segment.end - 1, 1)[0]

    def read(self, offset: int, limit: int) -> list[Record]:
        """Up to `limit` records from `offset` on; fewer at the end of a row group."""
        group, at = divmod(offset - self._segment.first, ROW_GROUP)
        if group != self._group:
            try:
                table = self._file.read_row_group(group, use_threads=False)
            except (self._pa.ArrowException, OSError) as error:
                raise damaged("a segment of the archive cannot be read", self._where) from error
            self._records = list(
                map(
                    Record,
                    table["partition"].to_pylist(),
                    table["offset"].to_pylist(),
                    self._times(table),
                    table["key"].to_pylist(),
                    table["value"].to_pylist(),
                )
            )
            self._group = group
        return self._records[at : at + limit]

    def offset_after(self, time_ms: int) -> int:
        """The first offset whose timestamp is later than this; the end of the segment if there is none."""
        one = self._segment
        later = (offset for offset, at in enumerate(self._times_ms, one.first) if at > time_ms)
        return next(later, one.end)
