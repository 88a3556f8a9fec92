"""What was freed is given back."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import time
from evaluation.statistics import rss_mb
from vacancy.clients.runtime.malloc import returning_memory

def freed():
    many = [bytes(1000) for _ in range(200_000)]
    kept = many[::100]  # so that the heap does not shrink from its end
    del many
    return rss_mb(), kept

before, kept = freed()
with returning_memory(0.02):
    until = time.monotonic() + 20
    while rss_mb() > before - 100 and time.monotonic() < until:
        time.sleep(0.02)
after = rss_mb()
more, others = freed()  # nobody gives this back
time.sleep(0.2)
print(before - after, more - rss_mb())
"""


def test_freed_memory_is_given_back_as_long_as_the_context_lasts() -> None:
    said = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout
    given_back, left = map(float, said.split())
    assert given_back > 100
    assert abs(left) < 20
