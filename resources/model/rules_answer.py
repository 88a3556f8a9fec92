"""What a store answers to rules that an operator has proposed."""

from __future__ import annotations

from typing import NamedTuple


class RulesAnswer(NamedTuple):
    """The answer to one proposal, named by its id. `missing` is empty if the store's build supports the rules."""

    proposal: str
    missing: tuple[str, ...]
