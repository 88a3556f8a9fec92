"""The file of `vacancy place --gang`: the members of a gang as JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from vacancy.cli.options.order_option import read_text
from vacancy.resources.model.errors import UsageError

if TYPE_CHECKING:
    from vacancy.clients.scheduler.placement import PlacementRequest
    from vacancy.resources.classes.registry import Registry

_TEXTS = ("consumer", "project", "user", "consumer_type")


def read_gang(file: str, registry: Registry, **common: Any) -> list[PlacementRequest]:
    """The members in the file: a JSON array of objects. Each has its request as `query` (a Placement query string) or as
    `request` (a RequestSpec), and may have `consumer`, `project`, `user` and `consumer_type`. `common` are the fields of all
    members that do not say otherwise. Raises `UsageError`."""
    text = read_text(file)
    try:
        members = json.loads(text)
    except json.JSONDecodeError as error:
        raise _wrong(file, f"it is not JSON: {error}") from None
    if not isinstance(members, list):
        raise _wrong(file, "it is not a JSON array")
    return [_member(file, number, one, registry, common) for number, one in enumerate(members, 1)]


def _member(file: str, number: int, one: Any, registry: Registry, common: dict[str, Any]) -> PlacementRequest:
    from vacancy.clients.request_language.placement_syntax import RequestText, parse
    from vacancy.clients.scheduler.placement import PlacementRequest

    if not isinstance(one, dict):
        raise _wrong(file, f"member {number} is not a JSON object")
    unknown = sorted(set(one) - {"query", "request", *_TEXTS})
    if unknown:
        raise _wrong(file, f"member {number} has the unknown field {unknown[0]!r}")
    not_text = next((name for name in ("query", *_TEXTS) if not isinstance(one.get(name, ""), str)), None)
    if not_text is not None:
        raise _wrong(file, f"{not_text} of member {number} is not a text")
    if ("query" in one) == ("request" in one):
        raise _wrong(file, f"member {number} needs either `query` or `request`")
    document = json.dumps(one["request"]) if "request" in one else None
    try:
        spec = parse(RequestText(query=one.get("query"), document=document), registry).spec
    except UsageError as error:
        what = f"member {number} of the gang: {error.what}"
        raise UsageError(what, where=error.where, do=error.do) from None
    return PlacementRequest(spec, **{**common, **{name: one[name] for name in _TEXTS if name in one}})


def _wrong(file: str, what: str) -> UsageError:
    return UsageError(
        f"the gang cannot be read: {what}",
        where=file,
        do='write a JSON array of members, for example [{"consumer": "a", "query": "resources=VCPU:30"}, …]',
    )
