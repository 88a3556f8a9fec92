"""What classes of devices share: a node reports each device under its address, with attributes.

The store chooses which of several free devices it grants, and its verdict names them. The auditor takes the grants
from there and checks each: is the device reported, has it the attributes that were asked for, and was it free. A
rejection is right if an ask is for more than it could get alone. Of several asks for one provider it depends on the
choice whether the second fits, so only asks for the same devices are judged together.

A class other than `GPU_SHARE` may also be reported by number, without addresses. Then its amounts decide.
"""

from __future__ import annotations

import json
import re
from abc import abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar, Final, NamedTuple, cast

from vacancy.clients.auditor.classes.class_auditor import (
    OPAQUE,
    ROOM,
    RULE,
    ClassAuditor,
    Objection,
    Refused,
    Slot,
)
from vacancy.clients.auditor.classes.device_asks import (
    domains,
    is_amount,
    is_attribute,
    is_match,
    is_where,
    satisfies,
)
from vacancy.clients.auditor.classes.quantity import (
    CountedStock,
    QuantityAuditor,
    amount_objections,
)
from vacancy.clients.auditor.not_judged import NOT_ALL_KNOWN, SEVERAL_ASKS

DEVICES_MAX: Final = 4096

Devices = Mapping[str, Mapping[str, Any]]
"""Address -> what is reported of the device."""

_ADDRESS = re.compile(r"[A-Za-z0-9._:/@+=~-]{1,200}")


class NamedDevices(NamedTuple):
    """Devices with addresses, as canonical JSON (`as_devices` reads it). `unhealthy` are (address, reason) of those that do
    not work."""

    devices: str
    listed: bool = True
    unhealthy: tuple[tuple[str, str], ...] = ()

    def withdrawn(self) -> NamedDevices:
        return NamedDevices("{}", listed=False)


