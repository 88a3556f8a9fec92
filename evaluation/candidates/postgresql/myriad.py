"""Hosts with many qualities in PostgreSQL: a table for each kind of thing, and one statement for each request.

What a host has once is a column of `hosts`; NUMA cells, devices, shared GPUs and network cards have tables of their own with an
index for what is asked of them. A quality is a condition of the statement, most of them an `EXISTS`. The statement begins at a random
place of an index on a random number, like that of `postgresql.py`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from evaluation.candidates.candidate import Json, NotOffered, Request
from evaluation.candidates.myriad_fleet import MyriadFleet, version_key

SCHEMA: Final = """\
CREATE TABLE pools (name text PRIMARY KEY, disk_gb_free integer NOT NULL);
CREATE TABLE hosts (
    id integer PRIMARY KEY,
    name text NOT NULL UNIQUE,
    place double precision NOT NULL,
    zone text NOT NULL,
    pool text REFERENCES pools,
    traits text[] NOT NULL,
    aggregates text[] NOT NULL,
    hypervisor integer[] NOT NULL,
    vcpus_free integer NOT NULL, memory_mb_free integer NOT NULL, disk_gb_free integer NOT NULL
) WITH (fillfactor = 50);
CREATE TABLE cells (
    host integer REFERENCES hosts, cell integer, cpus_free integer NOT NULL, memory_mb_free integer NOT NULL,
    PRIMARY KEY (host, cell)
);
CREATE TABLE devices (
    host integer, cell integer, address text, vendor text NOT NULL, product text NOT NULL, memory_mb integer NOT NULL,
    driver integer NOT NULL, consumer text, PRIMARY KEY (host, address), FOREIGN KEY (host, cell) REFERENCES cells
);
CREATE TABLE gpus (
    host integer, cell integer, name text PRIMARY KEY, model text NOT NULL, milli_free integer NOT NULL,
    FOREIGN KEY (host, cell) REFERENCES cells
);
CREATE TABLE nics (
    host integer, cell integer, name text PRIMARY KEY, network text NOT NULL, kilobits_free integer NOT NULL,
    functions_free integer NOT NULL, FOREIGN KEY (host, cell) REFERENCES cells
);
CREATE TABLE group_members (
    consumer text PRIMARY KEY, server_group text NOT NULL, host integer NOT NULL REFERENCES hosts
);
"""
INDEXES: Final = """\
CREATE INDEX ON hosts (place);
CREATE INDEX ON hosts USING gin (traits);
CREATE INDEX ON devices (vendor, product) WHERE consumer IS NULL;
CREATE INDEX ON devices (host, cell) WHERE consumer IS NULL;
CREATE INDEX ON gpus (host, model);
CREATE INDEX ON gpus (model, host);
CREATE INDEX ON nics (host, network);
CREATE INDEX ON group_members (server_group, host);
"""


def load(connection: Any, fleet: MyriadFleet) -> None:
    """Make the tables, copy a fleet into them, then make the indexes. `connection`: of psycopg."""
    connection.execute(SCHEMA)
    for table in ("pools", "hosts", "cells", "devices", "gpus", "nics", "group_members"):
        with connection.cursor().copy(f"COPY {table} FROM STDIN") as copy:
            for row in _rows(table, fleet):
                copy.write_row(row)
    connection.execute(INDEXES)
    connection.execute("VACUUM ANALYZE")


def _rows(table: str, fleet: MyriadFleet) -> Iterator[tuple[Any, ...]]:
    """The rows of a table."""
    if table == "pools":
        yield from fleet.pools.items()
        return
    draw = random.Random(fleet.seed)
    for at, host in enumerate(fleet.hosts):
        if table == "hosts":
            places = (host.zone, host.pool or None, list(host.traits), list(host.aggregates))
            amounts = tuple(host.free[name] for name in ("VCPU", "MEMORY_MB", "DISK_GB"))
            yield (at, host.name, draw.random(), *places, list(version_key(host.hypervisor)), *amounts)
        elif table == "group_members":
            if host.group:
                yield host.consumer, host.group, at
        else:
            for number, cell in enumerate(host.cells):
                if table == "cells":
                    yield at, number, cell.cpus, cell.memory_mb
                elif table == "devices":
                    for one in cell.devices:
                        yield (
                            at,
                            number,
                            one.address,
                            one.vendor,
                            one.product,
                            one.memory_mb,
                            one.driver,
                            None,
                        )
                elif table == "gpus":
                    yield from ((at, number, gpu.name, gpu.model, gpu.milli) for gpu in cell.gpus)
                else:
                    yield from (
                        (at, number, nic.name, nic.network, nic.kilobits, nic.functions) for nic in cell.nics
                    )


# -- requests -----------------------------------------------------------------------------------------------------------


def statement(request: Request, limit: int, place: float) -> tuple[str, Json]:
    """The statement for a request, and its parameters. Raises `NotOffered` for a quality that the schema does not know."""
    unknown = [name for name in request.qualities if name not in _QUALITIES]
    if unknown:
        raise NotOffered(f"the schema has nothing for {', '.join(unknown)}")
    parameters: Json = {
        **{name: request.resources.get(name, 0) for name in ("VCPU", "MEMORY_MB", "DISK_GB")},
        "traits": list(request.required),
        "limit": limit,
        "place": place,
    }
    conditions = [
        "traits @> %(traits)s",
        "vcpus_free >= %(VCPU)s AND memory_mb_free >= %(MEMORY_MB)s AND disk_gb_free >= %(DISK_GB)s",
        *(_QUALITIES[name](value, parameters) for name, value in request.qualities.items()),
    ]
    matches = f"FROM hosts WHERE {' AND '.join(filter(None, conditions))}"
    if "order" in request.qualities:
        return f"SELECT name {matches} ORDER BY vcpus_free, place LIMIT %(limit)s", parameters
    found = f"""\
