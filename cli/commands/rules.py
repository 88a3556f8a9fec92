"""`vacancy rules`: the version of the rules that the log follows, and how to raise it."""

from __future__ import annotations

from typing import Annotated

import typer

from vacancy.cli import options as o
from vacancy.cli.context import CommandContext
from vacancy.cli.output import emit, emit_json, emit_table

app = typer.Typer(
    help="Show the rules of the log, or raise their version.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command()
def show(
    store: o.StoreOption = None,
    config: o.ConfigOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Show, for each partition, the version in force and the plugin classes allowed; and what this build supports."""
    context = CommandContext(store=store, config=config)
    from vacancy.clients.admin.rules import show_rules

    with context.open_reader(with_view=False) as reader:
        found = show_rules(reader)
    if as_json:
        emit_json(found)
        return
    emit_table(
        ("PARTITION", "POSITION", "VERSION", "PLUGIN CLASSES"),
        ((one.partition, one.position, one.version, " ".join(one.classes)) for one in found.partitions),
    )
    if found.unread:
        emit(f"not read yet: partitions {', '.join(map(str, found.unread))}")
    for one in found.supported:
        emit(f"this build supports version {one.version}: {one.summary}")


@app.command()
def activate(
    version: Annotated[int, typer.Argument(min=1, help="The version that the log shall follow.")],
    timeout: o.TimeoutOption = 10.0,
    log: o.LogOption = None,
    store: o.StoreOption = None,
    config: o.ConfigOption = None,
    kafka: o.KafkaOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Raise every partition of the log to a version of the rules, and wait until this host's store follows it.

    A build that does not support the version stops at this event: upgrade all hosts first. Rules are never lowered.

    Exit codes: 0 all partitions follow the version; 2 this build does not support it, or a partition follows a higher
    one; 6 the store did not read the event in time.
    """
    context = CommandContext(log=log, store=store, config=config, kafka=kafka)
    from vacancy.clients.admin.rules import activate_rules

    with context.open_log(timeout) as opened, context.open_reader(with_view=False) as reader:
        raised = activate_rules(opened, reader, version, timeout_s=timeout)
    if as_json:
        emit_json({"version": version, "raised": list(raised)})
    elif raised:
        emit(f"partitions {', '.join(map(str, raised))} follow rules version {version} now")
    else:
        emit(f"every partition follows rules version {version} already")
