"""Server groups on the command line: how a membership is written, and the members of a group."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from vacancy.clients.inspection.lookup import NotFound
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.model.errors import UsageError
from vacancy.resources.model.request import RequestSpec, RequestSpecV2
from vacancy.resources.model.server_group import (
    GROUP_PATTERN,
    SPREAD,
    ServerGroupMembership,
    ServerGroupMembershipV2,
    group_cell,
    group_name,
    spread_membership,
)
from vacancy.resources.state.tables import (
    CELL_COUNTS,
    DOMAIN_SLOTS,
    GROUPS,
    PROVIDERS,
    domain_count_name,
    domain_slot_name,
    key,
)

_is_group = re.compile(GROUP_PATTERN).fullmatch


@dataclass(frozen=True, slots=True)
class ParsedMembership:
    """The server groups and copies that a command's options give; empty or None where an option is missing."""

    affinity: Iterable[str] = ()
    anti_affinity: Iterable[str] = ()
    soft_affinity: Iterable[str] = ()
    soft_anti_affinity: Iterable[str] = ()
    spread: Iterable[str] = ()
    soft_spread: Iterable[str] = ()
    copies: int | None = None
    copies_on: str | None = None

    def applied(self, spec: RequestSpec) -> RequestSpec:
        """The request with these memberships and copies. Raises `UsageError` if it is invalid."""
        given: tuple[ServerGroupMembership, ...] = (
            *(read_membership(text, "affinity", "--group-affinity") for text in self.affinity),
            *(read_membership(text, "anti-affinity", "--group-anti-affinity") for text in self.anti_affinity),
            *(
                read_membership(text, "affinity", "--soft-group-affinity", hard=False)
                for text in self.soft_affinity
            ),
            *(
                read_membership(text, "anti-affinity", "--soft-group-anti-affinity", hard=False)
                for text in self.soft_anti_affinity
            ),
            *(read_spread(text, "--group-spread") for text in self.spread),
            *(read_spread(text, "--soft-group-spread", hard=False) for text in self.soft_spread),
        )
        changes: dict[str, Any] = {"memberships": (*spec.memberships, *given)} if given else {}
        if self.copies is not None:
            changes["copies"] = self.copies
        if self.copies_on is not None:
            changes["copies_on"] = self.copies_on
        if not changes:
            return spec
        whole = {name: getattr(spec, name) for name in type(spec).model_fields} | changes
        form = type(spec) if spread_membership(given) is None else RequestSpecV2
        try:
            return form.model_validate(whole)
        except ValidationError as error:
            raise _usage_error(error, "the request") from None


def read_membership(text: str, policy: str, where: str, *, hard: bool = True) -> ServerGroupMembership:
    """`CELL/NAME`, `CELL/NAME:MAX` or `CELL/NAME:MAX:SCOPE`; MAX may be left empty. Raises `UsageError`."""
    do = "write CELL/NAME, CELL/NAME:MAX or CELL/NAME:MAX:SCOPE, for example auto-5/web:1:rack-"
    group, most, scope = _parts(text, where, do)
    fields: dict[str, Any] = {"group": group, "policy": policy, "hard": hard, "scope": scope or None}
    if most is not None:
        fields["max_per_node"] = most
    try:
        return ServerGroupMembership.model_validate(fields)
    except ValidationError as error:
        raise _usage_error(error, f"{where} {text!r}") from None


def read_spread(text: str, where: str, *, hard: bool = True) -> ServerGroupMembershipV2:
    """`CELL/NAME:MAX_SKEW:KIND`; MAX_SKEW may be left empty. Raises `UsageError`."""
    do = "write CELL/NAME:MAX_SKEW:KIND, for example auto-5/web:1:zone- for the aggregates zone-..."
    group, most, kind = _parts(text, where, do)
    fields = {"group": group, "policy": SPREAD, "hard": hard, "scope": kind or None, "max_skew": most}
    if most is None:
        fields["max_skew"] = 1
    try:
        return ServerGroupMembershipV2.model_validate(fields)
    except ValidationError as error:
        raise _usage_error(error, f"{where} {text!r}") from None


