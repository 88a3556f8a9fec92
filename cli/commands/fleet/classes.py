"""`vacancy classes`: the resource classes of this installation, and those that the log allows."""

from __future__ import annotations

import typer

from vacancy.cli.commands.log.rules import (
    DespiteMissingOption,
    ProposeOnlyOption,
    emit_one_step,
    emit_proposals,
    emit_unanswered,
    outcome_fields,
)
from vacancy.cli.context import CommandContext
from vacancy.cli.options import shared_options as o
from vacancy.cli.output import emit, emit_json, emit_table, emit_written, failure_as_json

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
    propose_only: ProposeOnlyOption = False,
    despite_missing: DespiteMissingOption = False,
    timeout: o.TimeoutOption = 10.0,
    log: o.LogOption = None,
    store: o.StoreOption = None,
    config: o.ConfigOption = None,
    kafka: o.KafkaOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Allow the classes of the plugins that are installed here on the log. Every worker then needs these plugins.

    The classes are proposed in the log. The worker of each store answers whether it has the plugins. They are allowed if
    at least one store has them and none lacks one. On a log of rules version 1 or 2 it is one step, without answers.

    Exit codes: 0 the log allows them, or they are proposed; 1 a store lacks one, or the event was refused; 6 no worker answered, or the store did
    not read the events in time.
    """
    context = CommandContext(log=log, store=store, config=config, kafka=kafka)
    from vacancy.clients.admin.rules import RaiseOptions, activate_classes
    from vacancy.clients.runtime.bootstrap import followers_of

    options = RaiseOptions(timeout, propose_only, despite_missing, followers_of(context.settings))
    with (
        failure_as_json(as_json),
        context.open_log(timeout, to_write=True) as opened,
        context.open_reader(with_view=False) as reader,
    ):
        found = activate_classes(opened, reader, options)
    if as_json:
        activated = found.classes if found.outcome == "activated" else ()
        emit_written({"activated": activated, "classes": found.classes, **outcome_fields(found)}, context)
    elif found.outcome == "activated":
        emit_proposals(found.proposals)
        emit(f"activated {', '.join(found.classes)}")
        emit_one_step(found)
    elif found.outcome == "unchanged":
        emit("the log allows every class that is installed here")
    else:
        emit_proposals(found.proposals)
        emit_unanswered(found)
    found.check()