(SELECT name {matches} AND place >= %(place)s ORDER BY place LIMIT %(limit)s)
UNION ALL
(SELECT name {matches} AND place < %(place)s ORDER BY place LIMIT %(limit)s)
LIMIT %(limit)s"""
    if "gang" in request.qualities:
        parameters["limit"] = request.qualities["gang"]
        found = f"WITH gang AS ({found}) SELECT name FROM gang WHERE (SELECT count(*) FROM gang) = %(limit)s"
    return found, parameters


def _forbidden(names: list[str], parameters: Json) -> str:
    parameters["forbidden"] = names
    return "NOT traits && %(forbidden)s"


def _any_of(lists: list[list[str]], parameters: Json) -> str:
    parameters.update({f"any_{number}": names for number, names in enumerate(lists)})
    return " AND ".join(f"traits && %(any_{number})s" for number in range(len(lists)))


def _member_of(lists: list[list[str]], parameters: Json) -> str:
    parameters.update({f"member_{number}": names for number, names in enumerate(lists)})
    return " AND ".join(f"aggregates && %(member_{number})s" for number in range(len(lists)))


def _not_member_of(names: list[str], parameters: Json) -> str:
    parameters["not_member"] = names
    return "NOT aggregates && %(not_member)s"


def _hypervisor_at_least(text: str, parameters: Json) -> str:
    parameters["hypervisor"] = list(version_key(text))
    return "hypervisor >= %(hypervisor)s::integer[]"


def _numa(asks: list[dict[str, int]], parameters: Json) -> str:
    """A join of the cells with themselves: each ask has another one."""
    tables, terms = [], []
    for number, ask in enumerate(asks):
        parameters.update({f"{name}_{number}": amount for name, amount in ask.items()})
        tables.append(f"cells c{number}")
        terms.append(
            f"c{number}.host = hosts.id AND c{number}.cpus_free >= %(cpus_{number})s"
            f" AND c{number}.memory_mb_free >= %(memory_mb_{number})s"
        )
        terms += [f"c{number}.cell <> c{other}.cell" for other in range(number)]
    return f"EXISTS (SELECT FROM {', '.join(tables)} WHERE {' AND '.join(terms)})"


def _device(ask: Json, parameters: Json) -> str:
    terms = ["d.host = hosts.id", "consumer IS NULL"]
    for name, operator in (("vendor", "="), ("product", "="), ("memory_mb", ">="), ("driver", ">=")):
        if name in ask:
            parameters[f"device_{name}"] = ask[name]
            terms.append(f"d.{name} {operator} %(device_{name})s")
    if ask["count"] == 1:
        return f"EXISTS (SELECT FROM devices d WHERE {' AND '.join(terms)})"
    parameters["devices"] = ask["count"]
    return f"(SELECT count(*) FROM devices d WHERE {' AND '.join(terms)}) >= %(devices)s"


def _near(ask: Json, parameters: Json) -> str:
    parameters.update({f"near_{name}": value for name, value in ask.items()})
    return """\
