"""Virtual GPUs of types: a physical GPU runs instances of one type at a time, as many as that type allows.

The first instance fixes the type of its GPU until the last instance is released: the rule of NVIDIA's vGPU, which
OpenStack Nova follows. All instances of one ask have one type; they may be on several GPUs. GPUs that run the type
already are filled first. Then come idle GPUs: first those that could run the fewest more instances of another type,
then those with the least left.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from msgspec.structs import replace

from vacancy.resources.classes.devices.device_attribute_index import Attribute, attribute
from vacancy.resources.classes.devices.device_class import (
    DeviceAsk,
    DeviceClass,
    DeviceItem,
    DeviceRecord,
    DeviceUse,
    domains,
    match_of,
    where_of,
    whole_number,
)
from vacancy.resources.classes.quantity import TOTAL_MAX
from vacancy.resources.classes.resource_class import Shortfall
from vacancy.resources.model.comparison import Comparison
from vacancy.resources.model.errors import InvalidRecord, UsageError

TYPES_MAX: Final = 64
_NAME_MAX: Final = 128
_DO: Final = 'write 1, or {"type": "nvidia-35", "count": 1, "where": {"model": "A100"}}'
_INDEXED: Final = "type\0"
"""The name of a type in the index. No attribute can have it."""


class Vgpu(DeviceClass):
    """Instances of vGPU types. The grant maps a GPU to the type that runs on it and how many."""

    def _item(self, name: str, fields: dict[str, Any]) -> DeviceItem:
        types = fields.pop("types", None)
        if not isinstance(types, Mapping) or not 1 <= len(types) <= TYPES_MAX:
            raise InvalidRecord(f"{self.name}: {name} does not say which types it can run")
        for kind, most in types.items():
            if not 0 < len(kind) <= _NAME_MAX or type(most) is not int or not 1 <= most <= TOTAL_MAX:
                raise InvalidRecord(f"{self.name}: {name} does not say how many of {kind[:80]!r} it can run")
        return DeviceItem(name, (), "", 1, tuple(sorted(types.items())))

    def _choose(self, record: DeviceRecord, wanted: DeviceAsk) -> tuple[DeviceUse, ...] | Shortfall:
        gpus = ((item, (item, is_idle, left)) for item, is_idle, left in _free_gpus(record) if left)
        most = 0
        plans: list[tuple[int, int, str, int, tuple[DeviceUse, ...]]] = []
        for number, some in enumerate(domains(gpus, wanted)):
            by_kind = _by_kind(some, wanted.type)
            for kind in sorted(by_kind):
                found = sorted(by_kind[kind])
                most = max(most, sum(left for _, _, left, _ in found))
                plan = _filled(found, kind, wanted.count)
                if sum(use.amount for use in plan) == wanted.count:
                    taken = {use.name for use in plan}
                    idle = sum(one[0] for one in found if one[-1] in taken)
                    fewer = sum(one[1] for one in found if one[-1] in taken)
                    plans.append((idle, fewer, kind, number, plan))
        # Of the types that fit: the one that leaves the most GPUs idle, then the one that uses its GPUs best.
        return min(plans, key=lambda one: one[:4])[4] if plans else Shortfall("no_room", wanted.count, most)

    def items(self, record: DeviceRecord) -> int:
        return sum(1 + len(item.types) for item in record.reported)

    def _own_columns(self, record: DeviceRecord) -> tuple[int, ...]:
        of: dict[str, int] = {}
        for _, _, left in _free_gpus(record):
            for kind, amount in left.items():
                of[kind] = of.get(kind, 0) + amount
        free = max(of.values(), default=0)
        return free, free + record.held

    def _available(self, record: DeviceRecord) -> Iterable[tuple[Attribute, ...]]:
        for item, _, left in _free_gpus(record):
            if left:
                yield (*item.attributes, *(attribute(_INDEXED, kind) for kind in left))

    def _grant(self, uses: tuple[DeviceUse, ...]) -> Any:
        return {use.name: {use.kind: use.amount} for use in uses}

    def _uses_of(self, record: DeviceRecord, grant: Any) -> Iterable[DeviceUse]:
        return self._uses_held(grant)

    def _as_held(self, wanted: DeviceAsk, held: Sequence[DeviceUse]) -> DeviceAsk:
        """An ask for any type keeps the type that its consumer has."""
        return wanted if wanted.type else replace(wanted, type=held[0].kind)

    def _uses_held(self, grant: Any) -> Iterable[DeviceUse]:
        return [DeviceUse(name, kind, amount) for name, of in grant.items() for kind, amount in of.items()]

    def _amount_of(self, grant: Any) -> int:
        return sum(amount for of in grant.values() for amount in of.values())

    def _parse_object(self, fields: dict[str, Any]) -> DeviceAsk:
        kind = fields.pop("type", "")
        if not isinstance(kind, str) or len(kind) > _NAME_MAX:
            raise UsageError("type is the name of a vGPU type", do=_DO)
        count, match = whole_number(fields, "count", 1, do=_DO), match_of(fields, do=_DO)
        return DeviceAsk(count, where_of(fields, do=_DO), type=kind, match=match)

    def _parse_amount(self, amount: int) -> DeviceAsk:
        return DeviceAsk(amount)

    def _index_comparisons(self, wanted: DeviceAsk) -> tuple[Comparison, ...]:
        return (
            *super()._index_comparisons(wanted),
            *((Comparison(_INDEXED, "==", wanted.type),) if wanted.type else ()),
        )


def _free_gpus(record: DeviceRecord) -> Iterator[tuple[DeviceItem, bool, dict[str, int]]]:
    """Each GPU, whether it is idle, and how many more instances of each type it could run."""
    running = {use.name: use for use in record.used}
    for item in record.items:
        use = running.get(item.name)
        if use is None:
            yield item, True, dict(item.types)
        else:
            left = dict(item.types).get(use.kind, 0) - use.amount
            yield item, False, {use.kind: left} if left > 0 else {}


def _by_kind(
    gpus: Iterable[tuple[DeviceItem, bool, dict[str, int]]], wanted: str
) -> dict[str, list[tuple[bool, int, int, str]]]:
    """Type -> the GPUs that could run more instances of it: (idle, how many fewer instances of this type an idle GPU runs than
    of another, how many more, name). Of all types, or of the one that is wanted."""
    found: dict[str, list[tuple[bool, int, int, str]]] = {}
    for item, is_idle, left in gpus:
        largest = max(left.values())
        for kind in (wanted,) if wanted else left:
            if kind in left:
                found.setdefault(kind, []).append((is_idle, largest - left[kind], left[kind], item.name))
    return found


def _filled(found: Iterable[tuple[bool, int, int, str]], kind: str, count: int) -> tuple[DeviceUse, ...]:
    """Up to `count` instances, placed on one GPU after the other."""
    uses: list[DeviceUse] = []
    for _, _, left, name in found:
        amount = min(left, count)
        if amount > 0:
            uses.append(DeviceUse(name, kind, amount))
            count -= amount
    return tuple(uses)
