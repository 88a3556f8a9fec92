"""The fleet as bytes for the browser: a header in JSON, and typed arrays that it uses as they are.

```text
4 bytes       length of the header, little-endian
header        JSON, padded with blanks to a multiple of 8
arrays        each begins at a multiple of 8, little-endian
names         UTF-8, one a line, at the end
```

The header has `columns`: name -> type (`f64`, `i32`, `u16`, `u8`) and offset after the header; `names`: offset and length.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vacancy.ui.nodes import NodeAmounts

_TYPES: Final = {"f64": "<f8", "i32": "<i4", "u32": "<u4", "u16": "<u2", "u8": "u1"}
_INT32_MAX: Final = 2**31 - 1

AMOUNTS: Final = ("total", "reserved", "capacity", "used")


def fleet_bytes(
    header: Mapping[str, Any], columns: Mapping[str, NDArray[Any]], names: tuple[str, ...]
) -> bytes:
    """The fleet. Numbers get the smallest of the types that has them all."""
    parts: list[bytes] = []
    offset = 0
    described = {}
    for name, values in columns.items():
        kind = _type_of(values)
        data = values.astype(_TYPES[kind]).tobytes()
        described[name] = {"type": kind, "offset": offset, "length": len(values)}
        padded = data + bytes(-len(data) % 8)
        parts.append(padded)
        offset += len(padded)
    text = "\n".join(names).encode()
    head = json.dumps(
        {**header, "columns": described, "names": {"offset": offset, "length": len(text)}}
    ).encode()
    head += b" " * (-(len(head) + 4) % 8)
    return b"".join((len(head).to_bytes(4, "little"), head, *parts, text))


def _type_of(values: NDArray[Any]) -> str:
    if values.dtype == np.uint8:
        return "u8"
    least, most = (values.min(), values.max()) if len(values) else (0, 0)
    if least >= 0 and most < 2**16:
        return "u16"
    return "i32" if least >= -_INT32_MAX and most <= _INT32_MAX else "f64"


def changes_text(
    before: tuple[NodeAmounts, NDArray[Any], NDArray[Any]],
    now: tuple[NodeAmounts, NDArray[Any], NDArray[Any]],
    heard_step_s: int,
) -> dict[str, Any] | None:
    """What changed between two looks at the same nodes, for an event: the numbers of the nodes, and their new values. A time
    of the last report counts as changed after `heard_step_s`. None where nothing did."""
    amounts_before, heard_before, states_before = before
    amounts, heard, states = now
    changed = (states != states_before) | (np.abs(heard - heard_before) >= heard_step_s)
    for name in AMOUNTS:
        changed |= getattr(amounts, name) != getattr(amounts_before, name)
    at = np.flatnonzero(changed)
    if not len(at):
        return None
    found: dict[str, Any] = {"nodes": _base64(at, "u32")}
    for name in AMOUNTS:
        found[name] = _base64(getattr(amounts, name)[at], "f64")
    found["heard"] = _base64(heard[at], "i32")
    found["state"] = _base64(states[at], "u8")
    return found


def _base64(values: NDArray[Any], kind: str) -> str:
    return base64.b64encode(values.astype(_TYPES[kind]).tobytes()).decode()
