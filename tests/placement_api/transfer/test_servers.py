"""MariaDB and PostgreSQL as source and as target. The short form is `test_there_and_back.py`, on SQLite."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from evaluation.candidates.placement.mariadb import MariadbServer
from evaluation.candidates.postgresql.store import Postgresql
from tests.placement_api.transfer.cells import empty_cell, unseen
from tests.placement_api.transfer.placement_database import fleet_database, random_fleet, sync_schema
from vacancy.placement_api.transfer.comparison import compare
from vacancy.placement_api.transfer.database import Database
from vacancy.placement_api.transfer.deployment import Deployment
from vacancy.placement_api.transfer.transfer import Copied, export_from, import_into
from vacancy.resources.model.errors import VacancyError


@contextmanager
def mariadb(directory: Path) -> Iterator[str]:
    server = MariadbServer(directory)
    server.start()
    try:
        yield server.url
    finally:
        server.stop()


@contextmanager
def postgresql(directory: Path) -> Iterator[str]:
    server = Postgresql()
    server.start(directory)
    try:
        with server._connect() as connection:
            connection.execute("CREATE DATABASE placement")
        yield f"postgresql+psycopg://vacancy@127.0.0.1:{server._port}/placement"
    finally:
        server.stop()


def no_difference(copied: Copied) -> None:
    assert (copied.refusals, copied.findings) == ((), ())
    assert copied.comparison is not None
    assert copied.comparison.differences == ()


@pytest.mark.long
@pytest.mark.parametrize("server", [mariadb, postgresql])
def test_a_deployment_moves_to_a_server_and_back(server: object, tmp_path: Path) -> None:
    first, second = empty_cell(), empty_cell()
    source = Database(fleet_database(tmp_path / "source.db", random_fleet(9, 60, 120)))
    no_difference(import_into(first, source, unseen))
    assert callable(server)
    with server(tmp_path / "server") as url:
        (tmp_path / "conf").mkdir()
        sync_schema(url, tmp_path / "conf")
        assert Database(url).read() == Deployment()
        no_difference(export_from(first, url, unseen))
        exported = Database(url).read()
        assert compare(source.read(), exported).differences == ()
        no_difference(import_into(second, Database(url), unseen))
        with pytest.raises(VacancyError, match="is not empty"):
            export_from(first, url, unseen)
        wrong = (
            url.replace("vacancy@", "vacancy:s3cret@")
            .replace(":placement@", ":s3cret@")
            .replace("/placement", "/nothing")
        )
        with pytest.raises(VacancyError, match="the database answers: ") as raised:
            Database(wrong).read()
        assert "s3cret" not in str(raised.value)
        assert "\n" not in str(raised.value)
