"""Options that several commands have, each said once.

Nothing heavy is imported here or at the top of any command's module: `vacancy --help` must answer at once, so
a command imports what it needs when it runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

LogOption = Annotated[
    str | None,
    typer.Option(
        "--log",
        metavar="URL",
        help="The log: sqlite:///path/to/log.db or kafka://host:port[,host:port]/topic. [env: VACANCY_LOG]",
        show_default=False,
    ),
]
StoreOption = Annotated[
    Path | None,
    typer.Option(
        "--store",
        metavar="DIR",
        help="The directory of this host's tables. [env: VACANCY_STORE]",
        show_default=False,
    ),
]
ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="A TOML file of settings (default: ./vacancy.toml, if it is there). [env: VACANCY_CONFIG]",
        show_default=False,
    ),
]
KafkaOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="A Kafka client setting under its own name, as in security.protocol=SSL. Repeatable.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Answer in JSON.")]
CellOption = Annotated[
    str | None,
    typer.Option("--cell", metavar="NAME", help="The cell, where it is not clear.", show_default=False),
]
TimeoutOption = Annotated[
    float, typer.Option("--timeout", metavar="SECONDS", min=0.0, help="How long to wait for the outcome.")
]
OrderOption = Annotated[
    str | None,
    typer.Option(
        "--order",
        metavar="ORDER",
        help="Which places come first: random, pack (fullest first), spread, best_fit or least_fragmentation. "
        "NAME:N claims one of the best N.",
        show_default="random",
    ),
]
TypicalOption = Annotated[
    Path | None,
    typer.Option(
        "--typical",
        metavar="FILE",
        help="What is typically asked for: what least_fragmentation goes by. `vacancy typical` makes one.",
        show_default=False,
    ),
]
WeighOption = Annotated[
    list[str] | None,
    typer.Option(
        "--weigh",
        metavar="[MULTIPLIER:]EXPR",
        help="Prefer nodes by a number, as in MEMORY_MB.free or '-2:attributes.age' (docs/expressions.md). Repeatable.",
        show_default=False,
    ),
]
SeedOption = Annotated[
    int | None,
    typer.Option("--seed", min=0, help="Make random choices repeatable.", show_default=False),
]

MaxStalenessOption = Annotated[
    float | None,
    typer.Option(
        "--max-staleness",
        metavar="SECONDS",
        min=0.0,
        help="Leave out nodes that have not been heard from for so long.",
        show_default=False,
    ),
]

# What is asked for, in the words of OpenStack Placement.
ResourcesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--resources",
        metavar="CLASS:AMOUNT,…",
        help="How much of which classes, as in VCPU:4,MEMORY_MB:8192. Repeatable.",
        show_default=False,
    ),
]
RequiredOption = Annotated[
    list[str] | None,
    typer.Option(
        "--required",
        metavar="TRAIT,…",
        help="Traits: A,B must be there, !C must not; in:A,B by itself: at least one. Repeatable.",
        show_default=False,
    ),
]
MemberOfOption = Annotated[
    list[str] | None,
    typer.Option(
        "--member-of",
        metavar="AGGREGATE",
        help="Aggregates: a; in:a,b for any of them; !a or !in:a,b for none. Repeatable.",
        show_default=False,
    ),
]
InTreeOption = Annotated[
    str | None,
    typer.Option("--in-tree", metavar="PROVIDER", help="Only in this provider's tree.", show_default=False),
]
WhereOption = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        metavar="EXPR",
        help="A condition on attributes, traits and amounts, as in"
        " 'attributes.hypervisor_version >= version(\"8.2\")' (docs/expressions.md). Repeatable.",
        show_default=False,
    ),
]
GroupOption = Annotated[
    list[str] | None,
    typer.Option(
        "--group",
        metavar="GROUP",
        help="One more group, served by one provider of the tree:"
        " 'NAME=CLASS:AMOUNT,…;required=TRAIT,…;member_of=AGGREGATE;in_tree=PROVIDER;where=EXPR', of which all after the"
        " amounts may be left out. Repeatable.",
        show_default=False,
    ),
]
RootRequiredOption = Annotated[
    list[str] | None,
    typer.Option(
        "--root-required",
        metavar="TRAIT,…",
        help="Traits of the root of the tree, whoever serves the groups: A must be there, !B must not. Repeatable.",
        show_default=False,
    ),
]
SameSubtreeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--same-subtree",
        metavar="GROUP,…",
        help="Of these groups, one is served by a provider that is above those of the others, or the same."
        " Repeatable.",
        show_default=False,
    ),
]
GroupPolicyOption = Annotated[
    str | None,
    typer.Option(
        "--group-policy",
        metavar="none|isolate",
        help="Whether two groups may share a provider (none) or must not (isolate).",
        show_default="none",
    ),
]
NumaOption = Annotated[
    str | None,
    typer.Option(
        "--numa",
        metavar="TOPOLOGY",
        help="The NUMA topology of a guest, a group for each cell:"
        " 'cells=2,cpus=8,policy=dedicated,threads=isolate,memory_mb=16384,page=2M'; policy is shared, dedicated or"
        " mixed (then dedicated=N), threads prefer, isolate or require.",
        show_default=False,
    ),
]
GroupAffinityOption = Annotated[
    list[str] | None,
    typer.Option(
        "--group-affinity",
        metavar="CELL/NAME",
        help="Near to the members of this server group: on their node, or with CELL/NAME::rack- in their rack,"
        " told by aggregates that begin with rack-. Repeatable.",
        show_default=False,
    ),
]
GroupAntiAffinityOption = Annotated[
    list[str] | None,
    typer.Option(
        "--group-anti-affinity",
        metavar="CELL/NAME[:MAX[:SCOPE]]",
        help="Apart from the members of this server group: at most MAX (default: 1) on a node, or with"
        " CELL/NAME:MAX:rack- in a rack. Repeatable.",
        show_default=False,
    ),
]
SoftGroupAffinityOption = Annotated[
    list[str] | None,
    typer.Option(
        "--soft-group-affinity",
        metavar="CELL/NAME",
        help="The same as a wish: such places come first.",
        show_default=False,
    ),
]
SoftGroupAntiAffinityOption = Annotated[
    list[str] | None,
    typer.Option(
        "--soft-group-anti-affinity",
        metavar="CELL/NAME[:MAX[:SCOPE]]",
        help="The same as a wish: such places come first.",
        show_default=False,
    ),
]
CopiesOption = Annotated[
    int | None,
    typer.Option(
        "--copies",
        metavar="N",
        help="So many instances of the same shape, in one cell, all or none.",
        show_default="1",
    ),
]
CopiesOnOption = Annotated[
    str | None,
    typer.Option(
        "--copies-on",
        metavar="any|distinct",
        help="Whether copies may share a node (any) or must not (distinct).",
        show_default="any",
    ),
]
QueryOption = Annotated[
    str | None,
    typer.Option(
        "--query",
        metavar="QUERY",
        help="The whole request as a Placement query string:"
        " 'resources=VCPU:1&resources1=CUSTOM_GPU:1&required1=CUSTOM_A100&group_policy=isolate&limit=5'.",
        show_default=False,
    ),
]
RequestOption = Annotated[
    str | None,
    typer.Option(
        "--request",
        metavar="FILE",
        help="The whole request as JSON (a RequestSpec); - reads standard input.",
        show_default=False,
    ),
]
