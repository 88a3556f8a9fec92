"""How RocksDB is opened here, and its errors in our words. Everything that knows rocksdict's quirks is in this file."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Container, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, cast

from rocksdict import (
    AccessType,
    BlockBasedOptions,
    Cache,
    Checkpoint,
    DBCompactionStyle,
    DBCompressionType,
    FifoCompactOptions,
    Options,
    Rdict,
    ReadOptions,
    WriteOptions,
)

from vacancy.resources.model.errors import StoreCorrupt, StoreError, StoreInUse

WRITE_BUFFER_BYTES = 8 * 1024 * 1024
"""All memtables of a partition together. An opening reader replays at most this much of the write-ahead log. Each
reader has as much in memory as the writer, and the use rises and falls by that from flush to flush."""

ARENA_BLOCK_BYTES = 64 * 1024
"""What a memtable grows by. Of RocksDB's own megabyte, tables with few rows would hold most of it unused, and
it counts against `WRITE_BUFFER_BYTES`."""

BULK_BUFFER_BYTES = 64 * 1024 * 1024
"""The same while a log is folded in bulk: larger files are written less often, and merged less often."""

QUEUE_BYTES = 256 * 1024 * 1024
"""Files of a queue family beyond this are dropped, the oldest first."""

BLOCK_CACHE_BYTES = 32 * 1024 * 1024

QUEUE_CACHE_BYTES = 1024 * 1024
"""The same for queue families, which are read from one end to the other: what was read is not asked for again."""

QUEUE_BLOCK_BYTES = 64 * 1024
"""And what is read of them at once. Of blocks of 4 KiB the index alone takes 3 % of the files' size, in memory."""

DIRECTORY_MODE = 0o750
"""Of a store and of its partitions: RocksDB gives its own files to everybody."""

FILTER_BITS = 16
"""For each key, in memory, to know that it is not in a file. A worker mostly asks for what is not there (each claim
and request is new): of 10 bits one answer in a hundred is a block that is read for nothing, and kept."""


def open_primary(
    path: Path,
    families: Sequence[str],
    queues: Container[str] = (),
    *,
    cache_bytes: int = BLOCK_CACHE_BYTES,
    buffer_bytes: int = WRITE_BUFFER_BYTES,
) -> Rdict:
    """Open a directory for writing. `queues` are families whose oldest files are dropped, never compacted. Raises `StoreInUse`,
    `StoreCorrupt` or `StoreError`."""
    options = _options(cache_bytes)
    options.create_if_missing(True)
    options.create_missing_column_families(True)
    # A secondary that follows a flush of some families and not yet of others was seen with its position
    # ahead of its rows; flushing all families at once rules that out.
    options.set_atomic_flush(True)
    options.set_db_write_buffer_size(buffer_bytes)
    options.set_max_total_wal_size(buffer_bytes)
    options.set_max_background_jobs(2)
    options.set_allow_concurrent_memtable_write(False)  # there is one writer
    with translated(path):
        path.mkdir(DIRECTORY_MODE, parents=True, exist_ok=True)
        return Rdict(
            str(path),
            options=options,
            column_families=_per_family(families, cache_bytes, queues, buffer_bytes),
        )


def existing_families(path: Path) -> tuple[str, ...]:
    """The column families of a directory, also one that another process writes; () where there is no database."""
    if not (path / "CURRENT").exists():
        return ()
    with translated(path):
        return tuple(name for name in Rdict.list_cf(str(path)) if name != _DEFAULT_FAMILY)


_DEFAULT_FAMILY = "default"
"""RocksDB's own, which is always there and holds nothing here."""


def create_family(db: Rdict, name: str) -> Rdict:
    """Create a column family in a database that is open for writing. A secondary sees it when it is opened again."""
    return db.create_column_family(name, _options(BLOCK_CACHE_BYTES))


