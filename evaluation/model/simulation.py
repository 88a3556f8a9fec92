"""A clock with a queue of events, and the cores of a host. Pure: the same calls give the same run."""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable

Action = Callable[[], None]

QUANTUM_S = 0.001
"""How long a job keeps a core while others wait for one."""


class Simulation:
    """Runs actions in the order of their times; actions of one time run in the order in which they were scheduled."""

    def __init__(self) -> None:
        self.now = 0.0
        """Model time in s."""
        self.events = 0
        """Actions run so far."""
        self._queue: list[tuple[float, int, Action]] = []
        self._scheduled = 0
        self._stopped = False

    def after(self, delay_s: float, action: Action) -> None:
        """Run `action` this much later. Raises `ValueError` for a negative delay."""
        if delay_s < 0:
            raise ValueError(f"the delay is {delay_s} s, which is before now")
        self._scheduled += 1
        heapq.heappush(self._queue, (self.now + delay_s, self._scheduled, action))

    def stop(self) -> None:
        """End the run after the current action."""
        self._stopped = True

    def run(self, until_s: float = math.inf) -> None:
        """Run until `stop`, until no action is left, or until this time, which is then the present."""
        self._stopped = False
        while self._queue and not self._stopped:
            if self._queue[0][0] > until_s:
                self.now = until_s
                return
            self.now, _, action = heapq.heappop(self._queue)
            self.events += 1
            action()


class Cores:
    """The cores of a host, shared by its processes: first come, first served, in slices of `QUANTUM_S`."""

    def __init__(self, simulation: Simulation, count: int) -> None:
        self._simulation = simulation
        self._free = count
        self._waiting: deque[tuple[float, Action]] = deque()
        self.busy_s = 0.0
        """Time that all cores together have worked."""

    def work(self, cost_s: float, done: Action) -> None:
        """Call `done` once a core has worked this long for it."""
        self._waiting.append((cost_s, done))
        self._start()

    def _start(self) -> None:
        while self._free and self._waiting:
            self._free -= 1
            self._slice(*self._waiting.popleft())

    def _slice(self, left_s: float, done: Action) -> None:
        spent = min(left_s, QUANTUM_S)

        def end() -> None:
            self.busy_s += spent
            rest = left_s - spent
            if rest > 0 and not self._waiting:
                self._slice(rest, done)
                return
            self._free += 1
            if rest > 0:
                self._waiting.append((rest, done))
            else:
                done()
            self._start()

        self._simulation.after(spent, end)


class Server:
    """Serves one job at a time in the order in which they came, such as the lock of a log."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._free_at = 0.0
        self.busy_s = 0.0
        """Time that it has served, including the jobs that wait."""

    def serve(self, cost_s: float, done: Action) -> None:
        """Call `done` once the job is served."""
        now = self._simulation.now
        self._free_at = max(now, self._free_at) + cost_s
        self.busy_s += cost_s
        self._simulation.after(self._free_at - now, done)
