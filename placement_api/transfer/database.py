"""A database of Placement: read in one transaction, written in one.

The tables are those of Placement's own models. The engine's drivers are not dependencies of this project: the driver that the
URL names must be installed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import placement.db.sqlalchemy
from alembic.script import ScriptDirectory
from placement.db.sqlalchemy import models
from sqlalchemy import Connection, Engine, Table, bindparam, create_engine, func, inspect, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from vacancy.placement_api.state.backend import Consumer, Inventory, Provider
from vacancy.placement_api.state.names import FIRST_CUSTOM, is_custom, standard_classes, standard_traits
from vacancy.placement_api.transfer.deployment import (
    INCOMPLETE,
    Deployment,
    Finding,
    amounts,
    usages_of,
)
from vacancy.placement_api.transfer.endpoint import EndpointError, Progress, without_password
from vacancy.resources.model.errors import UsageError

_CONNECT_S: Final = 10
_ROWS: Final = 1000
"""Rows of one INSERT."""

_Row = dict[str, Any]


def _table(model: Any) -> Table:
    found: Table = model.__table__
    return found


_CLASSES: Final = _table(models.ResourceClass)
_PROVIDERS: Final = _table(models.ResourceProvider)
_INVENTORIES: Final = _table(models.Inventory)
_ALLOCATIONS: Final = _table(models.Allocation)
_MEMBERSHIPS: Final = _table(models.ResourceProviderAggregate)
_AGGREGATES: Final = _table(models.PlacementAggregate)
_TRAITS: Final = _table(models.Trait)
_PROVIDER_TRAITS: Final = _table(models.ResourceProviderTrait)
_PROJECTS: Final = _table(models.Project)
_USERS: Final = _table(models.User)
_CONSUMERS: Final = _table(models.Consumer)
_TYPES: Final = _table(models.ConsumerType)
_STATE: Final = (_PROVIDERS, _INVENTORIES, _ALLOCATIONS, _CONSUMERS)
"""The tables that have no rows in an empty database; it may have names."""


class Database:
    """One database of Placement. Raises `UsageError` for a URL that is invalid or needs a driver that is not installed."""

    def __init__(self, url: str) -> None:
        self._name = without_password(url)
        try:
            self._url = make_url(url)
            self._engine = self._make_engine()
        except NoSuchModuleError:
            raise UsageError(f"there is no dialect for {self._name}", do="use +pymysql or +psycopg") from None
        except ModuleNotFoundError as error:
            raise UsageError(
                f"the database driver {error.name} is not installed",
                where=self._name,
                do=_install(error.name),
            ) from None
        except (ArgumentError, ValueError, TypeError):
            raise UsageError(f"{self._name} is not the URL of a database") from None

    @property
    def name(self) -> str:
        return self._name

    def _make_engine(self) -> Engine:
        options: dict[str, Any] = {}
        if self._url.get_backend_name() != "sqlite":
            options["connect_args"] = {"connect_timeout": _CONNECT_S}
        return create_engine(self._url, poolclass=NullPool, hide_parameters=True, **options)

    # -- connections ----------------------------------------------------------------------------------------------

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        """One transaction that sees one state of the database. Raises `EndpointError`."""
        if self._url.get_backend_name() == "sqlite" and not Path(self._url.database or "").is_file():
            raise EndpointError("there is no such file", where=self._name)
        try:
            with self._engine.connect() as opened:
                connection = opened
                if self._url.get_backend_name() == "sqlite":
                    connection.exec_driver_sql("BEGIN")
                else:
                    connection = opened.execution_options(isolation_level="REPEATABLE READ")
                self._check_schema(connection)
                yield connection
        except SQLAlchemyError as error:
            raise EndpointError(f"the database answers: {self._text(error)}", where=self._name) from None

    def _text(self, error: SQLAlchemyError) -> str:
        """An error of the database in one line, without the password."""
        text = " ".join(str(getattr(error, "orig", None) or error).split())[:300]
        password = self._url.password
        return text.replace(str(password), "***") if password else text

    def _check_schema(self, connection: Connection) -> None:
        """Raise `EndpointError` unless the database has the schema of the installed release of Placement."""
        there = set(inspect(connection).get_table_names())
        missing = [table.name for table in models.BASE.metadata.sorted_tables if table.name not in there]
        if missing:
            raise EndpointError(
                f"this is no database of Placement: it has no table {missing[0]}",
                where=self._name,
                do="name another database, or run `placement-manage db sync` for a new one",
            )
        found = None
        if "alembic_version" in there:
            found = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
        wanted = _schema_version()
        if found != wanted:
            raise EndpointError(
                f"its schema has version {found or 'none'}, and the installed release of Placement has {wanted}",
                where=self._name,
                do="run `placement-manage db sync` of that release",
            )

    # -- reading --------------------------------------------------------------------------------------------------

    def read(self, progress: Progress | None = None) -> Deployment:
        with self._transaction() as connection:
            return _Reading(connection, progress).deployment()

    # -- writing --------------------------------------------------------------------------------------------------

    def check_empty(self) -> None:
        """Raise `EndpointError` if the database has providers, inventories, allocations or consumers."""
        with self._transaction() as connection:
            self._check_empty(connection)

    def _check_empty(self, connection: Connection) -> None:
        for table in _STATE:
            if connection.execute(select(table.c.id).limit(1)).first() is not None:
                raise EndpointError(
                    f"the database is not empty: table {table.name} has rows",
                    where=self._name,
                    do="export to an empty database, or to the API of a Placement that runs",
                )

    def fill(self, deployment: Deployment, progress: Progress | None = None) -> None:
        """Write a deployment into an empty database, whole or not at all. Raises `EndpointError`."""
        with self._transaction() as connection:
            self._check_empty(connection)
            if connection.dialect.name in ("mysql", "mariadb"):  # the first resource class has the number 0
                connection.exec_driver_sql(
                    "SET SESSION sql_mode = CONCAT(@@sql_mode, ',NO_AUTO_VALUE_ON_ZERO')"
                )
            _Filling(connection, progress).fill(deployment)
            connection.commit()


def _schema_version() -> str:
    """The newest version of the schema that the installed release has."""
    directory = Path(next(iter(placement.db.sqlalchemy.__path__))) / "alembic"
    return str(ScriptDirectory(str(directory)).get_current_head())


def _install(driver: str | None) -> str:
    names = {"psycopg": "psycopg[binary]", "psycopg2": "psycopg2-binary", "MySQLdb": "mysqlclient"}
    return f"run `pip install '{names.get(driver or '', driver)}'`"


class _Reading:
    """Reads all tables and joins them here: rows that name what does not exist are seen."""

    def __init__(self, connection: Connection, progress: Progress | None) -> None:
        self._connection, self._progress = connection, progress
        self._done = self._total = 0
        self._findings: list[Finding] = []
        self._uuids: dict[int, str] = {}

    def deployment(self) -> Deployment:
        """The whole deployment."""
        if self._progress is not None:
            for table in models.BASE.metadata.sorted_tables:
                self._total += self._connection.scalar(select(func.count()).select_from(table)) or 0
        classes = self._names(_CLASSES)
        traits = self._names(_TRAITS)
        providers = self._providers(classes, traits)
        consumers = self._consumers()
        self._allocations(classes, consumers)
        return Deployment(
            providers,
            consumers,
            tuple(name for name in classes.values() if is_custom(name)),
            tuple(name for name in traits.values() if is_custom(name)),
            usages_of(consumers.values()),
            tuple(self._findings),
        )

    def _rows(self, table: Table) -> Iterator[Any]:
        for row in self._connection.execute(select(table).order_by(*table.primary_key.columns)):
            self._done += 1
            if self._progress is not None and self._done % _ROWS == 0:
                self._progress(self._done, self._total)
            yield row

    def _names(self, table: Table, column: str = "name") -> dict[int, str]:
        return {row.id: getattr(row, column) for row in self._rows(table)}

    def _find(self, names: Mapping[int, str], number: int, subject: str, what: str) -> str | None:
        """The name of a number, or None and a finding."""
        name = names.get(number)
        if name is None:
            self._findings.append(Finding(subject, f"names {what} {number}, which does not exist", lost=True))
        return name

    def _providers(self, classes: Mapping[int, str], traits: Mapping[int, str]) -> dict[str, Provider]:
        rows = list(self._rows(_PROVIDERS))
        self._uuids = {row.id: row.uuid for row in rows}
        inventories = self._inventories(classes)
        with_traits = self._pairs(_PROVIDER_TRAITS, "trait_id", traits, "trait")
        with_aggregates = self._pairs(
            _MEMBERSHIPS, "aggregate_id", self._names(_AGGREGATES, "uuid"), "aggregate"
        )
        return {
            row.uuid: Provider(
                uuid=row.uuid,
                name=row.name or "",
                generation=row.generation or 0,
                root=self._uuids.get(row.root_provider_id, row.uuid),
                parent=None
                if row.parent_provider_id is None
                else self._uuids.get(row.parent_provider_id, f"number {row.parent_provider_id}"),
                inventories=inventories.get(row.uuid, {}),
                traits=frozenset(with_traits.get(row.uuid, ())),
                aggregates=tuple(with_aggregates.get(row.uuid, ())),
            )
            for row in rows
        }

    def _inventories(self, classes: Mapping[int, str]) -> dict[str, dict[str, Inventory]]:
        found: dict[str, dict[str, Inventory]] = {}
        for row in self._rows(_INVENTORIES):
            subject = f"inventory {row.id}"
            uuid = self._find(self._uuids, row.resource_provider_id, subject, "provider")
            name = self._find(classes, row.resource_class_id, subject, "resource class")
            if uuid is not None and name is not None:
                found.setdefault(uuid, {})[name] = Inventory(
                    *(row.total, row.reserved, row.min_unit, row.max_unit, row.step_size),
                    allocation_ratio=float(row.allocation_ratio),
                )
        return found

    def _pairs(self, table: Table, column: str, names: Mapping[int, str], what: str) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for row in self._rows(table):
            subject = f"row of {table.name}"
            uuid = self._find(self._uuids, row.resource_provider_id, subject, "provider")
            name = self._find(names, getattr(row, column), subject, what)
            if uuid is not None and name is not None:
                found.setdefault(uuid, []).append(name)
        return found

    def _consumers(self) -> dict[str, Consumer]:
        projects = self._names(_PROJECTS, "external_id")
        users = self._names(_USERS, "external_id")
        types = self._names(_TYPES)
        return {
            row.uuid: Consumer(
                uuid=row.uuid,
                generation=row.generation,
                project=self._find(projects, row.project_id, f"consumer {row.uuid}", "project") or INCOMPLETE,
                user=self._find(users, row.user_id, f"consumer {row.uuid}", "user") or INCOMPLETE,
                consumer_type=None
                if row.consumer_type_id is None
                else self._find(types, row.consumer_type_id, f"consumer {row.uuid}", "consumer type"),
                allocations={},
            )
            for row in self._rows(_CONSUMERS)
        }

    def _allocations(self, classes: Mapping[int, str], consumers: dict[str, Consumer]) -> None:
        """Add what consumers hold."""
        held: dict[str, dict[str, dict[str, int]]] = {}
        for row in self._rows(_ALLOCATIONS):
            subject = f"consumer {row.consumer_id}"
            name = self._find(classes, row.resource_class_id, subject, "resource class")
            if name is None:
                continue
            uuid = self._uuids.get(row.resource_provider_id, f"number {row.resource_provider_id}")
            of_provider = held.setdefault(row.consumer_id, {}).setdefault(uuid, {})
            of_provider[name] = of_provider.get(name, 0) + row.used
        for uuid, allocations in held.items():
            owner = consumers.get(uuid)
            if owner is None:
                self._findings.append(
                    Finding(
                        f"consumer {uuid}",
                        f"has allocations and no record: its project and user are {INCOMPLETE}",
                    )
                )
                owner = Consumer(uuid, 0, INCOMPLETE, INCOMPLETE, None, {})
            consumers[uuid] = Consumer(
                uuid, owner.generation, owner.project, owner.user, owner.consumer_type, allocations
            )


class _Filling:
    """Writes all tables. The database numbers the rows, but for the resource classes: Placement numbers these itself."""

    def __init__(self, connection: Connection, progress: Progress | None) -> None:
        self._connection, self._progress = connection, progress
        self._done = self._total = 0

    def fill(self, deployment: Deployment) -> None:
        """Write all of a deployment."""
        self._total = sum(deployment.counts().values())
        classes = self._classes(deployment)
        used_traits = (name for one in deployment.providers.values() for name in one.traits)
        traits = self._named(_TRAITS, "name", (*standard_traits(), *deployment.traits, *used_traits))
        providers = self._providers(deployment)
        self._provider_parts(deployment, providers, classes, traits)
        self._consumers(deployment)
        self._insert(
            _ALLOCATIONS,
            (
                {
                    "resource_provider_id": providers[uuid],
                    "consumer_id": consumer.uuid,
                    "resource_class_id": classes[name],
                    "used": amount,
                }
                for consumer, uuid, name, amount in amounts(deployment.consumers.values())
            ),
        )

    def _insert(self, table: Table, rows: Iterable[_Row]) -> None:
        waiting: list[_Row] = []
        for row in rows:
            waiting.append(row)
            if len(waiting) == _ROWS:
                self._flush(table, waiting)
                waiting = []
        self._flush(table, waiting)

    def _flush(self, table: Table, rows: Sequence[_Row]) -> None:
        if rows:
            self._connection.execute(table.insert(), rows)
            self._done += len(rows)
            if self._progress is not None:
                self._progress(self._done, max(self._done, self._total))

    def _numbers(self, table: Table, column: str) -> dict[str, int]:
        return {row[1]: row[0] for row in self._connection.execute(select(table.c.id, table.c[column]))}

    def _named(self, table: Table, column: str, names: Iterable[str]) -> dict[str, int]:
        """Numbers of names, of which those that are missing are made."""
        there = self._numbers(table, column)
        self._insert(table, ({column: name} for name in dict.fromkeys(names) if name not in there))
        return self._numbers(table, column)

    def _classes(self, deployment: Deployment) -> dict[str, int]:
        there = self._numbers(_CLASSES, "name")
        numbers = {name: number for name, number in standard_classes().items() if name not in there}
        first = max(FIRST_CUSTOM, *(number + 1 for number in there.values())) if there else FIRST_CUSTOM
        missing = [name for name in deployment.classes if name not in there]
        numbers |= {name: first + at for at, name in enumerate(missing)}
        self._insert(_CLASSES, ({"id": number, "name": name} for name, number in numbers.items()))
        return {**there, **numbers}

    def _providers(self, deployment: Deployment) -> dict[str, int]:
        self._insert(
            _PROVIDERS,
            (
                {"uuid": one.uuid, "name": one.name, "generation": one.generation}
                for one in deployment.providers.values()
            ),
        )
        numbers = self._numbers(_PROVIDERS, "uuid")
        places = [
            {
                "number": numbers[one.uuid],
                "root": numbers[one.root],
                "parent": None if one.parent is None else numbers[one.parent],
            }
            for one in deployment.providers.values()
        ]
        if places:
            self._connection.execute(
                _PROVIDERS.update()
                .where(_PROVIDERS.c.id == bindparam("number"))
                .values(root_provider_id=bindparam("root"), parent_provider_id=bindparam("parent")),
                places,
            )
        return numbers

    def _provider_parts(
        self,
        deployment: Deployment,
        providers: Mapping[str, int],
        classes: Mapping[str, int],
        traits: Mapping[str, int],
    ) -> None:
        """Inventories, traits and aggregates."""
        of_all = [(providers[one.uuid], one) for one in deployment.providers.values()]
        aggregates = self._named(_AGGREGATES, "uuid", (name for _, one in of_all for name in one.aggregates))
        self._insert(
            _INVENTORIES,
            (
                {
                    "resource_provider_id": number,
                    "resource_class_id": classes[name],
                    "total": inventory.total,
                    "reserved": inventory.reserved,
                    "min_unit": inventory.min_unit,
                    "max_unit": inventory.max_unit,
                    "step_size": inventory.step_size,
                    "allocation_ratio": inventory.allocation_ratio,
                }
                for number, one in of_all
                for name, inventory in one.inventories.items()
            ),
        )
        self._insert(
            _PROVIDER_TRAITS,
            (
                {"resource_provider_id": number, "trait_id": traits[name]}
                for number, one in of_all
                for name in sorted(one.traits)
            ),
        )
        self._insert(
            _MEMBERSHIPS,
            (
                {"resource_provider_id": number, "aggregate_id": aggregates[name]}
                for number, one in of_all
                for name in one.aggregates
            ),
        )

    def _consumers(self, deployment: Deployment) -> None:
        consumers = deployment.consumers.values()
        projects = self._named(_PROJECTS, "external_id", (one.project for one in consumers))
        users = self._named(_USERS, "external_id", (one.user for one in consumers))
        types = self._named(_TYPES, "name", (one.consumer_type for one in consumers if one.consumer_type))
        self._insert(
            _CONSUMERS,
            (
                {
                    "uuid": one.uuid,
                    "project_id": projects[one.project],
                    "user_id": users[one.user],
                    "generation": one.generation,
                    "consumer_type_id": None if one.consumer_type is None else types[one.consumer_type],
                }
                for one in consumers
            ),
        )
