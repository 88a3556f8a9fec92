"""A random order that costs nothing for what is not looked at."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence


def in_random_order(among: Sequence[str]) -> Iterator[str]:
    """All of them, in steps of a random width from a random place: clients that stop early do not meet at the same ones."""
    count = len(among)
    if count < 2:
        return iter(among)
    step = random.randrange(1, count)
    while math.gcd(step, count) > 1:
        step = random.randrange(1, count)
    first = random.randrange(count)
    return (among[(first + number * step) % count] for number in range(count))
