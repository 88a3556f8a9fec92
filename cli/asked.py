"""What the options of `candidates` and `place` ask for."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vacancy.resources.errors import UsageError

if TYPE_CHECKING:
    from vacancy.clients.request_syntax import Parsed
    from vacancy.projections.orders import Order
    from vacancy.resources.registry import Registry


Names = Sequence[str] | None
RelatedOptions = tuple[tuple[Names, Names], tuple[Names, Names], tuple[int | None, str | None]]
"""Groups to be near to and apart from, the same as wishes, copies and what they are on."""

_UNRELATED: RelatedOptions = ((None, None), (None, None), (None, None))


def parse_options(
    registry: Registry,
    *,
    resources: Sequence[str] | None,
    required: Sequence[str] | None,
    member_of: Sequence[str] | None,
    in_tree: str | None,
    where: Sequence[str] | None,
    group: Sequence[str] | None,
    group_policy: str | None,
    root_required: Sequence[str] | None = None,
    same_subtree: Sequence[str] | None = None,
    query: str | None,
    request: str | None,
    numa: str | None = None,
    related: RelatedOptions = _UNRELATED,
) -> Parsed:
    """The request. Raises `UsageError`."""
    from vacancy.clients.groups import Related
    from vacancy.clients.request_syntax import Wanted, parse

    wanted = Wanted(
        resources=resources or (),
        required=required or (),
        member_of=member_of or (),
        in_tree=in_tree,
        where=where or (),
        groups=group or (),
        group_policy=group_policy,
        root_required=root_required or (),
        same_subtree=same_subtree or (),
        numa=numa,
        query=query,
        document=None if request is None else read_text(request),
    )
    parsed = parse(wanted, registry)
    (near, apart), (softly_near, softly_apart), (copies, copies_on) = related
    said = Related(near or (), apart or (), softly_near or (), softly_apart or (), copies, copies_on)
    return parsed._replace(spec=said.applied(parsed.spec))


def asked_order(
    registry: Registry, order: str | None, typical: Path | None, weigh: Sequence[str] | None
) -> Order:
    """The order of the answers. Raises `UsageError`."""
    from vacancy.clients.ordering import order_named
    from vacancy.clients.weighing import weighed

    return weighed(order_named(order or "random", typical), weigh or (), registry)


def read_text(file: str) -> str:
    """A file that was named on the command line, `-` for standard input."""
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise UsageError(f"the file cannot be read: {why}", where=file, do="check its name") from None