def open_secondary(path: Path, families: Sequence[str], scratch: str, queues: Container[str] = ()) -> Rdict:
    """Open a directory that another process writes, to read it. `scratch` is a directory for its info log."""
    options = _options(BLOCK_CACHE_BYTES)
    options.set_max_open_files(-1)  # the primary may delete files that are still read here
    with translated(path):
        return Rdict(
            str(path),
            options=options,
            column_families=_per_family(families, BLOCK_CACHE_BYTES, queues),
            access_type=AccessType.secondary(scratch),
        )


def scratch_directory() -> tempfile.TemporaryDirectory[str]:
    """Where a secondary keeps its own files. What readers left behind that were killed is swept away."""
    for left in Path(tempfile.gettempdir()).glob(f"{_SCRATCH}*"):
        owner = left.name.removeprefix(_SCRATCH).partition("-")[0]
        if owner.isdigit() and not Path("/proc", owner).exists():
            shutil.rmtree(left, ignore_errors=True)
    return tempfile.TemporaryDirectory(prefix=f"{_SCRATCH}{os.getpid()}-", ignore_cleanup_errors=True)


_SCRATCH = "vacancy-reader-"


def flush(db: Rdict, scratch: Path) -> None:
    """Write the memtables of all families to files at once. `scratch` is a path next to the directory.

    `Rdict.flush` and `Rdict.close` do one family, and a reader that comes between two of them sees rows that do not
    belong together. A checkpoint of a database with `atomic_flush` flushes them all in one step.
    """
    shutil.rmtree(scratch, ignore_errors=True)
    checkpoint(db, scratch)
    shutil.rmtree(scratch)


def checkpoint(db: Rdict, into: Path) -> None:
    """Make a copy of the database as of now: `into`, an absolute path on the same disk where nothing is. Its tables are hard
    links, so it costs one flush. RocksDB renames it to this name when it is whole."""
    Checkpoint(db).create_checkpoint(str(into))


