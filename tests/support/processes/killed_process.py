"""Processes that tests kill at random moments."""

from __future__ import annotations

import random
import time
from typing import Any

from vacancy.clients.runtime.child_process import ChildProcess

ANSWER_S = 600.0
"""How long a process may take to begin and to end: on a busy machine with the lowest priority it is minutes."""


def seconds_of(target: Any, *arguments: Any) -> float:
    """How long it takes when nobody kills it. It sends "begins", and something at its end."""
    with ChildProcess("not killed", target, *arguments) as child:
        assert child.receive(ANSWER_S) == "begins"
        began = time.monotonic()
        child.receive(ANSWER_S)
        return time.monotonic() - began


def killed_within(rng: random.Random, seconds: float, target: Any, *arguments: Any) -> None:
    """Run it, and kill it at a moment of that time."""
    with ChildProcess("killed", target, *arguments) as child:
        assert child.receive(ANSWER_S) == "begins"
        time.sleep(rng.uniform(0, seconds))
        child.kill()
