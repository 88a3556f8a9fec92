"""The base of all classes whose inventory is a list of devices with attributes.

A record stores the reported devices and the held devices separately. So a report that drops or changes a device in use
does not change its use. An inventory may also be a number of devices (`{"total": 4}`), by the rule for quantities. A
provider may change from one form to the other while devices are held. Devices that are held in the other form then reduce
the free amount.

An encoded record starts with its columns at a fixed width: readers load a fleet without decoding devices.
"""

from __future__ import annotations

import re
import struct
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

import msgspec
from msgspec.structs import replace

from vacancy.resources.classes.devices.device_attribute_index import (
    INDEX_COLUMNS,
    Attribute,
    attribute,
    index_row,
    index_terms,
)
from vacancy.resources.classes.quantity import TOTAL_MAX, Quantity, QuantityRecord
from vacancy.resources.classes.resource_class import (
    EXCLUDED,
    UNHEALTHY,
    Granted,
    ResourceClass,
    Shortfall,
    Term,
)
from vacancy.resources.model.comparison import Comparison, Value, all_hold, comparisons, is_value
from vacancy.resources.model.errors import InvalidRecord, UsageError
from vacancy.resources.model.names import ID_PATTERN

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DEVICES_MAX: Final = 4096
ATTRIBUTES_MAX: Final = 64
ATTRIBUTE_NAME_MAX: Final = 128
MATCH_MAX: Final = 8
REASON_MAX: Final = 1_000
"""The length of the reason for which a device is unhealthy."""

ADDRESS: Final = "address"
"""The attribute that every device has: its name in the inventory."""

PARENT: Final = "parent"

T = TypeVar("T")

_is_name = re.compile(ID_PATTERN).fullmatch
_ARRAY_OF_FOUR: Final = 0x94
"""The first byte of an encoded record without excluded and unhealthy devices: MessagePack's array of 4 elements."""

_NOT_COUNTED: Final = QuantityRecord(0, 0, 1, 0, 1, 1000, 0, -1, -1)


