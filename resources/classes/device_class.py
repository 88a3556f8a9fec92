"""Itemised: what the classes have in common whose inventory is a list of devices, each with attributes.

A record keeps the devices as reported and what is held of which; the two are apart, so that a report that drops
or changes a device in use keeps the use. A class of devices that were only counted before (`{"total": 4}`) goes on
to be, by the rule for quantities; a provider may turn from one form to the other while some is held, and what is
held in the other form then counts against what is free.

Encoded, a record starts with its columns at a fixed width: readers load a fleet without decoding devices.
"""

from __future__ import annotations

import re
import struct
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, Final

import msgspec
from msgspec.structs import replace

from vacancy.resources.classes.device_attribute_index import (
    INDEX_COLUMNS,
    Attribute,
    attribute,
    index_row,
    index_terms,
)
from vacancy.resources.classes.quantity import TOTAL_MAX, Quantity, QuantityRecord
from vacancy.resources.classes.resource_class import Granted, ResourceClass, Shortfall, Term
from vacancy.resources.model.comparison import Comparison, all_hold, comparisons, is_value
from vacancy.resources.model.errors import InvalidRecord, UsageError
from vacancy.resources.model.names import ID_PATTERN

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DEVICES_MAX: Final = 4096
ATTRIBUTES_MAX: Final = 64
ATTRIBUTE_NAME_MAX: Final = 128
ADDRESS: Final = "address"
"""Every device has it: its name in the inventory."""

PARENT: Final = "parent"

_is_name = re.compile(ID_PATTERN).fullmatch
_NOT_COUNTED: Final = QuantityRecord(0, 0, 1, 0, 1, 1000, 0, -1, -1)


