"""What the collector left out or offered in an unusual place, and why, in words for an operator."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from vacancy.clients.publisher.host.files import format_cpu_list


class Remark(NamedTuple):
    """One remark: about what, what the collector did with it, and the reason."""

    subject: str
    outcome: str
    reason: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.outcome}: {self.reason}"


NOT_OFFERED = "not offered"


def cpus_remark(cpus: Iterable[int], outcome: str, reason: str) -> list[Remark]:
    """A remark about CPUs; none if there are no CPUs."""
    text = format_cpu_list(cpus)
    if not text:
        return []
    return [Remark(f"CPU {text}" if text.isdecimal() else f"CPUs {text}", outcome, reason)]


class RemarkPrinter:
    """Passes the text of each remark to `say` when it appears, and again when it appears after it was gone.

    A remark whose reason changes, for example a number in it, is not repeated.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._said: frozenset[tuple[str, str]] = frozenset()

    def show(self, remarks: Iterable[Remark]) -> None:
        """Say what is new among the remarks of the latest collection."""
        found = {(remark.subject, remark.outcome): remark for remark in remarks}
        for key, remark in found.items():
            if key not in self._said:
                self._say(str(remark))
        self._said = frozenset(found)
