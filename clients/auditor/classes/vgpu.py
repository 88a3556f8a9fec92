"""Virtual GPUs: each physical GPU runs instances of one type at a time, up to a limit per type."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vacancy.clients.auditor.classes.device_asks import is_amount
from vacancy.clients.auditor.classes.device_class import DeviceClassAuditor, Devices, NamedDevices
from vacancy.clients.auditor.classes.quantity import CountedStock


class VgpuAuditor(DeviceClassAuditor):
    """A grant maps addresses to the number of instances of each type."""

    ask_fields = frozenset({"count", "where", "type"})
    asked_fields = frozenset({"count", "where", "type", "match"})
    own_fields = frozenset({"types"})

    def takes_own_fields(self, address: str, device: dict[str, Any]) -> bool:
        types = device.pop("types", None)
        return (
            isinstance(types, dict)
            and 1 <= len(types) <= 64
            and all(0 < len(name) <= 128 and is_amount(most) for name, most in types.items())
        )

    def items(self, inventory: Mapping[str, Any]) -> int:
        """The GPUs, and the types that each can run."""
        return sum(1 + len(gpu["types"]) for gpu in inventory.get("devices", {}).values())

    def size(self, grant: Any) -> int:
        return sum(sum(of_type.values()) for of_type in grant.values())

    def has_own_fields(self, ask: Mapping[str, Any]) -> bool:
        return isinstance(ask.get("type", ""), str) and len(ask.get("type", "")) <= 128

    def is_unsure(self, stock: CountedStock | NamedDevices, held: Sequence[Any], used: int) -> bool:
        """Where instances were granted by number."""
        return isinstance(stock, NamedDevices) and used > sum(map(self.size, held))

    def most(
        self, devices: Devices, some: Sequence[str], fields: Mapping[str, Any], held: Sequence[Any]
    ) -> int:
        """Of one type: the one that is asked for, or the one of which the most fit."""
        left = Counter[str]()
        for one in some:
            running = Counter[str]()
            for grant in held:
                running.update(grant.get(one, {}))
            for name, limit in devices[one]["types"].items():
                if not running.keys() - {name}:
                    left[name] += max(0, limit - running[name])
        wanted = fields.get("type", "")
        return left[wanted] if wanted else max(left.values(), default=0)

    def share_errors(
        self, devices: Devices, fields: Mapping[str, Any], grant: Any, others: Sequence[Any]
    ) -> Iterable[str]:
        types = {name for of_type in grant.values() for name in of_type}
        if len(types) != 1 or fields.get("type") not in (None, "", *types):
            yield f"{grant} is not of the one type that was asked for"
        if self.size(grant) != fields.get("count", 1):
            yield f"{grant} is not the number that was asked for"
        for one in grant:
            running = Counter[str]()
            for other in (*others, grant):
                running.update(other.get(one, {}))
            limits = devices[one]["types"]
            if len(running) > 1 or any(number > limits.get(name, 0) for name, number in running.items()):
                yield f"{one} cannot run {dict(running)}"
