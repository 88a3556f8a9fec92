"""`vacancy quota`: limits of projects and users."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from vacancy.cli import options as o
from vacancy.cli.context import CommandContext
from vacancy.cli.output import as_of_text, emit, emit_json, emit_table, failure_as_json, note
from vacancy.resources.model.errors import UsageError

if TYPE_CHECKING:
    from vacancy.clients.inspection.uncounted import Uncounted
    from vacancy.clients.scheduler.quotas import Limit
    from vacancy.resources.classes.registry import Registry
    from vacancy.resources.model.events import QuotaScope

app = typer.Typer(
    help="Set and show limits of what projects and users hold.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

_UNLIMITED = "unlimited"


@app.command("set")
def set_(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PROJECT] UNIT:AMOUNT…",
            help="The project, and its limits: VCPU:100 NUMA_CELL.memory_mb:65536 PGPU:unlimited.",
        ),
    ] = None,
    user: Annotated[
        str | None, typer.Option("--user", metavar="ID", help="Limit this user in the project.")
    ] = None,
    consumer_type: Annotated[
        str, typer.Option("--consumer-type", metavar="TYPE", help="Limit only consumers of this type.")
    ] = "",
    default: Annotated[
        bool, typer.Option("--default", help="Limit each project that has no limit of its own.")
    ] = False,
    default_users: Annotated[
        bool, typer.Option("--default-users", help="Limit each user that has no limit of its own.")
    ] = False,
    parent: Annotated[
        str | None,
        typer.Option("--parent", metavar="ID", help="Let the project count for this one, too; '' for none."),
    ] = None,
    timeout: o.TimeoutOption = 10.0,
    log: o.LogOption = None,
    store: o.StoreOption = None,
    config: o.ConfigOption = None,
    kafka: o.KafkaOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Set limits of a project, of a user in it, or of all that have none, over all cells of the log.

    It divides each limit over the partitions and waits until they have their shares. It may be repeated at any time: what an
    interrupted command began is finished first.

    Exit codes: 0 the limits are in force; 1 a record was refused, for example because another operator set the same limit;
    2 the limits are invalid, or the log's rules have no quotas; 6 the store did not read the events in time.
    """
    context = CommandContext(log=log, store=store, config=config, kafka=kafka)
    project, limits = _parse(words or [], context.registry(), default=default or default_users)
    if not project and (user is not None or parent is not None):
        raise UsageError("a default has neither a user nor a parent", do="name a project")
    if not limits and parent is None:
        raise UsageError("no limit is given", do="write VCPU:100, or give --parent")
    from vacancy.clients.scheduler.quotas import Quotas

    whose = "" if default_users else user
    wanted = [(checked_scope(project, whose, consumer_type, unit), amount) for unit, amount in limits.items()]
    with (
        failure_as_json(as_json, project=project),
        context.open_log(timeout) as opened,
        context.open_reader(with_view=False) as reader,
    ):
        quotas = Quotas(opened, reader, timeout_s=timeout)
        if parent is not None:
            quotas.set_parent(project, parent)
        found = [quotas.set_limit(scope, amount) for scope, amount in wanted]
    if as_json:
        emit_json({"limits": [one._asdict() for one in found], "parent": parent, "outcome": "applied"})
        return
    if parent is not None:
        emit(f"{project} counts for {parent}" if parent else f"{project} has no parent")
    for one in found:
        emit(f"{scope_text(one)}: {one.unit} {amount_text(one.limit)}, used {one.used}")


