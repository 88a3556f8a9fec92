"""The subcommands of `vacancy`, each imported when it is asked for.

A command line needs one of them, and to import all would take longer than most commands do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import Any, Final

import typer
from typer.core import TyperGroup

from vacancy.cli import examples

COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    "demo": ("demo.demo", "Run the whole system on this host."),
    "worker": ("store.worker.worker", "Fold the log into this host's store."),
    "publish": ("fleet.publish.publish", "Publish this host's inventory to the log."),
    "candidates": ("scheduling.candidates.candidates", "List nodes that can serve a request."),
    "why-not": ("scheduling.why_not.why_not", "Explain why a node cannot serve a request."),
    "place": ("scheduling.place.place", "Find a node for a request and claim it."),
    "move": ("scheduling.move.move", "Move a consumer to another node."),
    "resize": ("scheduling.move.resize", "Change how much a consumer holds."),
    "evacuate": ("scheduling.move.evacuate", "Move all consumers off a node."),
    "update": ("scheduling.move.update", "Change a consumer's project, user or type."),
    "settle": ("scheduling.settle.settle", "Get a claim's outcome; resume moves."),
    "confirm": ("scheduling.place.confirm", "Make temporary allocations permanent."),
    "typical": ("scheduling.typical.typical", "Make the typical workload for --typical."),
    "release": ("scheduling.place.release", "Release all allocations of consumers."),
    "show": ("fleet.show.app", "Show nodes, one provider, consumer, claim."),
    "usage": ("fleet.usage.usage", "Show the allocated amount of each class."),
    "doctor": ("doctor.doctor", "Check settings, log, store, permissions."),
    "status": ("store.status.status", "Show position, lag and size of the store."),
    "metrics": ("services.metrics.metrics", "Show or serve metrics of the fleet."),
    "provider": ("fleet.provider.app", "Disable, drain, enable; aggregates, traits."),
    "replay": ("store.replay.replay", "Fold the log into a store, then exit."),
    "verify": ("store.verify.verify", "Compare a store with the log; audit both."),
    "audit": ("fleet.audit.audit", "Compare what is held with what runs."),
    "digest": ("store.replay.digest", "Print one hash of the store's content."),
    "bisect": ("log.bisect.bisect", "Find the record that changed an answer."),
    "snapshot": ("store.snapshot.app", "Make, check and restore snapshots."),
    "dead-letters": ("log.dead_letters.dead_letters", "Show the rejected records of the log."),
    "log": ("log.log.app", "Show the records of the log; archives."),
    "diff": ("log.diff.diff", "Show what differs between two points in time."),
    "history": ("log.history.history", "Show all that happened to one thing."),
    "topics": ("log.topics.app", "Create a log, or check one."),
    "signing": ("fleet.signing.app", "Make keys; say which nodes must sign."),
    "rules": ("log.rules.app", "Show or raise the rules of the log."),
    "quota": ("fleet.quota.app", "Set and show limits of projects and users."),
    "completion": ("completion.completion", "Print the completion script of a shell."),
    "classes": ("fleet.classes.app", "List or activate resource classes."),
    "ui": ("services.ui.ui", "Serve pages that show the fleet to people."),
    "placement": ("services.placement.app", "Serve OpenStack Placement's API."),
}
"""Name -> the function, or the group `app`, in a module of `vacancy.cli.commands`; and its line in the help."""


class CommandGroup(TyperGroup):
    """The group `vacancy`, with all commands of the table."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = _Commands()  # type: ignore[assignment]


class _Commands(Mapping[str, Any]):
    """Name -> the command of Typer."""

    def __getitem__(self, name: str) -> Any:
        return _command(name)

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


@cache
def _command(name: str) -> Any:
    """Raises `KeyError` where there is none of that name."""
    place, short_help = COMMANDS[name]
    module_name, _, attribute = place.rpartition(".")
    module = import_module(f"vacancy.cli.commands.{module_name}")
    found = getattr(module, attribute)
    only = typer.Typer(rich_markup_mode=None)
    if isinstance(found, typer.Typer):
        only.add_typer(found, name=name, short_help=short_help)
    else:
        settings = getattr(module, "SETTINGS", None)
        only.command(name=name, short_help=short_help, context_settings=settings)(found)
    command = typer.main.get_group(only).commands[name]
    _add_examples(command, name)
    return command


def _add_examples(command: Any, path: str) -> None:
    """Put the examples of a command, and of those below it, at the end of their help."""
    command.epilog = examples.help_text(path) or command.epilog
    for name, one in getattr(command, "commands", {}).items():
        _add_examples(one, f"{path} {name}")
