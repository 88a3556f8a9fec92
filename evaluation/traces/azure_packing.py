"""Reads Azure's trace for packing: `packing_trace_zone_a_v1.sqlite` of the repository Azure/AzurePublicDataset.

Hadary et al., "Protean: VM Allocation Service at Scale", OSDI 2020. Table `vm` has the requests: `vmId`, `vmTypeId`,
`starttime` and `endtime` in days (NULL: it does not end in the trace; less than 0: it started before). Table `vmType` says what
a type takes of each kind of machine that can run it (`machineId`), as fractions of that machine: `core`, `memory`, `hdd`, `ssd`,
`nic`. The trace has no list of machines, so their number is given.

A machine is one provider that has a million of each resource. A request names the kinds of machines that can run it as
alternatives, each with its own amounts. They are in another order for each request, because the first one that fits is taken.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final, NamedTuple

from pydantic import ValidationError

from evaluation.traces.trace import Pod, Trace, Tree
from vacancy.resources.model.errors import UsageError
from vacancy.resources.model.events import ProviderReport
from vacancy.resources.model.request import ALTERNATIVES_MAX, RequestGroup, RequestSpec, RequestSpecV2

WHOLE: Final = 1_000_000
"""What a machine has of each resource. The fractions of the trace have six decimals."""

RESOURCES: Final = ("core", "memory", "hdd", "ssd", "nic")
"""In the order of the columns of `_TYPES`."""

MEASURED: Final = "CUSTOM_CORE_SHARE"
KINDS_MAX: Final = 1 + ALTERNATIVES_MAX
"""Of how many kinds of machines a request can name one."""

_DAY_S: Final = 86_400
_VMS: Final = "SELECT vmId, vmTypeId, starttime, endtime FROM vm WHERE vmTypeId IS NOT NULL ORDER BY starttime, vmId LIMIT ?"
_TYPES: Final = (
    "SELECT vmTypeId, machineId, core, memory, hdd, ssd, nic FROM vmType ORDER BY vmTypeId, machineId"
)


class _Option(NamedTuple):
    """A kind of machine that can run a type of VM, and what the VM takes of it, in millionths."""

    machine: int
    amounts: dict[str, int]


def load_azure(path: Path, machines: int, limit: int | None = None) -> Trace:
    """Load the first `limit` requests (None: all), and make `machines` machines: of each kind in proportion to the requests
    that can run on it, and at least one.

    Raises `UsageError` for a file that is not the trace, for an invalid row, and where there are more kinds than `machines`.
    """
    if not path.is_file():
        raise UsageError(
            "the trace cannot be read: there is no such file",
            where=str(path),
            do="get packing_trace_zone_a_v1.sqlite from github.com/Azure/AzurePublicDataset and name it",
        )
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as db:
            types = _types(db, path)
            pods = list(_pods(db, path, types, -1 if limit is None else limit))
    except sqlite3.Error as error:
        raise UsageError(
            f"the file is not Azure's trace for packing: {error}",
            where=str(path),
            do="name packing_trace_zone_a_v1.sqlite, a SQLite file with the tables vm and vmType",
        ) from None
    if not pods:
        raise UsageError("the trace has no requests", where=str(path), do="name the whole file")
    return Trace(_machines(pods, machines), [pod for pod, _ in pods], MEASURED, _notes(types))


def _notes(types: dict[int, list[_Option]]) -> tuple[str, ...]:
    large = sum(len(options) > KINDS_MAX for options in types.values())
    if not large:
        return ()
    return (
        f"{large} types of VMs run on more than {KINDS_MAX} kinds of machines: each of their requests names {KINDS_MAX}",
    )


def _types(db: sqlite3.Connection, path: Path) -> dict[int, list[_Option]]:
    """Type of VM -> the machines that can run it."""
    found: dict[int, list[_Option]] = {}
    for type_, machine, *shares in db.execute(_TYPES):
        amounts = {
            f"CUSTOM_{name.upper()}_SHARE": _millionths(share, f"type {type_}, machine {machine}", name, path)
            for name, share in zip(RESOURCES, shares, strict=True)
        }
        taken = {name: amount for name, amount in amounts.items() if amount}
        if taken:
            found.setdefault(type_, []).append(_Option(machine, taken))
    return found


def _millionths(share: Any, row: str, column: str, path: Path) -> int:
    if share is None:
        return 0
    if not isinstance(share, int | float) or not 0 <= share <= 1:
        raise _invalid(f"{column} is {share!r}, not a fraction from 0 to 1", f"{path}, vmType, {row}")
    return round(share * WHOLE)


def _pods(
    db: sqlite3.Connection, path: Path, types: dict[int, list[_Option]], limit: int
) -> Iterator[tuple[Pod, Sequence[_Option]]]:
    requests: dict[tuple[int, int], RequestSpec] = {}
    for number, (vm, type_, start, end) in enumerate(db.execute(_VMS, (limit,))):
        where = f"{path}, vm, {vm}"
        options = types.get(type_)
        if options is None:
            raise _invalid(f"vmTypeId is {type_!r}, which vmType does not have", where)
        if not isinstance(start, int | float) or not isinstance(end, int | float | None):
            raise _invalid(f"starttime is {start!r} and endtime {end!r}, not numbers of days", where)
        if end is not None and end < start:
            raise _invalid(f"endtime {end} is before starttime {start}", where)
        first = number % len(options)
        named = [*options[first:], *options[:first]][:KINDS_MAX]
        spec = requests.get((type_, first))
        if spec is None:
            spec = requests[type_, first] = _request(named, where)
        created_s, deleted_s = round(start * _DAY_S), None if end is None else round(end * _DAY_S)
        yield Pod(f"vm-{vm}", spec, named[0].amounts.get(MEASURED, 0), created_s, deleted_s), named


def _request(options: Sequence[_Option], where: str) -> RequestSpec:
    try:
        first, *others = (
            RequestSpec(
                groups=(RequestGroup(resources=dict(option.amounts), required=(_kind(option.machine),)),)
            )
            for option in options
        )
    except ValidationError as error:
        raise _invalid(error.errors(include_url=False)[0]["msg"], where) from None
    return RequestSpecV2(groups=first.groups, alternatives=tuple(others)) if others else first


def _kind(machine: int) -> str:
    """The trait of machines of a kind."""
    return f"CUSTOM_MACHINE_{machine}"


def _machines(pods: Sequence[tuple[Pod, Sequence[_Option]]], machines: int) -> list[Tree]:
    weights: Counter[int] = Counter()
    for _, options in pods:
        for option in options:
            weights[option.machine] += 1
    if machines < len(weights):
        raise UsageError(
            f"the requests name {len(weights)} kinds of machines, and there are {machines} machines",
            do=f"give --machines {len(weights)} or more",
        )
    counts = dict.fromkeys(sorted(weights), 1)
    for _ in range(machines - len(counts)):
        counts[min(counts, key=lambda kind: (counts[kind] / weights[kind], kind))] += 1
    return [
        (
            ProviderReport(
                id=f"machine-{kind}-{number}",
                inventories={f"CUSTOM_{name.upper()}_SHARE": {"total": WHOLE} for name in RESOURCES},
                traits=(_kind(kind),),
            ),
        )
        for kind, count in counts.items()
        for number in range(count)
    ]


def _invalid(what: str, where: str) -> UsageError:
    return UsageError(f"invalid row of the trace: {what}", where=where, do="correct or remove the row")
