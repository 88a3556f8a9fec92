"""Hosts with many qualities in Cassandra: one row for each host, with columns for what CQL can compare and a document with the rest.

CQL compares columns of the row: amounts, versions, and whether a set contains a name. It has no negation of that, no alternatives, and no
look into a document. So the statement narrows the hosts down as far as it can, and the scheduler's filter looks through the rest. Where
the statement compares everything, there is no filter.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import msgspec
from cassandra.concurrent import execute_concurrent_with_args

from evaluation.candidates.candidate import Expression, Request
from evaluation.candidates.client_filter import Hosts, expressed_by_filter
from evaluation.candidates.myriad_fleet import MyriadFleet, version_key

_TABLE: Final = """\
CREATE TABLE cell.hosts (
    name text PRIMARY KEY, traits set<text>, aggregates set<text>, hypervisor bigint,
    vcpu bigint, memory_mb bigint, disk_gb bigint, document text
)"""
SCHEMA: Final = (
    _TABLE,
    "CREATE INDEX host_traits ON cell.hosts (traits) USING 'sai'",
    "CREATE INDEX host_aggregates ON cell.hosts (aggregates) USING 'sai'",
    "CREATE TABLE cell.pools (name text PRIMARY KEY, free bigint)",
)
_INSERT: Final = (
    "INSERT INTO cell.hosts (name, traits, aggregates, hypervisor, vcpu, memory_mb, disk_gb, document)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
_COLUMNS: Final = {"VCPU": "vcpu", "MEMORY_MB": "memory_mb", "DISK_GB": "disk_gb"}
_IN_CQL: Final = frozenset(("hypervisor_at_least", "gang"))
"""The qualities that a statement compares. Of lists of aggregates it compares those with one name."""

_LOADS_AT_ONCE: Final = 64
_TOKENS: Final = 1 << 63
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode

Execute = Callable[[str, Sequence[Any]], Awaitable[list[Any]]]
"""Runs a statement that is prepared once."""


def load(session: Any, fleet: MyriadFleet) -> None:
    """Make the tables and load a fleet."""
    for statement in SCHEMA:
        session.execute(statement)
    rows = [
        (
            host.name,
            set(host.traits),
            set(host.aggregates),
            _number(host.hypervisor),
            *(host.free[name] for name in _COLUMNS),
            _encode(host.as_json()).decode(),
        )
        for host in fleet.hosts
    ]
    execute_concurrent_with_args(session, session.prepare(_INSERT), rows, concurrency=_LOADS_AT_ONCE)
    insert_pool = session.prepare("INSERT INTO cell.pools (name, free) VALUES (?, ?)")
    execute_concurrent_with_args(session, insert_pool, list(fleet.pools.items()))


def _number(version: str) -> int:
    """A version as one number, which a column can compare."""
    major, minor, patch = (*version_key(version), 0, 0)[:3]
    return (major * 1000 + minor) * 1000 + patch


def statement(request: Request, columns: str) -> tuple[str, list[Any]]:
    """The statement for what CQL can compare of a request, and its values. Its last values are a limit and, if it has one, a token."""
    terms = ["traits CONTAINS ?"] * len(request.required)
    values: list[Any] = list(request.required)
    for name, amount in request.resources.items():
        terms.append(f"{_COLUMNS[name]} >= ?")
        values.append(amount)
    if "hypervisor_at_least" in request.qualities:
        terms.append("hypervisor >= ?")
        values.append(_number(request.qualities["hypervisor_at_least"]))
    for names in request.qualities.get("member_of", ()):
        if len(names) == 1:
            terms.append("aggregates CONTAINS ?")
            values.append(names[0])
    return f"SELECT {columns} FROM cell.hosts WHERE {' AND '.join(terms)}", values


def is_all_in_cql(request: Request) -> bool:
    """Whether the statement compares all that is asked."""
    return all(
        name in _IN_CQL or (name == "member_of" and all(len(names) == 1 for names in value))
        for name, value in request.qualities.items()
    )


async def find(execute: Execute, request: Request, limit: int, draw: random.Random) -> list[str]:
    """Up to `limit` hosts that serve a request."""
    if is_all_in_cql(request):
        return await _find_in_cql(execute, request, limit, draw)
    text, values = statement(request, "document")
    rows = await execute(f"{text} ALLOW FILTERING", values)
    hosts = Hosts(_decode(row.document) for row in rows)
    if "disk_gb" in request.qualities:
        hosts.pools = {row.name: row.free for row in await execute("SELECT name, free FROM cell.pools", ())}
    if "spread" in request.qualities:
        await _add_members(execute, hosts, request.qualities["spread"]["members"])
    return hosts.find(request, limit, draw)


async def _find_in_cql(execute: Execute, request: Request, limit: int, draw: random.Random) -> list[str]:
    """From a random token on, then those before it. A gang is all or nothing."""
    text, values = statement(request, "name")
    size = request.qualities.get("gang", 0)
    most, names = size or limit, list[str]()
    token = draw.randrange(-_TOKENS, _TOKENS)
    for comparison in (">", "<="):
        more = f"{text} AND token(name) {comparison} ? LIMIT ? ALLOW FILTERING"
        names += [row.name for row in await execute(more, [*values, token, most - len(names)])]
        if len(names) >= most:
            break
    return [] if len(names) < size else names


async def _add_members(execute: Execute, hosts: Hosts, members: list[str]) -> None:
    """Get the hosts of the members of a group. They are not in the rows if they are full."""
    for member in members:
        if member not in hosts.host_of:
            name = [member.removeprefix("in-")]
            for row in await execute("SELECT document FROM cell.hosts WHERE name = ?", name):
                hosts.put({**_decode(row.document), "free": dict.fromkeys(_COLUMNS, 0)})


def expressed(request: Request) -> Expression:
    """How a request is expressed."""
    text, _ = statement(request, "document")
    if is_all_in_cql(request):
        return Expression("one query", text, (find, _find_in_cql))
    also = (find, _add_members) if "spread" in request.qualities else (find,)
    return Expression("filter in the client", f"{text}; then {expressed_by_filter(request).text}", also)
