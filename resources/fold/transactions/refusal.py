"""Why a transaction is refused."""

from __future__ import annotations

from typing import Final

from vacancy.resources.fold.claims.judge import Rejection

INVALID: Final = "invalid"
"""The reason of a rejection for what is invalid in itself; `other` says what."""

_TEXT_MAX: Final = 240


class Refused(Exception):
    """A transaction does nothing. `rejection` says which of its preconditions failed, `consumer` of which consumer."""

    def __init__(self, rejection: Rejection, consumer: str = "") -> None:
        super().__init__(rejection.reason)
        self.rejection, self.consumer = rejection, consumer


def invalid(text: str, provider: str = "", resource_class: str = "") -> Refused:
    """The refusal of something that is invalid in itself."""
    return Refused(Rejection(INVALID, provider, resource_class, other=text[:_TEXT_MAX]))
