"""MIG instances: parts of a GPU, each of a profile, placed in the slots of the GPU's memory.

A GPU may run instances of several profiles at once, wherever its table of placements lets them start (`mig_tables`), as long as
they do not overlap. An instance that runs is never moved. So an ask is granted exactly where there are free placements for it,
and not by counting profiles.

Of the placements that fit, an instance takes the one that leaves most placements of all profiles free: a small instance goes to
the end of the GPU, where no large one can start. GPUs with the fewest free placements are filled first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar, Final

from msgspec.structs import replace

from vacancy.resources.classes.devices.device_attribute_index import Attribute, attribute
from vacancy.resources.classes.devices.device_class import (
    DeviceAsk,
    DeviceClass,
    DeviceItem,
    DeviceRecord,
    DeviceUse,
    domains,
    in_domain,
    match_of,
    merged,
    where_of,
    whole_number,
)
from vacancy.resources.classes.devices.mig_tables import (
    ALL_MEDIA,
    MEDIA,
    TABLES,
    WITHOUT_MEDIA,
    Profile,
    placements,
)
from vacancy.resources.classes.resource_class import Granted, Shortfall
from vacancy.resources.model.comparison import Comparison
from vacancy.resources.model.errors import InvalidRecord, UsageError

SLOTS_MAX: Final = 16
"""Slots of one GPU."""

_ALL_SLOTS: Final = (1 << SLOTS_MAX) - 1

PLACEMENTS_MAX: Final = 64
"""Placements of one GPU, of all profiles together."""

_NAME_MAX: Final = 64
_MEDIA_SLOT: Final = SLOTS_MAX
"""The media extensions count as one more slot, which only their profiles take."""

_ENGINES: Final = _MEDIA_SLOT + 1
"""The first of as many media engines as there are slots. An instance takes those of its slots, all, or none."""

_EXAMPLE: Final = '{"profile": "1g.5gb", "count": 1, "start": 4, "where": {"model": "A100"}}'
_DO: Final = f"write {_EXAMPLE}; only profile is needed"
_INDEXED: Final = "profile\0"
"""The name of profiles and placements in the index. No attribute can have it."""

Placement = tuple[str, int]
"""(`PROFILE@START`, its slots)."""


class Mig(DeviceClass):
    """Instances of MIG profiles. The grant maps a GPU to the placements and how many slots each takes."""

    countable: ClassVar[bool] = False
    added_ask_fields: ClassVar[frozenset[str]] = frozenset()

    def _item(self, name: str, fields: dict[str, Any]) -> DeviceItem:
        table, profiles = fields.pop("table", None), fields.pop("profiles", None)
        if (table is None) == (profiles is None):
            raise InvalidRecord(f"{self.name}: {name} names either a table of placements or its profiles")
        if profiles is None:
            if not isinstance(table, str) or table not in TABLES:
                raise InvalidRecord(
                    f"{self.name}: {name} has no known table of placements ({', '.join(TABLES)}); report its profiles"
                )
            return DeviceItem(name, (), types=tuple(sorted(placements(TABLES[table]))))
        return DeviceItem(name, (), types=tuple(sorted(placements(self._profiles(name, profiles)))))

    def _profiles(self, device: str, profiles: Any) -> Mapping[str, Profile]:
        """The profiles that a GPU reports itself. Raises `InvalidRecord`."""
        if not isinstance(profiles, Mapping) or not profiles:
            raise InvalidRecord(f"{self.name}: the profiles of {device} are no object, or an empty one")
        found = {}
        for name, one in profiles.items():
            fields = dict(one) if isinstance(one, Mapping) else {}
            size, starts = fields.pop("size", 0), fields.pop("starts", ())
            is_valid = (
                0 < len(name) <= _NAME_MAX
                and "@" not in name
                and not fields
                and type(size) is int
                and 1 <= size <= SLOTS_MAX
                and isinstance(starts, list)
                and 0 < len(starts) <= SLOTS_MAX
                and all(type(start) is int and 0 <= start <= SLOTS_MAX - size for start in starts)
            )
            if not is_valid:
                raise InvalidRecord(
                    f"{self.name}: {device} does not say where instances of {name[:80]!r} are placed: a size and starts,"
                    f" within {SLOTS_MAX} slots"
                )
            found[name] = Profile(size, tuple(sorted(set(starts))))
        if sum(len(profile.starts) for profile in found.values()) > PLACEMENTS_MAX:
            raise InvalidRecord(f"{self.name}: {device} has more than {PLACEMENTS_MAX} placements")
        return found

    def _choose(self, record: DeviceRecord, wanted: DeviceAsk) -> tuple[DeviceUse, ...] | Shortfall:
        held = _occupied(record)
        gpus = ((item, (item.name, _Table.of(item.types), held.get(item.name, 0))) for item in record.items)
        most, best = 0, None
        for found in domains(gpus, wanted):
            able = []
            for name, table, occupied in found:
                free = table.free(occupied)
                room = table.capacity(wanted.type, free)
                if room:
                    able.append((free.bit_count(), name, table, free, room))
            total = sum(one[-1] for one in able)
            most = max(most, total)
            if total >= wanted.count and (best is None or total < best[0]):
                best = total, able
        if best is None:
            return Shortfall("no_room", wanted.count, most)
        uses: list[DeviceUse] = []
        for _, name, table, free, room in sorted(best[1], key=lambda one: one[:2]):
            chosen = table.placed(wanted.type, free, min(room, wanted.count - len(uses)))
            uses += [DeviceUse(name, kind, size) for kind, size in chosen]
        return tuple(sorted(uses, key=lambda one: (one.name, one.kind)))

    def reclaim(
        self, record: DeviceRecord, ask: Any, before: Sequence[Any], *, no_worse: bool = False
    ) -> Granted | Shortfall:
        """First the placements that were held, then others; an ask for another profile stays on its GPUs if it can."""
        try:
            wanted = self._parse(ask)
        except UsageError:
            return Shortfall("bad_ask", 0, 0)
        kept = self._kept(record, wanted, [use for grant in before for use in self._uses_held(grant)])
        if not kept:
            return super().reclaim(record, ask, before, no_worse=no_worse)
        after = replace(record, used=merged(record.used, kept))
        more: tuple[DeviceUse, ...] | Shortfall = ()
        if wanted.count > len(kept):
            item = next(item for item in record.items if item.name == kept[0].name)
            more = self._choose(after, in_domain(replace(wanted, count=wanted.count - len(kept)), item))
        if isinstance(more, Shortfall):
            return self.claim(record, ask, no_worse=no_worse)
        uses = tuple(sorted((*kept, *more), key=lambda one: (one.name, one.kind)))
        return Granted(replace(after, used=merged(after.used, more)), self._grant(uses))

    def _kept(
        self, record: DeviceRecord, wanted: DeviceAsk, held: Iterable[DeviceUse]
    ) -> tuple[DeviceUse, ...]:
        """Of placements that were held, those that the ask grants again."""
        items = {item.name: item for item in record.items}
        occupied = _occupied(record)
        again = (
            (items[use.name], use)
            for use in held
            if use.name in items
            and wanted.type in (use.kind, use.kind.rpartition("@")[0])
            and (use.kind, use.amount) in items[use.name].types
            and not _bits(use.kind, use.amount) & occupied.get(use.name, 0)
        )
        return tuple(max(domains(again, wanted), key=len, default=[])[: wanted.count])

    def items(self, record: DeviceRecord) -> int:
        return sum(1 + len(item.types) for item in record.reported)

    def _own_columns(self, record: DeviceRecord) -> tuple[int, ...]:
        held = _occupied(record)
        tables = ((_Table.of(item.types), held.get(item.name, 0)) for item in record.items)
        free = sum((table.slots & ~occupied).bit_count() for table, occupied in tables)
        return free, free + record.held

    def _available(self, record: DeviceRecord) -> Iterable[tuple[Attribute, ...]]:
        held = _occupied(record)
        for item in record.items:
            table = _Table.of(item.types)
            kinds = table.kinds(table.free(held.get(item.name, 0)))
            if kinds:
                yield (*item.attributes, *(attribute(_INDEXED, kind) for kind in kinds))

    def _grant(self, uses: tuple[DeviceUse, ...]) -> Any:
        grant: dict[str, dict[str, int]] = {}
        for use in uses:
            grant.setdefault(use.name, {})[use.kind] = use.amount
        return grant

    def _uses_of(self, record: DeviceRecord, grant: Any) -> Iterable[DeviceUse]:
        return self._uses_held(grant)

    def _uses_held(self, grant: Any) -> Iterable[DeviceUse]:
        return [DeviceUse(name, kind, size) for name, of in grant.items() for kind, size in of.items()]

    def _amount_of(self, grant: Any) -> int:
        return sum(size for of in grant.values() for size in of.values())

    def _parse_object(self, fields: dict[str, Any]) -> DeviceAsk:
        profile, start = fields.pop("profile", None), fields.pop("start", None)
        if not isinstance(profile, str) or not 0 < len(profile) <= _NAME_MAX or "@" in profile:
            raise UsageError("profile is the name of a MIG profile", do=_DO)
        if start is not None and (type(start) is not int or not 0 <= start < SLOTS_MAX):
            raise UsageError(f"start is the first slot of the instance, from 0 to {SLOTS_MAX - 1}", do=_DO)
        count, match = whole_number(fields, "count", 1, do=_DO), match_of(fields, do=_DO)
        kind = profile if start is None else f"{profile}@{start}"
        return DeviceAsk(count, where_of(fields, do=_DO), type=kind, match=match)

    def _parse_amount(self, amount: int) -> DeviceAsk:
        raise UsageError(
            f"{self.name}: an ask names a profile", do=f"write {self.name}:1[profile=1g.5gb], or {_EXAMPLE}"
        )

    def _index_comparisons(self, wanted: DeviceAsk) -> tuple[Comparison, ...]:
        return (*super()._index_comparisons(wanted), Comparison(_INDEXED, "==", wanted.type))


def _bits(kind: str, size: int) -> int:
    """The slots that a placement takes, as bits."""
    profile, _, start = kind.rpartition("@")
    slots = ((1 << size) - 1) << int(start)
    engines = 0 if profile.endswith(WITHOUT_MEDIA) else _ALL_SLOTS if ALL_MEDIA in profile else slots
    return slots | (MEDIA in profile) << _MEDIA_SLOT | engines << _ENGINES


def _occupied(record: DeviceRecord) -> dict[str, int]:
    """Device -> the slots of it that are held, as bits, also by placements that its table no longer has."""
    found: dict[str, int] = {}
    for use in record.used:
        found[use.name] = found.get(use.name, 0) | _bits(use.kind, use.amount)
    return found


class _Table:
    """The placements of a GPU. A set of placements is a number with a bit for each of them."""

    def __init__(self, types: tuple[Placement, ...]) -> None:
        self._placements = types
        bits = [_bits(*one) for one in types]
        self._covering = [
            sum(1 << number for number, one in enumerate(bits) if one >> slot & 1)
            for slot in range(_ENGINES + SLOTS_MAX)
        ]
        """Slot -> the placements that take it."""
        self._overlapping = [self._of_slots(one) for one in bits]
        """Placement -> those that it overlaps, itself among them."""
        self._all = (1 << len(types)) - 1
        self.slots = 0
        """All slots that some placement takes, as bits."""
        for one in bits:
            self.slots |= one & _ALL_SLOTS
        self._of_kind: dict[str, list[int]] = {}
        by_start = sorted(range(len(types)), key=lambda number: bits[number] & -bits[number])
        for number in by_start:
            kind = types[number][0]
            self._of_kind.setdefault(kind.rpartition("@")[0], []).append(number)
            self._of_kind[kind] = [number]

    @staticmethod
    @lru_cache(maxsize=1024)
    def of(types: tuple[Placement, ...]) -> _Table:
        """The table of these placements, made once: most GPUs have the same."""
        return _Table(types)

    def _of_slots(self, occupied: int) -> int:
        found = 0
        while occupied:
            last = occupied & -occupied
            found |= self._covering[last.bit_length() - 1]
            occupied ^= last
        return found

    def free(self, occupied: int) -> int:
        """The placements that overlap nothing that is held."""
        return self._all & ~self._of_slots(occupied)

    def kinds(self, free: int) -> list[str]:
        """The profiles, and the profiles at a start, that can be placed."""
        return [kind for kind, some in self._of_kind.items() if any(free >> one & 1 for one in some)]

    def capacity(self, wanted: str, free: int) -> int:
        """How many instances fit. Of placements of equal size, to take always the first that is free gives the most."""
        count = 0
        for one in self._of_kind.get(wanted, ()):
            if free >> one & 1:
                free &= ~self._overlapping[one]
                count += 1
        return count

    def placed(self, wanted: str, free: int, count: int) -> Iterator[Placement]:
        """`count` placements that fit together: each leaves the most placements free, of those that leave enough for
        the others."""
        for left in range(count, 0, -1):
            fitting = [
                (-after.bit_count(), number, one, after)
                for number, one in enumerate(self._of_kind[wanted])
                if free >> one & 1
                and self.capacity(wanted, after := free & ~self._overlapping[one]) >= left - 1
            ]
            _, _, one, free = min(fitting)
            yield self._placements[one]