class DeviceItem(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One reported device: its attributes by name, and the fields of its class. `parent`: the physical function;
    `total`: the amount of it; `types`: how many instances it can run of each type."""

    name: str
    attributes: tuple[Attribute, ...]
    parent: str = ""
    total: int = 1
    types: tuple[tuple[str, int], ...] = ()

    def satisfies(self, where: tuple[Comparison, ...]) -> bool:
        """Whether the device's attributes satisfy all comparisons."""
        return not where or all_hold(where, self.values)

    @property
    def values(self) -> dict[str, Value]:
        """The attributes by name, as asks compare them."""
        values = {name: value for name, _, value in self.attributes}
        values[ADDRESS] = self.name
        if self.parent:
            values[PARENT] = self.parent
        return values

    def domain(self, match: tuple[str, ...]) -> tuple[Attribute, ...] | None:
        """What this device has in common with those that an ask with `match` may grant together; None: it is granted to none,
        because it lacks an attribute."""
        values = self.values
        return tuple(attribute(name, values[name]) for name in match) if values.keys() >= {*match} else None


class DeviceUse(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is held of one device. `kind`: the physical function it belonged to when it was granted, or the type
    that runs on it."""

    name: str
    kind: str
    amount: int


class DeviceRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A provider's devices and what is held of them, both sorted by name; or, if `is_counted`, the number of devices.
    `counted.used` is the number that was granted as an amount.

    `excluded` are the names that an operator excluded, `unhealthy` the names and reasons of devices that the node says do not
    work, and `withheld` the reported devices that nobody gets because of it. They are not among `items`, so for claims and
    queries they are not there. A record without such devices is encoded without the three fields: its bytes are those of
    rules version 1."""

    counted: QuantityRecord
    items: tuple[DeviceItem, ...]
    used: tuple[DeviceUse, ...]
    is_counted: bool
    excluded: tuple[str, ...] = ()
    withheld: tuple[DeviceItem, ...] = ()
    unhealthy: tuple[tuple[str, str], ...] = ()

    @property
    def reported(self) -> tuple[DeviceItem, ...]:
        """All reported devices, whether they are offered or not."""
        if not self.withheld:
            return self.items
        return tuple(sorted((*self.items, *self.withheld), key=lambda item: item.name))

    @property
    def held(self) -> int:
        """The amount that is held of named devices."""
        return sum(use.amount for use in self.used)


class DeviceAsk(msgspec.Struct, frozen=True):
    """A parsed ask: `count` devices (or instances of a `type`) with these attributes; of each device, `share`. All devices
    have the attributes in `match`, and of each of these the same value."""

    count: int
    where: tuple[Comparison, ...] = ()
    share: int = 0
    type: str = ""
    match: tuple[str, ...] = ()


class DeviceClass(ResourceClass[DeviceRecord]):
    """A class of devices. One instance serves one name."""

    columns: ClassVar[tuple[str, ...]] = ("free", "capacity", *INDEX_COLUMNS)
    index_columns: ClassVar[tuple[str, ...]] = INDEX_COLUMNS
    added_ask_fields: ClassVar[frozenset[str]] = frozenset({"match"})
    excludes_items: ClassVar[bool] = True
    countable: ClassVar[bool] = True
    """Whether an inventory may be a number of devices."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._quantity = Quantity(name)
        self._head = struct.Struct(f"<{len(self.columns)}q")
        self._decoder = msgspec.msgpack.Decoder(DeviceRecord)

    # -- what a class of devices implements ---------------------------------------------------------------

    @abstractmethod
    def _item(self, name: str, fields: dict[str, Any]) -> DeviceItem:
        """The device. Removes the fields of the class from `fields`; the rest are attributes. Raises
        `InvalidRecord`."""

    def _check(self, items: tuple[DeviceItem, ...]) -> tuple[DeviceItem, ...]:
        """The devices as the record keeps them. Raises `InvalidRecord` where they contradict each other."""
        return items

    @abstractmethod
    def _choose(self, record: DeviceRecord, wanted: DeviceAsk) -> tuple[DeviceUse, ...] | Shortfall:
        """What to take of which devices: the same for equal records."""

    @abstractmethod
    def _own_columns(self, record: DeviceRecord) -> tuple[int, ...]:
        """The values of the columns before the index: free, capacity, and the class's own."""

    @abstractmethod
    def _available(self, record: DeviceRecord) -> Iterable[tuple[Attribute, ...]]:
        """The attributes of each device that could be granted: the index has them."""

    @abstractmethod
    def _grant(self, uses: tuple[DeviceUse, ...]) -> Any:
        """A grant as JSON."""

    @abstractmethod
    def _uses_held(self, grant: Any) -> Iterable[DeviceUse]:
        """What a grant took, by the grant alone: also after it was released."""

    def _as_held(self, wanted: DeviceAsk, held: Sequence[DeviceUse]) -> DeviceAsk:
        """The ask, with what it leaves open chosen as it is for the devices that were held."""
        return wanted

    def _choose_held(
        self, record: DeviceRecord, wanted: DeviceAsk, held: Set[str]
    ) -> tuple[DeviceUse, ...] | Shortfall:
        """Choose among devices that were held, then among the others."""
        those = tuple(item for item in record.items if item.name in held)
        outcome = self._choose(replace(record, items=those), wanted)
        if not isinstance(outcome, Shortfall):
            return outcome
        count = outcome.available
        if not 0 < count < wanted.count:
            return outcome
        kept = self._choose(replace(record, items=those), replace(wanted, count=count))
        if isinstance(kept, Shortfall):
            return kept
        if wanted.match:
            # The others must be of the domain of those that are kept.
            first = next(item for item in those if item.name == kept[0].name)
            wanted = in_domain(wanted, first)
        others = tuple(item for item in record.items if item.name not in held)
        after = replace(record, items=others, used=merged(record.used, kept))
        more = self._choose(after, replace(wanted, count=wanted.count - count))
        return more if isinstance(more, Shortfall) else merged(kept, more)

    @abstractmethod
    def _uses_of(self, record: DeviceRecord, grant: Any) -> Iterable[DeviceUse]:
        """What a grant took."""

    @abstractmethod
    def _amount_of(self, grant: Any) -> int:
        """How much a grant of named devices comes to, in units of `capacity`."""

    @abstractmethod
    def _parse_object(self, fields: dict[str, Any]) -> DeviceAsk:
        """Parse an ask that is an object. Raises `UsageError`."""

    @abstractmethod
    def _parse_amount(self, amount: int) -> DeviceAsk:
        """Parse an ask that is an amount."""

    # -- write --------------------------------------------------------------------------------------------

    def set_inventory(self, inventory: Mapping[str, Any], old: DeviceRecord | None) -> DeviceRecord:
        if not self.countable or "devices" in inventory:
            return self.report(inventory, old)
        counted = self._quantity.set_inventory(inventory, None if old is None else old.counted)
        used, excluded = ((), ()) if old is None else (old.used, old.excluded)
        return DeviceRecord(counted, (), used, True, excluded)

    def inventory_set(self, record: DeviceRecord) -> Mapping[str, Any]:
        return self._quantity.inventory_set(record.counted) if record.is_counted else {}

    def check_units(self, record: DeviceRecord, ask: Any) -> Shortfall | None:
        return self._quantity.check_units(record.counted, ask) if record.is_counted else None

    def report(self, inventory: Mapping[str, Any], old: DeviceRecord | None) -> DeviceRecord:
        counted = None if old is None else old.counted
        used = () if old is None else old.used
        if self.countable and "devices" not in inventory:
            excluded = () if old is None else old.excluded
            return DeviceRecord(self._quantity.report(inventory, counted), (), used, True, excluded)
        devices = inventory.get("devices")
        if set(inventory) != {"devices"} or not isinstance(devices, Mapping):
            raise InvalidRecord(f"{self.name}: an inventory is {{'devices': {{name: attributes}}}}")
        if len(devices) > DEVICES_MAX:
            raise InvalidRecord(
                f"{self.name}: an inventory has {DEVICES_MAX:,} devices at most, and this one has {len(devices):,}"
            )
        items = tuple(self._parse_item(name, devices[name]) for name in sorted(devices))
        record = DeviceRecord(self._uncounted(counted), self._check(items), used, False)
        return record if old is None or not old.excluded else _withholding(record, old.excluded, ())

    def check_override(self, override: Mapping[str, Any]) -> None:
        if self.countable:
            self._quantity.check_override(override)
        else:
            super().check_override(override)

    def without_effect(self, record: DeviceRecord, override: Mapping[str, Any]) -> tuple[str, ...]:
        """A list of devices has no amount that an operator could reserve of it or multiply. A number of devices has no names
        that an operator could exclude."""
        if record.is_counted:
            return tuple(name for name in override if name == EXCLUDED)
        return tuple(sorted(name for name in override if name != EXCLUDED))

    def override(self, record: DeviceRecord, override: Mapping[str, Any]) -> DeviceRecord:
        excluded = tuple(sorted(override.get(EXCLUDED, ())))
        if excluded != record.excluded:
            record = _withholding(record, excluded, record.unhealthy)
        if not self.countable:
            return record
        override = {name: value for name, value in override.items() if name != EXCLUDED}
        return replace(record, counted=self._quantity.override(record.counted, override))

    def set_unhealthy(self, record: DeviceRecord, unhealthy: Any) -> DeviceRecord:
        names = self.names(record)
        if not isinstance(unhealthy, Mapping) or not all(
            name in names and isinstance(reason, str) and len(reason) <= REASON_MAX
            for name, reason in unhealthy.items()
        ):
            raise InvalidRecord(
                f"{self.name}: {UNHEALTHY} is {{device: reason}}, of devices in the same inventory, and a reason has"
                f" {REASON_MAX} characters at most"
            )
        said = tuple(sorted(unhealthy.items()))
        return record if said == record.unhealthy else _withholding(record, record.excluded, said)

    def unhealthy(self, record: DeviceRecord) -> Mapping[str, str]:
        return dict(record.unhealthy)

    def excluded(self, record: DeviceRecord) -> Collection[str]:
        return record.excluded

    def may_withhold(self, encoded: bytes) -> bool:
        return encoded[self._head.size] != _ARRAY_OF_FOUR

    def withheld(self, record: DeviceRecord, grant: Any) -> tuple[str, ...]:
        if self.is_amount(grant):
            return ()
        out = {*record.excluded, *(name for name, _ in record.unhealthy)}
        out |= {item.name for item in record.withheld}
        return tuple(sorted({use.name for use in self._uses_held(grant)} & out))

    def names(self, record: DeviceRecord) -> frozenset[str]:
        return frozenset(item.name for item in record.reported)

    def withdraw(self, record: DeviceRecord) -> DeviceRecord:
        return replace(record, counted=self._uncounted(record.counted), items=(), withheld=(), unhealthy=())

    def in_use(self, record: DeviceRecord) -> bool:
        return bool(record.used) or record.counted.used > 0

    def claim(self, record: DeviceRecord, ask: Any, *, no_worse: bool = False) -> Granted | Shortfall:
        try:
            wanted = self._parse(ask)
        except UsageError:
            return Shortfall("bad_ask", 0, 0)
        if not record.is_counted:
            outcome = self._claim_devices(record, wanted)
            if isinstance(outcome, Granted) or not no_worse:
                return outcome
        return self._claim_amount(record, wanted, no_worse=no_worse)

    def reclaim(
        self, record: DeviceRecord, ask: Any, before: Sequence[Any], *, no_worse: bool = False
    ) -> Granted | Shortfall:
        """First the devices that were held and of them as many as fit; only the others are new ones."""
        held = [use for grant in before if not self.is_amount(grant) for use in self._uses_held(grant)]
        if held and not record.is_counted:
            try:
                wanted = self._parse(ask)
            except UsageError:
                return Shortfall("bad_ask", 0, 0)
            kept = self._claim_devices(record, self._as_held(wanted, held), {use.name for use in held})
            if isinstance(kept, Granted):
                return kept
        return self.claim(record, ask, no_worse=no_worse)

    def grants_no_more(self, before: Sequence[Any], after: Sequence[Any]) -> bool:
        left = Counter[tuple[str, str]]()
        for sign, grants in ((1, before), (-1, after)):
            for grant in grants:
                if self.is_amount(grant):
                    left["", ""] += sign * grant
                    continue
                for use in self._uses_held(grant):
                    left[use.name, use.kind] += sign * use.amount
        return all(amount >= 0 for amount in left.values())

    def items(self, record: DeviceRecord) -> int:
        return len(record.items) + len(record.withheld)

    def claim_reads(self, record: DeviceRecord, ask: Any) -> int:
        """The devices and what is held of them, each once for each comparison and each choice of the ask."""
        if record.is_counted:
            return len(record.used)
        try:
            wanted = self._parse(ask)
        except UsageError:
            return 0
        tests = sum(len(one.value) if isinstance(one.value, tuple) else 1 for one in wanted.where)
        tests += len(wanted.match)
        return (self.items(record) + len(record.used)) * max(1, tests)

    def _claim_devices(
        self, record: DeviceRecord, wanted: DeviceAsk, held: Set[str] = frozenset()
    ) -> Granted | Shortfall:
        uses = self._choose_held(record, wanted, held) if held else self._choose(record, wanted)
        if isinstance(uses, Shortfall):
            return uses
        after = replace(record, used=merged(record.used, uses))
        if record.counted.used:
            # An amount that was granted earlier uses unknown devices of this list.
            free = self._own_columns(record)[0] - record.counted.used
            if wanted.count > free or self._own_columns(after)[0] < record.counted.used:
                return Shortfall("no_room", wanted.count, max(0, min(free, wanted.count - 1)))
        return Granted(after, self._grant(uses))

    def _claim_amount(
        self, record: DeviceRecord, wanted: DeviceAsk, *, no_worse: bool
    ) -> Granted | Shortfall:
        if wanted.where or wanted.type or wanted.match:
            return Shortfall("no_room", wanted.count, 0)
        free = record.counted.capacity - record.counted.used - record.held
        if wanted.count > free and not no_worse:
            return Shortfall("no_room", wanted.count, free)
        outcome = self._quantity.claim(record.counted, wanted.count, no_worse=no_worse)
        if isinstance(outcome, Shortfall):
            return outcome
        return Granted(replace(record, counted=outcome.record), outcome.grant)

    def release(self, record: DeviceRecord, grant: Any) -> DeviceRecord:
        if self.is_amount(grant):
            return replace(record, counted=self._quantity.release(record.counted, grant))
        return replace(record, used=merged(record.used, self._uses_of(record, grant), -1))

    def asks_no_more(self, grants: Sequence[Any], asks: Sequence[Any]) -> bool:
        """Only for grants that are amounts, and asks without attributes: after a release it is not known which
        devices were held."""
        if not all(map(self.is_amount, grants)):
            return False
        try:
            wanted = [self._parse(ask) for ask in asks]
        except UsageError:
            return False
        held: int = sum(grants)
        plain = not any(one.where or one.type or one.match for one in wanted)
        return plain and sum(one.count for one in wanted) <= held

    def encode(self, record: DeviceRecord) -> bytes:
        is_plain = not record.excluded and not record.unhealthy
        value = (record.counted, record.items, record.used, record.is_counted) if is_plain else record
        return self._head.pack(*self.row(record)) + msgspec.msgpack.encode(value)

    def decode(self, data: bytes) -> DeviceRecord:
        return self._decoder.decode(data[self._head.size :])

    # -- amounts ------------------------------------------------------------------------------------------

    def amount_of(self, grant: Any) -> int:
        if self.is_amount(grant):
            return grant
        return self._amount_of(grant)

    # -- query --------------------------------------------------------------------------------------------

    def check_ask(self, ask: Any) -> None:
        self._parse(ask)

    def query(self, ask: Any) -> tuple[Term, ...]:
        wanted = self._parse(ask)
        return (*index_terms(self._index_comparisons(wanted)), *self._amount_terms(wanted))

    def _index_comparisons(self, wanted: DeviceAsk) -> tuple[Comparison, ...]:
        """The comparisons that the index columns can test: not those of device names, which are too many for it."""
        return tuple([one for one in wanted.where if one.name not in (ADDRESS, PARENT)])

    def _amount_terms(self, wanted: DeviceAsk) -> Iterator[Term]:
        yield Term("free", ">=", wanted.count)

    def row(self, record: DeviceRecord) -> tuple[int, ...]:
        if record.is_counted:
            capacity = record.counted.capacity
            return capacity - record.counted.used - record.held, capacity, *index_row(())
        free, *more = self._own_columns(record)
        return free - record.counted.used, *more, *index_row(self._available(record))

    def project(self, encoded: Sequence[bytes]) -> NDArray[np.int64]:
        import numpy as np

        size = self._head.size
        raw = np.frombuffer(b"".join([data[:size] for data in encoded]), dtype="<i8")
        return raw.reshape(len(encoded), len(self.columns)).T

    # -- reading ------------------------------------------------------------------------------------------

    def _parse_item(self, name: Any, fields: Any) -> DeviceItem:
        if not isinstance(name, str) or not _is_name(name):
            raise InvalidRecord(f"{self.name}: {str(name)[:80]!r} cannot name a device")
        if not isinstance(fields, Mapping):
            raise InvalidRecord(f"{self.name}: the attributes of {name} are no object")
        left = dict(fields)
        item = self._item(name, left)
        if len(left) > ATTRIBUTES_MAX:
            raise InvalidRecord(f"{self.name}: {name} has more than {ATTRIBUTES_MAX} attributes")
        for key, value in left.items():
            if not 0 < len(key) <= ATTRIBUTE_NAME_MAX or key == ADDRESS or not is_value(value):
                raise InvalidRecord(
                    f"{self.name}: {name} cannot have an attribute {key[:80]!r} of that value"
                )
        return replace(item, attributes=attributes(left))

    def _uncounted(self, counted: QuantityRecord | None) -> QuantityRecord:
        if counted is None:
            return _NOT_COUNTED
        return replace(
            _NOT_COUNTED,
            used=counted.used,
            reserved_override=counted.reserved_override,
            ratio_milli_override=counted.ratio_milli_override,
        )

    def _parse(self, ask: Any) -> DeviceAsk:
        if self.is_amount(ask):
            self._quantity.check_ask(ask)
            return self._parse_amount(ask)
        if not isinstance(ask, Mapping):
            raise UsageError(f"{self.name}: an ask is a number or an object", do="write 1, or an object")
        try:
            # An ask is tried on many providers, and parsed once.
            return _parse_once(self._parse_object, msgspec.json.encode(ask))
        except (msgspec.MsgspecError, OverflowError, RecursionError, TypeError, ValueError) as error:
            raise UsageError(f"{self.name}: {error}", do="write a smaller object") from None
        except UsageError as error:
            raise UsageError(f"{self.name}: {error.what}", where=error.where, do=error.do) from None


def _withholding(
    record: DeviceRecord, excluded: tuple[str, ...], unhealthy: tuple[tuple[str, str], ...]
) -> DeviceRecord:
    """The record with exactly these names excluded and unhealthy. With a physical function its virtual functions are withheld,
    and with a virtual function its physical function: a consumer that had that would have this."""
    reported, names = record.reported, frozenset((*excluded, *(name for name, _ in unhealthy)))
    whole = {item.parent for item in reported if item.parent and item.name in names}
    out = {item.name for item in reported if item.name in names or item.parent in names or item.name in whole}
    return replace(
        record,
        items=tuple(item for item in reported if item.name not in out),
        excluded=excluded,
        withheld=tuple(item for item in reported if item.name in out),
        unhealthy=unhealthy,
    )


@lru_cache(maxsize=1024)
def _parse_once(read: Callable[[dict[str, Any]], DeviceAsk], ask: bytes) -> DeviceAsk:
    return read(msgspec.json.decode(ask))


def attributes(fields: Mapping[str, Any]) -> tuple[Attribute, ...]:
    """Attributes by name."""
    return tuple(attribute(name, fields[name]) for name in sorted(fields))


def merged(used: Iterable[DeviceUse], others: Iterable[DeviceUse], sign: int = 1) -> tuple[DeviceUse, ...]:
    """What is held after these uses are added, or with `sign` -1 removed; sorted by name."""
    amounts = {(use.name, use.kind): use.amount for use in used}
    for use in others:
        slot = (use.name, use.kind)
        amounts[slot] = amounts.get(slot, 0) + sign * use.amount
    return tuple(DeviceUse(*slot, amount) for slot, amount in sorted(amounts.items()) if amount > 0)


def whole_number(fields: dict[str, Any], field: str, default: int | None, *, do: str) -> int:
    """Remove a number from 1 on from the fields of an ask. Raises `UsageError`."""
    value = fields.pop(field, default)
    if type(value) is not int or not 1 <= value <= TOTAL_MAX:
        raise UsageError(f"{field} is a whole number from 1 to {TOTAL_MAX}", do=do)
    return value


def match_of(fields: dict[str, Any], *, do: str) -> tuple[str, ...]:
    """Remove `match` from the fields of an ask. Raises `UsageError`."""
    names = fields.pop("match", [])
    if (
        not isinstance(names, list)
        or len(names) > MATCH_MAX
        or not all(isinstance(name, str) and 0 < len(name) <= ATTRIBUTE_NAME_MAX for name in names)
    ):
        raise UsageError(f"match is a list of up to {MATCH_MAX} names of attributes", do=do)
    return tuple(sorted(set(names)))


def domains(items: Iterable[tuple[DeviceItem, T]], wanted: DeviceAsk) -> list[list[T]]:
    """What an ask may grant together: lists of what comes with the devices that satisfy it, one for each set of values of the
    attributes in `match`, in the order of these."""
    if not wanted.match:
        return [[of_item for item, of_item in items if item.satisfies(wanted.where)]]
    found: dict[tuple[Attribute, ...], list[T]] = {}
    for item, of_item in items:
        if item.satisfies(wanted.where) and (domain := item.domain(wanted.match)) is not None:
            found.setdefault(domain, []).append(of_item)
    return [
        found[one] for one in sorted(found, key=lambda one: [(kind, str(value)) for _, kind, value in one])
    ]


def in_domain(wanted: DeviceAsk, item: DeviceItem) -> DeviceAsk:
    """The ask for devices that have what `item` has of the attributes in `match`."""
    same = tuple(Comparison(name, "==", value) for name, _, value in item.domain(wanted.match) or ())
    return replace(wanted, where=(*wanted.where, *same), match=())


def where_of(fields: dict[str, Any], *, do: str) -> tuple[Comparison, ...]:
    """Remove `where` from the fields of an ask; it must be the last one. Raises `UsageError`."""
    where = comparisons(fields.pop("where", {}))
    if fields:
        raise UsageError(f"an ask has no field {min(fields)[:80]!r}", do=do)
    return where
