"""Parses the command line's options, query strings and JSON into a RequestSpec.

The syntax is that of OpenStack Placement's `GET /allocation_candidates`: `VCPU:4,MEMORY_MB:8192`, traits with `!` for
forbidden ones and `in:` for any of several, `member_of`, `in_tree`, numbered groups, `root_required`, `same_subtree`.
As there, several providers of a tree may serve the unnumbered group together.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

from pydantic import ValidationError

from vacancy.clients.request_language.ask_syntax import split_resources
from vacancy.clients.request_language.expressions.cel_compiler import compile_condition
from vacancy.clients.request_language.syntax_registry import option_groups, parse_ask
from vacancy.clients.request_language.toleration_syntax import parse_toleration, tolerating
from vacancy.resources.classes.registry import Registry
from vacancy.resources.model.errors import UsageError
from vacancy.resources.model.names import ID_PATTERN, check_trait
from vacancy.resources.model.request import (
    GROUPS_MAX,
    Ask,
    RequestGroup,
    RequestSpec,
    RequestSpecV2,
    choices_of,
    oldest_form,
    plain_fields,
)

_PARTS: Final = ("resources", "required", "member_of", "in_tree", "where")
_NUMBERED: Final = re.compile(rf"({'|'.join(_PARTS)})([A-Za-z0-9_-]{{0,64}})")
_SEPARATED: Final = re.compile(r"""(?:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|[^;])+""")
_BETWEEN_GROUPS: Final = re.compile(r"""(?:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|&&|[^&])+""")
"""The groups of an alternative, which single `&` separate: `&&` belongs to an expression."""

_GROUP_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_ID: Final = re.compile(ID_PATTERN)
_POLICIES: Final = ("none", "isolate")
_SUBTREE: Final = re.compile(r"[A-Za-z0-9_-]{1,64}(,[A-Za-z0-9_-]{1,64})*")


@dataclass(frozen=True, slots=True)
class RequestText:
    """A request as text. Each field is an option of the command line; an option that was not given is empty.

    `resources` to `where` describe the unnamed group. Each item of `groups` describes another group (`parse_group`).
    `options` maps an option of an ask syntax (`numa`) to its value, which adds groups. `root_required`, `same_subtree`,
    `prefer_same_subtree` and `group_policy` apply to all groups. Each item of `alternatives` describes what to ask for instead
    (`parse_alternative`), in order of preference. `tolerate` names taints that the request tolerates (`parse_toleration`), also
    if it is given otherwise. `query` or `document` (the JSON of a RequestSpec) replace all others. With
    `qualities_only` a request of options or a query may ask for no resources.
    """

    resources: Sequence[str] = ()
    required: Sequence[str] = ()
    member_of: Sequence[str] = ()
    in_tree: str | None = None
    where: Sequence[str] = ()
    groups: Sequence[str] = ()
    root_required: Sequence[str] = ()
    same_subtree: Sequence[str] = ()
    prefer_same_subtree: Sequence[str] = ()
    alternatives: Sequence[str] = ()
    tolerate: Sequence[str] = ()
    group_policy: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    query: str | None = None
    document: str | bytes | None = None
    qualities_only: bool = False


class ParsedRequest(NamedTuple):
    """The request, and the limit on candidates if the text has one."""

    spec: RequestSpec
    limit: int | None = None


def parse(wanted: RequestText, registry: Registry) -> ParsedRequest:
    """Parse a request. Raises `UsageError`, which names the invalid part and what to write instead."""
    parsed = _parse(wanted, registry)
    more = [parse_toleration(text, "--tolerate") for text in wanted.tolerate]
    return parsed._replace(spec=tolerating(parsed.spec, more, "--tolerate"))


def _parse(wanted: RequestText, registry: Registry) -> ParsedRequest:
    has_resources = (
        wanted.resources
        or wanted.required
        or wanted.member_of
        or wanted.in_tree
        or wanted.where
        or wanted.groups
        or wanted.options
    )
    wide = wanted.group_policy or wanted.root_required or wanted.same_subtree or wanted.prefer_same_subtree
    sources = [
        name
        for name, given in (
            ("options", has_resources or wide or wanted.alternatives),
            ("--query", wanted.query is not None),
            ("--request", wanted.document is not None),
        )
        if given
    ]
    if len(sources) > 1:
        raise UsageError(f"the request is given twice, by {' and by '.join(sources)}", do="leave one out")
    if wanted.query is not None:
        return parse_query(wanted.query, registry, qualities_only=wanted.qualities_only)
    if wanted.document is not None:
        return ParsedRequest(parse_document(wanted.document, registry))
    if not has_resources and not (wanted.qualities_only and wanted.root_required):
        raise UsageError("the request is empty", do="name resources, as in --resources VCPU:4,MEMORY_MB:8192")
    groups = []
    parts = [
        *(("resources", text, "--resources") for text in wanted.resources),
        *(("required", text, "--required") for text in wanted.required),
        *(("member_of", text, "--member-of") for text in wanted.member_of),
        *((("in_tree", wanted.in_tree, "--in-tree"),) if wanted.in_tree else ()),
        *(("where", text, "--where") for text in wanted.where),
    ]
    if parts:
        groups.append(_group("", parts, registry))
    groups.extend(parse_group(text, registry) for text in wanted.groups)
    policy = wanted.group_policy or "none"
    for option, text in wanted.options.items():
        policy = _add_option(groups, option, text, wanted.group_policy)
    fields = _wide(
        [(text, "--root-required") for text in wanted.root_required],
        [(text, "--same-subtree") for text in wanted.same_subtree],
    )
    spec = _spec(_tree_wide(groups), policy, "--group-policy", fields, qualities_only=wanted.qualities_only)
    others = [
        (_tree_wide(parse_alternative(text, groups, registry, "--or")), f"--or {text!r}")
        for text in wanted.alternatives
    ]
    near = [(text, "--prefer-same-subtree") for text in wanted.prefer_same_subtree]
    return ParsedRequest(_with_choices(spec, others, near))


def parse_alternative(
    text: str, groups: Sequence[RequestGroup], registry: Registry, option: str
) -> list[RequestGroup]:
    """The groups of an alternative: `groups`, with those of the text in place of those of the same names.

    The text has groups in the form of `parse_group`, separated by `&`. The unnamed group is written without a name, as in
    `=VCPU:8`. A name alone (`NAME=`) leaves that group out.
    """
    found = {group.name: group for group in groups}
    do = "write NAME=CLASS:AMOUNT,…;required=TRAIT,…, and & between several groups; NAME= leaves a group out"
    parts = [part.strip() for part in _BETWEEN_GROUPS.findall(text)]
    if not parts or "&" in text.strip()[:1] + text.strip()[-1:]:
        raise UsageError("an alternative has no group, or an empty one", where=f"{option} {text!r}", do=do)
    for part in parts:
        name, separator, rest = part.partition("=")
        if separator and not rest.strip() and name.strip() in found:
            del found[name.strip()]
        else:
            group = parse_group(part, registry, option=option)
            found[group.name] = group
    if not found:
        raise UsageError("an alternative leaves all groups out", where=f"{option} {text!r}", do=do)
    return list(found.values())


def _with_choices(
    spec: RequestSpec,
    alternatives: Sequence[tuple[Sequence[RequestGroup], str]],
    preferred: Sequence[tuple[str, str]],
) -> RequestSpec:
    """The request with alternatives, as (groups, option it comes from), and with preferred relations, as (text, option). What
    the request says of all groups applies to alternatives too; `same_subtree` to those that have its groups."""
    if not alternatives and not preferred:
        return spec
    others = []
    for groups, where in alternatives:
        names = {group.name for group in groups}
        fields = {
            "root_required": spec.root_required,
            "root_forbidden": spec.root_forbidden,
            "same_subtree": tuple(one for one in spec.same_subtree if names.issuperset(one)),
        }
        others.append(_spec(groups, spec.group_policy, where, fields))
    near = [_subtree(text, where) for text, where in preferred]
    try:
        return RequestSpecV2.model_validate(
            {**plain_fields(spec), "alternatives": tuple(others), "prefer_same_subtree": tuple(near)}
        )
    except ValidationError as error:
        raise _usage_error(error, "the request") from None


def _subtree(text: str, where: str) -> tuple[str, ...]:
    """The names of `GROUP,GROUP`."""
    if not _SUBTREE.fullmatch(text):
        raise UsageError(f"{text!r} names no groups", where=where, do="write GROUP,GROUP")
    return tuple(dict.fromkeys(text.split(",")))


def _tree_wide(groups: list[RequestGroup]) -> list[RequestGroup]:
    """The groups, where the unnamed one asks for no resources and others do: what it says is about the tree of the others.
    `in_tree` then applies to each group without one of its own, and the rest to one provider of the tree.

    Raises `UsageError` for what the tree must not have: one provider without it would satisfy that.
    """
    unnamed = next((one for one in groups if not one.name and not one.resources), None)
    others = [one for one in groups if one is not unnamed]
    if unnamed is None or not any(one.resources for one in others):
        return groups
    if unnamed.forbidden or unnamed.not_member_of:
        raise UsageError(
            f"{', '.join((*unnamed.forbidden, *unnamed.not_member_of))} is forbidden, but no resources are asked for there",
            do="write --root-required '!TRAIT' for the node, or put it into the --group that must not have it",
        )
    if unnamed.in_tree is not None:
        others = [
            one if one.in_tree else one.model_copy(update={"in_tree": unnamed.in_tree}) for one in others
        ]
    if not (unnamed.required or unnamed.any_traits or unnamed.member_of or unnamed.where):
        return others
    return [unnamed.model_copy(update={"same_provider": True}), *others]


def _wide(roots: Iterable[tuple[str, str]], subtrees: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """The fields of the request that apply to the whole tree, from items (text, option it comes from)."""
    traits: dict[str, list[Any]] = {}
    for text, where in roots:
        if text.startswith(("in:", "!in:")):
            do = "name traits that it must have, and with ! those it must not, as in A,!B"
            raise UsageError(
                f"{text!r}: any of several traits is not supported for the root", where=where, do=do
            )
        _add_traits(traits, text, where)
    both = set(traits.get("required", ())) & set(traits.get("forbidden", ()))
    if both:
        what = f"{' and '.join(sorted(both))} of the root is both required and forbidden"
        raise UsageError(what, where="root_required", do="leave one out")
    return {
        "root_required": tuple(dict.fromkeys(traits.get("required", ()))),
        "root_forbidden": tuple(dict.fromkeys(traits.get("forbidden", ()))),
        "same_subtree": tuple(_subtree(text, where) for text, where in subtrees),
    }


def _add_option(groups: list[RequestGroup], option: str, text: str, policy: str | None) -> str:
    """Add the groups of an option of an ask syntax. Returns the group policy. It is `isolate` if the option adds several
    groups, because no provider may serve two of them."""
    added = option_groups(option, text)
    groups.extend(added)
    if len(added) == 1:
        return policy or "none"
    if policy == "none":
        raise UsageError(
            f"--{option} asks for {len(added)} different providers, which is group policy isolate",
            where="--group-policy none",
            do="leave it out",
        )
    return policy or "isolate"


def parse_group(text: str, registry: Registry, *, option: str = "--group") -> RequestGroup:
    """Parse one group: `NAME=VCPU:2,CUSTOM_X:1;required=HW_X,!CUSTOM_Y;member_of=in:a,b;in_tree=node-1;where=EXPRESSION`.

    NAME is the name of the group. The parts after the resources are optional; `required`, `member_of` and `where` may be
    given more than once. An expression may contain a `;` in quotes. In an alternative (`--or`) the name may be empty.
    """
    first, *rest = (part.strip() for part in _SEPARATED.findall(text))
    name, separator, resources = (part.strip() for part in first.partition("="))
    where = f"{option} {text!r}"
    do = "write NAME=CLASS:AMOUNT,…;required=TRAIT,…;member_of=AGGREGATE;in_tree=PROVIDER;where=EXPRESSION"
    if not separator or not (_GROUP_NAME.fullmatch(name) or (option != "--group" and not name)):
        raise UsageError("a group has no name, or an invalid one", where=where, do=do)
    parts = [("resources", resources, where)] if resources else []
    for part in filter(None, rest):
        what, separator, value = (piece.strip() for piece in part.partition("="))
        if not separator or what not in _PARTS[1:]:
            raise UsageError(f"a group has no part {part!r}", where=where, do=do)
        parts.append((what, value, where))
    return _group(name, parts, registry)


def parse_query(text: str, registry: Registry, *, qualities_only: bool = False) -> ParsedRequest:
    """A query string of OpenStack Placement, with or without the part before the `?`.

    Its parameters are `resources`, `required`, `member_of`, `in_tree` and `where`, each with any suffix, and
    `root_required`, `same_subtree`, `group_policy` and `limit`. Placement itself has no `where` (an expression), no `tolerate`
    (a toleration, see `parse_toleration`), and neither `or` (an alternative, see `parse_alternative`) nor
    `prefer_same_subtree`.
    """
    parts: dict[str, list[tuple[str, str, str]]] = {}
    wide: dict[str, list[tuple[str, str]]] = {
        name: [] for name in ("root_required", "same_subtree", "prefer_same_subtree", "or", "tolerate")
    }
    policy, limit = "none", None
    for name, value, where in _pairs(text):
        numbered = _NUMBERED.fullmatch(name)
        if name == "group_policy":
            policy = value
        elif name == "limit":
            limit = _amount(value, where)
        elif name in wide:
            wide[name].append((value, where))
        elif numbered is None:
            known = f"{', '.join(_PARTS)} (each with any suffix), {', '.join(wide)}, group_policy and limit"
            raise UsageError(f"a query has no {name!r}", where=where, do=f"its parts are {known}")
        else:
            parts.setdefault(numbered[2], []).append((numbered[1], value, where))
    if not parts:
        raise UsageError("the request is empty", where="--query", do="name resources, as in resources=VCPU:4")
    groups = [_group(suffix, parts[suffix], registry) for suffix in sorted(parts)]
    if {part for part, _, _ in parts.get("", ())} == {
        "in_tree"
    }:  # Placement refuses the others without resources
        groups = _tree_wide(groups)
    fields = _wide(wide["root_required"], wide["same_subtree"])
    spec = _spec(groups, policy, "group_policy", fields, qualities_only=qualities_only)
    others = [(parse_alternative(text, groups, registry, "or"), where) for text, where in wide["or"]]
    chosen = _with_choices(spec, others, wide["prefer_same_subtree"])
    more = [parse_toleration(text, where) for text, where in wide["tolerate"]]
    return ParsedRequest(tolerating(chosen, more, "--query"), limit)


def parse_document(text: str | bytes, registry: Registry) -> RequestSpec:
    """A RequestSpec as JSON: `{"groups": [{"resources": {"VCPU": 4}}]}`."""
    try:
        spec = RequestSpecV2.model_validate_json(text)
    except ValidationError as error:
        raise _usage_error(error, "--request") from None
    for one in choices_of(spec):
        _check_document(one, registry)
    return oldest_form(spec)


def _check_document(spec: RequestSpec, registry: Registry) -> None:
    for group in spec.groups:
        where = f"--request, group {group.name!r}" if group.name else "--request"
        for name, ask in group.resources.items():
            _check_ask(name, ask, registry, where)
        if group.where:
            compile_condition(group.where, registry, f"{where}, where")
        for trait in (
            *group.required,
            *group.forbidden,
            *(trait for any_of in group.any_traits for trait in any_of),
        ):
            _trait(trait, where)
    for trait in (*spec.root_required, *spec.root_forbidden):
        _trait(trait, "--request")


def _pairs(text: str) -> Iterator[tuple[str, str, str]]:
    """(name, value, where) of each part of a query string. A `+` stays a `+`: names may contain it."""
    for pair in text.strip().rpartition("?")[2].split("&"):
        name, separator, value = pair.partition("=")
        if not pair:
            continue
        if not separator:
            raise UsageError(f"{pair!r} has no value", where="--query", do="write NAME=VALUE&NAME=VALUE")
        yield unquote(name), unquote(value), f"--query {unquote(pair)!r}"


def _spec(
    groups: Sequence[RequestGroup],
    policy: str,
    where: str,
    wide: Mapping[str, Any],
    *,
    qualities_only: bool = False,
) -> RequestSpec:
    if policy not in _POLICIES:
        raise UsageError(
            f"{policy!r} is not a group policy", where=where, do=f"choose {' or '.join(_POLICIES)}"
        )
    if len(groups) > GROUPS_MAX:
        raise UsageError(
            f"the request has {len(groups):,} groups",
            do=f"ask for {GROUPS_MAX} at most; what one provider serves can be one group",
        )
    fields = {"groups": tuple(groups), "group_policy": policy, **wide}
    if qualities_only and not any(group.resources for group in groups):
        # The log does not take such a request, and nothing is claimed with it. Its groups are checked already.
        return RequestSpec.model_construct(**fields)
    try:
        return RequestSpec.model_validate(fields)
    except ValidationError as error:
        raise _usage_error(error, "the request") from None


def _usage_error(error: ValidationError, where: str) -> UsageError:
    first = error.errors(include_url=False, include_context=False)[0]
    path = ".".join(str(part) for part in first["loc"])
    what = first["msg"].removeprefix("Value error, ")
    return UsageError(f"{path}: {what}" if path else what, where=where, do="correct it")


def _group(name: str, parts: Iterable[tuple[str, str, str]], registry: Registry) -> RequestGroup:
    """A request group from items (part, text, option it comes from)."""
    fields: dict[str, Any] = {"name": name, "same_provider": bool(name), "resources": {}}
    lists: dict[str, list[Any]] = {}
    for part, text, where in parts:
        if part == "resources":
            _add_resources(fields["resources"], text, registry, where)
        elif part == "required":
            _add_traits(lists, text, where)
        elif part == "member_of":
            _add_aggregates(lists, text, where)
        elif part == "where":
            _add_condition(fields, text, registry, where)
        elif "in_tree" in fields:
            raise UsageError("in_tree is given twice in one group", where=where, do="name one provider")
        else:
            fields["in_tree"] = _id(text, where)
    fields.update((field, tuple(dict.fromkeys(values))) for field, values in lists.items())
    forbidden = set(fields.get("forbidden", ()))
    both = set(fields.get("required", ())) & forbidden
    both = both.union(*(traits for traits in fields.get("any_traits", ()) if forbidden.issuperset(traits)))
    if both:
        raise UsageError(
            f"{' and '.join(sorted(both))} is both required and forbidden",
            where=f"group {name!r}" if name else "--required",
            do="leave one out",
        )
    try:
        return RequestGroup.model_validate(fields)
    except ValidationError as error:
        raise _usage_error(error, f"group {name!r}" if name else "the request") from None


def _add_resources(into: dict[str, Ask], text: str, registry: Registry, where: str) -> None:
    for part in _named(split_resources(text), where, "CLASS:AMOUNT,CLASS:AMOUNT"):
        name, separator, amount = (piece.strip() for piece in part.partition(":"))
        if not separator:
            raise UsageError(f"{part!r} has no amount", where=where, do=f"write {name or 'CLASS'}:1")
        if name in into:
            raise UsageError(f"{name} is given twice", where=where, do="name each class once a group")
        into[name] = parse_ask(name, amount, registry, where)


def _add_traits(into: dict[str, list[Any]], text: str, where: str) -> None:
    """`A,!B`, or `in:A,B` by itself."""
    if text.startswith("in:"):
        any_of = tuple(
            _trait(name, where) for name in _items(text.removeprefix("in:"), where, "in:TRAIT,TRAIT")
        )
        into.setdefault("any_traits", []).append(any_of)
        return
    for name in _items(text, where, "TRAIT,!TRAIT"):
        if name.startswith(("in:", "!in:")):
            raise UsageError(
                f"{name!r} is in a list of other traits",
                where=where,
                do="give in:TRAIT,TRAIT as an option of its own; forbid traits one by one, as in !TRAIT",
            )
        forbidden = name.startswith("!")
        into.setdefault("forbidden" if forbidden else "required", []).append(
            _trait(name.removeprefix("!").strip(), where)
        )


def _add_aggregates(into: dict[str, list[Any]], text: str, where: str) -> None:
    """`a`, `in:a,b`, `!a` or `!in:a,b`."""
    refused, rest = text.startswith("!"), text.removeprefix("!")
    names = _items(rest.removeprefix("in:"), where, "in:AGGREGATE,AGGREGATE")
    if not rest.startswith("in:") and len(names) > 1:
        raise UsageError(
            f"{text!r} names several aggregates",
            where=where,
            do=f"write {'!' if refused else ''}in:{rest} for any of them, or give one part for each",
        )
    found = tuple(_id(name, where) for name in names)
    if refused:
        into.setdefault("not_member_of", []).extend(found)
    else:
        into.setdefault("member_of", []).append(found)


def _add_condition(fields: dict[str, Any], text: str, registry: Registry, where: str) -> None:
    """Add a condition to the group. All its conditions must be true."""
    compile_condition(text, registry, where)
    before = fields.get("where")
    ended = "\n" if "//" in text else ""  # a comment extends to the end of its line
    fields["where"] = f"{before} && ({text}{ended})" if before else f"({text}{ended})"


def _items(text: str, where: str, form: str) -> list[str]:
    return _named([item.strip() for item in text.split(",")], where, form)


def _named(items: list[str], where: str, form: str) -> list[str]:
    if not all(items):
        raise UsageError("a list has an empty item", where=where, do=f"write {form}")
    return items


def _amount(text: str, where: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > 16 or int(text) < 1:
        raise UsageError(f"{text!r} is not an amount", where=where, do="write a whole number from 1 on")
    return int(text)


def _check_ask(name: str, ask: Any, registry: Registry, where: str) -> None:
    try:
        registry.check(name).check_ask(ask)
    except UsageError as error:
        raise UsageError(error.what, where=where, do=error.do) from None


def _trait(name: str, where: str) -> str:
    try:
        return check_trait(name)
    except UsageError as error:
        raise UsageError(error.what, where=where, do=error.do) from None


def _id(name: str, where: str) -> str:
    if not _ID.fullmatch(name):
        raise UsageError(f"{name!r} is not a valid name", where=where, do="use letters, digits and ._:/@+=~-")
    return name
