"""A resource class of a plugin that is not a counted class, for tests of the plugin contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import msgspec

from vacancy.resources.classes.registry import Registry
from vacancy.resources.classes.resource_class import Granted, ResourceClass, Shortfall, Term
from vacancy.resources.model.errors import InvalidRecord, UsageError


class PortsRecord(msgspec.Struct, frozen=True, array_like=True):
    """All ports and the taken ports, both ascending."""

    ports: tuple[int, ...]
    taken: tuple[int, ...] = ()

    @property
    def free(self) -> list[int]:
        return [port for port in self.ports if port not in self.taken]


class Ports(ResourceClass[PortsRecord]):
    """TCP ports. An ask is a number of ports, or names them: {"ports": [80]}."""

    name = "PORTS"
    columns: ClassVar[tuple[str, ...]] = ("free", "capacity", "highest")

    def report(self, inventory: Mapping[str, Any], old: PortsRecord | None) -> PortsRecord:
        ports = inventory.get("ports")
        if (
            set(inventory) != {"ports"}
            or not isinstance(ports, list)
            or any(type(p) is not int or not 0 < p < 65_536 for p in ports)
        ):
            raise InvalidRecord(f"PORTS: {inventory} is not a list of ports")
        return PortsRecord(tuple(sorted(set(ports))), () if old is None else old.taken)

    def withdraw(self, record: PortsRecord) -> PortsRecord:
        return PortsRecord((), record.taken)

    def in_use(self, record: PortsRecord) -> bool:
        return bool(record.taken)

    def claim(self, record: PortsRecord, ask: Any, *, no_worse: bool = False) -> Granted | Shortfall:
        return self._claim(record, ask, record.free)

    def reclaim(
        self, record: PortsRecord, ask: Any, before: Sequence[Any], *, no_worse: bool = False
    ) -> Granted | Shortfall:
        mine = {port for grant in before for port in grant}
        return self._claim(record, ask, sorted(record.free, key=lambda port: (port not in mine, port)))

    def _claim(self, record: PortsRecord, ask: Any, free: Sequence[int]) -> Granted | Shortfall:
        """Claim the ports that `ask` names, or the first ones of `free`."""
        try:
            self.check_ask(ask)
        except UsageError:
            return Shortfall("bad_ask", 0, 0)
        wanted = ask["ports"] if isinstance(ask, dict) else free[:ask]
        if (type(ask) is int and len(wanted) < ask) or not set(wanted) <= set(free):
            return Shortfall("ports_taken", ask if type(ask) is int else len(wanted), len(free))
        return Granted(PortsRecord(record.ports, tuple(sorted({*record.taken, *wanted}))), sorted(wanted))

    def release(self, record: PortsRecord, grant: Any) -> PortsRecord:
        return PortsRecord(record.ports, tuple(port for port in record.taken if port not in grant))

    def amount_of(self, grant: Any) -> int:
        return len(grant)

    def encode(self, record: PortsRecord) -> bytes:
        return msgspec.msgpack.encode(record)

    def decode(self, data: bytes) -> PortsRecord:
        return msgspec.msgpack.decode(data, type=PortsRecord)

    def check_ask(self, ask: Any) -> None:
        ports = ask.get("ports") if isinstance(ask, dict) else None
        named = isinstance(ports, list) and ports != [] and all(type(port) is int for port in ports)
        if not named and (type(ask) is not int or ask < 1):
            raise UsageError(f"PORTS: {ask!r} is neither a number of ports nor a list of them")

    def query(self, ask: Any) -> tuple[Term, ...]:
        if isinstance(ask, dict):
            return (Term("free", ">=", len(ask["ports"])), Term("highest", ">=", max(ask["ports"])))
        return (Term("free", ">=", ask),)

    def row(self, record: PortsRecord) -> tuple[int, ...]:
        return len(record.free), len(record.ports), max(record.ports, default=0)


REGISTRY = Registry([Ports()])
