"""NUMA_CELL: a whole NUMA cell as one record: CPUs by core, memory, and hugepages of each size.

A cell is asked for CPUs to itself (`pinned`, with a thread policy), for a share of those that all use (`shared`), and
for memory in pages of some size; all of an ask comes from the one cell, or none. What is granted names the CPUs.

    a node reports   {"cell": 0, "cores": [[0, 16], [1, 17], [2, 18]], "shared_cpus": [2, 18],
                      "cpu_ratio_milli": 4000, "memory_mb": 65536, "hugepages": {"2048": 512, "1048576": 4}}
    an ask           {"pinned": 2, "threads": "isolate", "memory_mb": 1024, "page_kib": 2048}
    a grant          {"cell": 0, "cpus": [0, 1], "threads": "isolate", "memory_mb": 1024, "page_kib": 2048, "pages": 512}

A grant's CPUs are in the order of the guest's vCPUs; `pages` is there for hugepages only.

The rules are those of OpenStack Nova's NUMA topologies: see `numa_pinning` for the thread policies; a guest has no
more shared vCPUs than the cell has shared CPUs; memory that is asked for in large pages is a whole number of them.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import msgspec
from msgspec.structs import astuple, replace

from vacancy.resources.classes.numa_pinning import Core, Policy, most, pick
from vacancy.resources.classes.quantity import RATIO_MILLI_MAX
from vacancy.resources.classes.resource_class import Exactness, Granted, ResourceClass, Shortfall, Term
from vacancy.resources.model.errors import InvalidRecord, UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CPU_MAX = 65_535
CPUS_MAX = 4_096
"""CPUs of one cell."""
MEMORY_MB_MAX = 2**43 - 1
"""So that the same in KiB stays below the largest amount."""
PAGES_MAX = 2**27
"""Pages of one size: with the largest page the same limit."""
PAGE_KIB_MAX = 2**26

_2M, _1G = 2_048, 1_048_576

_Cpu = Annotated[int, msgspec.Meta(ge=0, le=CPU_MAX)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=CPUS_MAX)]
_Memory = Annotated[int, msgspec.Meta(ge=0, le=MEMORY_MB_MAX)]
_PageKib = Annotated[int, msgspec.Meta(ge=4, le=PAGE_KIB_MAX)]
_Pages = Annotated[int, msgspec.Meta(ge=0, le=PAGES_MAX)]
_SizeText = Annotated[str, msgspec.Meta(pattern=r"\A[1-9][0-9]{0,7}\Z")]


class NumaCellInventory(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a node reports.

    `cores` lists the CPUs (the kernel's numbers) of each core, siblings together. They are for pinning, but for
    those that are also in `shared_cpus` (all use them) or in `reserved_cpus` (the host's own). `shared_cpus` serve
    `cpu_ratio_milli` / 1000 vCPUs each. `memory_mb` is in small pages, of `page_kib` each, without what is set
    aside in `hugepages` (size of a page in KiB -> how many). `cell` is the host's number of the cell.
    """

    cores: Annotated[
        list[Annotated[list[_Cpu], msgspec.Meta(min_length=1)]], msgspec.Meta(max_length=CPUS_MAX)
    ] = []
    shared_cpus: Annotated[list[_Cpu], msgspec.Meta(max_length=CPUS_MAX)] = []
    reserved_cpus: Annotated[list[_Cpu], msgspec.Meta(max_length=CPUS_MAX)] = []
    cpu_ratio_milli: Annotated[int, msgspec.Meta(ge=1, le=RATIO_MILLI_MAX)] = 1000
    memory_mb: _Memory = 0
    page_kib: Literal[4, 16, 64] = 4
    hugepages: Annotated[dict[_SizeText, _Pages], msgspec.Meta(max_length=16)] = {}
    cell: Annotated[int, msgspec.Meta(ge=0, le=CPU_MAX)] | None = None


