"""Loads a fleet into Placement: through its API, or for larger fleets with bulk inserts into its database.

Three providers of each bulk load are made through the API. Their rows must be equal to those that the bulk load would have
inserted.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from evaluation.candidates.candidate import Fleet, Held, Provider
from evaluation.candidates.placement.http import PlacementApi
from evaluation.candidates.placement.mariadb import MariadbServer
from evaluation.candidates.placement.names import name_of, uuid_of
from vacancy.resources.model.errors import VacancyError

API_LIMIT: Final = 100
"""Larger fleets are loaded with bulk inserts."""

OWNER: Final = "vacancy-evaluation"
"""The project and the user of all consumers."""

CONSUMER_TYPE: Final = "INSTANCE"
_COMPARED: Final = 3
_AT_ONCE: Final = 4
_BLOCK: Final = 2_000
_TABLES: Final = {
    "resource_providers": ("id", "uuid", "name", "generation", "root_provider_id", "parent_provider_id"),
    "inventories": (
        *("resource_provider_id", "resource_class_id", "total", "reserved"),
        *("min_unit", "max_unit", "step_size", "allocation_ratio"),
    ),
    "resource_provider_traits": ("resource_provider_id", "trait_id"),
    "consumers": ("uuid", "project_id", "user_id", "generation", "consumer_type_id"),
    "allocations": ("resource_provider_id", "consumer_id", "resource_class_id", "used"),
}
"""Table -> the columns that are inserted and compared. The others are a running number and two times."""

Rows = dict[str, list[tuple[Any, ...]]]


def load(port: int, database: MariadbServer, fleet: Fleet, used_share: float) -> str:
    """Load a fleet. Returns how."""
    if fleet.size <= API_LIMIT:
        asyncio.run(_load_by_api(port, fleet, used_share, range(fleet.size)))
        return "API calls for each provider"
    asyncio.run(_load_by_api(port, fleet, used_share, range(_COMPARED)))
    with contextlib.closing(database.connect()) as connection, connection.cursor() as cursor:
        ids = _Ids(cursor)
        made = _read(cursor)
        expected = _rows(fleet, used_share, range(_COMPARED), ids)
        for table, rows in expected.items():
            if sorted(map(str, rows)) != sorted(map(str, made[table])):
                raise VacancyError(f"a bulk load of {table} differs from the API: {rows} and {made[table]}")
        for start in range(_COMPARED, fleet.size, _BLOCK):
            numbers = range(start, min(start + _BLOCK, fleet.size))
            for table, rows in _rows(fleet, used_share, numbers, ids).items():
                insert(cursor, table, _TABLES[table], rows)
            connection.commit()
        for table in _TABLES:
            cursor.execute(f"ANALYZE TABLE {table}")
    return f"bulk insert; {_COMPARED} providers through the API, with equal rows"


def held(database: MariadbServer) -> Iterator[Held]:
    """All allocations, from the database."""
    amounts: dict[tuple[str, str], dict[str, int]] = {}
    with contextlib.closing(database.connect()) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT a.consumer_id, p.name, c.name, a.used FROM allocations a"
            " JOIN resource_providers p ON p.id = a.resource_provider_id"
            " JOIN resource_classes c ON c.id = a.resource_class_id"
        )
        for consumer, provider, cls, used in cursor.fetchall():
            amounts.setdefault((consumer, provider), {})[cls] = used
    for (consumer, provider), resources in amounts.items():
        yield Held(name_of(consumer), provider, resources)


def owner_columns(cursor: Any) -> dict[str, int]:
    """The columns of a consumer's row that say whose it is, as the API has made them for the first consumer."""
    ids = _Ids(cursor)
    return {"project_id": ids.project, "user_id": ids.user, "consumer_type_id": ids.consumer_type}


