"""`vacancy log export` and `import`: archives of the log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from vacancy.cli.context import CommandContext
from vacancy.cli.options import shared_options as o
from vacancy.cli.output import emit, emit_json, position_text, progress_bar

if TYPE_CHECKING:
    from vacancy.streams.archive.manifest import ArchiveManifest


def export(
    to: Annotated[
        str,
        typer.Option(
            "--to", metavar="URL", help="The archive: a directory, or a URL such as s3://bucket/path."
        ),
    ],
    until: Annotated[
        str | None,
        typer.Option(
            "--until",
            metavar="POINT",
            help="Export the records before this point: a position such as 0:7,1:1, a time, or -2h (default: all).",
        ),
    ] = None,
    segment_records: Annotated[
        int,
        typer.Option("--segment-records", metavar="N", min=1, help="Records of a segment at most."),
    ] = 100_000,
    log: o.LogOption = None,
    archive: o.ArchiveOption = None,
    config: o.ConfigOption = None,
    kafka: o.KafkaOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Add the log's records to an archive: segments of Parquet, with checksums.

    An archive that exists is continued after its last segment, so run this again after an interruption, or every day.

    An archive is read as a log: `vacancy replay --log archive+file:///path --into DIR`.
    """
    context = CommandContext(log=log, archive=archive, config=config, kafka=kafka)
    from vacancy.clients.archives.export import export_log
    from vacancy.clients.past.points import parse_point, resolve
    from vacancy.streams.archive.storage import ArchiveStorage
    from vacancy.streams.log_url import archive_place

    point = None if until is None else parse_point(until)
    storage = ArchiveStorage(archive_place(to))
    with context.open_log() as opened, progress_bar("records exported") as progress:
        done = export_log(
            opened,
            storage,
            until=None if point is None else resolve(point, opened),
            segment_records=segment_records,
            progress=progress,
        )
    if as_json:
        emit_json(
            {
                "url": storage.url,
                **described(done.manifest),
                "new": {"segments": done.segments, "records": done.records},
            }
        )
        return
    emit(
        f"exported {done.records} records of log {done.manifest.log} to {storage.url}: {done.segments} new segments"
    )
    emit(f"position {position_text(done.manifest.end)}")


def import_(
    from_: Annotated[
        str,
        typer.Option(
            "--from", metavar="URL", help="The archive: a directory, or a URL such as s3://bucket/path."
        ),
    ],
    replication: o.ReplicationOption = None,
    log: o.LogOption = None,
    config: o.ConfigOption = None,
    kafka: o.KafkaOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Make a new log of an archive, with the same records, offsets, timestamps and id. --log is the new log.

    Stores and snapshots of the old log fit the new one. Let nothing write to the old one any more. An import that was
    interrupted is continued. A log that exists is not written to.
    """
    context = CommandContext(log=log, config=config, kafka=kafka)
    from vacancy.clients.archives.importing import import_log
    from vacancy.streams.archive.log import ArchiveLog
    from vacancy.streams.log_url import ARCHIVE, LogUrl, archive_place

    url = context.settings.log
    place = LogUrl(ARCHIVE, archive_place(from_))
    with ArchiveLog(place) as archive, progress_bar("records imported") as progress:
        done = import_log(
            archive,
            url,
            progress=progress,
            replication=replication,
            client_settings=context.settings.kafka,
        )
    if as_json:
        emit_json(
            {
                "url": url,
                "log": done.identity.log,
                "partitions": done.identity.partitions,
                "position": done.position,
                "records": done.records,
            }
        )
        return
    emit(f"made {url} of {place.place}: log {done.identity.log}, {done.records} records")
    emit(f"position {position_text(done.position)}")


def described(manifest: ArchiveManifest) -> dict[str, Any]:
    """An archive for JSON, without the list of its files."""
    return {
        "log": manifest.log,
        "partitions": manifest.partitions,
        "segments": len(manifest.segments),
        "bytes": sum(one.size for one in manifest.segments),
        "start": manifest.start,
        "position": manifest.end,
    }
