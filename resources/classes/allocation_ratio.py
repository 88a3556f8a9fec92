"""Allocation ratios that are no thousandths: the only place in `resources/` that computes with floating-point numbers.

OpenStack Placement takes any binary64 as a ratio, gives it back as it was, and computes a capacity of
`(total - reserved) * ratio` in binary64. Clients of its API expect the same here. So an event has a ratio as its shortest
decimal text (`1.15`), the only text that reads back as the same binary64 and has the fewest digits, and a record has it as an
int64: a whole ratio from 1 to `THOUSANDTHS_MAX` / 1000 in thousandths, as always, and any other as the bits of the binary64. The two
kinds cannot be confused: bits of a binary64 that is not tiny are far above `THOUSANDTHS_MAX`, or negative.

IEEE 754 defines the product of two binary64 numbers to the last bit, and Python, numpy and any other language return that. An
amount is a whole number, so it fits a capacity if and only if it fits the capacity rounded down: a record never has a fraction.
"""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Final

from vacancy.resources.model.errors import InvalidRecord
from vacancy.resources.model.names import AMOUNT_MAX

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

THOUSANDTHS_MAX: Final = 100_000
"""The largest ratio in thousandths."""

RATIO_MAX: Final = 3.40282e38
"""The largest ratio that Placement takes."""

_BITS: Final = struct.Struct("<q")
_DOUBLE: Final = struct.Struct("<d")
_THOUSAND: Final = 1000


def ratio_text(ratio: float) -> str:
    """The text of a ratio in an event. Raises `InvalidRecord` for a number that is no ratio."""
    text = repr(float(ratio))
    stored_ratio(text)
    return text


def stored_ratio(text: str) -> int:
    """A ratio as a record has it. Raises `InvalidRecord` unless the text is the shortest of a number that can be a ratio."""
    try:
        ratio = float(text)
    except ValueError:
        ratio = math.nan
    if not math.isfinite(ratio) or repr(ratio) != text:
        raise InvalidRecord(
            f"allocation_ratio {text[:40]!r} is not the shortest decimal text of a binary64 number"
        )
    if ratio > RATIO_MAX:
        raise InvalidRecord(f"allocation_ratio {text} is more than {RATIO_MAX}")
    if 1 <= ratio <= THOUSANDTHS_MAX // _THOUSAND and ratio.is_integer():
        return int(ratio) * _THOUSAND
    bits: int = _BITS.unpack(_DOUBLE.pack(ratio))[0]
    if 0 < bits <= THOUSANDTHS_MAX:
        raise InvalidRecord(f"allocation_ratio {text} is too small")
    return bits


def shown_ratio(stored: int) -> str:
    """The text of a ratio that a record has."""
    if is_thousandths(stored):
        whole, rest = divmod(stored, _THOUSAND)
        return f"{whole}.{f'{rest:03}'.rstrip('0') or '0'}"
    ratio: float = _DOUBLE.unpack(_BITS.pack(stored))[0]
    return repr(ratio)


def is_thousandths(stored: int) -> bool:
    """Whether a record has this ratio in thousandths."""
    return 0 <= stored <= THOUSANDTHS_MAX


def capacity(offered: int, stored: int) -> int:
    """The whole units of `offered` (total without reserved) times a ratio that a record has, as Placement's summaries say
    them; at least 0."""
    if offered <= 0:
        return 0
    if is_thousandths(stored):
        return offered * stored // _THOUSAND
    ratio: float = _DOUBLE.unpack(_BITS.pack(stored))[0]
    return max(0, int(offered * ratio))


def bounded_capacity(offered: int, stored: int) -> int:
    """As `capacity`, at most what a row can hold."""
    return min(capacity(offered, stored), AMOUNT_MAX)


def capacities(offered: NDArray[np.int64], stored: NDArray[np.int64]) -> NDArray[np.int64]:
    """`bounded_capacity` of many records."""
    import numpy as np

    found = np.maximum(offered, 0)
    others = (stored < 0) | (stored > THOUSANDTHS_MAX)
    if others.any():
        ratios = np.ascontiguousarray(stored[others]).view(np.float64)
        scaled = np.clip(found[others].astype(np.float64) * ratios, 0.0, float(AMOUNT_MAX))
        found *= np.where(others, 0, stored)
        found //= _THOUSAND
        found[others] = scaled.astype(np.int64)  # whole units: the conversion drops the fraction
        return found
    found *= stored
    found //= _THOUSAND
    return found