class DeviceClassAuditor(ClassAuditor[CountedStock | NamedDevices]):
    """A class of devices: by address, or by number."""

    names_items: ClassVar[bool] = True

    ask_fields: frozenset[str] = frozenset({"count", "where"})
    """The fields of an ask that may be no more than a number."""

    asked_fields: ClassVar[frozenset[str]] = frozenset({"count", "where", "match"})
    """All fields of an ask."""

    added_ask_fields: ClassVar[frozenset[str]] = frozenset({"match"})

    own_fields: ClassVar[frozenset[str]] = frozenset()
    """The fields of a reported device that are no attributes."""

    adds_up: ClassVar[bool] = False
    """Whether several asks for the same devices fit exactly if one ask for all of them does."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._quantity = QuantityAuditor(name)

    # -- inventories --------------------------------------------------------------------------------------

    def read_inventory(self, inventory: Mapping[str, Any]) -> CountedStock | NamedDevices:
        if "devices" not in inventory:
            return self._quantity.read_inventory(inventory)
        devices = inventory["devices"]
        if set(inventory) != {"devices"} or not isinstance(devices, dict) or len(devices) > DEVICES_MAX:
            raise Refused
        for address, device in devices.items():
            if not _ADDRESS.fullmatch(address) or not isinstance(device, dict):
                raise Refused
            attributes = dict(device)
            if not self.takes_own_fields(address, attributes) or not _are_attributes(attributes):
                raise Refused
        self.check_devices(devices)
        return NamedDevices(json.dumps(devices, sort_keys=True))

    def read_set_inventory(self, inventory: Mapping[str, Any]) -> CountedStock | NamedDevices:
        if "devices" in inventory:
            return self.read_inventory(inventory)
        return self._quantity.read_set_inventory(inventory)

    def items(self, inventory: Mapping[str, Any]) -> int:
        return len(inventory.get("devices", ()))

    @abstractmethod
    def takes_own_fields(self, address: str, device: dict[str, Any]) -> bool:
        """Remove the fields of a reported device that are no attributes. Returns whether they are valid."""

    def check_devices(self, devices: Devices) -> None:
        """Raise `Refused` where valid devices do not go together."""

    def check_override(self, override: Mapping[str, Any]) -> None:
        self._quantity.check_override(override)

    def capacity(self, stock: CountedStock | NamedDevices, override: Mapping[str, Any]) -> int | None:
        return self._quantity.capacity(stock, override) if isinstance(stock, CountedStock) else None

    def with_unhealthy(
        self, stock: CountedStock | NamedDevices, unhealthy: Any
    ) -> CountedStock | NamedDevices:
        devices: Collection[str] = as_devices(stock.devices) if isinstance(stock, NamedDevices) else ()
        if not isinstance(unhealthy, dict):
            raise Refused
        for address, reason in unhealthy.items():
            if address not in devices or not isinstance(reason, str) or len(reason) > 1000:
                raise Refused
        if isinstance(stock, NamedDevices):
            return stock._replace(unhealthy=tuple(sorted(unhealthy.items())))
        return stock

    def unhealthy(self, stock: CountedStock | NamedDevices) -> Collection[str]:
        return [address for address, _ in stock.unhealthy] if isinstance(stock, NamedDevices) else ()

    def offered(
        self, stock: CountedStock | NamedDevices, excluded: Collection[str]
    ) -> CountedStock | NamedDevices:
        """An excluded physical function takes its virtual functions with it, and a virtual function its physical function."""
        if isinstance(stock, CountedStock):
            return stock
        devices = as_devices(stock.devices)
        parents = {devices[name].get("parent") for name in excluded if name in devices}
        left = {
            name: device
            for name, device in devices.items()
            if name not in excluded and device.get("parent") not in excluded and name not in parents
        }
        return stock._replace(devices=json.dumps(left, sort_keys=True))

    # -- asks ---------------------------------------------------------------------------------------------

    def count_of(self, ask: Any) -> int | None:
        if not isinstance(ask, dict):
            return super().count_of(ask)
        count = ask.get("count", 1)
        is_plain = (
            ask.keys() <= {*self.ask_fields, "match"}
            and ask.get("where", {}) == {}
            and ask.get("type", "") == ""
            and ask.get("match", []) == []
        )
        return count if is_plain and is_amount(count) else None

    def amount(self, ask: Any) -> int:
        count = ask.get("count", 1) if isinstance(ask, dict) else ask
        return count if type(count) is int else 1

    def counted(
        self, stock: CountedStock | NamedDevices | None, ask: Any, grant: Any | None
    ) -> Mapping[str, int] | None:
        return {"": self.amount(ask)}

    def fits_units(self, stock: CountedStock | NamedDevices, amount: int) -> bool:
        return isinstance(stock, CountedStock) and self._quantity.fits_units(stock, amount)

    # -- claims -------------------------------------------------------------------------------------------

    def most_reads(self, stock: CountedStock | NamedDevices, held: Sequence[Any], ask: Any) -> int:
        """The devices and what is held of them, once for each comparison."""
        pieces = sum(
            len(grant) + sum(len(of) for of in grant.values() if isinstance(of, dict))
            if isinstance(grant, dict)
            else len(grant)
            for grant in held
            if isinstance(grant, dict | list)
        )
        if isinstance(stock, CountedStock):
            return pieces
        fields = ask if isinstance(ask, dict) else {}
        where, match = fields.get("where", {}), fields.get("match", [])
        tests = len(match) if isinstance(match, list) else 0
        for condition in where.values() if isinstance(where, dict) else ():
            for wanted in condition.values() if isinstance(condition, dict) else (condition,):
                tests += len(wanted) if isinstance(wanted, list) else 1
        return (self.items({"devices": as_devices(stock.devices)}) + pieces) * max(1, tests)

    def objections(self, slot: Slot[CountedStock | NamedDevices], asks: Sequence[Any]) -> Iterable[Objection]:
        """Of devices with addresses, `grant_errors` judges what was granted, and `refusals` what was not."""
        if isinstance(slot.stock, CountedStock):
            yield from amount_objections(self, cast(Slot[CountedStock], slot), asks)

    def refusals(self, slot: Slot[CountedStock | NamedDevices], asks: Sequence[Any]) -> Iterable[Objection]:
        if isinstance(slot.stock, CountedStock):
            yield from self.objections(slot, asks)
            return
        for ask in asks:
            if not self.is_ask(ask):
                yield Objection(RULE, f"{ask!r} is not an ask of {self.name}")
                return
        if slot.kept:
            return  # it may stay as an amount
        if slot.unsure:
            yield Objection(OPAQUE, NOT_ALL_KNOWN.format(name=self.name, provider=slot.provider))
        devices = as_devices(slot.stock.devices)
        fields = [self.as_fields(ask) for ask in asks]
        for one in fields:
            yield from self._short(slot, devices, one)
        if len(fields) < 2:
            return
        first = {**fields[0], "count": sum(one.get("count", 1) for one in fields)}
        are_same = all({**one, "count": 0} == {**first, "count": 0} for one in fields)
        if self.adds_up and are_same and not first.get("match"):
            yield from self._short(slot, devices, first)
        else:
            text = SEVERAL_ASKS.format(count=len(asks), name=self.name, provider=slot.provider)
            yield Objection(OPAQUE, text)

    def _short(
        self, slot: Slot[CountedStock | NamedDevices], devices: Devices, fields: Mapping[str, Any]
    ) -> Iterable[Objection]:
        attributes = {name: self.attributes_of(name, devices) for name in devices}
        found = (self.most(devices, some, fields, slot.held) for some in domains(attributes, fields))
        most, count = max(found, default=0), fields.get("count", 1)
        if count > most:
            yield Objection(ROOM, f"{slot.provider}: {most} such {self.name} are free, {count} asked")

    def is_ask(self, ask: Any) -> bool:
        """Whether an ask is valid."""
        if type(ask) is int:
            return ask >= 1
        return (
            isinstance(ask, dict)
            and ask.keys() <= self.asked_fields
            and is_amount(ask.get("count", 1))
            and is_where(ask.get("where", {}))
            and is_match(ask.get("match", []))
            and self.has_own_fields(ask)
        )

    def has_own_fields(self, ask: Mapping[str, Any]) -> bool:
        """Whether the fields of an ask that only this class has are valid."""
        return True

    @abstractmethod
    def most(
        self, devices: Devices, some: Sequence[str], fields: Mapping[str, Any], held: Sequence[Any]
    ) -> int:
        """How many devices, or instances, an ask could get of `some` of the devices next to what is `held`."""

    def grant_errors(
        self, slot: Slot[CountedStock | NamedDevices], asks: Sequence[Any], grants: Sequence[Any]
    ) -> Iterable[str]:
        """Devices that were held as an amount may stay without addresses if the claim asks for no more (`slot.kept`)."""
        if isinstance(slot.stock, CountedStock):
            return
        devices, left, own = as_devices(slot.stock.devices), list(grants), list[Any]()
        for ask in asks:
            grant = left[0] if left else None
            if slot.kept and (grant is None or self.size(grant) != self.count_of(ask)):
                continue
            if grant is None:
                yield f"no {self.name} is named"
                continue
            left.pop(0)
            yield from self._errors(devices, ask, grant, [*slot.held, *own])
            own.append(grant)

    def _errors(self, devices: Devices, ask: Any, grant: Any, others: Sequence[Any]) -> Iterable[str]:
        unknown = [one for one in grant if one not in devices]
        if unknown:
            yield f"{self.name} {unknown[0]} is not reported"
            return
        fields = self.as_fields(ask)
        where = fields.get("where", {})
        for one in grant:
            if not isinstance(where, dict) or not satisfies(self.attributes_of(one, devices), where):
                yield f"{self.name} {one} is not what was asked for"
        match = fields.get("match", [])
        if not isinstance(match, list) or any(
            name not in self.attributes_of(one, devices) for one in grant for name in match
        ):
            yield f"{grant} lack what was asked for: {match}"
        elif len({self._shared(one, devices, match) for one in grant}) > 1:
            yield f"{grant} do not have the same {match}"
        yield from self.share_errors(devices, fields, grant, others)

    def _shared(self, address: str, devices: Devices, match: Sequence[str]) -> Any:
        """The values that all devices of a grant must have in common."""
        attributes = self.attributes_of(address, devices)
        return tuple((type(attributes[name]), attributes[name]) for name in match)

    def as_fields(self, ask: Any) -> Mapping[str, Any]:
        """An ask as an object: a number is how many devices are asked for."""
        return {"count": ask} if isinstance(ask, int) else ask

    def attributes_of(self, address: str, devices: Devices) -> Mapping[str, Any]:
        """What a request can choose a device by."""
        device = devices[address]
        return {**{name: device[name] for name in device.keys() - self.own_fields}, "address": address}

    def size(self, grant: Any) -> int:
        """How many devices, or instances, a grant is of."""
        return len(grant)

    @abstractmethod
    def share_errors(
        self, devices: Devices, fields: Mapping[str, Any], grant: Any, others: Sequence[Any]
    ) -> Iterable[str]:
        """The errors in how much of these devices is granted, next to what `others` hold."""


@lru_cache(maxsize=4096)
def as_devices(text: str) -> Devices:
    """The devices of a `NamedDevices`."""
    devices: Devices = json.loads(text)
    return devices


def _are_attributes(device: Mapping[str, Any]) -> bool:
    return len(device) <= 64 and all(
        0 < len(name) <= 128 and name != "address" and is_attribute(value) for name, value in device.items()
    )
