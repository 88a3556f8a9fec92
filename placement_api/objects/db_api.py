"""Stands in for `placement.db_api`: transactions are units of work on the backend, not database sessions."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from vacancy.placement_api.state import unit_of_work

Opens = Callable[[Any], AbstractContextManager[None]]


class _Scope:
    """A decorator for functions that take a context, as oslo.db's `reader` and `writer` are."""

    def __init__(self, opens: Opens) -> None:
        self._opens = opens

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        parameters = list(inspect.signature(function).parameters)
        at = 1 if parameters[0] in ("self", "cls") else 0

        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            context = args[at] if len(args) > at else kwargs[parameters[at]]
            with self._opens(context):
                return function(*args, **kwargs)

        return wrapper

    def using(self, context: Any) -> AbstractContextManager[None]:
        return self._opens(context)

    @property
    def independent(self) -> _Scope:
        return _Scope(unit_of_work.independent)


class _ContextManager:
    """What Placement calls `placement_context_manager`."""

    reader = _Scope(unit_of_work.reading)
    writer = _Scope(unit_of_work.writing)


placement_context_manager = _ContextManager()


def configure(conf: Any) -> None:
    """Does nothing: the backend is set with `unit_of_work.use_backend`, not by `[placement_database]`."""


def get_placement_engine() -> Any:
    raise RuntimeError("there is no database engine: Placement's state is in vacancy's log")


class DbContext:
    """A context outside of web requests."""
