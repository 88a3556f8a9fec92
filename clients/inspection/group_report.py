"""Server groups for people: how a membership is written, and who is in a group."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from vacancy.clients.inspection.lookup import NotFound
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.resources.model.errors import UsageError
from vacancy.resources.model.request import RequestSpec
from vacancy.resources.model.server_group import GROUP_PATTERN, ServerGroupMembership, group_cell, group_name
from vacancy.resources.state.tables import GROUPS, PROVIDERS, key

_is_group = re.compile(GROUP_PATTERN).fullmatch


@dataclass(frozen=True, slots=True)
class ParsedMembership:
    """What the options of a command say of others and of copies; what was not said is empty or None."""

    affinity: Iterable[str] = ()
    anti_affinity: Iterable[str] = ()
    soft_affinity: Iterable[str] = ()
    soft_anti_affinity: Iterable[str] = ()
    copies: int | None = None
    copies_on: str | None = None

    def applied(self, spec: RequestSpec) -> RequestSpec:
        """The request with these. Raises `UsageError` for what cannot be meant."""
        said: tuple[ServerGroupMembership, ...] = (
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
        )
        changes: dict[str, Any] = {"memberships": (*spec.memberships, *said)} if said else {}
        if self.copies is not None:
            changes["copies"] = self.copies
        if self.copies_on is not None:
            changes["copies_on"] = self.copies_on
        if not changes:
            return spec
        whole = {name: getattr(spec, name) for name in RequestSpec.model_fields} | changes
        try:
            return RequestSpec.model_validate(whole)
        except ValidationError as error:
            raise _told(error, "the request") from None


def read_membership(text: str, policy: str, where: str, *, hard: bool = True) -> ServerGroupMembership:
    """`CELL/NAME`, `CELL/NAME:MAX` or `CELL/NAME:MAX:SCOPE`; MAX may be left empty. Raises `UsageError`."""
    # A cell may have a colon in its name, a group not.
    at = text.rpartition("/")[0]
    name, _, rest = text[len(at) :].partition(":")
    most, _, scope = rest.partition(":")
    group = at + name
    do = "write CELL/NAME, CELL/NAME:MAX or CELL/NAME:MAX:SCOPE, as in auto-5/web:1:rack-"
    if not _is_group(group):
        raise UsageError(f"{group!r} is no server group", where=f"{where} {text!r}", do=do)
    if most and not (most.isascii() and most.isdecimal() and len(most) < 10):
        raise UsageError(f"{most!r} is no number of members", where=f"{where} {text!r}", do=do)
    said: dict[str, Any] = {"group": group, "policy": policy, "hard": hard, "scope": scope or None}
    if most:
        said["max_per_node"] = int(most)
    try:
        return ServerGroupMembership.model_validate(said)
    except ValidationError as error:
        raise _told(error, f"{where} {text!r}") from None


def _told(error: ValidationError, where: str) -> UsageError:
    first = error.errors(include_url=False, include_context=False)[0]
    path = ".".join(str(part) for part in first["loc"])
    what = first["msg"].removeprefix("Value error, ")
    return UsageError(f"{path}: {what}" if path else what, where=where, do="correct it")


# -- who is in a group ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class GroupMemberReport:
    """A consumer in a group: the roots that each of its copies is on now, and the offset of its claim."""

    consumer: str
    offset: int
    roots: list[list[str]]


@dataclass(frozen=True, slots=True)
class ServerGroupReport:
    """A server group and its members, the newest last. `nodes` is root -> how many copies are on it."""

    id: str
    cell: str
    policy: str
    hard: bool
    max_per_node: int
    scope: str | None
    members: list[GroupMemberReport]
    nodes: dict[str, int] = field(default_factory=dict)
    as_of: dict[int, int] = field(default_factory=dict)


def show_group(reader: StoreReader, group: str) -> ServerGroupReport:
    """A server group. Raises `UsageError` for what is no group's id, and `NotFound` where nobody is in it."""
    if not _is_group(group):
        raise UsageError(f"{group!r} is no server group", do="write CELL/NAME, as in auto-5/web")
    reader.catch_up()
    cell = group_cell(group)
    row = reader.get(GROUPS, key(cell, group_name(group)))
    if row is None:
        raise NotFound(
            f"nobody is in server group {group!r}",
            where=f"store {reader.path}",
            do="check its name and cell: a group is there from its first member to its last",
        )
    members = []
    nodes: dict[str, int] = {}
    for member in row.members:
        roots = [sorted({_root(reader, cell, id_) for id_ in place}) for place in member.places]
        members.append(GroupMemberReport(member.consumer, member.offset, roots))
        for one in roots:
            for root in one:
                nodes[root] = nodes.get(root, 0) + 1
    return ServerGroupReport(
        group,
        cell,
        row.policy,
        row.hard,
        row.max_per_node,
        row.scope,
        members,
        dict(sorted(nodes.items())),
        reader.position,
    )


def _root(reader: StoreReader, cell: str, provider: str) -> str:
    row = reader.get(PROVIDERS, key(cell, provider))
    return provider if row is None else row.root
