"""Options that several commands have in common, received as one object.

A group is a frozen dataclass whose fields are annotated as options of Typer. A command decorated with
`with_option_group("NAME", Kind)` has a parameter `NAME: Kind`; Typer sees one option for each field in its place.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields
from functools import wraps
from typing import Any, get_type_hints

Command = Callable[..., None]


def with_option_group(name: str, kind: type[Any]) -> Callable[[Command], Command]:
    """Decorate a command that has a parameter `name: kind`."""
    options = get_type_hints(kind, include_extras=True)
    defaults = {one.name: None if one.default is MISSING else one.default for one in fields(kind)}

    def decorate(command: Command) -> Command:
        parameters: dict[str, inspect.Parameter] = {}
        own = get_type_hints(command, include_extras=True)
        for one, parameter in inspect.signature(command).parameters.items():
            if one == name:
                shown = {
                    option: parameter.replace(name=option, default=defaults[option], annotation=annotation)
                    for option, annotation in options.items()
                }
            else:
                shown = {one: parameter.replace(annotation=own[one])}
            parameters |= shown

        @wraps(command)
        def run(**given: Any) -> None:
            command(**{name: kind(**{option: given.pop(option) for option in options})}, **given)

        keyword = inspect.Parameter.KEYWORD_ONLY
        signature = inspect.Signature([one.replace(kind=keyword) for one in parameters.values()])
        run.__signature__ = signature  # type: ignore[attr-defined]
        run.__annotations__ = {one: parameter.annotation for one, parameter in parameters.items()}
        return run

    return decorate
