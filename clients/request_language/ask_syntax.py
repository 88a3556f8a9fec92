"""How the command line writes what is asked of one resource class.

A resource class itself is pure and knows no text. A class whose asks are more than amounts registers an `AskSyntax`
under its name: the built-in ones in `syntax_registry`, those of other packages as an entry point of the group
`vacancy.ask_syntaxes` (NAME = module:Class). A class without one is asked for by plain amounts, `NAME:AMOUNT`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar, Final

from vacancy.resources.model.errors import UsageError
from vacancy.resources.model.request import Ask, RequestGroup

_AMOUNT: Final = re.compile(r"([0-9]{1,16})\s*(?:\[([^\[\]]*)\])?")


class AskSyntax:
    """The syntax of one class. This one is of plain amounts; others override its methods. Instances are stateless."""

    option: ClassVar[str | None] = None
    """The command-line option that this syntax adds to requests, without its dashes; None: there is none."""

    def parse(self, name: str, text: str) -> Ask:
        """The ask for the class `name` that `text` describes: what follows `NAME:` in a list of resources. Raises
        `UsageError`."""
        match = _AMOUNT.fullmatch(text)
        if match is None or int(match[1]) < 1:
            raise UsageError(f"'{name}:{text}' is not an amount", do="write a whole number from 1 on")
        amount, conditions = int(match[1]), match[2]
        return amount if conditions is None else self.with_attributes(name, amount, conditions)

    def with_attributes(self, name: str, amount: int, conditions: str) -> Ask:
        """The ask for an amount of units that satisfy conditions: the text in brackets after the amount. Raises
        `UsageError`."""
        raise UsageError(f"{name} has no attributes to choose by", do=f"write {name}:{amount}")

    def parse_option(self, text: str) -> Sequence[RequestGroup]:
        """The groups that the value of `option` asks for. Where there are several, no provider may serve two of them.
        Raises `UsageError`."""
        raise NotImplementedError


def split_resources(text: str) -> list[str]:
    """The items of a comma-separated list; commas in brackets belong to their item."""
    return [""] if not text else [item.strip() for item in re.split(r",(?![^\[\]]*\])", text)]
