"""Names as UUIDs and back: Placement knows consumers and providers only by their UUIDs."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from vacancy.resources.model.errors import VacancyError

_SYMBOLS: Final = "abcdefghijklmnopqrstuvwxyz0123456789-_"
_BASE: Final = len(_SYMBOLS) + 1
LONGEST: Final = 24
"""39 ** 24 is less than 2 ** 128."""


def uuid_of(name: str) -> str:
    """The UUID of a name of lower-case letters, digits, `-` and `_`. Raises `VacancyError` for any other name and for a longer
    one than `LONGEST`."""
    if len(name) > LONGEST or not set(name) <= set(_SYMBOLS):
        raise VacancyError(f"the name {name!r} cannot be written as a UUID", do="use a shorter, plain name")
    number = 0
    for symbol in reversed(name):
        number = number * _BASE + _SYMBOLS.index(symbol) + 1
    return str(UUID(int=number))


def name_of(uuid: str) -> str:
    """The name that `uuid_of` was given."""
    number = UUID(uuid).int
    symbols = []
    while number:
        number, symbol = divmod(number, _BASE)
        symbols.append(_SYMBOLS[symbol - 1])
    return "".join(symbols)
