"""`vacancy quota`: limits of projects and users."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vacancy.cli.context import CommandContext
from vacancy.cli.options import shared_options as o
from vacancy.cli.options.reading_options import ReadingOptions, with_reading_options
from vacancy.cli.output import (
    as_of_text,
    emit,
    emit_json,
    emit_table,
    emit_written,
    failure_as_json,
    note,
    position_fields,
)
from vacancy.resources.model.errors import UsageError

if TYPE_CHECKING:
    from vacancy.clients.inspection.uncounted import Uncounted
    from vacancy.clients.scheduler.quotas import Limit
    from vacancy.resources.classes.registry import Registry

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
    if default and default_users:
        raise UsageError("--default and --default-users are two defaults", do="set one after the other")
    project, limits = _parse(words or [], context.registry(), default=default or default_users)
    if not project and (user is not None or parent is not None):
        raise UsageError("a default has neither a user nor a parent", do="name a project")
    check_names(project or None, user, consumer_type)
    if not limits and parent is None:
        raise UsageError("no limit is given", do="write VCPU:100, or give --parent")
    from vacancy.clients.scheduler.quotas import Quotas
    from vacancy.resources.model.events import QuotaScope

    whose = "" if default_users else user
    wanted = [
        (QuotaScope(project=project, user=whose, consumer_type=consumer_type, unit=unit), amount)
        for unit, amount in limits.items()
    ]
    with (
        failure_as_json(as_json, project=project),
        context.open_log(timeout, to_write=True) as opened,
        context.open_reader(with_view=False) as reader,
    ):
        quotas = Quotas(opened, reader, timeout_s=timeout)
        if parent is not None:
            quotas.set_parent(project, parent)
        found = [quotas.set_limit(scope, amount) for scope, amount in wanted]
    if as_json:
        emit_written(
            {"limits": [one._asdict() for one in found], "parent": parent, "outcome": "applied"}, context
        )
        return
    if parent is not None:
        emit(f"{project} counts for {parent}" if parent else f"{project} has no parent")
    for one in found:
        emit(f"{scope_text(one)}: {one.unit} {amount_text(one.limit)}, used {one.used}")


@app.command()
@with_reading_options
def show(
    project: Annotated[str, typer.Argument(metavar="PROJECT", help="The project.")],
    reading: ReadingOptions,
    as_json: o.JsonOption = False,
) -> None:
    """Show the limits of a project and of its users, with the share and the usage of each partition."""
    check_names(project, None, None)
    found, left, as_of, position = _limits(reading.context(), project)
    if not found:
        from vacancy.clients.inspection.lookup import NotFound

        raise NotFound(
            f"project {project!r} has no limit of its own", do="see `vacancy quota list` for the defaults"
        )
    if as_json:
        emit_json({"limits": [one._asdict() for one in found], "uncounted": left.allocations, **position})
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
@with_reading_options
def list_(
    reading: ReadingOptions,
    as_json: o.JsonOption = False,
) -> None:
    """List all limits, with what is used of them."""
    found, left, as_of, position = _limits(reading.context(), None)
    if as_json:
        emit_json({"limits": [one._asdict() for one in found], "uncounted": left.allocations, **position})
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


def _limits(
    context: CommandContext, project: str | None
) -> tuple[list[Limit], Uncounted, str, dict[str, Any]]:
    from vacancy.clients.inspection.uncounted import uncounted
    from vacancy.clients.scheduler.quotas import QuotaView

    with context.open_reader(with_view=False) as reader:
        view = QuotaView(reader)
        found = view.limits(project) if view.has_quotas() else []
        return found, uncounted(reader, project), as_of_text(reader), position_fields(reader)


def check_names(project: str | None, user: str | None, consumer_type: str | None) -> None:
    """Raise `UsageError` where no consumer can have one of these; None is not looked at."""
    from vacancy.resources.model.names import check_consumer_type, check_id

    for what, name in (("project", project), ("user", user)):
        if name is not None:
            check_id(what, name)
    if consumer_type is not None:
        check_consumer_type(consumer_type)


def _parse(words: list[str], registry: Registry, *, default: bool) -> tuple[str, dict[str, int]]:
    """The project ('' for a default), and unit -> amount."""
    from vacancy.resources.model.names import check_id

    project, rest = ("", words) if default else (words[0] if words else "", words[1:])
    if not default and (not words or _is_limit(project, registry)):
        raise UsageError("no project is given", do="write `vacancy quota set PROJECT VCPU:100`, or --default")
    if not default:
        check_id("project", project)
    limits: dict[str, int] = {}
    for word in (one for text in rest for one in text.split(",")):
        unit, amount = _limit(word, registry, "; a default names no project" if default else "")
        if unit in limits:
            raise UsageError(f"the limit of {unit} is given twice", do="give each unit once")
        limits[unit] = amount
    return project, limits


def _limit(word: str, registry: Registry, hint: str = "") -> tuple[str, int]:
    """Unit and amount of `UNIT:AMOUNT`. Raises `UsageError`."""
    from vacancy.resources.model.names import AMOUNT_MAX

    unit, colon, amount = word.partition(":")
    if not colon:
        raise UsageError(f"{word!r} is not a limit", do=f"write VCPU:100{hint}")
    name, dot, more = unit.partition(".")
    resource_class = registry.check(name)
    if dot and more not in resource_class.more_units:
        known = ", ".join(resource_class.more_units) or "no other"
        raise UsageError(f"{name} has no unit {more!r}", do=f"its units besides {name}: {known}")
    if amount == _UNLIMITED:
        return unit, -1
    digits = amount.isascii() and amount.isdecimal() and len(amount) <= len(str(AMOUNT_MAX))
    if not digits or int(amount) > AMOUNT_MAX:
        raise UsageError(
            f"{word[:80]!r} is not a limit",
            do=f"write {unit}:100, at most {unit}:{AMOUNT_MAX}, or {unit}:{_UNLIMITED}",
        )
    return unit, int(amount)


def _is_limit(word: str, registry: Registry) -> bool:
    """Whether a word in the place of a project is a limit: the project was forgotten."""
    try:
        _limit(word, registry)
    except UsageError:
        return False
    return True
