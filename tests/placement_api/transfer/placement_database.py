"""Databases of real Placement in SQLite: made by its own command, filled and read with SQL of the tests.

The SQL is not that of `vacancy.placement_api.transfer`, so a fault there is not repeated here.
"""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any
from uuid import UUID

import os_resource_classes

Rows = dict[str, set[tuple[Any, ...]]]

CLASSES = ("VCPU", "MEMORY_MB", "DISK_GB", "VGPU", "PCPU", "CUSTOM_FPGA", "CUSTOM_A_B_9")
TRAITS = ("HW_CPU_X86_AVX2", "STORAGE_DISK_SSD", "CUSTOM_GOLD", "CUSTOM_RACK_7", "MISC_SHARES_VIA_AGGREGATE")
RATIOS = (1.0, 16.0, 1.5, 0.5, 1.15, 3.40282, 0.001, 100.0, 2500.5)
NAMES = (
    "a b",
    "Ünïcode-节点",
    "quote'\"`;--",
    "slash/and\\back",
    "%s {0} $x",
    "tab\there",
    "x" * 180,
    "UPPER",
    "-",
)
PROJECTS = ("6f70656e737461636b", "pro ject", "ünï/'\"", "p" * 255, "-")
TYPES = ("INSTANCE", "MIGRATION", "VOLUME_9", None)


@dataclass
class Fleet:
    """What is to be in a database. `rng` makes the parts that do not matter.

    providers: uuid -> (name, generation, parent uuid or None). inventories: (uuid, class) -> total, reserved, min, max, step, ratio.
    consumers: uuid -> (generation, project, user, type or None). allocations: (consumer, provider, class) -> amount.
    """

    providers: dict[str, tuple[str, int, str | None]] = field(default_factory=dict)
    inventories: dict[tuple[str, str], tuple[int, int, int, int, int, float]] = field(default_factory=dict)
    traits: dict[str, set[str]] = field(default_factory=dict)
    aggregates: dict[str, set[str]] = field(default_factory=dict)
    consumers: dict[str, tuple[int, str, str, str | None]] = field(default_factory=dict)
    allocations: dict[tuple[str, str, str], int] = field(default_factory=dict)
    custom_classes: tuple[str, ...] = ("CUSTOM_FPGA", "CUSTOM_A_B_9", "CUSTOM_UNUSED")
    custom_traits: tuple[str, ...] = ("CUSTOM_GOLD", "CUSTOM_RACK_7", "CUSTOM_NOBODY")


