"""Ids of claims: who knows one can release the claim, so nobody may guess one."""

from __future__ import annotations

import random
import re
import secrets
import subprocess
import sys
from itertools import islice, pairwise

import numpy as np
import pytest

from vacancy.clients.scheduler import claims
from vacancy.clients.scheduler.claims import new_ids

DRAWN = 100_000


def test_an_id_is_128_random_bits_and_none_comes_twice() -> None:
    found = list(islice(new_ids(), DRAWN))
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in found)
    assert len({*found, *islice(new_ids(), DRAWN)}) == 2 * DRAWN
    for at in range(128):  # each bit is set in half of them: six standard deviations of DRAWN fair bits
        ones = sum(int(one, 16) >> at & 1 for one in found)
        assert abs(ones - DRAWN / 2) < 6 * (DRAWN**0.5) / 2
    for first, second in pairwise(found):
        assert bin(int(first, 16) ^ int(second, 16)).count("1") > 16  # no counter, no shared half


def test_ids_come_from_the_operating_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not from a generator with a seed, which may be known."""
    drawn: list[int] = []

    def token_hex(size: int) -> str:
        drawn.append(size)
        return secrets.token_hex(size)

    monkeypatch.setattr(claims, "token_hex", token_hex)
    found = list(islice(new_ids(), 1_000))
    assert sum(drawn) >= 16 * len(found)
    for _ in range(2):
        random.seed(1)
        np.random.seed(1)
        found += islice(new_ids(), 10)
    assert len({*found}) == len(found)


def test_processes_with_the_same_seed_make_other_ids() -> None:
    code = "import random; random.seed(1); from vacancy.clients.scheduler.claims import new_ids; print(next(new_ids()))"
    words = [sys.executable, "-c", code]
    found = {subprocess.run(words, capture_output=True, check=True).stdout for _ in range(2)}
    assert len(found) == 2
