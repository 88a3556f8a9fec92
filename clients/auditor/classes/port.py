"""Ports of a host: each may be held once for each protocol.

The verdict of the store names the ports that it grants. The auditor checks that each was offered, asked for and free. It
judges a rejection by the rule that the lowest free ports are granted, one ask after the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple

from vacancy.clients.auditor.classes.class_auditor import ROOM, RULE, ClassAuditor, Objection, Refused, Slot

Ranges = tuple[tuple[int, int], ...]

RANGES_MAX: Final = 64
COUNT_MAX: Final = 256
PORTS: Final = range(1, 65_536)


class PortStock(NamedTuple):
    """The ranges of each protocol, ascending, without gaps of no size between them."""

    tcp: Ranges
    udp: Ranges
    listed: bool = True

    def withdrawn(self) -> PortStock:
        return PortStock((), (), listed=False)


class PortAuditor(ClassAuditor[PortStock]):
    """A grant names the protocol and the ports."""

    def __init__(self, name: str) -> None:
        self.name = name

    def read_inventory(self, inventory: Mapping[str, Any]) -> PortStock:
        if not inventory or not set(inventory) <= {"tcp", "udp"}:
            raise Refused
        return PortStock(_merged(inventory.get("tcp", [])), _merged(inventory.get("udp", [])))

    def items(self, inventory: Mapping[str, Any]) -> int:
        stock = self.read_inventory(inventory)
        return len(stock.tcp) + len(stock.udp)

    def amount(self, ask: Any) -> int:
        count = ask.get("count", 1) if isinstance(ask, dict) else ask
        return count if type(count) is int else 1

    def counted(self, stock: PortStock | None, ask: Any, grant: Any | None) -> Mapping[str, int] | None:
        return {"": self.amount(ask)}

    def most_reads(self, stock: PortStock, held: Sequence[Any], ask: Any) -> int:
        return self.amount(ask)

    def objections(self, slot: Slot[PortStock], asks: Sequence[Any]) -> Iterable[Objection]:
        held = {(grant["protocol"], port) for grant in slot.held for port in grant["ports"]}
        for ask in asks:
            if not _is_ask(ask):
                yield Objection(RULE, f"{ask!r} is not an ask of {self.name}")
                return
            fields = ask if isinstance(ask, dict) else {"count": ask}
            protocol, count = fields.get("protocol", "tcp"), fields.get("count", 1)
            offered = slot.stock.tcp if protocol == "tcp" else slot.stock.udp
            wanted = fields.get("ports", [(PORTS[0], PORTS[-1])])
            free = (
                port
                for first, last in offered
                for port in range(first, last + 1)
                if (protocol, port) not in held and _among(port, wanted)
            )
            found = list(islice(free, count))
            if len(found) < count:
                yield Objection(ROOM, f"{slot.provider}: {len(found)} such ports are free, {count} asked")
                return
            held.update((protocol, port) for port in found)

    def grant_errors(
        self, slot: Slot[PortStock], asks: Sequence[Any], grants: Sequence[Any]
    ) -> Iterable[str]:
        held = {(grant["protocol"], port) for grant in slot.held for port in grant["ports"]}
        if len(grants) < len(asks):
            yield f"{len(asks) - len(grants)} asks for {self.name} have no grant"
        for ask, grant in zip(asks, grants, strict=False):
            fields = ask if isinstance(ask, dict) else {"count": ask}
            protocol, ports = grant["protocol"], grant["ports"]
            if protocol != fields.get("protocol", "tcp") or len(set(ports)) != fields.get("count", 1):
                yield f"{grant} is not the protocol or the number of ports that was asked for"
            offered = slot.stock.tcp if protocol == "tcp" else slot.stock.udp
            for port in ports:
                if not _among(port, offered):
                    yield f"{protocol} port {port} is not reported"
                if not _among(port, fields.get("ports", [(PORTS[0], PORTS[-1])])):
                    yield f"{protocol} port {port} is not one of those that were asked for"
                if (protocol, port) in held:
                    yield f"{protocol} port {port} is held already"
                held.add((protocol, port))


def _is_ask(ask: Any) -> bool:
    fields = {"count": ask} if type(ask) is int else ask
    if not isinstance(fields, dict) or not fields or not fields.keys() <= {"count", "ports", "protocol"}:
        return False
    count, ports = fields.get("count", 1), fields.get("ports", [[1, 1]])
    if type(count) is not int or not 1 <= count <= COUNT_MAX or ports == []:
        return False
    try:
        _merged(ports)
    except Refused:
        return False
    return fields.get("protocol", "tcp") in ("tcp", "udp")


def _among(port: int, ranges: Iterable[Sequence[int]]) -> bool:
    return any(first <= port <= last for first, last in ranges)


def _merged(ranges: Any) -> Ranges:
    """Ranges as reported, in order, those that touch or overlap as one. Raises `Refused`."""
    if not isinstance(ranges, list) or len(ranges) > RANGES_MAX:
        raise Refused
    for one in ranges:
        if not isinstance(one, list) or [type(port) for port in one] != [int, int]:
            raise Refused
        if one[0] not in PORTS or one[1] not in PORTS or one[0] > one[1]:
            raise Refused
    found: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(last, found[-1][1]))
        else:
            found.append((first, last))
    return tuple(found)
