"""Shares of GPUs: each GPU has a total, and a claim gets an equal share of one or several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vacancy.clients.auditor.classes.class_auditor import ClassAuditor, Refused
from vacancy.clients.auditor.classes.device_asks import is_amount
from vacancy.clients.auditor.classes.device_class import DeviceClassAuditor, Devices, NamedDevices
from vacancy.clients.auditor.classes.quantity import CountedStock


class GpuShareAuditor(DeviceClassAuditor):
    """A grant maps addresses to the share of each."""

    asked_fields = frozenset({"share", "count", "where", "match"})
    own_fields = frozenset({"total"})

    def counted(
        self, stock: CountedStock | NamedDevices | None, ask: Any, grant: Any | None
    ) -> Mapping[str, int] | None:
        """The share of each device, added up."""
        share, count = (ask.get("share"), ask.get("count", 1)) if isinstance(ask, dict) else (ask, 1)
        return {"": share * count} if type(share) is int and type(count) is int else None

    def read_inventory(self, inventory: Mapping[str, Any]) -> CountedStock | NamedDevices:
        if "devices" not in inventory:
            raise Refused
        return super().read_inventory(inventory)

    def takes_own_fields(self, address: str, device: dict[str, Any]) -> bool:
        return is_amount(device.pop("total", None))

    def check_override(self, override: Mapping[str, Any]) -> None:
        ClassAuditor.check_override(self, override)

    def as_fields(self, ask: Any) -> Mapping[str, Any]:
        return {"share": ask} if isinstance(ask, int) else ask

    def size(self, grant: Any) -> int:
        return sum(grant.values())

    def has_own_fields(self, ask: Mapping[str, Any]) -> bool:
        return is_amount(ask.get("share"))

    def most(
        self, devices: Devices, some: Sequence[str], fields: Mapping[str, Any], held: Sequence[Any]
    ) -> int:
        """The devices of which such a share is left."""
        used = Counter[str]()
        for grant in held:
            used.update(grant)
        return sum(devices[one]["total"] - used[one] >= fields["share"] for one in some)

    def share_errors(
        self, devices: Devices, fields: Mapping[str, Any], grant: Any, others: Sequence[Any]
    ) -> Iterable[str]:
        if len(grant) != fields.get("count", 1) or set(grant.values()) != {fields.get("share")}:
            yield f"{grant} is not the shares that were asked for"
        for one, share in grant.items():
            free = devices[one]["total"] - sum(other.get(one, 0) for other in others)
            if share > free:
                yield f"{one} has {free} left, {share} granted"
