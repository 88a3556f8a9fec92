"""`vacancy provider …`: operator settings of providers. They survive the reports of the nodes."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from vacancy.cli.context import CommandContext
from vacancy.cli.options import shared_options as o
from vacancy.cli.output import (
    NOT_WAITED,
    attributes_text,
    emit,
    emit_written,
    failure_as_json,
    note,
    outcome_name,
    taints_text,
)
from vacancy.resources.model.errors import UsageError

if TYPE_CHECKING:
    from vacancy.clients.admin.operator import Change

app = typer.Typer(
    help="Set a provider's status, aggregates, traits, attributes, taints and overrides.",
    rich_markup_mode=None,
)

ProviderArgument = Annotated[str, typer.Argument(metavar="PROVIDER")]
ReasonOption = Annotated[str, typer.Option("--reason", help="The reason, shown to people.")]
CellOption = Annotated[
    str | None,
    typer.Option(
        "--cell",
        metavar="NAME",
        help="The provider's cell: for a provider that was not reported yet (auto: the cell that a node of this name"
        " chooses by itself), or one that is in two cells.",
    ),
]
AddOption = Annotated[list[str] | None, typer.Option("--add", metavar="NAME", help="Repeatable.")]
RemoveOption = Annotated[list[str] | None, typer.Option("--remove", metavar="NAME", help="Repeatable.")]
ReplaceOption = Annotated[
    list[str] | None,
    typer.Option("--replace-with", metavar="NAME", help="Replace all by these. Repeatable."),
]
AttributeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--attribute",
        metavar="NAME=VALUE",
        help="An attribute: a whole number, true or false, or text; a value in double quotes is text. Repeatable.",
    ),
]
UnsetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--unset-attribute",
        metavar="NAME",
        help="Use the value that its node reports again. Repeatable.",
    ),
]

_TYPED = re.compile(r'-?[0-9]+|true|false|".*"')


class _Where(NamedTuple):
    cell: str | None
    timeout: float
    no_wait: bool
    log: str | None
    store: Path | None
    config: Path | None
    kafka: list[str] | None


def _apply(provider: str, change: Change, where: _Where, as_json: bool) -> None:
    site = CommandContext(log=where.log, store=where.store, config=where.config, kafka=where.kafka)
    from vacancy.clients.admin.operator import set_operator_settings

    with (
        failure_as_json(as_json, provider=provider),
        site.open_log(where.timeout, to_write=True) as opened,
        site.open_reader() as reader,
    ):
        now = set_operator_settings(
            opened,
            reader,
            provider,
            change,
            cell=where.cell,
            timeout_s=where.timeout,
            wait=not where.no_wait,
        )
    if as_json:
        emit_written({**now._asdict(), "outcome": outcome_name(now.applied)}, site)
        return
    settings = now.facts
    parts = [settings.status + (f" ({settings.reason})" if settings.reason else "")]
    if settings.aggregates:
        parts.append(f"aggregates {' '.join(settings.aggregates)}")
    if settings.traits:
        parts.append(f"traits {' '.join(settings.traits)}")
    if settings.attributes:
        parts.append(f"attributes {attributes_text(settings.attributes)}")
    if settings.taints:
        parts.append(f"taints {taints_text([one.model_dump() for one in settings.taints])}")
    for name, values in settings.overrides.items():
        parts.append(f"{name} with {' '.join(f'{field}={value}' for field, value in values.items())}")
    unchanged = "" if now.changed else " (unchanged)"
    emit(f"{now.provider} in cell {now.cell}, revision {now.revision}{unchanged}: {', '.join(parts)}")
    if not now.applied:
        note(NOT_WAITED)


@app.command()
def disable(
    provider: ProviderArgument,
    reason: ReasonOption = "",
    cell: CellOption = None,
    timeout: o.TimeoutOption = 10.0,
    no_wait: o.NoWaitOption = False,
    log: o.LogOption = None,
    store: o.StoreOption = None,
    config: o.ConfigOption = None,
    kafka: o.KafkaOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Allow no new claims on a provider; for a node, on its whole tree. Allocations stay."""
    from vacancy.clients.admin import operator

    _apply(
        provider, operator.disable(reason), _Where(cell, timeout, no_wait, log, store, config, kafka), as_json
    )


