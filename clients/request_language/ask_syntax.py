"""The text syntax of asks for one resource class, as the command line and queries use it.

A resource class itself is pure and parses no text. A class with asks other than plain amounts has an `AskSyntax` under its
name. The built-in ones are in `syntax_registry`. Other packages register theirs as an entry point of the group
`vacancy.ask_syntaxes` (NAME = module:Class). A class without a syntax accepts plain amounts, `NAME:AMOUNT`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar, Final

from vacancy.resources.model.errors import UsageError
from vacancy.resources.model.request import Ask, RequestGroup

_AMOUNT: Final = re.compile(r"([0-9]{1,16})\s*(?:\[([^\[\]]*)\])?")


class AskSyntax:
    """The syntax of one class. This base class parses plain amounts. Instances are stateless."""

    option: ClassVar[str | None] = None
    """The command-line option that this syntax adds to requests, without dashes, or None."""

    def parse(self, name: str, text: str) -> Ask:
        """Parse an ask for the class `name`. `text` is the part after `NAME:` in a list of resources. Raises
        `UsageError`."""
        match = _AMOUNT.fullmatch(text)
        if match is None or int(match[1]) < 1:
            raise UsageError(f"'{name}:{text}' is not an amount", do="write a whole number from 1 on")
        amount, conditions = int(match[1]), match[2]
        return amount if conditions is None else self.with_attributes(name, amount, conditions)

    def with_attributes(self, name: str, amount: int, conditions: str) -> Ask:
        """The ask for an amount of units with certain attributes. `conditions` is the text in brackets after the amount.
        Raises `UsageError`."""
        raise UsageError(f"{name} has no attributes to choose by", do=f"write {name}:{amount}")

    def parse_option(self, text: str) -> Sequence[RequestGroup]:
        """Parse the value of `option` to request groups. If there are several, no provider may serve two of them. Raises
        `UsageError`."""
        raise NotImplementedError


def split_resources(text: str) -> list[str]:
    """The items of a comma-separated list. A comma in brackets does not separate items."""
    return [""] if not text else [item.strip() for item in re.split(r",(?![^\[\]]*\])", text)]