def is_locked(path: Path) -> bool:
    """Whether a process has this directory open for writing. The process that has it open must not ask: closing the
    file of the lock would release it."""
    try:
        file = (path / "LOCK").open("r+b")
    except OSError:
        return False  # never opened, or broken
    with file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def scan(db: Rdict, start: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
    """(key, value) of a family, by key, from `start` on. Raises what rocksdict raises where a block is damaged."""
    last = start
    for key, value in cast(Iterator[tuple[bytes, bytes]], db.items(from_key=start, read_opt=_passing_by())):
        last = key
        yield key, value
    check_end(db, last)


def scan_chunks(db: Rdict, size: int) -> Iterator[list[tuple[bytes, bytes]]]:
    """All of `scan`, faster, in lists of up to `size`. Raises as `scan` does."""
    items = cast(Iterator[tuple[bytes, bytes]], db.items(read_opt=_passing_by()))
    last = None
    while chunk := list(islice(items, size)):
        last = chunk[-1][0]
        yield chunk
    check_end(db, last)


def scan_keys(db: Rdict, start: bytes) -> Iterator[bytes]:
    """The keys of `scan`."""
    last = start
    for key in cast(Iterator[bytes], db.keys(from_key=start, read_opt=_passing_by())):
        last = key
        yield key
    check_end(db, last)


def _passing_by() -> ReadOptions:
    """What is read from one end to the other does not drive out of the cache what is asked for by key."""
    options: Any = ReadOptions()
    options.fill_cache(False)
    return cast(ReadOptions, options)


def check_end(db: Rdict, last: bytes | None) -> None:
    """Raise if what comes after the key `last` cannot be read: iterators of rocksdict end there as if all was read."""
    at = db.iter(_passing_by())
    if last is None:
        at.seek_to_first()
    else:
        at.seek(last)
        if at.valid() and at.key() == last:
            at.next()
    if not at.valid():
        at.status()


def open_read_only(path: Path, families: Sequence[str], queues: Container[str] = ()) -> Rdict:
    """Open a directory as it is now. Raises the error of its files, if there is one."""
    options = _options(BLOCK_CACHE_BYTES)
    with translated(path):
        return Rdict(
            str(path),
            options=options,
            column_families=_per_family(families, BLOCK_CACHE_BYTES, queues),
            access_type=AccessType.read_only(),
        )


def without_wal() -> WriteOptions:
    """Options of a write that is durable with the next flush, and not before."""
    options: Any = WriteOptions()
    options.disable_wal = True
    return cast(WriteOptions, options)


def check_files(path: Path, families: Sequence[str], queues: Container[str] = ()) -> None:
    """Raise the error of the files, if there is one: a secondary does not report it, and shows an older state."""
    open_read_only(path, families, queues).close()


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn rocksdict's exceptions, which are bare `Exception`s with RocksDB's text, into ours."""
    try:
        yield
    except StoreError:
        raise
    except OSError as error:
        raise StoreError(
            f"the store cannot be read or written: {error.strerror}",
            where=str(error.filename or path),
            do="see that the directory is there, may be written, and has room",
        ) from error
    except Exception as error:
        raise translate(error, path) from error


def translate(error: Exception, path: Path) -> StoreError:
    """rocksdict's exception in our words."""
    text = " ".join(str(error).split())[:300]
    low = text.lower()
    rebuild = "stop what uses it and rebuild it from the log: `vacancy replay --rebuild`"
    if "lock" in low and ("resource temporarily unavailable" in low or "no locks available" in low):
        return StoreInUse(
            "another process writes this store",
            where=str(path),
            do="stop that worker, or give this one another --store",
        )
    if "no space left" in low or "file too large" in low or "quota" in low:
        return StoreError(
            f"the disk is full: {text}",
            where=str(path),
            do="free some space and start again: the store stands at its last commit",
        )
    if "corruption" in low or "checksum" in low or "not an sstable" in low or "manifest" in low:
        return StoreCorrupt(f"the store does not read back: {text}", where=str(path), do=rebuild)
    if "column famil" in low:
        return StoreCorrupt(
            f"the store has other tables than its manifest says: {text}", where=str(path), do=rebuild
        )
    return StoreError(f"RocksDB: {text}", where=str(path), do="see the file LOG in that directory")


def _per_family(
    families: Sequence[str],
    cache_bytes: int,
    queues: Container[str],
    buffer_bytes: int = WRITE_BUFFER_BYTES,
) -> dict[str, Options]:
    one = _options(cache_bytes)
    one.set_write_buffer_size(buffer_bytes // 2)
    queue = _options(min(cache_bytes, QUEUE_CACHE_BYTES), queue=True)
    queue.set_compaction_style(DBCompactionStyle.fifo())
    bounds = FifoCompactOptions()
    bounds.max_table_files_size = QUEUE_BYTES
    queue.set_fifo_compaction_options(bounds)
    return {name: queue if name in queues else one for name in families}


_caches: dict[int, Cache] = {}


def _options(cache_bytes: int, *, queue: bool = False) -> Options:
    options = Options(raw_mode=True)
    options.set_compression_type(DBCompressionType.lz4())
    options.set_allow_mmap_reads(
        False
    )  # a file that is cut while it is mapped is a signal that kills the process
    options.set_allow_mmap_writes(False)
    options.set_keep_log_file_num(2)
    options.set_max_log_file_size(1024 * 1024)
    # Sixteen by default, which RocksDB starts for each family when it opens a directory, and at each catch-up of a
    # secondary: with 59 families they took 36 of the 60 ms of processor time of an opening.
    options.set_max_file_opening_threads(1)
    options.set_stats_dump_period_sec(0)
    options.set_write_buffer_size(WRITE_BUFFER_BYTES // 2)
    options.set_arena_block_size(min(ARENA_BLOCK_BYTES, WRITE_BUFFER_BYTES // 16))
    options.set_level_compaction_dynamic_level_bytes(True)
    blocks: Any = BlockBasedOptions()
    if queue:  # it is never asked for a key that is missing: no filter
        blocks.set_block_size(QUEUE_BLOCK_BYTES)
    else:
        blocks.set_bloom_filter(FILTER_BITS, False)
    blocks.set_block_cache(_caches.setdefault(cache_bytes, Cache(cache_bytes)))
    options.set_block_based_table_factory(blocks)
    return options