class NumaCellAsk(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is asked of one cell: vCPUs of their own, vCPUs on the shared CPUs, memory in MiB.

    `page_kib` is the size of its pages in KiB, or `small` (the host's usual ones), `large` (the largest hugepages
    that fit) or `any` (the largest pages that fit), as in Nova's hw:mem_page_size.
    """

    pinned: _Count = 0
    threads: Policy = "prefer"
    shared: _Count = 0
    memory_mb: _Memory = 0
    page_kib: _PageKib | Literal["small", "large", "any"] = "small"


class NumaCellRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A cell, and what is used of it. All tuples ascend.

    `used` are the CPUs that are pinned to someone; `isolated` those among them whose core is closed to all others.
    `pages` and `pages_used` are (KiB, pages).
    """

    cell: int
    cores: tuple[tuple[int, ...], ...]
    shared: tuple[int, ...]
    reserved: tuple[int, ...]
    ratio_milli: int
    memory_mb: int
    page_kib: int
    pages: tuple[tuple[int, int], ...]
    used: tuple[int, ...] = ()
    isolated: tuple[int, ...] = ()
    shared_used: int = 0
    memory_used_mb: int = 0
    pages_used: tuple[tuple[int, int], ...] = ()

    @property
    def shared_capacity(self) -> int:
        """How many vCPUs the shared CPUs serve."""
        return len(self.shared) * self.ratio_milli // 1000

    def free_cores(self) -> list[Core]:
        """The cores that have a CPU to give."""
        taken = frozenset(self.used)
        kept = taken.union(self.shared, self.reserved) if self.shared or self.reserved else taken
        closed = frozenset(self.isolated)
        found = []
        for core in self.cores:
            if kept.isdisjoint(core):  # as most are; who is isolated is among those that are taken
                found.append(Core(len(core), core))
            elif closed.isdisjoint(core) and (free := tuple([cpu for cpu in core if cpu not in kept])):
                found.append(Core(len(core), free))
        return found

    def free_mb(self, page_kib: int) -> int:
        """MiB that are free in pages of that size."""
        if page_kib == self.page_kib:
            return self.memory_mb - self.memory_used_mb
        return self.free_pages(page_kib) * page_kib // 1024

    def free_pages(self, page_kib: int) -> int:
        """Hugepages of that size that are free."""
        return dict(self.pages).get(page_kib, 0) - dict(self.pages_used).get(page_kib, 0)


_COLUMNS = (
    "free",
    "capacity",
    "pinned_free",
    "cores_free",
    "siblings_free",
    "shared_free",
    "shared_max",
    "memory_free_mb",
    "largest_free_mb",
    "pages_2m_free",
    "pages_1g_free",
)
_HEAD = struct.Struct(f"<{len(_COLUMNS)}q")
_POLICY_COLUMN: Mapping[Policy, str] = {
    "prefer": "pinned_free",
    "isolate": "cores_free",
    "require": "siblings_free",
}
_COUNTED_SIZES = ("small", _2M, _1G)
"""The pages that have a column of their own."""
_decoder = msgspec.msgpack.Decoder(NumaCellRecord)


class NumaCell(ResourceClass[NumaCellRecord]):
    """The class. A record's encoding begins with its columns, so that a view loads without decoding."""

    columns: ClassVar[tuple[str, ...]] = _COLUMNS
    consumable_columns: ClassVar[tuple[str, ...]] = tuple(
        name for name in _COLUMNS if name not in ("capacity", "shared_max")
    )

    def __init__(self, name: str = "NUMA_CELL") -> None:
        self.name = name

    # -- write ------------------------------------------------------------------------------------------

    def report(self, inventory: Mapping[str, Any], old: NumaCellRecord | None) -> NumaCellRecord:
        try:
            new = msgspec.convert(inventory, NumaCellInventory)
        except msgspec.ValidationError as error:
            raise InvalidRecord(f"{self.name}: {error}") from None
        said = NumaCellRecord(
            -1 if new.cell is None else new.cell,
            tuple(sorted(tuple(sorted(core)) for core in new.cores)),
            tuple(sorted(new.shared_cpus)),
            tuple(sorted(new.reserved_cpus)),
            new.cpu_ratio_milli,
            new.memory_mb,
            new.page_kib,
            tuple(sorted((int(size), count) for size, count in new.hugepages.items())),
        )
        _check(said)
        return said if old is None else _with_use(said, old)

    def withdraw(self, record: NumaCellRecord) -> NumaCellRecord:
        return replace(record, cores=(), shared=(), reserved=(), memory_mb=0, pages=())

    def in_use(self, record: NumaCellRecord) -> bool:
        return bool(record.used or record.shared_used or record.memory_used_mb or record.pages_used)

    def claim(self, record: NumaCellRecord, ask: Any, *, no_worse: bool = False) -> Granted | Shortfall:
        # `asks_no_more` never says that an ask is no worse: CPUs are given by number, and what a consumer had may be gone.
        try:
            wanted = _read(ask)
        except UsageError:
            return Shortfall("bad_ask", 0, 0)
        grant: dict[str, Any] = {} if record.cell < 0 else {"cell": record.cell}
        if wanted.pinned:
            cores = record.free_cores()
            cpus = pick(cores, wanted.pinned, wanted.threads)
            if cpus is None:
                return Shortfall("no_room", wanted.pinned, most(cores, wanted.threads))
            isolated = record.isolated
            if wanted.threads == "isolate":
                isolated = tuple(sorted((*isolated, *cpus)))
            record = replace(record, used=tuple(sorted((*record.used, *cpus))), isolated=isolated)
            grant["cpus"] = cpus
            if wanted.threads != "prefer":
                grant["threads"] = wanted.threads
        if wanted.shared:
            free = record.shared_capacity - record.shared_used
            if wanted.shared > len(record.shared):
                return Shortfall("above_max_unit", wanted.shared, len(record.shared))
            if wanted.shared > free:
                return Shortfall("no_room", wanted.shared, free)
            record = replace(record, shared_used=record.shared_used + wanted.shared)
            grant["shared"] = wanted.shared
        return _claim_memory(record, wanted, grant) if wanted.memory_mb else Granted(record, grant)

    def release(self, record: NumaCellRecord, grant: Any) -> NumaCellRecord:
        gone = frozenset(grant.get("cpus", ()))
        used, isolated = record.used, record.isolated
        if gone:
            used = tuple(cpu for cpu in used if cpu not in gone)
            isolated = tuple(cpu for cpu in isolated if cpu not in gone)
        after = replace(
            record, used=used, isolated=isolated, shared_used=record.shared_used - grant.get("shared", 0)
        )
        if "pages" in grant:
            return _use_pages(after, grant["page_kib"], -grant["pages"])
        return replace(after, memory_used_mb=after.memory_used_mb - grant.get("memory_mb", 0))

    def encode(self, record: NumaCellRecord) -> bytes:
        return _HEAD.pack(*self.row(record)) + msgspec.msgpack.encode(record)

    def decode(self, data: bytes) -> NumaCellRecord:
        return _decoder.decode(memoryview(data)[_HEAD.size :])

    # -- amounts ----------------------------------------------------------------------------------------

    def amount_of(self, grant: Any) -> int:
        return len(grant.get("cpus", ())) + int(grant.get("shared", 0))

    # -- query ------------------------------------------------------------------------------------------

    def check_ask(self, ask: Any) -> None:
        _read(ask)

    def query(self, ask: Any) -> tuple[Term, ...]:
        wanted = _read(ask)
        terms = []
        if wanted.pinned:
            terms.append(Term(_POLICY_COLUMN[wanted.threads], ">=", wanted.pinned))
        if wanted.shared:
            terms += [Term("shared_free", ">=", wanted.shared), Term("shared_max", ">=", wanted.shared)]
        if wanted.memory_mb:
            terms.append(_memory_term(wanted))
        return tuple(terms)

    def exactness(self, ask: Any) -> Exactness:
        wanted = _read(ask)
        has_column = not wanted.memory_mb or wanted.page_kib in _COUNTED_SIZES
        return Exactness.EXACT_NEXT if has_column else Exactness.NEEDS_CLAIM

    def row(self, record: NumaCellRecord) -> tuple[int, ...]:
        cores = record.free_cores()
        kept = frozenset((*record.shared, *record.reserved))
        pinned_free = most(cores, "prefer")
        shared_free = record.shared_capacity - record.shared_used
        memory_free_mb = record.memory_mb - record.memory_used_mb
        return (
            pinned_free + shared_free,
            sum(cpu not in kept for core in record.cores for cpu in core) + record.shared_capacity,
            pinned_free,
            most(cores, "isolate"),
            most(cores, "require"),
            shared_free,
            len(record.shared),
            memory_free_mb,
            max((memory_free_mb, *(record.free_mb(size) for size, _ in record.pages))),
            record.free_pages(_2M),
            record.free_pages(_1G),
        )

    def project(self, encoded: Sequence[bytes]) -> NDArray[np.int64]:
        import numpy as np

        heads = b"".join([data[: _HEAD.size] for data in encoded])
        table = np.frombuffer(heads, dtype="<i8").reshape(len(encoded), len(_COLUMNS))
        return table.T.astype(np.int64)


# -- inventories ------------------------------------------------------------------------------------------


def _check(record: NumaCellRecord) -> None:
    """Raise `InvalidRecord` where lists contradict each other."""
    in_cores = [cpu for core in record.cores for cpu in core]
    for what, cpus in (
        ("is in two cores", in_cores),
        ("is shared or reserved twice", [*record.shared, *record.reserved]),
    ):
        if len(cpus) > CPUS_MAX:
            raise InvalidRecord(f"NUMA_CELL: {len(cpus)} CPUs are more than the {CPUS_MAX} of a cell")
        if len(set(cpus)) < len(cpus):
            raise InvalidRecord(f"NUMA_CELL: a CPU {what}")
    for size, _ in record.pages:
        if size & (size - 1) or not record.page_kib < size <= PAGE_KIB_MAX:
            raise InvalidRecord(f"NUMA_CELL: there are no hugepages of {size} KiB")


def _with_use(said: NumaCellRecord, old: NumaCellRecord) -> NumaCellRecord:
    """What is said now, with what was used before, even where it no longer fits."""
    use = astuple(old)[8:]
    return NumaCellRecord(*astuple(said)[:8], *use)


# -- memory -----------------------------------------------------------------------------------------------


def _claim_memory(record: NumaCellRecord, wanted: NumaCellAsk, grant: dict[str, Any]) -> Granted | Shortfall:
    memory_mb = wanted.memory_mb
    sizes = _sizes(record, wanted.page_kib)
    whole = [size for size in sizes if memory_mb * 1024 % size == 0]
    if sizes and not whole:
        return Shortfall("off_step", memory_mb, max(1, sizes[-1] // 1024))
    for size in whole:
        if memory_mb > record.free_mb(size):
            continue
        grant = {**grant, "memory_mb": memory_mb, "page_kib": size}
        if size == record.page_kib:
            return Granted(replace(record, memory_used_mb=record.memory_used_mb + memory_mb), grant)
        pages = memory_mb * 1024 // size
        return Granted(_use_pages(record, size, pages), {**grant, "pages": pages})
    return Shortfall("no_room", memory_mb, max((record.free_mb(size) for size in whole), default=0))


def _sizes(record: NumaCellRecord, page_kib: int | str) -> list[int]:
    """The sizes of pages that serve an ask, the one to be taken first first."""
    large = [size for size, _ in reversed(record.pages)]
    if page_kib == "small":
        return [record.page_kib]
    if page_kib == "large":
        return large
    everything = [*large, record.page_kib]
    return everything if page_kib == "any" else [size for size in everything if size == page_kib]


def _use_pages(record: NumaCellRecord, page_kib: int, pages: int) -> NumaCellRecord:
    used = dict(record.pages_used)
    used[page_kib] = used.get(page_kib, 0) + pages
    return replace(record, pages_used=tuple(sorted((size, count) for size, count in used.items() if count)))


def _memory_term(wanted: NumaCellAsk) -> Term:
    if wanted.page_kib == "small":
        return Term("memory_free_mb", ">=", wanted.memory_mb)
    if wanted.page_kib == _2M:
        return Term("pages_2m_free", ">=", wanted.memory_mb * 1024 // _2M)
    if wanted.page_kib == _1G:
        return Term("pages_1g_free", ">=", wanted.memory_mb * 1024 // _1G)
    return Term("largest_free_mb", ">=", wanted.memory_mb)


# -- asks -------------------------------------------------------------------------------------------------


def _read(ask: Any) -> NumaCellAsk:
    """The ask. Raises `UsageError` where it cannot be meant."""
    try:
        if not isinstance(ask, dict):
            raise msgspec.ValidationError("it is asked for by an object, not by an amount")
        wanted = msgspec.convert(ask, NumaCellAsk)
    except msgspec.ValidationError as error:
        raise UsageError(f"NUMA_CELL: {error}", do=_DO) from None
    if not wanted.pinned and not wanted.shared and not wanted.memory_mb:
        raise UsageError("NUMA_CELL: nothing is asked for", do=_DO)
    if wanted.threads != "prefer" and not wanted.pinned:
        raise UsageError(
            f"NUMA_CELL: threads {wanted.threads} is about pinned CPUs, and none are asked for",
            do="ask for some with pinned, or leave threads out",
        )
    if wanted.page_kib != "small" and not wanted.memory_mb:
        raise UsageError("NUMA_CELL: page_kib says nothing without memory_mb", do="say how much memory_mb")
    size = wanted.page_kib if isinstance(wanted.page_kib, int) else 4
    if size & (size - 1) or wanted.memory_mb * 1024 % size:
        raise UsageError(
            f"NUMA_CELL: {wanted.memory_mb} MiB are not in whole pages of {size} KiB",
            do="pages are powers of two KiB (2048, 1048576); ask for a multiple",
        )
    return wanted


_DO = 'write {"pinned": 4, "threads": "isolate", "memory_mb": 8192, "page_kib": 2048}, or use --numa'