def claim_body(allocations: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a claim for a new consumer."""
    return {
        "allocations": dict(allocations),
        "project_id": OWNER,
        "user_id": OWNER,
        "consumer_generation": None,
        "consumer_type": CONSUMER_TYPE,
    }


# -- through the API --------------------------------------------------------------------------------------------------


async def _load_by_api(port: int, fleet: Fleet, used_share: float, numbers: Sequence[int]) -> None:
    api = PlacementApi(port)
    for trait in sorted({trait for one in fleet.providers() for trait in one.traits}):
        if trait.startswith("CUSTOM_"):
            await api.must("PUT", f"/traits/{trait}")

    async def work(own: Sequence[int]) -> None:
        for number in own:
            provider = fleet.provider(number)
            await _add(api, provider)
            filler = fleet.filler(provider, used_share)
            if filler is not None:
                resources = {"resources": dict(filler.resources)}
                body = claim_body({uuid_of(provider.name): resources})
                await api.must("PUT", f"/allocations/{uuid_of(filler.consumer)}", body)

    # The first one alone: it makes the project, the user and the type of consumer.
    await work(numbers[:1])
    await asyncio.gather(*(work(numbers[1 + first :: _AT_ONCE]) for first in range(_AT_ONCE)))


async def _add(api: PlacementApi, provider: Provider) -> None:
    uuid = uuid_of(provider.name)
    made = await api.must("POST", "/resource_providers", {"name": provider.name, "uuid": uuid})
    inventories = {
        name: {
            "total": total,
            "reserved": 0,
            "min_unit": 1,
            "max_unit": total,
            "step_size": 1,
            "allocation_ratio": 1.0,
        }
        for name, total in provider.totals.items()
    }
    generation = made["generation"]
    for part, content in (("inventories", inventories), ("traits", list(provider.traits))):
        body = {part: content, "resource_provider_generation": generation}
        answer = await api.must("PUT", f"/resource_providers/{uuid}/{part}", body)
        generation = answer["resource_provider_generation"]


# -- into the database ------------------------------------------------------------------------------------------------


class _Ids:
    """The numbers of what the API has made. Providers get the numbers after the last one."""

    def __init__(self, cursor: Any) -> None:
        self.classes = _numbers(cursor, "SELECT name, id FROM resource_classes")
        self.traits = _numbers(cursor, "SELECT name, id FROM traits")
        self.first = _numbers(cursor, "SELECT name, id FROM resource_providers")
        self.after = max(self.first.values()) + 1
        self.project = _numbers(cursor, "SELECT external_id, id FROM projects").get(OWNER, 0)
        self.user = _numbers(cursor, "SELECT external_id, id FROM users").get(OWNER, 0)
        self.consumer_type = _numbers(cursor, "SELECT name, id FROM consumer_types").get(CONSUMER_TYPE, 0)


def _numbers(cursor: Any, statement: str) -> dict[str, int]:
    cursor.execute(statement)
    return dict(cursor.fetchall())


def _rows(fleet: Fleet, used_share: float, numbers: Iterable[int], ids: _Ids) -> Rows:
    """The rows of these providers and their first allocations."""
    rows: Rows = {table: [] for table in _TABLES}
    for number in numbers:
        provider = fleet.provider(number)
        filler = fleet.filler(provider, used_share)
        at = ids.first.get(provider.name, ids.after + number - _COMPARED)
        # The API has counted the changes: of inventories, of traits, and of the allocation.
        generation = 2 if filler is None else 3
        rows["resource_providers"].append((at, uuid_of(provider.name), provider.name, generation, at, None))
        rows["inventories"] += [
            (at, ids.classes[name], total, 0, 1, total, 1, 1.0) for name, total in provider.totals.items()
        ]
        rows["resource_provider_traits"] += [(at, ids.traits[trait]) for trait in provider.traits]
        if filler is not None:
            consumer = uuid_of(filler.consumer)
            rows["consumers"].append((consumer, ids.project, ids.user, 1, ids.consumer_type))
            rows["allocations"] += [
                (at, consumer, ids.classes[name], used) for name, used in filler.resources.items()
            ]
    return rows


def _read(cursor: Any) -> Rows:
    rows: Rows = {}
    for table, columns in _TABLES.items():
        cursor.execute(f"SELECT {', '.join(columns)} FROM {table}")
        rows[table] = list(cursor.fetchall())
    return rows


def insert(cursor: Any, table: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert rows, with the time at which they were created. The time is a value, because PyMySQL sends rows together only if all of
    a statement's values are."""
    marks = ", ".join(["%s"] * (len(columns) + 1))
    now = datetime.now(UTC).replace(tzinfo=None, microsecond=0)
    statement = f"INSERT INTO {table} ({', '.join(columns)}, created_at) VALUES ({marks})"
    cursor.executemany(statement, [(*row, now) for row in rows])
