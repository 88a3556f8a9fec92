"""SIGKILL at random moments of export, import and trim: nothing half-made is opened, and run again each completes.

`VACANCY_ARCHIVE_KILLS` is how many moments of each are tried (`make explore`).
"""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

from tests.clients.archives import actors
from tests.clients.archives.conftest import ArchivedSite
from tests.streams.archive.test_archive import records_of
from tests.support.processes.killed_process import killed_within, seconds_of
from vacancy.clients.archives.importing import import_log
from vacancy.clients.archives.trim import prepare_trim, trim
from vacancy.resources.model.errors import LogError
from vacancy.resources.model.record import Record
from vacancy.streams.log import Log, open_log

KILLS = int(os.environ.get("VACANCY_ARCHIVE_KILLS", "2"))
RNG = random.Random(os.environ.get("VACANCY_SEED", "7"))


def is_part(found: list[Record], whole: list[Record]) -> bool:
    """Whether these are the first records of each partition."""
    return all(
        [one for one in found if one.partition == p] == [one for one in whole if one.partition == p][:count]
        for p in {one.partition for one in whole}
        for count in [sum(one.partition == p for one in found)]
    )


def opened(url: str) -> Log | None:
    """The log, if it is there."""
    try:
        return open_log(url)
    except LogError as error:
        assert "there is no" in str(error)  # noqa: PT017 - a half-made one would be another error
        return None


def test_a_killed_export_leaves_whole_segments(archived: ArchivedSite, tmp_path: Path) -> None:
    archived.site.report(300)
    expected = records_of(archived.site.log)
    seconds = seconds_of(actors.export, archived.site.log.url, f"file://{tmp_path}/first", 2)
    for _ in range(KILLS):
        killed_within(RNG, seconds, actors.export, archived.site.log.url, archived.archive_url, 2)
        archive = opened(f"archive+{archived.archive_url}")
        if archive is not None:
            with archive:
                found = records_of(archive)
            assert is_part(found, expected)
            if found == expected:
                shutil.rmtree(tmp_path / "archive")
    archived.export(2)
    with archived.archive() as whole:
        assert records_of(whole) == expected


def test_a_killed_import_leaves_no_half_log(archived: ArchivedSite, tmp_path: Path) -> None:
    archived.site.report(3000)
    archived.export(500)
    expected = records_of(archived.site.log)
    url = f"sqlite://{tmp_path}/new/log.db"
    seconds = seconds_of(actors.import_, archived.archive_url, f"sqlite://{tmp_path}/first.db")
    for _ in range(KILLS):
        killed_within(RNG, seconds, actors.import_, archived.archive_url, url)
        new = opened(url)
        if new is not None:
            with new:
                assert records_of(new) == expected
            (tmp_path / "new" / "log.db").unlink()
    with archived.archive() as archive:
        try:
            import_log(archive, url)
        except LogError as error:
            assert "exists already" in str(error)  # noqa: PT017 - the last one ended before it was killed
    with open_log(url) as new:
        assert records_of(new) == expected
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["log.db"]


def test_a_killed_trim_loses_nothing(archived: ArchivedSite, tmp_path: Path) -> None:
    site = archived.site
    snapshots = str(tmp_path / "snapshots")
    for _ in range(max(1, KILLS // 2)):
        site.report(300)
        prepare_trim(site.log)
        snapshot = archived.snapshot()
        archived.export()
        with archived.joined() as log:
            expected = records_of(log)
        killed_within(RNG, 0.1, actors.trim, site.log.url, archived.archive_url, snapshots, snapshot)
        name = site.log.identity()
        with archived.joined() as log:
            assert records_of(log) == expected
            assert log.identity() == name
        trim(site.log, archived.plan(snapshot))
        assert all(site.log.start().values())
        with archived.joined() as log:
            assert records_of(log) == expected
        site.fold()
