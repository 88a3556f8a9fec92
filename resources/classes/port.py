"""Ports of a host: each is given once, for one protocol.

A node reports ranges of ports, and a record has a bit for each port, so that its size and the cost of a claim do not depend
on how many ports are offered or in use. An ask is for named ports or for any ports within ranges; of those the lowest
free ones are granted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from struct import Struct
from typing import Any, ClassVar, Final, NamedTuple

from vacancy.resources.classes.resource_class import Exactness, Granted, ResourceClass, Shortfall, Term
from vacancy.resources.model.errors import InvalidRecord, UsageError

PORT_MAX: Final = 65_535
RANGES_MAX: Final = 64
"""Ranges of one protocol in an inventory, and in an ask."""
COUNT_MAX: Final = 256
"""Ports of one ask."""
PROTOCOLS: Final = ("tcp", "udp")

_DO: Final = 'write 2, or {"count": 1, "ports": [[20000, 32000]], "protocol": "udp"}'
_ASK_FIELDS: Final = frozenset({"count", "ports", "protocol"})
_BITMAP_BYTES: Final = (PORT_MAX + 1) // 8
_COUNT: Final = Struct("<H")
_RANGE: Final = Struct("<HH")
_RANGES_WRITTEN_MAX: Final = 256
"""To find more ranges takes longer than to write the bits of all ports."""
_PORTS_READ: Final = 16
"""How many ports that are held are looked at in the time of one that is claimed."""
_PART_BITS: Final = 1024
_PART: Final = (1 << _PART_BITS) - 1
_IS_BITMAP: Final = 0xFFFF
_ONES: Final = re.compile("1+")


class PortRecord(NamedTuple):
    """Sets of ports as integers: bit N is port N. What is held stays held when it is no longer offered."""

    tcp: int = 0
    udp: int = 0
    tcp_held: int = 0
    udp_held: int = 0

    def offered(self, protocol: str) -> int:
        return self.tcp if protocol == "tcp" else self.udp

    def held(self, protocol: str) -> int:
        return self.tcp_held if protocol == "tcp" else self.udp_held

    def holding(self, protocol: str, ports: int) -> PortRecord:
        return self._replace(tcp_held=ports) if protocol == "tcp" else self._replace(udp_held=ports)


class PortAsk(NamedTuple):
    """`amount` ports of `within`, a set of ports as in `PortRecord`; None: any."""

    amount: int
    within: int | None
    protocol: str


class Port(ResourceClass[PortRecord]):
    """TCP and UDP ports. A grant is {"protocol": "tcp", "ports": [20000, 20001]}, ascending."""

    columns: ClassVar[tuple[str, ...]] = ("free", "capacity", "tcp_free", "udp_free")
    consumable_columns: ClassVar[tuple[str, ...]] = ("free", "tcp_free", "udp_free")

    def __init__(self, name: str) -> None:
        self.name = name

    # -- write ------------------------------------------------------------------------------------------

    def report(self, inventory: Mapping[str, Any], old: PortRecord | None) -> PortRecord:
        if not inventory or not inventory.keys() <= frozenset(PROTOCOLS):
            raise InvalidRecord(
                f'{self.name}: an inventory is {{"tcp": [[20000, 32000]], "udp": [[53, 53]]}}'
            )
        offered = [self._offered(protocol, inventory.get(protocol, [])) for protocol in PROTOCOLS]
        return PortRecord(offered[0], offered[1], *((0, 0) if old is None else (old.tcp_held, old.udp_held)))

    def _offered(self, protocol: str, ranges: Any) -> int:
        found = _set_of(ranges) if ranges != [] else 0
        if found is None:
            raise InvalidRecord(
                f"{self.name}: {protocol} is not a list of at most {RANGES_MAX} ranges [first, last] of ports "
                f"from 1 to {PORT_MAX}"
            )
        return found

    def withdraw(self, record: PortRecord) -> PortRecord:
        return record._replace(tcp=0, udp=0)

    def in_use(self, record: PortRecord) -> bool:
        return bool(record.tcp_held or record.udp_held)

    def items(self, record: PortRecord) -> int:
        return sum(1 for offered in (record.tcp, record.udp) for _ in _ranges(offered))

    def claim_reads(self, record: PortRecord, ask: Any) -> int:
        wanted = _parsed(ask)
        return 0 if wanted is None else wanted.amount

    def reclaim_reads(self, record: PortRecord, ask: Any, before: Sequence[Any]) -> int:
        return 3 * self.claim_reads(record, ask) + sum(len(grant["ports"]) for grant in before) // _PORTS_READ

    def claim(self, record: PortRecord, ask: Any, *, no_worse: bool = False) -> Granted | Shortfall:
        return self._claim(record, ask, 0)

    def reclaim(
        self, record: PortRecord, ask: Any, before: Sequence[Any], *, no_worse: bool = False
    ) -> Granted | Shortfall:
        wanted = _parsed(ask)
        protocol = "" if wanted is None else wanted.protocol
        mine = (grant["ports"] for grant in before if grant["protocol"] == protocol)
        return self._claim(record, ask, _bits(port for ports in mine for port in ports))

    def _claim(self, record: PortRecord, ask: Any, preferred: int) -> Granted | Shortfall:
        """Claim the lowest free ports, first of those in `preferred`."""
        wanted = _parsed(ask)
        if wanted is None:
            return Shortfall("bad_ask", 0, 0)
        held = record.held(wanted.protocol)
        free = record.offered(wanted.protocol) & ~held
        if wanted.within is not None:
            free &= wanted.within
        if free.bit_count() < wanted.amount:
            return Shortfall("no_room", wanted.amount, free.bit_count())
        ports = _lowest(free & preferred, wanted.amount)
        ports += _lowest(free & ~preferred, wanted.amount - len(ports))
        after = record.holding(wanted.protocol, held | _bits(ports))
        return Granted(after, {"protocol": wanted.protocol, "ports": sorted(ports)})

    def release(self, record: PortRecord, grant: Any) -> PortRecord:
        protocol = grant["protocol"]
        return record.holding(protocol, record.held(protocol) & ~_bits(grant["ports"]))

    def grants_no_more(self, before: Sequence[Any], after: Sequence[Any]) -> bool:
        had = {(grant["protocol"], port) for grant in before for port in grant["ports"]}
        return all((grant["protocol"], port) in had for grant in after for port in grant["ports"])

    def encode(self, record: PortRecord) -> bytes:
        return b"".join(map(_encoded, record))

    def decode(self, data: bytes) -> PortRecord:
        found, at = [], 0
        for _ in PortRecord._fields:
            (count,) = _COUNT.unpack_from(data, at)
            at += _COUNT.size
            end = at + (_BITMAP_BYTES if count == _IS_BITMAP else count * _RANGE.size)
            if count == _IS_BITMAP:
                found.append(int.from_bytes(data[at:end], "little"))
            else:
                found.append(_union(_RANGE.iter_unpack(data[at:end])))
            at = end
        return PortRecord(*found)

    # -- amounts ----------------------------------------------------------------------------------------

    def amount_of(self, grant: Any) -> int:
        return len(grant["ports"])

    # -- query ------------------------------------------------------------------------------------------

    def check_ask(self, ask: Any) -> None:
        if _parsed(ask) is None:
            raise UsageError(
                f"{self.name}: {ask!r} is not an ask for 1 to {COUNT_MAX} ports, of at most {RANGES_MAX} ranges",
                do=_DO,
            )

    def query(self, ask: Any) -> tuple[Term, ...]:
        wanted = _parsed(ask)
        return () if wanted is None else (Term(f"{wanted.protocol}_free", ">=", wanted.amount),)

    def exactness(self, ask: Any) -> Exactness:
        wanted = _parsed(ask)
        named = wanted is None or wanted.within is not None
        return Exactness.NEEDS_CLAIM if named else Exactness.EXACT_NEXT

    def row(self, record: PortRecord) -> tuple[int, ...]:
        tcp, udp = (
            (offered & ~held).bit_count() for offered, held in zip(record[:2], record[2:], strict=True)
        )
        held = record.tcp_held.bit_count() + record.udp_held.bit_count()
        return tcp + udp, tcp + udp + held, tcp, udp


def _parsed(ask: Any) -> PortAsk | None:
    """The ask, or None if it is invalid."""
    fields = {"count": ask} if type(ask) is int else ask
    if not isinstance(fields, dict) or not fields or not fields.keys() <= _ASK_FIELDS:
        return None
    protocol, within = fields.get("protocol", "tcp"), None
    if "ports" in fields:
        within = _set_of(fields["ports"])
        if within is None:
            return None
    count = fields.get("count", 1)
    if type(count) is not int or not 1 <= count <= COUNT_MAX or protocol not in PROTOCOLS:
        return None
    return PortAsk(count, within, protocol)


def _set_of(ranges: Any) -> int | None:
    """The ports of a list of ranges [first, last], or None if it is invalid."""
    if not isinstance(ranges, list) or not 1 <= len(ranges) <= RANGES_MAX:
        return None
    for one in ranges:
        if not isinstance(one, list) or len(one) != 2 or any(type(port) is not int for port in one):
            return None
        if not 1 <= one[0] <= one[1] <= PORT_MAX:
            return None
    return _union(ranges)


def _union(ranges: Iterable[Sequence[int]]) -> int:
    """The set of all ports of these ranges [first, last]. It takes as long for wide ranges as for narrow ones."""
    found = bytearray(_BITMAP_BYTES)
    for first, last in ranges:
        low, high = first >> 3, last >> 3
        from_first, to_last = 0xFF << (first & 7) & 0xFF, 0xFF >> (7 - (last & 7))
        if low == high:
            found[low] |= from_first & to_last
            continue
        found[low] |= from_first
        found[low + 1 : high] = b"\xff" * (high - low - 1)
        found[high] |= to_last
    return int.from_bytes(found, "little")


def _bits(ports: Iterable[int]) -> int:
    """The set of some ports."""
    found = bytearray(_BITMAP_BYTES)
    for port in ports:
        found[port >> 3] |= 1 << (port & 7)
    return int.from_bytes(found, "little")


def _lowest(ports: int, count: int) -> list[int]:
    """At most `count` ports of a set, from the lowest on. It goes through the set in parts: each step in a whole set of
    65,536 bits takes a microsecond."""
    found: list[int] = []
    start = 0
    while ports and len(found) < count:
        skipped = (ports & -ports).bit_length() - 1
        ports >>= skipped
        start += skipped
        part = ports & _PART
        while part and len(found) < count:
            lowest = part & -part
            found.append(start + lowest.bit_length() - 1)
            part ^= lowest
        ports >>= _PART_BITS
        start += _PART_BITS
    return found


def _ranges(ports: int) -> Iterable[tuple[int, int]]:
    """The ranges of a set of ports, ascending."""
    return ((match.start(), match.end() - 1) for match in _ONES.finditer(bin(ports)[:1:-1]))


def _encoded(ports: int) -> bytes:
    """A set of ports: their ranges, or a bit for each port where the ranges are many."""
    ranges = (ports & ~(ports << 1)).bit_count()
    if ranges > _RANGES_WRITTEN_MAX:
        return _COUNT.pack(_IS_BITMAP) + ports.to_bytes(_BITMAP_BYTES, "little")
    return _COUNT.pack(ranges) + b"".join(_RANGE.pack(*one) for one in _ranges(ports))