@app.command()
def drain(
    provider: ProviderArgument,
    reason: ReasonOption = "",
    cell: CellOption = None,
    timeout: o.TimeoutOption = 10.0,
    no_wait: o.NoWaitOption = False,
    log: o.LogOption = None,
    store: o.StoreOption = None,
    config: o.ConfigOption = None,
    kafka: o.KafkaOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Allow no new claims on a provider, and mark it so that its consumers are moved away."""
    from vacancy.clients.admin import operator

    _apply(
        provider, operator.drain(reason), _Where(cell, timeout, no_wait, log, store, config, kafka), as_json
    )


@app.command()
def enable(
    provider: ProviderArgument,
    cell: CellOption = None,
    timeout: o.TimeoutOption = 10.0,
    no_wait: o.NoWaitOption = False,
    log: o.LogOption = None,
    store: o.StoreOption = None,
    config: o.ConfigOption = None,
    kafka: o.KafkaOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Allow claims on a provider again."""
    from vacancy.clients.admin import operator

    _apply(provider, operator.enable(), _Where(cell, timeout, no_wait, log, store, config, kafka), as_json)


@app.command()
def aggregate(
    provider: ProviderArgument,
    add: AddOption = None,
    remove: RemoveOption = None,
    replace_with: ReplaceOption = None,
    cell: CellOption = None,
    timeout: o.TimeoutOption = 10.0,
    no_wait: o.NoWaitOption = False,
    log: o.LogOption = None,
    store: o.StoreOption = None,
    config: o.ConfigOption = None,
    kafka: o.KafkaOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Add a provider to aggregates, and remove it from others."""
    _check_named(add, remove, replace_with)
    from vacancy.clients.admin import operator

    change = operator.aggregates(add=add or (), remove=remove or (), replace=replace_with)
    _apply(provider, change, _Where(cell, timeout, no_wait, log, store, config, kafka), as_json)


@app.command()
def trait(
    provider: ProviderArgument,
    add: AddOption = None,
    remove: RemoveOption = None,
    replace_with: ReplaceOption = None,
    cell: CellOption = None,
    timeout: o.TimeoutOption = 10.0,
    no_wait: o.NoWaitOption = False,
    log: o.LogOption = None,
    store: o.StoreOption = None,
    config: o.ConfigOption = None,
    kafka: o.KafkaOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Add traits to those that the provider's node reports, or remove added ones."""
    _check_named(add, remove, replace_with)
    from vacancy.clients.admin import operator

    change = operator.traits(add=add or (), remove=remove or (), replace=replace_with)
    _apply(provider, change, _Where(cell, timeout, no_wait, log, store, config, kafka), as_json)


@app.command(name="set")
def set_attributes(
    provider: ProviderArgument,
    attribute: AttributeOption = None,
    unset: UnsetOption = None,
    cell: CellOption = None,
    timeout: o.TimeoutOption = 10.0,
    no_wait: o.NoWaitOption = False,
    log: o.LogOption = None,
    store: o.StoreOption = None,
    config: o.ConfigOption = None,
    kafka: o.KafkaOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Set attributes, which override those that the provider's node reports, or unset them."""
    if not attribute and not unset:
        raise UsageError("no change is given", do="give --attribute or --unset-attribute")
    from vacancy.clients.admin import operator

    change = operator.attributes(add=dict(map(_attribute, attribute or ())), remove=unset or ())
    _apply(provider, change, _Where(cell, timeout, no_wait, log, store, config, kafka), as_json)


def _attribute(text: str) -> tuple[str, str | int | bool]:
    """`cores=4`, `secure_boot=true`, `cpu_model=Milan`, `row="7"`."""
    name, separator, given = text.partition("=")
    if not separator:
        raise UsageError(f"{text!r} has no value", where="--attribute", do="write NAME=VALUE")
    value: object = given
    if _TYPED.fullmatch(given):
        with suppress(ValueError):
            value = json.loads(given)
    return name, value if isinstance(value, str | int) else given


def _check_named(*lists: list[str] | None) -> None:
    if not any(lists):
        raise UsageError("no change is given", do="give --add, --remove or --replace-with")


@app.command()
def taint(
    provider: ProviderArgument,
    taints: Annotated[list[str], typer.Argument(metavar="KEY[=VALUE]…")],
    remove: Annotated[
        bool, typer.Option("--remove", help="Remove these taints; without =VALUE, whatever the value is.")
    ] = False,
    prefer: Annotated[
        bool,
        typer.Option(
            "--prefer", help="Only prefer other providers: requests that do not tolerate it come here last."
        ),
    ] = False,
    cell: CellOption = None,
    timeout: o.TimeoutOption = 10.0,
    no_wait: o.NoWaitOption = False,
    log: o.LogOption = None,
    store: o.StoreOption = None,
    config: o.ConfigOption = None,
    kafka: o.KafkaOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Repel new claims from a provider, for a node from its whole tree, unless they tolerate the taint (`--tolerate`).

    What is held stays. A taint replaces one of the same key. It needs rules version 4.
    """
    if remove and prefer:
        raise UsageError("taints are either set or removed", do="leave --prefer or --remove out")
    from vacancy.clients.admin import operator
    from vacancy.clients.request_language.toleration_syntax import parse_taint

    named = [
        parse_taint(text, "KEY[=VALUE]", effect="prefer_no_schedule" if prefer else "no_schedule")
        for text in taints
    ]
    change = operator.taints(remove=named) if remove else operator.taints(add=named)
    _apply(provider, change, _Where(cell, timeout, no_wait, log, store, config, kafka), as_json)


@app.command()
def override(
    provider: ProviderArgument,
    resource_class: Annotated[str, typer.Argument(metavar="CLASS")],
    reserved: Annotated[
        int | None, typer.Option("--reserved", min=0, help="The amount that is not available to claims.")
    ] = None,
    ratio: Annotated[
        str | None,
        typer.Option("--ratio", metavar="RATIO", help="The allocation ratio, for example 1.5."),
    ] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Remove the override.")] = False,
    cell: CellOption = None,
    timeout: o.TimeoutOption = 10.0,
    no_wait: o.NoWaitOption = False,
    log: o.LogOption = None,
    store: o.StoreOption = None,
    config: o.ConfigOption = None,
    kafka: o.KafkaOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Override what the provider's node reports of one class, until it is cleared."""
    if clear == (reserved is not None or ratio is not None):
        raise UsageError(
            "an override is either set or cleared", do="give --reserved or --ratio or both, or only --clear"
        )
    from vacancy.clients.admin import operator

    values: dict[str, int] = {}
    if reserved is not None:
        values["reserved"] = reserved
    if ratio is not None:
        values["allocation_ratio_milli"] = ratio_milli(ratio, "--ratio")
    change = operator.clear_override(resource_class) if clear else operator.override(resource_class, values)
    _apply(provider, change, _Where(cell, timeout, no_wait, log, store, config, kafka), as_json)


@app.command()
def device(
    provider: ProviderArgument,
    name: Annotated[str, typer.Argument(metavar="DEVICE")],
    disable: Annotated[bool, typer.Option("--disable", help="Grant the device to nobody.")] = False,
    enable: Annotated[bool, typer.Option("--enable", help="Offer the device again.")] = False,
    reason: ReasonOption = "",
    cell: CellOption = None,
    timeout: o.TimeoutOption = 10.0,
    no_wait: o.NoWaitOption = False,
    log: o.LogOption = None,
    store: o.StoreOption = None,
    config: o.ConfigOption = None,
    kafka: o.KafkaOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Take one device of a node or provider out of service, or bring it back. A consumer that holds it keeps it, and is named."""
    if disable == enable or (enable and reason):
        raise UsageError(
            "a device is either disabled or enabled", do="give --disable and --reason, or --enable"
        )
    context = CommandContext(log=log, store=store, config=config, kafka=kafka)
    from vacancy.clients.admin.device_exclusion import set_device_excluded

    with (
        failure_as_json(as_json, provider=provider),
        context.open_log(timeout, to_write=True) as opened,
        context.open_reader() as reader,
    ):
        found = set_device_excluded(
            opened,
            reader,
            provider,
            name,
            reason=reason if disable else None,
            cell=cell,
            timeout_s=timeout,
            wait=not no_wait,
        )
    now = found.settings
    if as_json:
        answer = {
            **now._asdict(),
            "resource_class": found.resource_class,
            "device": found.name,
            "disabled": disable,
        }
        emit_written({**answer, "holders": found.holders, "outcome": outcome_name(now.applied)}, context)
        return
    state = f"disabled{f' ({reason})' if reason else ''}" if disable else "enabled"
    held = f", held by {' '.join(found.holders)}: move them or release them" if found.holders else ""
    unchanged = "" if now.changed else " (unchanged)"
    emit(
        f"{found.resource_class} {found.name} of {now.provider} in cell {now.cell} is {state}{unchanged}{held}"
    )
    if not now.applied:
        note(NOT_WAITED)


@app.command()
def retire(
    provider: Annotated[str, typer.Argument(metavar="NODE")],
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Retire it although consumers hold something of it. They keep it until it is released.",
        ),
    ] = False,
    cell: Annotated[
        str | None, typer.Option("--cell", metavar="NAME", help="The node's cell, if it is in two cells.")
    ] = None,
    timeout: o.TimeoutOption = 10.0,
    no_wait: o.NoWaitOption = False,
    log: o.LogOption = None,
    store: o.StoreOption = None,
    config: o.ConfigOption = None,
    kafka: o.KafkaOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Retire a node that is permanently gone, from any host with a store.

    It takes no new claims and is no longer listed as a candidate. The node's publisher, if it runs, brings it back with its
    next start. A node that consumers hold something of is retired only with --force.
    """
    context = CommandContext(log=log, store=store, config=config, kafka=kafka)
    from vacancy.clients.admin import retirement

    with (
        failure_as_json(as_json, provider=provider),
        context.open_log(timeout, to_write=True) as opened,
        context.open_reader() as reader,
    ):
        found = retirement.retire(
            opened, reader, provider, cell=cell, force=force, timeout_s=timeout, wait=not no_wait
        )
    if as_json:
        emit_written({**found._asdict(), "outcome": outcome_name(found.applied)}, context)
        return
    if found.changed:
        emit(f"retired {provider} in cell {found.cell}")
    else:
        emit(f"{provider} in cell {found.cell} is retired already")
    if not found.applied:
        note(NOT_WAITED)
    if found.held:
        note(f"{retirement.held_text(found.held)}; it stays until it is released")


@app.command()
def adopt(
    node: Annotated[str, typer.Argument(metavar="NODE")],
    machine: Annotated[
        str | None,
        typer.Option(
            "--machine",
            metavar="MACHINE",
            help="The machine that is the node from now on, as `vacancy status` names it.",
            show_default="the one that the node is now",
        ),
    ] = None,
    cell: Annotated[
        str | None, typer.Option("--cell", metavar="NAME", help="The node's cell, if it is in two cells.")
    ] = None,
    timeout: o.TimeoutOption = 10.0,
    no_wait: o.NoWaitOption = False,
    log: o.LogOption = None,
    store: o.StoreOption = None,
    config: o.ConfigOption = None,
    kafka: o.KafkaOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Decide which machine a node is, where two machines use its name, or one machine has two names.

    What other machines report under the name is dropped from then on. Other nodes that were this machine take no claims until
    another machine reports them. What is held is not touched. It needs rules version 4.
    """
    context = CommandContext(log=log, store=store, config=config, kafka=kafka)
    from vacancy.clients.admin import machines

    with (
        failure_as_json(as_json, provider=node),
        context.open_log(timeout, to_write=True) as opened,
        context.open_reader() as reader,
    ):
        found = machines.adopt(opened, reader, node, machine, cell=cell, timeout_s=timeout, wait=not no_wait)
    if as_json:
        emit_written({**found._asdict(), "outcome": outcome_name(found.applied)}, context)
        return
    emit(f"node {node} in cell {found.cell} is machine {found.machine}")
    if found.waits:
        note(
            "it takes claims with this machine's next full report: restart its publisher, or wait up to 10 minutes"
        )
    for other in found.others:
        note(
            f"node {other} is no longer this machine: retire it, rename it, or publish it from another machine"
        )
    if not found.applied:
        note(NOT_WAITED)


@app.command()
def rename(
    node: Annotated[str, typer.Argument(metavar="OLD")],
    to: Annotated[str, typer.Argument(metavar="NEW")],
    provider: Annotated[
        list[str] | None,
        typer.Option(
            "--provider",
            metavar="OLD=NEW",
            help="The new name of a part of the node. Without it, parts whose names start with the node's name follow it,"
            " and the others keep theirs. Repeatable.",
        ),
    ] = None,
    cell: Annotated[
        str | None, typer.Option("--cell", metavar="NAME", help="The node's cell, if it is in two cells.")
    ] = None,
    timeout: o.TimeoutOption = 10.0,
    no_wait: o.NoWaitOption = False,
    log: o.LogOption = None,
    store: o.StoreOption = None,
    config: o.ConfigOption = None,
    kafka: o.KafkaOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Give a node another name, with all that is held of it and its operator settings.

    It is one event: everything follows, or nothing changes. The new name may be reported already, in the same cell, or not
    yet. It takes claims with its next full report. It needs rules version 4.
    """
    context = CommandContext(log=log, store=store, config=config, kafka=kafka)
    from vacancy.clients.admin import machines

    names = dict(map(_new_name, provider or ()))
    with (
        failure_as_json(as_json, provider=node),
        context.open_log(timeout, to_write=True) as opened,
        context.open_reader() as reader,
    ):
        found = machines.rename(
            opened, reader, node, to, providers=names, cell=cell, timeout_s=timeout, wait=not no_wait
        )
    if as_json:
        emit_written({**found._asdict(), "outcome": outcome_name(found.applied)}, context)
        return
    emit(
        f"node {node} in cell {found.cell} is now {to}, with what {len(found.consumers)} consumers hold of it"
    )
    note(f"it takes claims with the next full report of {to}")
    if not found.applied:
        note(NOT_WAITED)


def _new_name(text: str) -> tuple[str, str]:
    """`gpu-1:a=gpu-2:a`."""
    old, separator, new = text.partition("=")
    if not separator or not old or not new:
        raise UsageError(f"{text!r} names no new provider", where="--provider", do="write OLD=NEW")
    return old, new


def ratio_milli(text: str, where: str) -> int:
    """A ratio such as 1.5 in thousandths. Raises `UsageError` for one that is not whole in thousandths."""
    try:
        milli = Decimal(text) * 1000
    except InvalidOperation:
        milli = Decimal(0)
    if not milli.is_finite() or milli <= 0 or milli != int(milli):
        raise UsageError(
            f"{text!r} is not an allocation ratio",
            where=where,
            do="give a number above 0 with up to 3 decimals, for example 1.5",
        )
    return int(milli)
