"""Snapshots in a directory, at a file URL and in fsspec's memory: the same of each."""

from __future__ import annotations

import os
import random
import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import msgspec
import pytest
from msgspec.structs import replace

from tests.support.sites.damaged_files import flip
from tests.support.sites.snapshot_site import REGISTRY, SnapshotSite, snapshot_site
from vacancy.clients.snapshots.restore import verify_snapshot
from vacancy.projections.snapshots.creation import create_snapshot
from vacancy.projections.snapshots.manifest import SnapshotManifest, SnapshotPartition, encode_manifest
from vacancy.projections.snapshots.restoring import restore_files
from vacancy.projections.snapshots.retention import UNFINISHED_MS, made_ms_of, prune
from vacancy.projections.snapshots.storage import NoSnapshot, SnapshotStorage
from vacancy.projections.store.store import Store
from vacancy.resources.fold.rules_versions import RULES_VERSION
from vacancy.resources.model.errors import StoreCorrupt, StoreError, StoreMismatch, UsageError

FLIPS = int(os.environ.get("VACANCY_FUZZ_DAMAGES", "12"))
SEED = os.environ.get("VACANCY_SEED", "")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SnapshotSite]:
    with snapshot_site(tmp_path_factory.mktemp("site")) as made:
        yield made


@pytest.fixture(params=["directory", "file", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return {
        "directory": f"{tmp_path}/kept/here",
        "file": f"file://{tmp_path}/kept/here",
        "memory": f"memory://{uuid.uuid4().hex}/here",
    }[str(request.param)]


def files(url: str) -> list[str]:
    found = fsspec.core.url_to_fs(url)
    return sorted(found[0].find(found[1]))


def contents(url: str, path: str) -> bytes:
    data: bytes = fsspec.core.url_to_fs(url)[0].cat_file(path)
    return data


def put(url: str, path: str, data: bytes) -> None:
    storage = fsspec.core.url_to_fs(url)[0]
    storage.makedirs(path.rpartition("/")[0], exist_ok=True)
    storage.pipe_file(path, data)


def test_nothing_is_there_before(url: str) -> None:
    storage = SnapshotStorage(url)
    assert (storage.snapshots(), storage.unfinished()) == ([], [])
    with pytest.raises(NoSnapshot, match="there is no snapshot"):
        storage.manifest("20261128T000000000Z-00000000")
    with pytest.raises(NoSnapshot, match="is not the id of a snapshot"):
        storage.manifest("../store")


def test_what_is_kept_is_what_was_there(url: str, site: SnapshotSite, tmp_path: Path) -> None:
    storage, before = SnapshotStorage(url), site.digest()
    made = create_snapshot(site.store, storage, REGISTRY)
    assert (made.digest, tuple(one.digest for one in made.partitions)) == before[:2]
    assert (made.position, made.log) == (before.position, site.log.identity().log)
    assert [one.manifest for one in storage.snapshots()] == [made]
    assert storage.unfinished() == []
    assert site.digest() == before
    restore_files(storage, made, tmp_path / "restored", REGISTRY)
    assert site.digest(tmp_path / "restored") == before
    with Store(tmp_path / "restored", log=made.log, partitions=2, registry=REGISTRY) as store:
        assert store.position() == made.position
        assert store.id != made.store


def test_log_time_and_rules_are_those_of_the_position(url: str, site: SnapshotSite) -> None:
    made = create_snapshot(site.store, SnapshotStorage(url), REGISTRY)
    for one in made.partitions:
        (last,) = site.log.read(one.partition, one.position - 1, 1)
        assert (one.time_ms, one.rules_version) == (last.timestamp_ms, RULES_VERSION)


def test_without_its_manifest_it_is_no_snapshot(url: str, site: SnapshotSite) -> None:
    storage = SnapshotStorage(url)
    made = create_snapshot(site.store, storage, REGISTRY)
    fsspec.core.url_to_fs(url)[0].rm(next(file for file in files(url) if file.endswith("manifest.json")))
    assert storage.snapshots() == []
    assert storage.unfinished() == [made.id]
    again = create_snapshot(site.store, storage, REGISTRY)
    assert [one.id for one in storage.snapshots()] == [again.id]
    assert storage.unfinished() == [], (
        "the next snapshot of this store removes what is left of the one before"
    )


def test_each_bit_that_flips_is_found_and_the_file_is_named(url: str, site: SnapshotSite) -> None:
    storage, rng = SnapshotStorage(url), random.Random(SEED + url.partition(":")[0])
    made = create_snapshot(site.store, storage, REGISTRY)
    there = files(url)
    for path in (*(one for one in there if one.endswith(".json")), *rng.choices(there, k=FLIPS)):
        data = contents(url, path)
        at = rng.randrange(len(data) * 8)
        flipped = bytearray(data)
        flipped[at // 8] ^= 1 << at % 8
        put(url, path, bytes(flipped))
        with pytest.raises((StoreCorrupt, StoreMismatch), match=path.rpartition("/")[2]):
            verify_snapshot(storage, made.id, REGISTRY)
        put(url, path, data)
    assert verify_snapshot(storage, made.id, REGISTRY) == made


def test_a_file_that_is_cut_or_missing_is_named(url: str, site: SnapshotSite) -> None:
    storage = SnapshotStorage(url)
    made = create_snapshot(site.store, storage, REGISTRY)
    table = next(file for file in files(url) if file.endswith("CURRENT.gz"))
    data = contents(url, table)
    for cut in (data[:-1], b"", data + data):
        put(url, table, cut)
        with pytest.raises(StoreCorrupt, match=r"damaged .*p00000/CURRENT\.gz"):
            verify_snapshot(storage, made.id, REGISTRY)
    fsspec.core.url_to_fs(url)[0].rm(table)
    with pytest.raises(StoreCorrupt, match=r"missing .*p00000/CURRENT\.gz"):
        verify_snapshot(storage, made.id, REGISTRY)


def with_first(manifest: SnapshotManifest, **changed: object) -> SnapshotManifest:
    first = msgspec.convert({**msgspec.to_builtins(manifest.partitions[0]), **changed}, SnapshotPartition)
    return replace(manifest, partitions=(first, *manifest.partitions[1:]))


def test_a_manifest_that_lies_is_found(url: str, site: SnapshotSite) -> None:
    storage = SnapshotStorage(url)
    made = create_snapshot(site.store, storage, REGISTRY)
    for name in ("position", "checksum", "time_ms"):
        lie = with_first(made, **{name: getattr(made.partitions[0], name) + 1})
        storage.finish(lie)
        with pytest.raises(StoreCorrupt, match=f"the {name} of the tables .* is not what the manifest"):
            verify_snapshot(storage, made.id, REGISTRY)
    for lie, error in (
        (with_first(made, digest="0" * 32), "the digest of the tables"),
        (replace(made, digest="0" * 32), "the digest of the store"),
        (replace(made, partitions=made.partitions[1:]), "contradicts itself"),
        (
            with_first(made, files=[*made.partitions[0].files, made.partitions[0].files[0]]),
            "contradicts itself",
        ),
        (with_first(made, files=[replace(made.partitions[0].files[0], name="../x")]), "contradicts itself"),
    ):
        storage.finish(lie)
        with pytest.raises(StoreCorrupt, match=error):
            verify_snapshot(storage, made.id, REGISTRY)
    other = replace(made, id="20261128T000000000Z-00000000")
    put(url, next(file for file in files(url) if file.endswith("manifest.json")), encode_manifest(other))
    with pytest.raises(StoreCorrupt, match="is that of snapshot 20261128T000000000Z-00000000"):
        verify_snapshot(storage, made.id, REGISTRY)
    assert [one.manifest for one in storage.snapshots()] == [None]


def test_what_this_build_does_not_support_is_refused(url: str, site: SnapshotSite) -> None:
    storage = SnapshotStorage(url)
    made = create_snapshot(site.store, storage, REGISTRY)
    for manifest, error in (
        (replace(made, format=2), "the snapshot has format 2, this build reads 1"),
        (replace(made, store_format=0), "the store in the snapshot has format 0, this build reads 1"),
        (replace(made, classes=("CUSTOM_ODD",)), "resource class CUSTOM_ODD, which this build does not have"),
        (with_first(made, rules_version=99), "partition 0 of the snapshot follows rules version 99"),
    ):
        storage.finish(manifest)
        with pytest.raises(StoreMismatch, match=error):
            verify_snapshot(storage, made.id, REGISTRY)


def test_prune_removes_all_of_a_snapshot_and_old_leftovers(url: str, site: SnapshotSite) -> None:
    storage = SnapshotStorage(url)
    made = [create_snapshot(site.store, storage, REGISTRY).id for _ in range(3)]
    left = "20200101T000000000Z-00000000"
    put(url, f"{files(url)[0].partition(made[0])[0]}{left}/p00000/000001.sst.gz", b"")
    now_ms = made_ms_of(made[-1])
    assert prune(storage, now_ms, keep=2, max_age_ms=None, dry_run=True) == [left, made[0]]
    assert len(storage.snapshots()) == 3
    assert prune(storage, now_ms, keep=2, max_age_ms=None) == [left, made[0]]
    assert [one.id for one in storage.snapshots()] == made[1:]
    assert {file.partition("/here/")[2].partition("/")[0] for file in files(url)} == set(made[1:])
    assert prune(storage, now_ms + UNFINISHED_MS, keep=None, max_age_ms=1000) == [made[1]]
    assert storage.manifest(made[2]).id == made[2], "one always stays"


def test_a_url_that_cannot_be_used_is_one_line(tmp_path: Path, site: SnapshotSite) -> None:
    for url, error in (
        ("nowhere://here", "the URL of the snapshots is invalid"),
        ("s3://bucket/here", "the package for this URL is not installed"),
    ):
        with pytest.raises(UsageError, match=error):
            SnapshotStorage(url)
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="the snapshots cannot be read or written: Not a directory"):
        create_snapshot(site.store, SnapshotStorage(f"{tmp_path}/file/here"), REGISTRY)
    with pytest.raises(StoreError) as refused:
        SnapshotStorage("http://me:secret@127.0.0.1:1/here?token=secret").snapshots()
    assert "secret" not in str(refused.value)


def test_a_store_that_is_damaged_is_not_kept(tmp_path: Path) -> None:
    with snapshot_site(tmp_path) as site:
        flip(max((site.store / "p00001").glob("*.sst")), 10)
        storage = SnapshotStorage(str(tmp_path / "kept"))
        with pytest.raises(StoreCorrupt, match="p00001"):
            create_snapshot(site.store, storage, REGISTRY)
        assert storage.snapshots() == []


def test_there_must_be_a_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no store"):
        create_snapshot(tmp_path / "none", SnapshotStorage(str(tmp_path / "kept")), REGISTRY)