class DeviceItem(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One device as reported: its attributes by name, and what a class itself must know. `parent`: the physical
    function; `total`: how much of it there is; `types`: how many instances of a type it can run."""

    name: str
    attributes: tuple[Attribute, ...]
    parent: str = ""
    total: int = 1
    types: tuple[tuple[str, int], ...] = ()

    def satisfies(self, where: tuple[Comparison, ...]) -> bool:
        """Whether the device has the attributes asked for."""
        if not where:
            return True
        values = {name: value for name, _, value in self.attributes}
        values[ADDRESS] = self.name
        if self.parent:
            values[PARENT] = self.parent
        return all_hold(where, values)


class DeviceUse(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is held of one device. `kind`: the physical function it belonged to when it was granted, or the type
    that runs on it."""

    name: str
    kind: str
    amount: int


class DeviceRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A provider's devices by name and what is held of them, by name; or, where `is_counted`, how many there are.
    `counted.used` is what was granted by count."""

    counted: QuantityRecord
    items: tuple[DeviceItem, ...]
    used: tuple[DeviceUse, ...]
    is_counted: bool

    @property
    def held(self) -> int:
        """How much is held of named devices."""
        return sum(use.amount for use in self.used)


class DeviceAsk(msgspec.Struct, frozen=True):
    """An ask, read: so many devices (or instances of a `type`) with these attributes; of each, `share`."""

    count: int
    where: tuple[Comparison, ...] = ()
    share: int = 0
    type: str = ""


class DeviceClass(ResourceClass[DeviceRecord]):
    """A class of devices. One instance serves one name."""

    columns: ClassVar[tuple[str, ...]] = ("free", "capacity", *INDEX_COLUMNS)
    index_columns: ClassVar[tuple[str, ...]] = INDEX_COLUMNS
    countable: ClassVar[bool] = True
    """Whether an inventory may be a mere number."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._quantity = Quantity(name)
        self._head = struct.Struct(f"<{len(self.columns)}q")
        self._decoder = msgspec.msgpack.Decoder(DeviceRecord)

    # -- what a class of devices says ---------------------------------------------------------------------

    @abstractmethod
    def _item(self, name: str, said: dict[str, Any]) -> DeviceItem:
        """The device; takes out of `said` what is no attribute. Raises `InvalidRecord`."""

    def _check(self, items: tuple[DeviceItem, ...]) -> tuple[DeviceItem, ...]:
        """The devices together, as they are kept. Raises `InvalidRecord` where they do not go together."""
        return items

    @abstractmethod
    def _fit(self, record: DeviceRecord, wanted: DeviceAsk) -> tuple[DeviceUse, ...] | Shortfall:
        """What to take of which devices: always the same for equal records."""

    @abstractmethod
    def _room(self, record: DeviceRecord) -> tuple[int, ...]:
        """The values of the columns before the index: free, capacity, and the class's own."""

    @abstractmethod
    def _open(self, record: DeviceRecord) -> Iterable[tuple[Attribute, ...]]:
        """The attributes of each device that could be granted, for the index."""

    @abstractmethod
    def _grant(self, uses: tuple[DeviceUse, ...]) -> Any:
        """A grant as JSON."""

    @abstractmethod
    def _back(self, record: DeviceRecord, grant: Any) -> Iterable[DeviceUse]:
        """What a grant took."""

    @abstractmethod
    def _amount_of(self, grant: Any) -> int:
        """How much a grant of named devices comes to, in units of `capacity`."""

    @abstractmethod
    def _read(self, said: dict[str, Any]) -> DeviceAsk:
        """Read an ask that is an object. Raises `UsageError`."""

    @abstractmethod
    def _read_number(self, amount: int) -> DeviceAsk:
        """Read an ask that is a number."""

    # -- write --------------------------------------------------------------------------------------------

    def report(self, inventory: Mapping[str, Any], old: DeviceRecord | None) -> DeviceRecord:
        counted = None if old is None else old.counted
        used = () if old is None else old.used
        if self.countable and "devices" not in inventory:
            return DeviceRecord(self._quantity.report(inventory, counted), (), used, True)
        devices = inventory.get("devices")
        if set(inventory) != {"devices"} or not isinstance(devices, Mapping) or len(devices) > DEVICES_MAX:
            raise InvalidRecord(f"{self.name}: an inventory is {{'devices': {{name: attributes}}}}")
        items = tuple(self._read_item(name, devices[name]) for name in sorted(devices))
        return DeviceRecord(self._uncounted(counted), self._check(items), used, False)

    def check_override(self, override: Mapping[str, Any]) -> None:
        if self.countable:
            self._quantity.check_override(override)
        else:
            super().check_override(override)

    def override(self, record: DeviceRecord, override: Mapping[str, Any]) -> DeviceRecord:
        if not self.countable:
            return record
        return replace(record, counted=self._quantity.override(record.counted, override))

    def withdraw(self, record: DeviceRecord) -> DeviceRecord:
        return replace(record, counted=self._uncounted(record.counted), items=())

    def in_use(self, record: DeviceRecord) -> bool:
        return bool(record.used) or record.counted.used > 0

    def claim(self, record: DeviceRecord, ask: Any, *, no_worse: bool = False) -> Granted | Shortfall:
        try:
            wanted = self._ask(ask)
        except UsageError:
            return Shortfall("bad_ask", 0, 0)
        if not record.is_counted:
            outcome = self._take(record, wanted)
            if isinstance(outcome, Granted) or not no_worse:
                return outcome
        return self._count(record, wanted, no_worse=no_worse)

    def _take(self, record: DeviceRecord, wanted: DeviceAsk) -> Granted | Shortfall:
        uses = self._fit(record, wanted)
        if isinstance(uses, Shortfall):
            return uses
        after = replace(record, used=merged(record.used, uses))
        if record.counted.used:
            # What was granted by count is some of these devices, and nobody knows which.
            free = self._room(record)[0] - record.counted.used
            if wanted.count > free or self._room(after)[0] < record.counted.used:
                return Shortfall("no_room", wanted.count, max(0, min(free, wanted.count - 1)))
        return Granted(after, self._grant(uses))

    def _count(self, record: DeviceRecord, wanted: DeviceAsk, *, no_worse: bool) -> Granted | Shortfall:
        if wanted.where or wanted.type:
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
        return replace(record, used=merged(record.used, self._back(record, grant), -1))

    def asks_no_more(self, grants: Sequence[Any], asks: Sequence[Any]) -> bool:
        """Only of what was granted by count, and for asks that come to a number: which devices were held is not known
        once they are given back."""
        if not all(map(self.is_amount, grants)):
            return False
        try:
            wanted = [self._ask(ask) for ask in asks]
        except UsageError:
            return False
        held: int = sum(grants)
        plain = not any(one.where or one.type for one in wanted)
        return plain and sum(one.count for one in wanted) <= held

    def encode(self, record: DeviceRecord) -> bytes:
        return self._head.pack(*self.row(record)) + msgspec.msgpack.encode(record)

    def decode(self, data: bytes) -> DeviceRecord:
        return self._decoder.decode(data[self._head.size :])

    # -- amounts ------------------------------------------------------------------------------------------

    def amount_of(self, grant: Any) -> int:
        if self.is_amount(grant):
            return grant
        return self._amount_of(grant)

    # -- query --------------------------------------------------------------------------------------------

    def check_ask(self, ask: Any) -> None:
        self._ask(ask)

    def query(self, ask: Any) -> tuple[Term, ...]:
        wanted = self._ask(ask)
        return (*index_terms(self._indexed(wanted)), *self._amounts(wanted))

    def _indexed(self, wanted: DeviceAsk) -> tuple[Comparison, ...]:
        """What the index knows of an ask: not the names of devices, which would fill it up."""
        return tuple([one for one in wanted.where if one.name not in (ADDRESS, PARENT)])

    def _amounts(self, wanted: DeviceAsk) -> Iterator[Term]:
        yield Term("free", ">=", wanted.count)

    def row(self, record: DeviceRecord) -> tuple[int, ...]:
        if record.is_counted:
            capacity = record.counted.capacity
            return capacity - record.counted.used - record.held, capacity, *index_row(())
        free, *more = self._room(record)
        return free - record.counted.used, *more, *index_row(self._open(record))

    def project(self, encoded: Sequence[bytes]) -> NDArray[np.int64]:
        import numpy as np

        size = self._head.size
        raw = np.frombuffer(b"".join([data[:size] for data in encoded]), dtype="<i8")
        return raw.reshape(len(encoded), len(self.columns)).T

    # -- reading ------------------------------------------------------------------------------------------

    def _read_item(self, name: Any, said: Any) -> DeviceItem:
        if not isinstance(name, str) or not _is_name(name):
            raise InvalidRecord(f"{self.name}: {str(name)[:80]!r} cannot name a device")
        if not isinstance(said, Mapping):
            raise InvalidRecord(f"{self.name}: the attributes of {name} are no object")
        left = dict(said)
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

    def _ask(self, ask: Any) -> DeviceAsk:
        if self.is_amount(ask):
            self._quantity.check_ask(ask)
            return self._read_number(ask)
        if not isinstance(ask, Mapping):
            raise UsageError(f"{self.name}: an ask is a number or an object", do="write 1, or an object")
        try:
            # An ask is tried on many providers and read once.
            return _read_once(self._read, msgspec.json.encode(ask))
        except (msgspec.MsgspecError, OverflowError, RecursionError, TypeError, ValueError) as error:
            raise UsageError(f"{self.name}: {error}", do="write a smaller object") from None
        except UsageError as error:
            raise UsageError(f"{self.name}: {error.what}", where=error.where, do=error.do) from None


@lru_cache(maxsize=1024)
def _read_once(read: Callable[[dict[str, Any]], DeviceAsk], ask: bytes) -> DeviceAsk:
    return read(msgspec.json.decode(ask))


def attributes(said: Mapping[str, Any]) -> tuple[Attribute, ...]:
    """Attributes by name."""
    return tuple(attribute(name, said[name]) for name in sorted(said))


def merged(used: Iterable[DeviceUse], others: Iterable[DeviceUse], sign: int = 1) -> tuple[DeviceUse, ...]:
    """What is held after these are added, or with `sign` -1 taken away; by name."""
    amounts = {(use.name, use.kind): use.amount for use in used}
    for use in others:
        slot = (use.name, use.kind)
        amounts[slot] = amounts.get(slot, 0) + sign * use.amount
    return tuple(DeviceUse(*slot, amount) for slot, amount in sorted(amounts.items()) if amount > 0)


def whole_number(said: dict[str, Any], field: str, default: int | None, *, do: str) -> int:
    """Take a number from 1 on out of an ask. Raises `UsageError`."""
    value = said.pop(field, default)
    if type(value) is not int or not 1 <= value <= TOTAL_MAX:
        raise UsageError(f"{field} is a whole number from 1 to {TOTAL_MAX}", do=do)
    return value


def where_of(said: dict[str, Any], *, do: str) -> tuple[Comparison, ...]:
    """Take the attributes out of an ask, the last that may be in it. Raises `UsageError`."""
    where = comparisons(said.pop("where", {}))
    if said:
        raise UsageError(f"an ask has no field {min(said)[:80]!r}", do=do)
    return where
