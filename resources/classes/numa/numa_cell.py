"""NUMA_CELL: a whole NUMA cell as one record: CPUs by core, memory, and hugepages of each size.

An ask has up to three parts: exclusive CPUs (`pinned`, with a thread policy), vCPUs on the CPUs that all guests share
(`shared`), and memory in pages of a given size. One NUMA cell serves all parts, or the claim is rejected. A grant names
the CPUs.

    a node reports   {"cell": 0, "cores": [[0, 16], [1, 17], [2, 18]], "shared_cpus": [2, 18],
                      "cpu_ratio_milli": 4000, "memory_mb": 65536, "hugepages": {"2048": 512, "1048576": 4}}
    an ask           {"pinned": 2, "threads": "isolate", "memory_mb": 1024, "page_kib": 2048}
    a grant          {"cell": 0, "cpus": [0, 1], "threads": "isolate", "memory_mb": 1024, "page_kib": 2048, "pages": 512}

A grant's CPUs are in the order of the guest's vCPUs; `pages` is present for hugepages only.

The rules are those of OpenStack Nova's NUMA topologies. `numa_pinning` has the thread policies. A guest has no more
shared vCPUs than the NUMA cell has shared CPUs. Memory in large pages is a whole number of pages.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import msgspec
from msgspec.structs import astuple, replace

from vacancy.resources.classes.numa.numa_pinning import Core, Policy, most, pick, pick_again
from vacancy.resources.classes.quantity import RATIO_MILLI_MAX
from vacancy.resources.classes.resource_class import Exactness, Granted, ResourceClass, Shortfall, Term
from vacancy.resources.model.errors import InvalidRecord, UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CPU_MAX = 65_535
CPUS_MAX = 4_096
"""CPUs of one NUMA cell."""
MEMORY_MB_MAX = 2**43 - 1
"""The bound keeps the same memory in KiB below the largest amount."""
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
    """A node's inventory of one NUMA cell.

    `cores` lists the CPUs (the kernel's numbers) of each core, siblings together. CPUs can be pinned unless they are
    also in `shared_cpus` (all guests use them) or in `reserved_cpus` (the host uses them). Each of `shared_cpus`
    serves `cpu_ratio_milli` / 1000 vCPUs. `memory_mb` is in small pages of `page_kib`, without the memory that is
    reserved in `hugepages` (page size in KiB -> number of pages). `cell` is the host's number of the NUMA cell.
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
    """An ask for one NUMA cell: vCPUs on pinned CPUs, vCPUs on the shared CPUs, memory in MiB.

    `page_kib` is the page size in KiB, or `small` (the host's small pages), `large` (the largest hugepages that fit) or
    `any` (the largest pages that fit), as in Nova's hw:mem_page_size.
    """

    pinned: _Count = 0
    threads: Policy = "prefer"
    shared: _Count = 0
    memory_mb: _Memory = 0
    page_kib: _PageKib | Literal["small", "large", "any"] = "small"


class NumaCellRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A NUMA cell and what is used of it. All tuples are sorted.

    `used` are the pinned CPUs; `isolated` are those of them whose cores serve no other claim. `pages` and `pages_used`
    are (KiB, pages).
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
        """The number of vCPUs that the shared CPUs serve."""
        return len(self.shared) * self.ratio_milli // 1000

    def free_cores(self) -> list[Core]:
        """The cores that have a free CPU."""
        taken = frozenset(self.used)
        kept = taken.union(self.shared, self.reserved) if self.shared or self.reserved else taken
        closed = frozenset(self.isolated)
        found = []
        for core in self.cores:
            if kept.isdisjoint(core):  # the usual case; isolated CPUs are among the used ones
                found.append(Core(len(core), core))
            elif closed.isdisjoint(core) and (free := tuple([cpu for cpu in core if cpu not in kept])):
                found.append(Core(len(core), free))
        return found

    def free_mb(self, page_kib: int) -> int:
        """Free MiB in pages of that size."""
        if page_kib == self.page_kib:
            return self.memory_mb - self.memory_used_mb
        return self.free_pages(page_kib) * page_kib // 1024

    def free_pages(self, page_kib: int) -> int:
        """Free hugepages of that size."""
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
"""The page sizes that have a column of their own."""
_decoder = msgspec.msgpack.Decoder(NumaCellRecord)


class NumaCell(ResourceClass[NumaCellRecord]):
    """The class NUMA_CELL. An encoded record begins with its columns, so that a view loads without decoding records."""

    columns: ClassVar[tuple[str, ...]] = _COLUMNS
    consumable_columns: ClassVar[tuple[str, ...]] = tuple(
        name for name in _COLUMNS if name not in ("capacity", "shared_max")
    )

    more_units: ClassVar[tuple[str, ...]] = ("memory_mb",)

    def __init__(self, name: str = "NUMA_CELL") -> None:
        self.name = name

    # -- write ------------------------------------------------------------------------------------------

    def report(self, inventory: Mapping[str, Any], old: NumaCellRecord | None) -> NumaCellRecord:
        try:
            new = msgspec.convert(inventory, NumaCellInventory)
        except msgspec.ValidationError as error:
            raise InvalidRecord(f"{self.name}: {error}") from None
        reported = NumaCellRecord(
            -1 if new.cell is None else new.cell,
            tuple(sorted(tuple(sorted(core)) for core in new.cores)),
            tuple(sorted(new.shared_cpus)),
            tuple(sorted(new.reserved_cpus)),
            new.cpu_ratio_milli,
            new.memory_mb,
            new.page_kib,
            tuple(sorted((int(size), count) for size, count in new.hugepages.items())),
        )
        _check(reported)
        return reported if old is None else _with_use(reported, old)

    def withdraw(self, record: NumaCellRecord) -> NumaCellRecord:
        return replace(record, cores=(), shared=(), reserved=(), memory_mb=0, pages=())

    def in_use(self, record: NumaCellRecord) -> bool:
        return bool(record.used or record.shared_used or record.memory_used_mb or record.pages_used)

    def claim(self, record: NumaCellRecord, ask: Any, *, no_worse: bool = False) -> Granted | Shortfall:
        # `no_worse` is never set (see `asks_no_more`): CPUs are granted by number, and the CPUs that the consumer had may no
        # longer exist.
        try:
            wanted = _parse(ask)
        except UsageError:
            return Shortfall("bad_ask", 0, 0)
        return _claim(record, wanted, ())

    def reclaim(
        self, record: NumaCellRecord, ask: Any, before: Sequence[Any], *, no_worse: bool = False
    ) -> Granted | Shortfall:
        """The CPUs that were held come first, in the order of the guest's vCPUs. Memory stays in pages of the same size where
        the ask allows it and they are enough."""
        try:
            wanted = _parse(ask)
        except UsageError:
            return Shortfall("bad_ask", 0, 0)
        held = [cpu for grant in before for cpu in grant.get("cpus", ())]
        sizes = {grant["page_kib"] for grant in before if "page_kib" in grant}
        for size in sorted(sizes & set(_sizes(record, wanted.page_kib)), reverse=True):
            if wanted.memory_mb * 1024 % size == 0:
                outcome = _claim(record, replace(wanted, page_kib=size), held)
                if isinstance(outcome, Granted):
                    return outcome
        return _claim(record, wanted, held)

    def grants_no_more(self, before: Sequence[Any], after: Sequence[Any]) -> bool:
        had, has = _together(before), _together(after)
        return all(amount <= had[thing] for thing, amount in has.items())

    def items(self, record: NumaCellRecord) -> int:
        return max(len(record.cores), sum(map(len, record.cores)) // 2, len(record.shared) // 2)

    def claim_reads(self, record: NumaCellRecord, ask: Any) -> int:
        """The CPUs of the cell."""
        return sum(map(len, record.cores)) + len(record.used)

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

    def amounts_of(self, grant: Any, record: NumaCellRecord | None = None) -> Mapping[str, int]:
        """vCPUs, and the memory in pages of any size."""
        cpus, memory_mb = self.amount_of(grant), int(grant.get("memory_mb", 0))
        amounts = {"": cpus} if cpus or not memory_mb else {}
        if memory_mb:
            amounts["memory_mb"] = memory_mb
        return amounts

    # -- query ------------------------------------------------------------------------------------------

    def check_ask(self, ask: Any) -> None:
        _parse(ask)

    def query(self, ask: Any) -> tuple[Term, ...]:
        wanted = _parse(ask)
        terms = []
        if wanted.pinned:
            terms.append(Term(_POLICY_COLUMN[wanted.threads], ">=", wanted.pinned))
        if wanted.shared:
            terms += [Term("shared_free", ">=", wanted.shared), Term("shared_max", ">=", wanted.shared)]
        if wanted.memory_mb:
            terms.append(_memory_term(wanted))
        return tuple(terms)

    def exactness(self, ask: Any) -> Exactness:
        wanted = _parse(ask)
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


# -- claims -------------------------------------------------------------------------------------------------


def _claim(record: NumaCellRecord, wanted: NumaCellAsk, held: Sequence[int]) -> Granted | Shortfall:
    """Claim an ask. `held` are CPUs that its consumer had before."""
    grant: dict[str, Any] = {} if record.cell < 0 else {"cell": record.cell}
    if wanted.pinned:
        cores = record.free_cores()
        cpus = (
            pick_again(cores, wanted.pinned, wanted.threads, held)
            if held
            else pick(cores, wanted.pinned, wanted.threads)
        )
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


def _together(grants: Sequence[Any]) -> Counter[tuple[str, int]]:
    """What grants hold together: CPUs by number, shared vCPUs, MiB by page size."""
    found = Counter[tuple[str, int]]()
    for grant in grants:
        found.update(("cpu", cpu) for cpu in grant.get("cpus", ()))
        found["shared", 0] += grant.get("shared", 0)
        found["memory_mb", grant.get("page_kib", 0)] += grant.get("memory_mb", 0)
    return found


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


def _with_use(reported: NumaCellRecord, old: NumaCellRecord) -> NumaCellRecord:
    """The reported inventory with the use of the old record, even where it no longer fits."""
    use = astuple(old)[8:]
    return NumaCellRecord(*astuple(reported)[:8], *use)


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
    """The page sizes that serve an ask, in the order in which they are tried."""
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


def _parse(ask: Any) -> NumaCellAsk:
    """The parsed ask. Raises `UsageError` where it is invalid."""
    try:
        if not isinstance(ask, dict):
            raise msgspec.ValidationError("an ask is an object, not an amount")
        wanted = msgspec.convert(ask, NumaCellAsk)
    except msgspec.ValidationError as error:
        raise UsageError(f"NUMA_CELL: {error}", do=_DO) from None
    if not wanted.pinned and not wanted.shared and not wanted.memory_mb:
        raise UsageError("NUMA_CELL: the ask is for nothing", do=_DO)
    if wanted.threads != "prefer" and not wanted.pinned:
        raise UsageError(
            f"NUMA_CELL: threads {wanted.threads} applies to pinned CPUs, and the ask has none",
            do="add pinned, or leave threads out",
        )
    if wanted.page_kib != "small" and not wanted.memory_mb:
        raise UsageError("NUMA_CELL: page_kib needs memory_mb", do="add memory_mb, or leave page_kib out")
    size = wanted.page_kib if isinstance(wanted.page_kib, int) else 4
    if size & (size - 1) or wanted.memory_mb * 1024 % size:
        raise UsageError(
            f"NUMA_CELL: {wanted.memory_mb} MiB are not a whole number of pages of {size} KiB",
            do="page sizes are powers of two KiB (2048, 1048576); ask for a multiple",
        )
    return wanted


_DO = 'write {"pinned": 4, "threads": "isolate", "memory_mb": 8192, "page_kib": 2048}, or use --numa'