@app.command()
def show(
    project: Annotated[str, typer.Argument(metavar="PROJECT", help="The project.")],
    store: o.StoreOption = None,
    config: o.ConfigOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Show the limits of a project and of its users, with the share and the usage of each partition."""
    found, left, as_of = _limits(CommandContext(store=store, config=config), project)
    if not found:
        from vacancy.clients.inspection.lookup import NotFound

        raise NotFound(
            f"project {project!r} has no limit of its own", do="see `vacancy quota list` for the defaults"
        )
    if as_json:
        emit_json({"limits": [one._asdict() for one in found], "uncounted": left.allocations})
        return
    emit_table(
        ("SCOPE", "UNIT", "PARTITION", "USED", "SHARE"),
        (
            (scope_text(one), one.unit, share.partition, share.used, amount_text(share.share))
            for one in found
            for share in one.shares
        ),
    )
    _note(left, as_of)


@app.command("list")
def list_(
    store: o.StoreOption = None,
    config: o.ConfigOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """List all limits, with what is used of them."""
    found, left, as_of = _limits(CommandContext(store=store, config=config), None)
    if as_json:
        emit_json({"limits": [one._asdict() for one in found], "uncounted": left.allocations})
        return
    emit_limits(found)
    _note(left, as_of)


def emit_limits(limits: Iterable[Limit]) -> None:
    """Print limits as a table. What each project holds of a default is not added up."""
    emit_table(
        ("SCOPE", "UNIT", "USED", "LIMIT"),
        (
            (
                scope_text(one),
                one.unit,
                one.used if one.project else "-",
                amount_text(one.limit) + (" (default)" if one.by_default else ""),
            )
            for one in limits
        ),
    )


def scope_text(limit: Limit) -> str:
    """`project p`, `project p user u type T`, `each project`, `each user`."""
    if not limit.project:
        text = "each project" if limit.user is None else "each user"
    else:
        text = f"project {limit.project}" + ("" if limit.user is None else f" user {limit.user}")
    return f"{text} type {limit.consumer_type}" if limit.consumer_type else text


def amount_text(amount: int | None) -> str:
    """An amount, `unlimited`, or `-` where there is none."""
    return "-" if amount is None else _UNLIMITED if amount < 0 else str(amount)


def _note(left: Uncounted, as_of: str) -> None:
    if left.text:
        note(left.text)
    note(as_of)


def _limits(context: CommandContext, project: str | None) -> tuple[list[Limit], Uncounted, str]:
    from vacancy.clients.inspection.uncounted import uncounted
    from vacancy.clients.scheduler.quotas import QuotaView

    with context.open_reader(with_view=False) as reader:
        view = QuotaView(reader)
        found = view.limits(project) if view.has_quotas() else []
        return found, uncounted(reader, project), as_of_text(reader)


def checked_scope(project: str, user: str | None, consumer_type: str, unit: str) -> QuotaScope:
    """The scope of a limit. Raises `UsageError` for an invalid name."""
    from pydantic import ValidationError

    from vacancy.resources.model.events import QuotaScope

    try:
        return QuotaScope(project=project, user=user, consumer_type=consumer_type, unit=unit)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        raise UsageError(
            f"{first['input']!r} is invalid: {first['msg']}", where=str(first["loc"][0]), do="check the name"
        ) from None


def _parse(words: list[str], registry: Registry, *, default: bool) -> tuple[str, dict[str, int]]:
    """The project ('' for a default), and unit -> amount."""
    if not default and not words:
        raise UsageError("no project is given", do="write `vacancy quota set PROJECT VCPU:100`, or --default")
    project, rest = ("", words) if default else (words[0], words[1:])
    limits: dict[str, int] = {}
    for word in (one for text in rest for one in text.split(",")):
        unit, _, amount = word.partition(":")
        name, _, more = unit.partition(".")
        resource_class = registry.check(name)
        if more and more not in resource_class.more_units:
            known = ", ".join(resource_class.more_units) or "no other"
            raise UsageError(f"{name} has no unit {more!r}", do=f"its units besides {name}: {known}")
        if amount != _UNLIMITED and not amount.isdecimal():
            raise UsageError(f"{word!r} is not a limit", do=f"write {unit}:100 or {unit}:{_UNLIMITED}")
        limits[unit] = -1 if amount == _UNLIMITED else int(amount)
    return project, limits
