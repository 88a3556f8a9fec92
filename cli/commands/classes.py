"""`vacancy classes`: the resource classes of this installation, and those that the log allows."""

from __future__ import annotations

import typer

from vacancy.cli import options as o
from vacancy.cli.context import CommandContext
from vacancy.cli.output import emit, emit_json, emit_table

app = typer.Typer(
    help="List the resource classes, or allow those of plugins on the log.",
    invoke_without_command=True,
    rich_markup_mode=None,
)


@app.callback()
def list_classes(context: typer.Context, as_json: o.JsonOption = False) -> None:
    """List the resource classes that can be requested, or allow those of plugins on the log.

    Any other CUSTOM_* name is a counted class; it needs no registration.
    """
    if context.invoked_subcommand is not None:
        return
    from vacancy.clients.runtime.bootstrap import installed_registry
    from vacancy.resources.fold.rules_versions import RULES_VERSION

    registry = installed_registry()
    found = [
        {
            "name": name,
            "kind": "plugin" if name in registry.plugins else "standard",
            "columns": list(registry.table(name).resource_class.columns),
        }
        for name in registry.names
    ]
    if as_json:
        emit_json({"rules_version": RULES_VERSION, "classes": found})
        return
    emit_table(
        ("CLASS", "KIND", "COLUMNS"),
        ((one["name"], one["kind"], " ".join(one["columns"])) for one in found),
    )


@app.command()
def activate(
    timeout: o.TimeoutOption = 10.0,
    log: o.LogOption = None,
    store: o.StoreOption = None,
    config: o.ConfigOption = None,
    kafka: o.KafkaOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Allow the classes of the plugins that are installed here on the log. Every worker then needs these plugins."""
    context = CommandContext(log=log, store=store, config=config, kafka=kafka)
    from vacancy.clients.admin.rules import activate_classes

    with context.open_log(timeout) as opened, context.open_reader() as reader:
        new = activate_classes(opened, reader, timeout_s=timeout)
    if as_json:
        emit_json({"activated": list(new)})
    else:
        emit(f"activated {', '.join(new)}" if new else "the log allows every class that is installed here")
