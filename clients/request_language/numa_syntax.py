"""The ask syntax of NUMA cells: a guest's NUMA topology, in the terms of OpenStack Nova's flavors, as request groups.

Each NUMA cell of the guest becomes a request group, `numa0`, `numa1` and so on, that asks for a part of one NUMA_CELL of
the host. With group policy `isolate`, no NUMA cell of the host serves two of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Final, Literal

import msgspec
from pydantic import JsonValue

from vacancy.clients.request_language.ask_syntax import AskSyntax
from vacancy.resources.classes.numa.numa_cell import CPUS_MAX, NumaCell
from vacancy.resources.classes.numa.numa_pinning import Policy
from vacancy.resources.model.core_types import CORE_TYPE_TRAITS, CoreType
from vacancy.resources.model.errors import UsageError
from vacancy.resources.model.request import GROUPS_MAX, RequestGroup, RequestSpec

_UNITS: Final[Mapping[str, int]] = {"": 1, "K": 1, "M": 1024, "G": 1024 * 1024}
_DO: Final = "write cells=2,cpus=8,policy=dedicated,threads=isolate,memory_mb=16384,page=2M"
_PAGE_WORDS: Final = ("small", "large", "any")

_CPUs = Annotated[int, msgspec.Meta(ge=0, le=GROUPS_MAX * CPUS_MAX)]


class GuestTopology(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The NUMA topology of a whole guest. CPUs and memory are those of all its cells together.

    | field | extra spec of a Nova flavor |
    |---|---|
    | `cells` | hw:numa_nodes |
    | `cpus`, `memory_mb` | the flavor's vCPUs and MiB of memory; 0 leaves them to other groups |
    | `policy` | hw:cpu_policy: `dedicated` CPUs to itself, `shared` ones (the default), or `mixed` |
    | `dedicated` | hw:cpu_dedicated_mask: how many of the CPUs, where they are mixed |
    | `threads` | hw:cpu_thread_policy: `prefer` (the default), `isolate` or `require` siblings |
    | `page_kib` | hw:mem_page_size: KiB, or `small` (the default), `large` or `any` |
    | `cores` | none; on hosts with cores of two types: `any` (the default), `performance` or `efficiency` |
    """

    cells: Annotated[int, msgspec.Meta(ge=1, le=GROUPS_MAX)] = 1
    cpus: _CPUs = 0
    policy: Literal["dedicated", "shared", "mixed"] = "shared"
    dedicated: _CPUs | None = None
    threads: Policy = "prefer"
    memory_mb: int = 0
    page_kib: int | Literal["small", "large", "any"] = "small"
    cores: CoreType | Literal["any"] = "any"


class NumaSyntax(AskSyntax):
    """The syntax of NUMA_CELL. The option `--numa` describes a guest; each of its NUMA cells becomes a request group."""

    option: ClassVar[str | None] = "numa"

    def parse_option(self, text: str) -> Sequence[RequestGroup]:
        return numa_groups(parse_topology(text))


def numa_request(
    topology: GuestTopology | Mapping[str, JsonValue], groups: Iterable[RequestGroup] = ()
) -> RequestSpec:
    """The request for a guest of that topology and other `groups`. Raises `UsageError`.

    The cells' groups come last. Where there are several, the group policy is `isolate`, for all groups with a name.
    """
    cells = numa_groups(topology)
    try:
        return RequestSpec(groups=(*groups, *cells), group_policy="isolate" if len(cells) > 1 else "none")
    except ValueError as error:
        raise UsageError(f"the groups do not make one request: {error}", do="rename one") from None


def numa_groups(topology: GuestTopology | Mapping[str, JsonValue]) -> tuple[RequestGroup, ...]:
    """One group for each cell of the guest, all with the same ask. Raises `UsageError`."""
    if not isinstance(topology, GuestTopology):
        try:
            topology = msgspec.convert(dict(topology), GuestTopology)
        except msgspec.ValidationError as error:
            raise UsageError(f"the NUMA topology is invalid: {error}", do=_DO) from None
    ask = _ask(topology)
    NumaCell().check_ask(ask)
    # Hosts with cores of one type have no trait for it. Their cores serve a guest that needs performance cores.
    efficiency = (CORE_TYPE_TRAITS["efficiency"],)
    return tuple(
        RequestGroup(
            name=f"numa{number}",
            resources={"NUMA_CELL": ask},
            required=efficiency if topology.cores == "efficiency" else (),
            forbidden=efficiency if topology.cores == "performance" else (),
        )
        for number in range(topology.cells)
    )


def parse_topology(text: str) -> GuestTopology:
    """`cells=2,cpus=8,policy=mixed,dedicated=4,threads=require,memory_mb=16384,page=2M`. Raises `UsageError`."""
    fields: dict[str, Any] = {}
    for part in text.split(","):
        name, separator, value = (piece.strip() for piece in part.partition("="))
        name = "page_kib" if name == "page" else name
        if not separator or name not in GuestTopology.__struct_fields__:
            known = ", ".join(GuestTopology.__struct_fields__)
            raise UsageError(f"a NUMA topology has no {part!r}, only {known}", where="--numa", do=_DO)
        if name in fields:
            raise UsageError(f"{name} is given twice", where="--numa", do="leave one out")
        fields[name] = _page(value) if name == "page_kib" else int(value) if _is_amount(value) else value
    try:
        return msgspec.convert(fields, GuestTopology)
    except msgspec.ValidationError as error:
        raise UsageError(f"the NUMA topology is invalid: {error}", where="--numa", do=_DO) from None


def _ask(topology: GuestTopology) -> dict[str, JsonValue]:
    """The ask of each NUMA cell of the guest."""
    pinned = {"dedicated": topology.cpus, "shared": 0, "mixed": topology.dedicated}[topology.policy]
    if topology.policy != "mixed" and topology.dedicated is not None:
        raise UsageError(
            f"dedicated is given, and policy {topology.policy} applies to all CPUs",
            do="write policy=mixed, or leave dedicated out",
        )
    if pinned is None or (topology.policy == "mixed" and not 0 < pinned < topology.cpus):
        raise UsageError(
            f"of {topology.cpus} mixed CPUs, {pinned or 'none'} are dedicated",
            do="write dedicated=N, more than 0 and fewer than cpus; or policy=dedicated or policy=shared",
        )
    ask: dict[str, JsonValue] = {}
    for name, amount in (
        ("pinned", pinned),
        ("shared", topology.cpus - pinned),
        ("memory_mb", topology.memory_mb),
    ):
        if amount % topology.cells:
            raise UsageError(
                f"{amount} ({name}) cannot be divided by {topology.cells} cells",
                do="ask for a multiple, or write a group for each cell, in JSON",
            )
        if amount:
            ask[name] = amount // topology.cells
    if topology.threads != "prefer":
        ask["threads"] = topology.threads
    if topology.page_kib != "small":
        ask["page_kib"] = topology.page_kib
    return ask


def _page(text: str) -> int | str:
    """`2M`, `1G`, `4K`, `2048` (KiB) or a word."""
    found = re.fullmatch(r"([1-9][0-9]{0,7})([KMG]?)(?:i?B)?", text)
    if found is not None:
        return int(found[1]) * _UNITS[found[2]]
    if text not in _PAGE_WORDS:
        raise UsageError(
            f"{text!r} is not a page size", where="--numa", do="write 2M, 1G, small, large or any"
        )
    return text


def _is_amount(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 16
