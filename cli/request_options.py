"""The options of a request: what `candidates`, `place` and `why-not` have in common."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from vacancy.cli.order_option import read_text

if TYPE_CHECKING:
    from vacancy.clients.request_language.placement_syntax import ParsedRequest
    from vacancy.resources.classes.registry import Registry


@dataclass(frozen=True, kw_only=True)
class RequestOptions:
    """What is asked for, in the words of OpenStack Placement: an option for each field, of its name."""

    resources: Annotated[
        list[str] | None,
        typer.Option(
            "--resources",
            metavar="CLASS:AMOUNT,…",
            help="How much of which classes, as in VCPU:4,MEMORY_MB:8192. Repeatable.",
        ),
    ] = None
    required: Annotated[
        list[str] | None,
        typer.Option(
            "--required",
            metavar="TRAIT,…",
            help="Traits: A,B must be there, !C must not; in:A,B by itself: at least one. Repeatable.",
        ),
    ] = None
    member_of: Annotated[
        list[str] | None,
        typer.Option(
            "--member-of",
            metavar="AGGREGATE",
            help="Aggregates: a; in:a,b for any of them; !a or !in:a,b for none. Repeatable.",
        ),
    ] = None
    in_tree: Annotated[
        str | None,
        typer.Option("--in-tree", metavar="PROVIDER", help="Only in this provider's tree."),
    ] = None
    where: Annotated[
        list[str] | None,
        typer.Option(
            "--where",
            metavar="EXPR",
            help="A condition on attributes, traits and amounts, as in"
            " 'attributes.hypervisor_version >= version(\"8.2\")' (docs/expressions.md). Repeatable.",
        ),
    ] = None
    group: Annotated[
        list[str] | None,
        typer.Option(
            "--group",
            metavar="GROUP",
            help="One more group, served by one provider of the tree:"
            " 'NAME=CLASS:AMOUNT,…;required=TRAIT,…;member_of=AGGREGATE;in_tree=PROVIDER;where=EXPR', of which all after the"
            " amounts may be left out. Repeatable.",
        ),
    ] = None
    group_policy: Annotated[
        str | None,
        typer.Option(
            "--group-policy",
            metavar="none|isolate",
            help="Whether two groups may share a provider (none) or must not (isolate).",
            show_default="none",
        ),
    ] = None
    root_required: Annotated[
        list[str] | None,
        typer.Option(
            "--root-required",
            metavar="TRAIT,…",
            help="Traits of the root of the tree, whoever serves the groups: A must be there, !B must not. Repeatable.",
        ),
    ] = None
    same_subtree: Annotated[
        list[str] | None,
        typer.Option(
            "--same-subtree",
            metavar="GROUP,…",
            help="Of these groups, one is served by a provider that is above those of the others, or the same."
            " Repeatable.",
        ),
    ] = None
    numa: Annotated[
        str | None,
        typer.Option(
            "--numa",
            metavar="TOPOLOGY",
            help="The NUMA topology of a guest, a group for each cell:"
            " 'cells=2,cpus=8,policy=dedicated,threads=isolate,memory_mb=16384,page=2M'; policy is shared, dedicated or"
            " mixed (then dedicated=N), threads prefer, isolate or require.",
        ),
    ] = None
    group_affinity: Annotated[
        list[str] | None,
        typer.Option(
            "--group-affinity",
            metavar="CELL/NAME",
            help="Near to the members of this server group: on their node, or with CELL/NAME::rack- in their rack,"
            " told by aggregates that begin with rack-. Repeatable.",
        ),
    ] = None
    group_anti_affinity: Annotated[
        list[str] | None,
        typer.Option(
            "--group-anti-affinity",
            metavar="CELL/NAME[:MAX[:SCOPE]]",
            help="Apart from the members of this server group: at most MAX (default: 1) on a node, or with"
            " CELL/NAME:MAX:rack- in a rack. Repeatable.",
        ),
    ] = None
    soft_group_affinity: Annotated[
        list[str] | None,
        typer.Option(
            "--soft-group-affinity",
            metavar="CELL/NAME",
            help="The same as a wish: such places come first.",
        ),
    ] = None
    soft_group_anti_affinity: Annotated[
        list[str] | None,
        typer.Option(
            "--soft-group-anti-affinity",
            metavar="CELL/NAME[:MAX[:SCOPE]]",
            help="The same as a wish: such places come first.",
        ),
    ] = None
    copies: Annotated[
        int | None,
        typer.Option(
            "--copies",
            metavar="N",
            help="So many instances of the same shape, in one cell, all or none.",
            show_default="1",
        ),
    ] = None
    copies_on: Annotated[
        str | None,
        typer.Option(
            "--copies-on",
            metavar="any|distinct",
            help="Whether copies may share a node (any) or must not (distinct).",
            show_default="any",
        ),
    ] = None
    query: Annotated[
        str | None,
        typer.Option(
            "--query",
            metavar="QUERY",
            help="The whole request as a Placement query string:"
            " 'resources=VCPU:1&resources1=CUSTOM_GPU:1&required1=CUSTOM_A100&group_policy=isolate&limit=5'.",
        ),
    ] = None
    request: Annotated[
        str | None,
        typer.Option(
            "--request",
            metavar="FILE",
            help="The whole request as JSON (a RequestSpec); - reads standard input.",
        ),
    ] = None

    def parse(self, registry: Registry) -> ParsedRequest:
        """The request. Raises `UsageError`."""
        from vacancy.clients.inspection.group_report import ParsedMembership
        from vacancy.clients.request_language.placement_syntax import RequestText, parse

        wanted = RequestText(
            resources=self.resources or (),
            required=self.required or (),
            member_of=self.member_of or (),
            in_tree=self.in_tree,
            where=self.where or (),
            groups=self.group or (),
            group_policy=self.group_policy,
            root_required=self.root_required or (),
            same_subtree=self.same_subtree or (),
            options={} if self.numa is None else {"numa": self.numa},
            query=self.query,
            document=None if self.request is None else read_text(self.request),
        )
        parsed = parse(wanted, registry)
        related = ParsedMembership(
            self.group_affinity or (),
            self.group_anti_affinity or (),
            self.soft_group_affinity or (),
            self.soft_group_anti_affinity or (),
            self.copies,
            self.copies_on,
        )
        return parsed._replace(spec=related.applied(parsed.spec))


def asks(command: Callable[..., None]) -> Callable[..., None]:
    """A command with the options of a request where its parameter `asked` stands, which gets all of them as one
    `RequestOptions`. Typer sees a function that has them one by one."""
    options = get_type_hints(RequestOptions, include_extras=True)
    parameters: dict[str, inspect.Parameter] = {}
    own = get_type_hints(command, include_extras=True)
    for name, parameter in inspect.signature(command).parameters.items():
        if name == "asked":
            shown = {
                one: parameter.replace(name=one, default=None, annotation=t) for one, t in options.items()
            }
        else:
            shown = {name: parameter.replace(annotation=own[name])}
        parameters |= shown
    keyword = inspect.Parameter.KEYWORD_ONLY

    @wraps(command)
    def run(**given: Any) -> None:
        command(asked=RequestOptions(**{name: given.pop(name) for name in options}), **given)

    signature = inspect.Signature([one.replace(kind=keyword) for one in parameters.values()])
    run.__signature__ = signature  # type: ignore[attr-defined]
    run.__annotations__ = {name: one.annotation for name, one in parameters.items()}
    return run
