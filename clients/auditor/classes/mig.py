"""MIG instances: parts of a GPU, placed in its slots by the table of its model or by profiles that the node reports."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from vacancy.clients.auditor.classes.class_auditor import Refused
from vacancy.clients.auditor.classes.device_class import DeviceClassAuditor, Devices, NamedDevices
from vacancy.clients.auditor.classes.quantity import CountedStock

_SLOTS, _PLACEMENTS = 16, 64
_EIGHT: Final = (
    (1, range(7)),
    (1, range(7)),
    (2, (0, 2, 4, 6)),
    (2, (0, 2, 4)),
    (4, (0, 4)),
    (4, (0,)),
    (8, (0,)),
)
_FOUR: Final = ((1, range(4)), (1, range(4)), (2, (0, 2)), (2, (0, 2)), (4, (0,)))
_NAMES: Final[Mapping[str, str]] = {
    "A30-24GB": "1g.6gb 1g.6gb+me 2g.12gb 2g.12gb+me 4g.24gb",
    "A100-40GB": "1g.5gb 1g.5gb+me 1g.10gb 2g.10gb 3g.20gb 4g.20gb 7g.40gb",
    "A100-80GB": "1g.10gb 1g.10gb+me 1g.20gb 2g.20gb 3g.40gb 4g.40gb 7g.80gb",
    "H100-80GB": "1g.10gb 1g.10gb+me 1g.20gb 2g.20gb 3g.40gb 4g.40gb 7g.80gb",
    "H100-94GB": "1g.12gb 1g.12gb+me 1g.24gb 2g.24gb 3g.47gb 4g.47gb 7g.94gb",
    "H100-96GB": "1g.12gb 1g.12gb+me 1g.24gb 2g.24gb 3g.48gb 4g.48gb 7g.96gb",
    "H200-141GB": "1g.18gb 1g.18gb+me 1g.35gb 2g.35gb 3g.71gb 4g.71gb 7g.141gb",
    "GH200-144GB": "1g.18gb 1g.18gb+me 1g.36gb 2g.36gb 3g.72gb 4g.72gb 7g.144gb",
    "B200-180GB": "1g.23gb 1g.23gb+me 1g.45gb 2g.45gb 3g.90gb 4g.90gb 7g.180gb",
    "GB200-186GB": "1g.23gb 1g.23gb+me 1g.47gb 2g.47gb 3g.93gb 4g.93gb 7g.186gb",
}
"""Model -> its profiles, in the order of `_EIGHT` or, for 4 slots, of `_FOUR`."""


class MigAuditor(DeviceClassAuditor):
    """A grant maps addresses to placements (`PROFILE@START`) and their sizes."""

    ask_fields = frozenset({"count", "where", "profile", "start", "match"})
    asked_fields = ask_fields
    added_ask_fields = frozenset()
    own_fields = frozenset({"table", "profiles"})

    def read_inventory(self, inventory: Mapping[str, Any]) -> CountedStock | NamedDevices:
        if "devices" not in inventory:
            raise Refused
        return super().read_inventory(inventory)

    def check_override(self, override: Mapping[str, Any]) -> None:
        if override:
            raise Refused

    def takes_own_fields(self, address: str, device: dict[str, Any]) -> bool:
        table, profiles = device.pop("table", None), device.pop("profiles", None)
        if profiles is None:
            return isinstance(table, str) and table in _NAMES
        if table is not None or not isinstance(profiles, dict) or not profiles:
            return False
        return all(_is_profile(*one) for one in profiles.items()) and (
            sum(len(set(profile["starts"])) for profile in profiles.values()) <= _PLACEMENTS
        )

    def items(self, inventory: Mapping[str, Any]) -> int:
        """The GPUs, and the placements of each."""
        return sum(1 + len(_placements(gpu)) for gpu in inventory.get("devices", {}).values())

    def count_of(self, ask: Any) -> int | None:
        return None

    def counted(
        self, stock: CountedStock | NamedDevices | None, ask: Any, grant: Any | None
    ) -> Mapping[str, int] | None:
        """Slots, which the grant tells and the ask does not."""
        return None if grant is None else {"": sum(sum(of.values()) for of in grant.values())}

    def size(self, grant: Any) -> int:
        return sum(len(of) for of in grant.values())

    def is_ask(self, ask: Any) -> bool:
        return isinstance(ask, dict) and super().is_ask(ask)

    def has_own_fields(self, ask: Mapping[str, Any]) -> bool:
        profile, start = ask.get("profile"), ask.get("start")
        return (
            isinstance(profile, str)
            and 0 < len(profile) <= 64
            and "@" not in profile
            and (start is None or (type(start) is int and 0 <= start < _SLOTS))
        )

    def most(
        self, devices: Devices, some: Sequence[str], fields: Mapping[str, Any], held: Sequence[Any]
    ) -> int:
        """The most placements of the profile that fit together on each GPU, tried one by one."""
        total = 0
        for address in some:
            taken = {slot for grant in held for slot in _slots(grant.get(address, {}))}
            found = [
                set(_slots({kind: size}))
                for kind, size in _placements(devices[address]).items()
                if kind.rpartition("@")[0] == fields["profile"]
                and fields.get("start") in (None, int(kind.rpartition("@")[2]))
            ]
            total += _most_together([slots for slots in found if slots.isdisjoint(taken)])
        return total

    def share_errors(
        self, devices: Devices, fields: Mapping[str, Any], grant: Any, others: Sequence[Any]
    ) -> Iterable[str]:
        if self.size(grant) != fields.get("count", 1):
            yield f"{grant} is not the number that was asked for"
        for address, of in grant.items():
            table = _placements(devices[address])
            for kind, size in of.items():
                profile, _, start = kind.rpartition("@")
                if profile != fields.get("profile") or fields.get("start") not in (None, int(start)):
                    yield f"{kind} is not the profile or the start that was asked for"
                if table.get(kind) != size:
                    yield f"{address} has no placement {kind} of {size} slots"
            taken = [slot for one in (*others, grant) for slot in _slots(one.get(address, {}))]
            if len(set(taken)) != len(taken):
                yield f"{address} gives a slot twice: {grant}"


def _most_together(sets: Sequence[set[Any]]) -> int:
    """How many of these sets of slots are pairwise disjoint at most."""
    if not sets:
        return 0
    first, *others = sets
    with_first = 1 + _most_together([one for one in others if one.isdisjoint(first)])
    # Without the first, one that overlaps it takes its place: else it could have been added.
    overlapping = [one for one in others if not one.isdisjoint(first)]
    return max(with_first, _most_together(others)) if overlapping else with_first


def _is_profile(name: str, profile: Any) -> bool:
    if not 0 < len(name) <= 64 or "@" in name or not isinstance(profile, dict):
        return False
    size, starts = profile.get("size"), profile.get("starts")
    return (
        profile.keys() == {"size", "starts"}
        and type(size) is int
        and 1 <= size <= _SLOTS
        and isinstance(starts, list)
        and 0 < len(starts) <= _SLOTS
        and all(type(start) is int and 0 <= start <= _SLOTS - size for start in starts)
    )


def _placements(gpu: Mapping[str, Any]) -> dict[str, int]:
    """`PROFILE@START` -> size, of a reported GPU."""
    if "table" in gpu:
        names = _NAMES[gpu["table"]].split()
        shapes = zip(names, _FOUR if len(names) == len(_FOUR) else _EIGHT, strict=True)
        return {f"{name}@{start}": size for name, (size, starts) in shapes for start in starts}
    return {
        f"{name}@{start}": profile["size"]
        for name, profile in gpu["profiles"].items()
        for start in profile["starts"]
    }


def _slots(placements: Mapping[str, int]) -> Iterator[Any]:
    """What placements take: slots, and the one set of media extensions."""
    for kind, size in placements.items():
        profile, _, start = kind.rpartition("@")
        yield from range(int(start), int(start) + size)
        if "+me" in profile:
            yield "media"
        if not profile.endswith("-me"):
            engines = range(_SLOTS) if "+me.all" in profile else range(int(start), int(start) + size)
            yield from (("engine", number) for number in engines)
