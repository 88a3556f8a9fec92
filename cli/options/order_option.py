"""Reads the values of options: the order of the candidates, and files."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vacancy.resources.model.errors import UsageError

if TYPE_CHECKING:
    from vacancy.projections.query.order import Order
    from vacancy.resources.classes.registry import Registry


def order_from_option(
    registry: Registry, order: str | None, typical: Path | None, weigh: Sequence[str] | None
) -> Order:
    """The order of the candidates, from `--order`, `--typical` and `--weigh`. Raises `UsageError`."""
    from vacancy.clients.request_language.expressions.weigher_syntax import weighed
    from vacancy.clients.scheduler.order_names import order_named

    return weighed(order_named(order or "random", typical), weigh or (), registry)


def read_text(file: str) -> str:
    """The text of a file named on the command line; `-` reads standard input. Raises `UsageError`."""
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise UsageError(
            f"the file cannot be read: {why}", where=file, do="check its name and its permissions"
        ) from None
