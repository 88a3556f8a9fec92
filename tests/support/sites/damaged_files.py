"""Files damaged as a disk, a full file system or a careless copy does it: in place."""

from __future__ import annotations

import os
import random
from pathlib import Path


def damage(rng: random.Random, file: Path) -> str:
    """Flip one bit of the file, or cut it anywhere. Returns what was done."""
    size = file.stat().st_size
    at = rng.randrange(size) if size else 0
    if rng.random() < 0.3 or not size:
        os.truncate(file, at)
        return f"{file.name} was cut at {at} of {size}"
    flip(file, at, 1 << rng.randrange(8))
    return f"a bit of {file.name} was flipped at {at} of {size}"


def flip(file: Path, at: int, bits: int = 0x10) -> None:
    """Change a byte in place, as a disk does."""
    with file.open("r+b") as there:
        there.seek(at)
        (byte,) = there.read(1)
        there.seek(at)
        there.write(bytes([byte ^ bits]))
