"""`vacancy snapshot`: make, list, check, restore and remove snapshots of the store."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vacancy.cli.context import CommandContext
from vacancy.cli.errors import DifferenceFound
from vacancy.cli.options import shared_options as o
from vacancy.cli.output import emit, emit_json, emit_table, note, position_text, time_text
from vacancy.resources.model.errors import UsageError, VacancyError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vacancy.projections.snapshots.manifest import SnapshotManifest

app = typer.Typer(help="Make, list, check, restore and remove snapshots of the store.", rich_markup_mode=None)

_UNITS_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def seconds(text: str, option: str) -> float:
    """A time such as `90s`, `30m`, `1h` or `7d` in seconds. Raises `UsageError`."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    if found is None or not float(found[1]):
        raise UsageError(f"{text!r} is not a time", where=option, do="write it as 90s, 30m, 1h or 7d")
    return float(found[1]) * _UNITS_S[found[2]]


@app.command()
def create(
    store: o.StoreOption = None,
    snapshots: o.SnapshotsOption = None,
    config: o.ConfigOption = None,
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", min=0.0, help="How long to wait for the workers.")
    ] = 60.0,
    as_json: o.JsonOption = False,
) -> None:
    """Make a snapshot of this host's store. Running workers go on folding; each partition is copied between two commits.

    Run it as the user of the worker.
    """
    context = CommandContext(store=store, snapshots=snapshots, config=config)
    from vacancy.projections.snapshots.creation import create_snapshot

    made = create_snapshot(context.store, context.open_snapshots(), context.registry(), timeout_s=timeout)
    if as_json:
        emit_json(_described(made))
        return
    emit(
        f"made snapshot {made.id} of log {made.log}: {_size_text(made.stored_size)} in {context.settings.snapshots}"
    )
    emit(f"position {position_text(made.position)}")
    emit(f"digest {made.digest}")


@app.command(name="list")
def list_(
    snapshots: o.SnapshotsOption = None, config: o.ConfigOption = None, as_json: o.JsonOption = False
) -> None:
    """List the snapshots, the oldest first. Damaged ones are named on standard error."""
    context = CommandContext(snapshots=snapshots, config=config)
    found = context.open_snapshots().snapshots()
    for one in found:
        if one.error is not None:
            note(str(one.error))
    manifests = [one.manifest for one in found if one.manifest is not None]
    if as_json:
        emit_json(
            {
                "snapshots": [_described(one) for one in manifests],
                "damaged": [
                    {"id": one.id, "error": str(one.error)} for one in found if one.error is not None
                ],
            }
        )
        return
    emit_table(
        ("SNAPSHOT", "MADE", "LOG", "RULES", "SIZE", "POSITION"),
        (
            (
                one.id,
                time_text(one.made_ms),
                one.log,
                max(part.rules_version for part in one.partitions),
                _size_text(one.stored_size),
                position_text(one.position),
            )
            for one in manifests
        ),
    )


