"""What options name: an order, a file."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vacancy.resources.model.errors import UsageError

if TYPE_CHECKING:
    from vacancy.projections.ranking.orders import Order
    from vacancy.resources.classes.registry import Registry


def order_from_option(
    registry: Registry, order: str | None, typical: Path | None, weigh: Sequence[str] | None
) -> Order:
    """The order of the answers. Raises `UsageError`."""
    from vacancy.clients.request_language.weigher_syntax import weighed
    from vacancy.clients.scheduler.order_names import order_named

    return weighed(order_named(order or "random", typical), weigh or (), registry)


def read_text(file: str) -> str:
    """A file that was named on the command line, `-` for standard input."""
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise UsageError(f"the file cannot be read: {why}", where=file, do="check its name") from None
