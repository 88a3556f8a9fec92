"""Rules of an operator about which PCI devices are offered, in the terms of OpenStack Nova's `device_spec`.

A rule is text such as `vendor=8086,product=37c8` or `address=*:3b:00.*`. A device matches if all parts match. The parts:

* `vendor`, `product`: the device's numbers, four hexadecimal digits (also `vendor_id`, `product_id`, as Nova has them).
* `class`: the first two, four or all six hexadecimal digits of the class code.
* `address`: domain:bus:slot.function, where `*` stands for any text. What is missing at the left, or after the point,
  matches anything: `3b:00` are all functions of that slot in all domains. The address of a physical function matches its
  virtual functions too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Final, NamedTuple

from vacancy.resources.model.errors import UsageError

_DO: Final = "write parts such as vendor=8086,product=37c8, class=0b40 or address=*:3b:00.*"
_NAMES: Final = {"vendor_id": "vendor", "product_id": "product"}
_ID: Final = re.compile(r"(?:0x)?([0-9a-f]{4})")
_CLASS: Final = re.compile(r"(?:0x)?((?:[0-9a-f]{2}){1,3})")
_ADDRESS: Final = re.compile(r"[0-9a-f*]*(?::[0-9a-f*]*){0,2}(?:\.[0-7*])?")


class DeviceRule(NamedTuple):
    """One rule. A part that it does not have is None; `address` is complete, with wildcards."""

    text: str
    vendor: int | None = None
    product: int | None = None
    class_prefix: str | None = None
    address: str | None = None

    @property
    def is_exact(self) -> bool:
        """Whether it names a class, a model or one address: then it was written for these devices."""
        model = self.vendor is not None and self.product is not None
        return (
            model or self.class_prefix is not None or (self.address is not None and "*" not in self.address)
        )

    def matches(self, addresses: Iterable[str], vendor: int, product: int, class_code: int) -> bool:
        """Whether a device matches. `addresses` are its own and that of its physical function."""
        return (
            self.vendor in (None, vendor)
            and self.product in (None, product)
            and f"{class_code:06x}".startswith(self.class_prefix or "")
            and (self.address is None or any(fnmatchcase(one, self.address) for one in addresses))
        )


class DeviceRules(NamedTuple):
    """Which devices may be offered: if there are `allow` rules, those that match one; never those that match `deny`."""

    allow: tuple[DeviceRule, ...] = ()
    deny: tuple[DeviceRule, ...] = ()


NO_RULES: Final = DeviceRules()


def parse_device_rule(text: str, where: str) -> DeviceRule:
    """Parse one rule; `where` names the option or setting. Raises `UsageError`."""
    parts: dict[str, str] = {}
    for part in text.lower().split(","):
        name, separator, value = (piece.strip() for piece in part.partition("="))
        name = _NAMES.get(name, name)
        if not separator or name not in ("vendor", "product", "class", "address"):
            raise UsageError(f"a device rule has no part {part!r}", where=where, do=_DO)
        if name in parts:
            raise UsageError(f"{name} is given twice in the device rule {text!r}", where=where, do="omit one")
        parts[name] = value
    return DeviceRule(
        text,
        _number(parts.get("vendor"), text, where),
        _number(parts.get("product"), text, where),
        _class(parts.get("class"), text, where),
        _address(parts.get("address"), text, where),
    )


def _number(value: str | None, text: str, where: str) -> int | None:
    if value is None or value == "*":
        return None
    match = _ID.fullmatch(value)
    if match is None:
        raise UsageError(
            f"{value!r} in the device rule {text!r} is not four hexadecimal digits", where=where, do=_DO
        )
    return int(match[1], 16)


def _class(value: str | None, text: str, where: str) -> str | None:
    if value is None or value == "*":
        return None
    match = _CLASS.fullmatch(value)
    if match is None:
        raise UsageError(
            f"{value!r} in the device rule {text!r} is not two, four or six hexadecimal digits",
            where=where,
            do=_DO,
        )
    return match[1]


def _address(value: str | None, text: str, where: str) -> str | None:
    if value is None or value == "*":
        return None
    if not value or not _ADDRESS.fullmatch(value):
        raise UsageError(
            f"{value!r} in the device rule {text!r} is not a PCI address with wildcards", where=where, do=_DO
        )
    place, _, function = value.partition(".")
    fields = [field or "*" for field in place.split(":")]
    fields = ["*"] * (3 - len(fields)) + fields
    domain, bus, slot = (
        field if "*" in field else field.zfill(digits)
        for field, digits in zip(fields, (4, 2, 2), strict=True)
    )
    return f"{domain}:{bus}:{slot}.{function or '*'}"
