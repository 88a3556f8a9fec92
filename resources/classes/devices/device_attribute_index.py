"""An index of attributes in a fixed number of columns: which attribute values the free devices of a provider have.

A request for a device with certain attributes should not read the devices of every provider to find the few that match.
So each provider's row has columns for what its free devices have: a Bloom filter of (attribute, value) pairs, one bit
in each of `WORDS` words for a pair; and for integers the highest and the lowest value of all attributes that hash to the
same one of `SLOTS`. Where the columns exclude a provider, no free device of it matches. Where they do not, `claim`
decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from hashlib import blake2b
from typing import Final

from vacancy.resources.classes.resource_class import Term
from vacancy.resources.model.comparison import Comparison, Value
from vacancy.resources.model.names import AMOUNT_MAX

WORDS: Final = 8
WORD_BITS: Final = 63
SLOTS: Final = 4

BITS_COLUMNS: Final = tuple(f"bits_{number}" for number in range(WORDS))
HIGH_COLUMNS: Final = tuple(f"high_{slot}" for slot in range(SLOTS))
LOW_COLUMNS: Final = tuple(f"low_{slot}" for slot in range(SLOTS))
INDEX_COLUMNS: Final = (*BITS_COLUMNS, *HIGH_COLUMNS, *LOW_COLUMNS)

Attribute = tuple[str, str, Value]
"""(name, kind, value). The kind separates `1` and `true`, which are equal in Python."""

_NOTHING_HIGH: Final = -AMOUNT_MAX - 1
_NOTHING_LOW: Final = AMOUNT_MAX + 1
_WORD: Final = (1 << WORD_BITS) - 1


def attribute(name: str, value: Value) -> Attribute:
    """The attribute of that name and value."""
    return name, type(value).__name__, value


def index_row(devices: Iterable[tuple[Attribute, ...]]) -> tuple[int, ...]:
    """The values of `INDEX_COLUMNS` for devices with these attributes."""
    mask, highs, lows = 0, [_NOTHING_HIGH] * SLOTS, [_NOTHING_LOW] * SLOTS
    for attributes in set(devices):
        bits, integers = _of(attributes)
        mask |= bits
        for slot, value in integers:
            highs[slot] = max(highs[slot], value)
            lows[slot] = min(lows[slot], value)
    return (*_words(mask), *highs, *lows)


def index_terms(where: Iterable[Comparison]) -> Iterator[Term]:
    """Terms over `INDEX_COLUMNS` that hold wherever a device satisfies all of these."""
    mask = 0
    for name, operator, wanted in where:
        if operator == "in" and isinstance(wanted, tuple):
            yield from _any_of(name, wanted)
        elif isinstance(wanted, tuple):
            continue
        elif operator == "==":
            mask |= _pair(attribute(name, wanted))
        if type(wanted) is int:
            if operator in ("==", ">=", ">"):
                yield Term(HIGH_COLUMNS[_slot(name)], ">=", wanted + (operator == ">"))
            if operator in ("==", "<=", "<"):
                yield Term(LOW_COLUMNS[_slot(name)], "<=", wanted - (operator == "<"))
    for column, word in zip(BITS_COLUMNS, _words(mask), strict=True):
        if word:
            yield Term(column, "all_bits", word)


def _any_of(name: str, choices: tuple[Value, ...]) -> Iterator[Term]:
    words = [0] * WORDS
    for choice in choices:
        words = [word | bit for word, bit in zip(words, _words(_pair(attribute(name, choice))), strict=True)]
    for column, word in zip(BITS_COLUMNS, words, strict=True):
        yield Term(column, "any_bits", word)


@lru_cache(maxsize=65536)
def _of(attributes: tuple[Attribute, ...]) -> tuple[int, tuple[tuple[int, int], ...]]:
    """The bits of these attributes, and (slot, value) of the integers among them."""
    mask = 0
    for one in attributes:
        mask |= _pair(one)
    return mask, tuple((_slot(name), value) for name, _, value in attributes if type(value) is int)


@lru_cache(maxsize=65536)
def _pair(one: Attribute) -> int:
    digest = blake2b("\0".join(map(str, one)).encode("utf-8", "surrogatepass"), digest_size=WORDS).digest()
    return sum(1 << WORD_BITS * number + byte % WORD_BITS for number, byte in enumerate(digest))


@lru_cache(maxsize=4096)
def _slot(name: str) -> int:
    return blake2b(name.encode("utf-8", "surrogatepass"), digest_size=1).digest()[0] % SLOTS


def _words(mask: int) -> Iterator[int]:
    return ((mask >> WORD_BITS * number) & _WORD for number in range(WORDS))