EXISTS (SELECT FROM cells c JOIN devices d USING (host, cell) JOIN nics n USING (host, cell)
    WHERE c.host = hosts.id AND c.cpus_free >= %(near_cpus)s AND c.memory_mb_free >= %(near_memory_mb)s
    AND d.vendor = %(near_vendor)s AND d.product = %(near_product)s AND d.consumer IS NULL AND n.functions_free > 0)"""


def _gpu_share(ask: Json, parameters: Json) -> str:
    parameters.update({f"gpu_{name}": value for name, value in ask.items()})
    return "EXISTS (SELECT FROM gpus WHERE host = hosts.id AND model = %(gpu_model)s AND milli_free >= %(gpu_milli)s)"


def _bandwidth(ask: Json, parameters: Json) -> str:
    parameters.update({f"net_{name}": value for name, value in ask.items()})
    return """\
EXISTS (SELECT FROM nics WHERE host = hosts.id AND network = %(net_network)s AND kilobits_free >= %(net_kilobits)s)"""


def _disk_gb(amount: int, parameters: Json) -> str:
    parameters["disk_gb"] = amount
    return """\
(disk_gb_free >= %(disk_gb)s OR pool IN (SELECT pools.name FROM pools WHERE pools.disk_gb_free >= %(disk_gb)s))"""


def _apart_from(ask: Json, parameters: Json) -> str:
    parameters["apart_from"] = ask["group"]
    return "NOT EXISTS (SELECT FROM group_members WHERE server_group = %(apart_from)s AND host = hosts.id)"


def _spread(ask: Json, parameters: Json) -> str:
    parameters.update(spread=ask["group"], max_skew=ask["max_skew"])
    return """\
zone IN (
    WITH zones AS (SELECT DISTINCT zone FROM hosts),
    counts AS (
        SELECT zone, (SELECT count(*) FROM group_members m JOIN hosts h ON h.id = m.host
            WHERE server_group = %(spread)s AND h.zone = zones.zone) AS members FROM zones
    )
    SELECT zone FROM counts WHERE members < (SELECT min(members) FROM counts) + %(max_skew)s
)"""


def _in_the_statement(_value: Any, _parameters: Json) -> str:
    """What is no condition of one host."""
    return ""


_QUALITIES: Final[Mapping[str, Callable[[Any, Json], str]]] = {
    "forbidden": _forbidden,
    "any_of": _any_of,
    "member_of": _member_of,
    "not_member_of": _not_member_of,
    "hypervisor_at_least": _hypervisor_at_least,
    "numa": _numa,
    "device": _device,
    "near": _near,
    "gpu_share": _gpu_share,
    "bandwidth": _bandwidth,
    "disk_gb": _disk_gb,
    "apart_from": _apart_from,
    "spread": _spread,
    "gang": _in_the_statement,
    "order": _in_the_statement,
}
