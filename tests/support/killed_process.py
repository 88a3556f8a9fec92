"""Processes that tests kill at random moments."""

from __future__ import annotations

import random
import time
from typing import Any

from vacancy.clients.runtime.child_process import ChildProcess


def seconds_of(target: Any, *arguments: Any) -> float:
    """How long it takes when nobody kills it. It sends "begins", and something at its end."""
    with ChildProcess("not killed", target, *arguments) as child:
        assert child.receive(60) == "begins"
        began = time.monotonic()
        child.receive(60)
        return time.monotonic() - began


def killed_within(rng: random.Random, seconds: float, target: Any, *arguments: Any) -> None:
    """Run it, and kill it at a moment of that time."""
    with ChildProcess("killed", target, *arguments) as child:
        assert child.receive(60) == "begins"
        time.sleep(rng.uniform(0, seconds))
        child.kill()
