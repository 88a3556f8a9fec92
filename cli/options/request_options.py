"""The options of a request, shared by `candidates`, `place` and `why-not`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from vacancy.cli.options.option_groups import with_option_group
from vacancy.cli.options.order_option import read_text

if TYPE_CHECKING:
    from vacancy.clients.request_language.placement_syntax import ParsedRequest
    from vacancy.resources.classes.registry import Registry


@dataclass(frozen=True, kw_only=True)
class RequestOptions:
    """The request, in the terms of OpenStack Placement. Each field is an option of the same name."""

    resources: Annotated[
        list[str] | None,
        typer.Option(
            "--resources",
            metavar="CLASS:AMOUNT,…",
            help="Requested amount of each resource class, for example VCPU:4,MEMORY_MB:8192. Repeatable.",
        ),
    ] = None
    required: Annotated[
        list[str] | None,
        typer.Option(
            "--required",
            metavar="TRAIT,…",
            help="Traits: A,B requires both; !C forbids C; in:A,B (alone in its option) requires at least one."
            " Repeatable.",
        ),
    ] = None
    member_of: Annotated[
        list[str] | None,
        typer.Option(
            "--member-of",
            metavar="AGGREGATE",
            help="Aggregates: a requires a; in:a,b requires one of them; !a or !in:a,b forbids them. Repeatable.",
        ),
    ] = None
    in_tree: Annotated[
        str | None,
        typer.Option("--in-tree", metavar="PROVIDER", help="Search only the tree of this provider."),
    ] = None
    where: Annotated[
        list[str] | None,
        typer.Option(
            "--where",
            metavar="EXPR",
            help="Condition on attributes, traits and amounts, for example"
            " 'attributes.hypervisor_version >= version(\"8.2\")' (docs/expressions.md). Repeatable.",
        ),
    ] = None
    group: Annotated[
        list[str] | None,
        typer.Option(
            "--group",
            metavar="GROUP",
            help="An additional request group, served by one provider of the tree:"
            " 'NAME=CLASS:AMOUNT,…;required=TRAIT,…;member_of=AGGREGATE;in_tree=PROVIDER;where=EXPR'. Everything after"
            " the amounts is optional. Repeatable.",
        ),
    ] = None
    group_policy: Annotated[
        str | None,
        typer.Option(
            "--group-policy",
            metavar="none|isolate",
            help="none: groups may be served by the same provider; isolate: each group needs its own provider.",
            show_default="none",
        ),
    ] = None
    root_required: Annotated[
        list[str] | None,
        typer.Option(
            "--root-required",
            metavar="TRAIT,…",
            help="Traits of the root of the tree, whichever provider serves the groups: A requires A, !B forbids B."
            " Repeatable.",
        ),
    ] = None
    same_subtree: Annotated[
        list[str] | None,
        typer.Option(
            "--same-subtree",
            metavar="GROUP,…",
            help="The providers of these groups must be in one subtree whose root is the provider of one of them."
            " Repeatable.",
        ),
    ] = None
    prefer_same_subtree: Annotated[
        list[str] | None,
        typer.Option(
            "--prefer-same-subtree",
            metavar="GROUP,…",
            help="As --same-subtree, where that is possible; elsewhere the groups may be apart. Repeatable, the first counts"
            " most.",
        ),
    ] = None
    or_: Annotated[
        list[str] | None,
        typer.Option(
            "--or",
            metavar="GROUP[&GROUP…]",
            help="Ask for this if nothing fits what is asked for before: groups as in --group, in place of those of the same"
            " names. '=CLASS:AMOUNT,…' replaces the amounts of --resources, 'NAME=' leaves a group out. Repeatable, in order"
            " of preference.",
        ),
    ] = None
    tolerate: Annotated[
        list[str] | None,
        typer.Option(
            "--tolerate",
            metavar="KEY[=VALUE]",
            help="Allow providers with this taint (`vacancy provider taint`); without =VALUE, with any value of the key."
            " Repeatable.",
        ),
    ] = None
    numa: Annotated[
        str | None,
        typer.Option(
            "--numa",
            metavar="TOPOLOGY",
            help="NUMA topology of the guest; each NUMA cell becomes a group:"
            " 'cells=2,cpus=8,policy=dedicated,threads=isolate,memory_mb=16384,page=2M'. policy is shared, dedicated or"
            " mixed (with dedicated=N); threads is prefer, isolate or require; cores is any, performance or efficiency.",
        ),
    ] = None
    group_affinity: Annotated[
        list[str] | None,
        typer.Option(
            "--group-affinity",
            metavar="CELL/NAME",
            help="Place on the node of the members of this server group. With CELL/NAME::rack- in their rack: the"
            " aggregate whose name starts with rack-. Repeatable.",
        ),
    ] = None
    group_anti_affinity: Annotated[
        list[str] | None,
        typer.Option(
            "--group-anti-affinity",
            metavar="CELL/NAME[:MAX[:SCOPE]]",
            help="Place at most MAX (default: 1) members of this server group on a node. With CELL/NAME:MAX:rack- at"
            " most MAX in a rack. Repeatable.",
        ),
    ] = None
    soft_group_affinity: Annotated[
        list[str] | None,
        typer.Option(
            "--soft-group-affinity",
            metavar="CELL/NAME",
            help="Prefer nodes that satisfy --group-affinity, but do not require them. Repeatable.",
        ),
    ] = None
    soft_group_anti_affinity: Annotated[
        list[str] | None,
        typer.Option(
            "--soft-group-anti-affinity",
            metavar="CELL/NAME[:MAX[:SCOPE]]",
            help="Prefer nodes that satisfy --group-anti-affinity, but do not require them. Repeatable.",
        ),
    ] = None
    group_spread: Annotated[
        list[str] | None,
        typer.Option(
            "--group-spread",
            metavar="CELL/NAME:MAX_SKEW:KIND",
            help="Spread the members of this server group over the aggregates of a kind, for example over zone-... with"
            " CELL/NAME:1:zone-. None of them gets more than MAX_SKEW (default: 1) members above the one that has the fewest."
            " Repeatable.",
        ),
    ] = None
    soft_group_spread: Annotated[
        list[str] | None,
        typer.Option(
            "--soft-group-spread",
            metavar="CELL/NAME:MAX_SKEW:KIND",
            help="Prefer nodes that satisfy --group-spread, but do not require them. Repeatable.",
        ),
    ] = None
    copies: Annotated[
        int | None,
        typer.Option(
            "--copies",
            metavar="N",
            help="Number of identical instances to place in one cell, all or none.",
            show_default="1",
        ),
    ] = None
    copies_on: Annotated[
        str | None,
        typer.Option(
            "--copies-on",
            metavar="any|distinct",
            help="any: copies may share a node; distinct: each copy needs its own node.",
            show_default="any",
        ),
    ] = None
    query: Annotated[
        str | None,
        typer.Option(
            "--query",
            metavar="QUERY",
            help="The complete request as a Placement query string:"
            " 'resources=VCPU:1&resources1=CUSTOM_GPU:1&required1=CUSTOM_A100&group_policy=isolate&limit=5'.",
        ),
    ] = None
    request: Annotated[
        str | None,
        typer.Option(
            "--request",
            metavar="FILE",
            help="File with the complete request as JSON (a RequestSpec); - reads standard input.",
        ),
    ] = None

    def parse(self, registry: Registry, *, qualities_only: bool = False) -> ParsedRequest:
        """Parse the options into a request. With `qualities_only` it may ask for no resources. Raises `UsageError`."""
        from vacancy.clients.inspection.group_report import ParsedMembership
        from vacancy.clients.request_language.placement_syntax import RequestText, parse

        text = RequestText(
            resources=self.resources or (),
            required=self.required or (),
            member_of=self.member_of or (),
            in_tree=self.in_tree,
            where=self.where or (),
            groups=self.group or (),
            group_policy=self.group_policy,
            root_required=self.root_required or (),
            same_subtree=self.same_subtree or (),
            prefer_same_subtree=self.prefer_same_subtree or (),
            alternatives=self.or_ or (),
            tolerate=self.tolerate or (),
            options={} if self.numa is None else {"numa": self.numa},
            query=self.query,
            document=None if self.request is None else read_text(self.request),
            qualities_only=qualities_only,
        )
        parsed = parse(text, registry)
        related = ParsedMembership(
            self.group_affinity or (),
            self.group_anti_affinity or (),
            self.soft_group_affinity or (),
            self.soft_group_anti_affinity or (),
            self.group_spread or (),
            self.soft_group_spread or (),
            self.copies,
            self.copies_on,
        )
        return parsed._replace(spec=related.applied(parsed.spec))


QualitiesOnlyOption = Annotated[
    bool,
    typer.Option(
        "--qualities-only",
        help="Compare only qualities: traits, attributes, aggregates, the tree, and the classes that a node offers. Room is"
        " not needed, and nodes may be disabled. The request may have no resources.",
    ),
]


with_request_options = with_option_group("request_options", RequestOptions)
"""Decorates a command that has a parameter `request_options: RequestOptions`."""