def _parts(text: str, where: str, do: str) -> tuple[str, int | None, str]:
    """The group, the number and the scope of `CELL/NAME:MAX:SCOPE`."""
    # The name of a cell may contain a colon, the name of a group may not.
    at = text.rpartition("/")[0]
    name, _, rest = text[len(at) :].partition(":")
    most, _, scope = rest.partition(":")
    group = at + name
    if not _is_group(group):
        raise UsageError(f"{group!r} is not a server group", where=f"{where} {text!r}", do=do)
    if most and not (most.isascii() and most.isdecimal() and len(most) < 10):
        raise UsageError(f"{most!r} is not a number of members", where=f"{where} {text!r}", do=do)
    return group, int(most) if most else None, scope


def _usage_error(error: ValidationError, where: str) -> UsageError:
    first = error.errors(include_url=False, include_context=False)[0]
    path = ".".join(str(part) for part in first["loc"])
    what = first["msg"].removeprefix("Value error, ")
    return UsageError(f"{path}: {what}" if path else what, where=where, do="correct it")


# -- members of a group -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class GroupMemberReport:
    """A consumer in a group: the current roots of each of its copies, and the offset of its claim."""

    consumer: str
    offset: int
    roots: list[list[str]]


@dataclass(frozen=True, slots=True)
class ServerGroupReport:
    """A server group and its members, the newest last. `nodes`: root -> the number of copies on it.

    A group that is spread has a `max_skew` instead of `max_per_node`, and `domains`: name -> the number of copies in it, also
    of domains without any in which nodes take new claims.
    """

    id: str
    cell: str
    policy: str
    hard: bool
    max_per_node: int | None
    scope: str | None
    members: list[GroupMemberReport]
    nodes: dict[str, int] = field(default_factory=dict)
    max_skew: int | None = None
    domains: dict[str, int] | None = None
    as_of: dict[int, int] = field(default_factory=dict)


def show_group(reader: StoreReader, group: str) -> ServerGroupReport:
    """A server group. Raises `UsageError` for an invalid id, and `NotFound` if it has no members."""
    if not _is_group(group):
        raise UsageError(f"{group!r} is not a server group", do="write CELL/NAME, for example auto-5/web")
    reader.catch_up()
    cell = group_cell(group)
    row = reader.get(GROUPS, key(cell, group_name(group)))
    if row is None:
        raise NotFound(
            f"server group {group!r} has no members",
            where=f"store {reader.path}",
            do="check its name and cell: a group exists as long as it has members",
        )
    members = []
    nodes: dict[str, int] = {}
    for member in row.members:
        roots = [sorted({_root(reader, cell, id_) for id_ in place}) for place in member.places]
        members.append(GroupMemberReport(member.consumer, member.offset, roots))
        for one in roots:
            for root in one:
                nodes[root] = nodes.get(root, 0) + 1
    spread = row.policy == SPREAD
    return ServerGroupReport(
        group,
        cell,
        row.policy,
        row.hard,
        None if spread else row.max_per_node,
        row.scope,
        members,
        dict(sorted(nodes.items())),
        row.max_per_node if spread else None,
        _domains(reader, cell, row.scope or "", members) if spread else None,
        reader.position,
    )


def _domains(
    reader: StoreReader, cell: str, kind: str, members: Iterable[GroupMemberReport]
) -> dict[str, int]:
    """The number of copies in each domain of a kind."""
    count = reader.get(CELL_COUNTS, key(cell, domain_count_name(kind))) or 0
    slots = [reader.get(DOMAIN_SLOTS, key(cell, domain_slot_name(kind, slot))) for slot in range(count)]
    found = {name: 0 for name in slots if name is not None}
    for copy in (copy for member in members for copy in member.roots):
        rows = [reader.get(PROVIDERS, key(cell, root)) for root in copy]
        there = {name for row in rows if row is not None for name in row.aggregates}
        for name in there:
            if name.startswith(kind):
                found[name] = found.get(name, 0) + 1
    return dict(sorted(found.items()))


def _root(reader: StoreReader, cell: str, provider: str) -> str:
    row = reader.get(PROVIDERS, key(cell, provider))
    return provider if row is None else row.root