@app.command()
def verify(
    name: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="The snapshot to check (default: all).")
    ] = None,
    snapshots: o.SnapshotsOption = None,
    config: o.ConfigOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Check whole snapshots: each file by its checksum, the tables by their digest. Exits with 5 if one is damaged."""
    context = CommandContext(snapshots=snapshots, config=config)
    from vacancy.clients.snapshots.restore import verify_snapshot

    storage = context.open_snapshots()
    if name is not None:
        storage.manifest(name)  # one that is not there is an error, not a difference
    errors: dict[str, VacancyError | None] = {}
    for one in [name] if name is not None else [found.id for found in storage.snapshots()]:
        try:
            verify_snapshot(storage, one, context.registry())
        except VacancyError as error:
            errors[one] = error
        else:
            errors[one] = None
            if not as_json:
                emit(f"snapshot {one} is whole")
    if as_json:
        emit_json(
            {
                "snapshots": [
                    {"id": one, "ok": error is None, "error": None if error is None else str(error)}
                    for one, error in errors.items()
                ]
            }
        )
    _raise_damaged(errors, storage.url)


def _raise_damaged(errors: Mapping[str, VacancyError | None], url: str) -> None:
    """Raise `DifferenceFound` if a snapshot has an error. All errors but the last are lines before it."""
    damaged = [(name, error) for name, error in errors.items() if error is not None]
    if not damaged:
        return
    for name, error in damaged[:-1]:
        note(f"snapshot {name} cannot be restored: {error}")
    name, error = damaged[-1]
    raise DifferenceFound(
        f"snapshot {name} cannot be restored: {error.what}",
        where=error.where or url,
        do=error.do or f"remove it with `vacancy snapshot prune {name}`, and make another one",
    )


@app.command()
def restore(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[ID]", help="The snapshot (default: that of this log with the most records)."
        ),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Rename the store that is there. Its worker must be stopped.")
    ] = False,
    log: o.LogOption = None,
    store: o.StoreOption = None,
    snapshots: o.SnapshotsOption = None,
    config: o.ConfigOption = None,
    kafka: o.KafkaOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Restore a snapshot as this host's store, after all of it was checked, also against the log.

    Then start a worker: it folds the records that came after the snapshot.
    """
    context = CommandContext(log=log, store=store, snapshots=snapshots, config=config, kafka=kafka)
    from vacancy.clients.snapshots.restore import restore_snapshot

    with context.open_log() as opened:
        done = restore_snapshot(
            opened, context.open_snapshots(), context.store, context.registry(), name, replace=replace
        )
    for error in done.passed_over:
        note(f"passed over: {error}")
    if done.aside is not None:
        note(f"the old store {context.store} is now {done.aside}; remove it when you no longer need it")
    if as_json:
        emit_json({**_described(done.manifest), "store_path": str(context.store)})
        return
    emit(f"restored snapshot {done.manifest.id} to {context.store}")
    emit(f"position {position_text(done.manifest.position)}")
    emit(f"digest {done.manifest.digest}")


@app.command()
def prune(
    names: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Snapshots to remove.")] = None,
    keep: Annotated[
        int | None,
        typer.Option(
            "--keep", min=1, metavar="N", help="Of each log, keep the N snapshots with the most records."
        ),
    ] = None,
    max_age: Annotated[
        str | None,
        typer.Option("--max-age", metavar="TIME", help="Remove older snapshots, for example 7d or 12h."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be removed.")] = False,
    snapshots: o.SnapshotsOption = None,
    config: o.ConfigOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Remove snapshots: those that are named, or those beyond --keep and --max-age. Of each log one always stays, unless it
    is named. Unfinished snapshots older than a day are removed, too."""
    context = CommandContext(snapshots=snapshots, config=config)
    from vacancy.projections.snapshots import retention
    from vacancy.streams.clocks.clock import wall_ms

    if bool(names) == (keep is not None or max_age is not None):
        raise UsageError("it is not clear what to remove", do="name snapshots, or give --keep or --max-age")
    storage = context.open_snapshots()
    if names:
        there = {one.id for one in storage.snapshots()} | set(storage.unfinished())
        for one in names:
            if one not in there:
                storage.manifest(one)
        removed = sorted(set(names))
        for one in () if dry_run else removed:
            storage.remove(one)
    else:
        age_ms = None if max_age is None else int(1000 * seconds(max_age, "--max-age"))
        removed = retention.prune(storage, wall_ms(), keep=keep, max_age_ms=age_ms, dry_run=dry_run)
    if as_json:
        emit_json({"removed": removed, "dry_run": dry_run})
        return
    for one in removed:
        emit(f"{'would remove' if dry_run else 'removed'} snapshot {one}")


def _described(manifest: SnapshotManifest) -> dict[str, Any]:
    """A snapshot for JSON, without the list of its files."""
    return {
        "id": manifest.id,
        "made_ms": manifest.made_ms,
        "host": manifest.host,
        "build": manifest.build,
        "store": manifest.store,
        "log": manifest.log,
        "store_format": manifest.store_format,
        "classes": list(manifest.classes),
        "digest": manifest.digest,
        "bytes": manifest.stored_size,
        "partitions": [
            {
                "partition": one.partition,
                "position": one.position,
                "log_time_ms": one.time_ms,
                "rules_version": one.rules_version,
                "digest": one.digest,
            }
            for one in manifest.partitions
        ],
    }


def _size_text(size: int) -> str:
    return f"{size / 1024:.1f} KiB" if size < 1024 * 1024 else f"{size / 1024 / 1024:.1f} MiB"
