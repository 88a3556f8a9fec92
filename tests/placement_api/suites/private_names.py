"""Private names of Placement's state layer that its functional tests of objects use: tables, and the row of a cache.

With them, tests that only look something up by SQL, or that name a table when they are imported, run here. What is looked up
is this project's state.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from placement.db.sqlalchemy import models

from tests.placement_api.suites import database_fixture
from vacancy.placement_api.objects import attribute_cache, consumer, project, resource_provider, user
from vacancy.placement_api.state import unit_of_work

PROVIDERS = sa.Table(
    "resource_providers", sa.MetaData(), sa.Column("id", sa.String), sa.Column("name", sa.String)
)
"""Placement's table, with the ids of this project."""


def install() -> None:
    """Gives the names to the modules that stand in for Placement's."""
    names: dict[Any, dict[str, Any]] = {
        consumer: {"CONSUMER_TBL": models.Consumer.__table__},
        project: {"PROJECT_TBL": models.Project.__table__},
        user: {"USER_TBL": models.User.__table__},
        resource_provider: {"_ALLOC_TBL": models.Allocation.__table__, "_RP_TBL": PROVIDERS},
        attribute_cache.Attrs: {"_mapping": property(lambda row: row._asdict())},
        attribute_cache.ResourceClassCache: {"_refresh_from_db": lambda cache, _: cache.get_all()},
        database_fixture.Database: {"get_engine": lambda _: providers_in_sql()},
    }
    for holder, given in names.items():
        for name, value in given.items():
            setattr(holder, name, value)


def providers_in_sql() -> sa.Engine:
    """A database in memory with the providers that there are now, to be read."""
    engine = sa.create_engine("sqlite://", poolclass=sa.StaticPool)
    PROVIDERS.create(engine)
    rows = [{"id": one.uuid, "name": one.name} for one in unit_of_work.backend().read().providers.values()]
    with engine.begin() as connection:
        if rows:
            connection.execute(PROVIDERS.insert(), rows)
    return engine