def random_fleet(seed: int, providers: int = 12, consumers: int = 20) -> Fleet:
    """A fleet with trees in any order, odd names, several providers for a consumer, and inventories that are overfull or do not
    allow what is held of them."""
    rng = random.Random(seed)
    fleet = Fleet()
    uuids = [_uuid(rng) for _ in range(providers)]
    groups = [_uuid(rng) for _ in range(3)]
    for at, uuid in enumerate(uuids):
        parent = rng.choice(uuids[:at]) if at and rng.random() < 0.5 else None
        name = f"{rng.choice(NAMES)}-{at}" if rng.random() < 0.7 else uuid
        fleet.providers[uuid] = (name, rng.randrange(40), parent)
        for of_class in rng.sample(CLASSES, rng.randrange(4)):
            total = rng.choice((1, 8, 64, 4096, 2**31 - 1))
            fleet.inventories[uuid, of_class] = (
                total,
                rng.choice((0, 0, 1, total)),
                rng.choice((1, 1, 2)),
                rng.choice((total, max(1, total // 2))),
                rng.choice((1, 1, 4)),
                rng.choice(RATIOS),
            )
        fleet.traits[uuid] = set(rng.sample(TRAITS, rng.randrange(3)))
        fleet.aggregates[uuid] = set(rng.sample(groups, rng.randrange(3)))
    slots = list(fleet.inventories)
    for _ in range(consumers if slots else 0):
        uuid = _uuid(rng)
        fleet.consumers[uuid] = (
            rng.randrange(1, 5),
            rng.choice(PROJECTS),
            rng.choice(PROJECTS),
            rng.choice(TYPES),
        )
        for provider, of_class in rng.sample(slots, min(len(slots), rng.randrange(1, 4))):
            fleet.allocations[uuid, provider, of_class] = rng.choice((1, 1, 2, 8, 64))
    order = list(fleet.providers)
    rng.shuffle(order)  # a child may have a lower number than its parent
    fleet.providers = {uuid: fleet.providers[uuid] for uuid in order}
    return fleet


def _uuid(rng: random.Random) -> str:
    return str(UUID(int=rng.getrandbits(128), version=4))


# -- files --------------------------------------------------------------------------------------------------------


@cache
def _template() -> Path:
    """An empty database with the newest schema, made by Placement."""
    directory = Path(mkdtemp(prefix="vacancy-placement-schema-"))
    sync_schema(f"sqlite:///{directory}/empty.db", directory)
    return directory / "empty.db"


def sync_schema(url: str, directory: Path) -> None:
    """Make the tables of Placement in a database."""
    (directory / "placement.conf").touch()
    environment = {
        **os.environ,
        "OS_PLACEMENT_DATABASE__CONNECTION": url,
        "OS_PLACEMENT_CONFIG_DIR": str(directory),
    }
    command = [str(Path(sys.executable).with_name("placement-manage")), "db", "sync"]
    subprocess.run(command, check=True, env=environment, capture_output=True)


def empty_database(file: Path) -> str:
    """Make an empty database. Returns its URL."""
    shutil.copy(_template(), file)
    return f"sqlite:///{file}"


def fleet_database(file: Path, fleet: Fleet) -> str:
    """Make a database with a fleet. Returns its URL."""
    url = empty_database(file)
    with closing(sqlite3.connect(file)) as connection:
        _fill(connection, fleet)
        connection.commit()
    return url


def _numbers(connection: sqlite3.Connection, table: str, column: str, names: Iterable[Any]) -> dict[str, int]:
    found = {}
    for name in sorted({one for one in names if one is not None}):
        cursor = connection.execute(f"INSERT INTO {table} ({column}) VALUES (?)", (name,))  # noqa: S608
        found[name] = int(cursor.lastrowid or 0)
    return found


def _fill(connection: sqlite3.Connection, fleet: Fleet) -> None:
    classes = {name: at for at, name in enumerate(os_resource_classes.STANDARDS)}
    classes |= {name: 10_000 + at for at, name in enumerate(fleet.custom_classes)}
    connection.executemany(
        "INSERT INTO resource_classes (id, name) VALUES (?, ?)", [(n, c) for c, n in classes.items()]
    )
    traits = _numbers(connection, "traits", "name", {*TRAITS, *fleet.custom_traits})
    aggregates = _numbers(
        connection,
        "placement_aggregates",
        "uuid",
        (one for some in fleet.aggregates.values() for one in some),
    )
    providers = {uuid: at + 1 for at, uuid in enumerate(fleet.providers)}

    def root(uuid: str) -> int:
        parent = fleet.providers[uuid][2]
        return providers[uuid] if parent is None else root(parent)

    connection.executemany(
        "INSERT INTO resource_providers (id, uuid, name, generation, parent_provider_id, root_provider_id)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        [
            (
                providers[uuid],
                uuid,
                name,
                generation,
                None if parent is None else providers[parent],
                root(uuid),
            )
            for uuid, (name, generation, parent) in fleet.providers.items()
        ],
    )
    connection.executemany(
        "INSERT INTO inventories (resource_provider_id, resource_class_id, total, reserved, min_unit, max_unit,"
        " step_size, allocation_ratio) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [(providers[uuid], classes[name], *numbers) for (uuid, name), numbers in fleet.inventories.items()],
    )
    for table, column, names, of_all in (
        ("resource_provider_traits", "trait_id", traits, fleet.traits),
        ("resource_provider_aggregates", "aggregate_id", aggregates, fleet.aggregates),
    ):
        connection.executemany(
            f"INSERT INTO {table} (resource_provider_id, {column}) VALUES (?, ?)",  # noqa: S608
            [(providers[uuid], names[one]) for uuid, some in of_all.items() for one in sorted(some)],
        )
    owners = fleet.consumers.values()
    projects = _numbers(connection, "projects", "external_id", (one[1] for one in owners))
    users = _numbers(connection, "users", "external_id", (one[2] for one in owners))
    types = _numbers(connection, "consumer_types", "name", (one[3] for one in owners))
    connection.executemany(
        "INSERT INTO consumers (uuid, generation, project_id, user_id, consumer_type_id) VALUES (?, ?, ?, ?, ?)",
        [
            (uuid, generation, projects[project], users[user], None if kind is None else types[kind])
            for uuid, (generation, project, user, kind) in fleet.consumers.items()
        ],
    )
    connection.executemany(
        "INSERT INTO allocations (consumer_id, resource_provider_id, resource_class_id, used) VALUES (?, ?, ?, ?)",
        [
            (consumer, providers[uuid], classes[name], used)
            for (consumer, uuid, name), used in fleet.allocations.items()
        ],
    )


_DUMPS: Mapping[str, str] = {
    "providers": """SELECT p.uuid, p.name, parent.uuid, root.uuid FROM resource_providers p
        LEFT JOIN resource_providers parent ON parent.id = p.parent_provider_id
        LEFT JOIN resource_providers root ON root.id = p.root_provider_id""",
    "generations": "SELECT uuid, generation FROM resource_providers",
    "inventories": """SELECT p.uuid, c.name, i.total, i.reserved, i.min_unit, i.max_unit, i.step_size, i.allocation_ratio
        FROM inventories i JOIN resource_providers p ON p.id = i.resource_provider_id
        JOIN resource_classes c ON c.id = i.resource_class_id""",
    "traits": """SELECT p.uuid, t.name FROM resource_provider_traits r
        JOIN resource_providers p ON p.id = r.resource_provider_id JOIN traits t ON t.id = r.trait_id""",
    "aggregates": """SELECT p.uuid, a.uuid FROM resource_provider_aggregates r
        JOIN resource_providers p ON p.id = r.resource_provider_id JOIN placement_aggregates a ON a.id = r.aggregate_id""",
    "consumers": """SELECT c.uuid, p.external_id, u.external_id, t.name FROM consumers c
        JOIN projects p ON p.id = c.project_id JOIN users u ON u.id = c.user_id
        LEFT JOIN consumer_types t ON t.id = c.consumer_type_id""",
    "allocations": """SELECT a.consumer_id, p.uuid, c.name, a.used FROM allocations a
        JOIN resource_providers p ON p.id = a.resource_provider_id JOIN resource_classes c ON c.id = a.resource_class_id""",
    "custom classes": "SELECT name FROM resource_classes WHERE name LIKE 'CUSTOM#_%' ESCAPE '#'",
    "custom traits": "SELECT name FROM traits WHERE name LIKE 'CUSTOM#_%' ESCAPE '#'",
    "numbers of standard classes": "SELECT name, id FROM resource_classes WHERE id < 10000",
}


def dump(file: Path) -> Rows:
    """All that a database says, without the numbers of rows (but for those of classes), times, and generations of consumers."""
    with closing(sqlite3.connect(file)) as connection:
        found = {name: list(connection.execute(query)) for name, query in _DUMPS.items()}
    rows = {name: set(some) for name, some in found.items()}
    assert {name: len(some) for name, some in found.items()} == {
        name: len(some) for name, some in rows.items()
    }, "no row is there twice"
    return rows


def execute(file: Path, *statements: str) -> None:
    """Change a database by hand."""
    with closing(sqlite3.connect(file)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()
