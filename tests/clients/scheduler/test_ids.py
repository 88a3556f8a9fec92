"""Ids of claims: who knows one can release the claim, so nobody may guess one."""

from __future__ import annotations

import random
import re
import secrets
import subprocess
import sys
from collections import Counter
from itertools import islice, pairwise

import numpy as np
import pytest

from vacancy.clients.scheduler import claims
from vacancy.clients.scheduler.claims import new_ids

DRAWN = 100_000


def test_an_id_ends_with_96_random_bits_and_none_comes_twice() -> None:
    found = list(islice(new_ids(), DRAWN))
    assert all(re.fullmatch("[0-9A-Za-z]{21}", one) for one in found)
    assert len({*found, *islice(new_ids(), DRAWN)}) == 2 * DRAWN
    secret = [one[5:] for one in found]
    for at in range(16):  # each letter is as frequent as it should be: six standard deviations of fair draws
        counts = Counter(one[at] for one in secret)
        assert len(counts) == 62
        for letter, number in counts.items():
            share = (2 if letter in "Aa" else 1) / 64
            assert abs(number - DRAWN * share) < 6 * (DRAWN * share * (1 - share)) ** 0.5
    for first, second in pairwise(secret):
        assert sum(map(str.__eq__, first, second)) < 10  # no counter, no shared half


def test_ids_are_made_in_ascending_order() -> None:
    """In runs: keys that come one after the other are neighbours in the tables."""
    made = list(islice(new_ids(), 64 * 62 * 62))
    starts = [one[:5] for one in made]
    assert starts == sorted(starts)
    assert len({*starts}) == 62 * 62


def test_ids_come_from_the_operating_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not from a generator with a seed, which may be known."""
    drawn: list[int] = []

    def token_bytes(size: int) -> bytes:
        drawn.append(size)
        return secrets.token_bytes(size)

    monkeypatch.setattr(claims, "token_bytes", token_bytes)
    found = list(islice(new_ids(), 1_000))
    assert sum(drawn) >= 12 * len(found)
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
