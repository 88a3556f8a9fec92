"""The `vacancy` command: its subcommands and its exit codes.

0 done, 1 error, 2 wrong usage, 3 no valid host, 4 claim lost, 5 a verification found a difference, 6 outcome
not yet known, 7 the consumer holds something already, 130 interrupted. An expected error is one line on standard error; a traceback is a bug.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import cache
from typing import Annotated

import typer

from vacancy.cli.commands import (
    bisect,
    candidates,
    classes,
    dead_letters,
    demo,
    diff,
    history,
    log,
    move,
    place,
    provider,
    publish,
    quota,
    replay,
    rules,
    settle,
    show,
    snapshot,
    status,
    topics,
    typical,
    usage,
    verify,
    why_not,
    worker,
)
from vacancy.cli.output import emit, note
from vacancy.resources.model.errors import VacancyError
from vacancy.streams.file_modes import restrict_umask
from vacancy.streams.printable import make_process_printable

_INTERRUPTED = 130
_LOGGING_COMMANDS = frozenset({"worker", "publish", "demo"})
"""Commands that write log lines. The others start faster because they do not load the logging library."""

# Help is plain text: rendering it with Rich takes longer than everything else that --help does.
app = typer.Typer(
    name="vacancy",
    help="Track the resources of compute nodes in one log, find nodes with free capacity, and claim it.",
    epilog="Settings: flag, then environment (VACANCY_LOG, VACANCY_STORE, VACANCY_CELL), then ./vacancy.toml."
    " Exit codes: 0 done, 1 error, 2 wrong usage, 3 no valid host, 4 claim lost, 5 verification found a"
    " difference, 6 outcome not yet known, 7 the consumer holds something already, 8 over quota.",
    invoke_without_command=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

app.command(name="demo", short_help="Run the whole system on this host.")(demo.demo)
app.command(name="worker", short_help="Fold the log into this host's store.")(worker.worker)
app.command(name="publish", short_help="Publish this host's inventory to the log.")(publish.publish)
app.command(name="candidates", short_help="List nodes that can serve a request.")(candidates.candidates)
app.command(name="why-not", short_help="Explain why a node cannot serve a request.")(why_not.why_not)
app.command(name="place", short_help="Find a node for a request and claim it.")(place.place)
app.command(name="move", short_help="Move a consumer to another node.")(move.move)
app.command(name="resize", short_help="Change how much a consumer holds.")(move.resize)
app.command(name="evacuate", short_help="Move all consumers off a node.")(move.evacuate)
app.command(name="update", short_help="Change a consumer's project, user or type.")(move.update)
app.command(name="settle", short_help="Get a claim's outcome; resume moves.")(settle.settle)
app.command(name="confirm", short_help="Make temporary allocations permanent.")(place.confirm)
app.command(name="typical", short_help="Make the typical workload for --typical.")(typical.typical)
app.command(name="release", short_help="Release all allocations of consumers.")(place.release)
app.add_typer(show.app, name="show", short_help="Show nodes, one provider, consumer, claim.")
app.command(name="usage", short_help="Show the allocated amount of each class.")(usage.usage)
app.command(name="status", short_help="Show position, lag and size of the store.")(status.status)
app.add_typer(provider.app, name="provider", short_help="Disable, drain, enable; aggregates, traits.")
app.command(name="replay", short_help="Fold the log into a store, then exit.")(replay.replay)
app.command(name="verify", short_help="Compare a store with the log; audit both.")(verify.verify)
app.command(name="digest", short_help="Print one hash of the store's content.")(replay.digest)
app.command(name="bisect", short_help="Find the record that changed an answer.")(bisect.bisect)
app.add_typer(snapshot.app, name="snapshot", short_help="Make, check and restore snapshots.")
app.command(name="dead-letters", short_help="Show the rejected records of the log.")(
    dead_letters.dead_letters
)
app.add_typer(log.app, name="log", short_help="Show the records of the log; archives.")
app.command(
    name="diff", short_help="Show what differs between two points in time.", context_settings=diff.SETTINGS
)(diff.diff)
app.command(name="history", short_help="Show all that happened to one thing.")(history.history)
app.add_typer(topics.app, name="topics", short_help="Create a log, or check one.")
app.add_typer(rules.app, name="rules", short_help="Show or raise the rules of the log.")
app.add_typer(quota.app, name="quota", short_help="Set and show limits of projects and users.")
app.add_typer(classes.app, name="classes", short_help="List or activate resource classes.")


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        emit(f"vacancy {version('vacancy')}")
        raise typer.Exit


@app.callback()
def _start(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit."),
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log progress to standard error.")] = False,
) -> None:
    del version
    if context.invoked_subcommand is None:
        for line in context.get_help().splitlines():
            emit(line)
        raise typer.Exit
    if verbose or context.invoked_subcommand in _LOGGING_COMMANDS:
        from vacancy.clients.runtime.logging import configure_logs

        configure_logs(verbose=verbose)


@cache
def _command() -> Callable[..., object]:
    # It takes 0.1 s: a program that runs several command lines makes it once.
    return typer.main.get_command(app)


def main() -> int:
    """Run the command line; returns its exit code."""
    make_process_printable()
    restrict_umask()
    try:
        code = _command()(standalone_mode=False)
        return code if isinstance(code, int) else 0
    except VacancyError as error:
        note(str(error))
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return _INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        # Some supported versions of Typer have no public name for the argument parser's errors.
        format_message = getattr(error, "format_message", None)
        code = getattr(error, "exit_code", None)
        if format_message is None or not isinstance(code, int):
            raise
        command = getattr(getattr(error, "ctx", None), "command_path", "vacancy")
        option = getattr(error, "option_name", "--")
        do = "" if option.startswith("--") else "write names that start with - last, after --, or "
        note(f"{' '.join(format_message().split()).rstrip('.')}; {do}see `{command} --help`")
        return code
