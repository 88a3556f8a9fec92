"""The command: its groups, and how it ends.

0 done, 1 error, 2 wrong usage, 3 no valid host, 4 claim lost, 5 a verification found a difference, 6 outcome
not yet known, 130 interrupted. An error that can be expected is one line on standard error; a traceback is a bug.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from vacancy.cli import (
    candidates,
    classes,
    dead_letters,
    demo,
    place,
    provider,
    publish,
    replay,
    settle,
    show,
    status,
    topics,
    typical,
    usage,
    verify,
    why_not,
    worker,
)
from vacancy.cli.output import note
from vacancy.resources.model.errors import VacancyError

_INTERRUPTED = 130
_TALKATIVE = frozenset({"worker", "publish", "demo"})
"""Commands that have something to log. The others are spared the loading of what logs."""

# Help is plain text: drawing it with Rich takes longer than everything else that --help does.
app = typer.Typer(
    name="vacancy",
    help="What compute nodes have, who holds it, and where there is room: one log, and tables folded from it.",
    epilog="Settings: flag, then environment (VACANCY_LOG, VACANCY_STORE, VACANCY_CELL), then ./vacancy.toml."
    " Exit codes: 0 done, 1 error, 2 wrong usage, 3 no valid host, 4 claim lost, 5 verification found a"
    " difference, 6 outcome not yet known.",
    invoke_without_command=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

app.command(name="demo", short_help="See the whole loop on this host.")(demo.demo)
app.command(name="worker", short_help="Fold the log into this host's store.")(worker.worker)
app.command(name="publish", short_help="Tell the log what this host has.")(publish.publish)
app.command(name="candidates", short_help="Find places for a request.")(candidates.candidates)
app.command(name="why-not", short_help="Why a node is no place for a request.")(why_not.why_not)
app.command(name="place", short_help="Find a place for a request and take it.")(place.place)
app.command(name="settle", short_help="Find out how a claim of unknown outcome ended.")(settle.settle)
app.command(name="confirm", short_help="Keep what is held for a while only.")(place.confirm)
app.command(name="typical", short_help="Learn what is typically asked for.")(typical.typical)
app.command(name="release", short_help="Give back what consumers hold.")(place.release)
app.add_typer(show.app, name="show", short_help="Show one thing, or all nodes.")
app.command(name="usage", short_help="How much is held of each class.")(usage.usage)
app.command(name="status", short_help="How this host's store is.")(status.status)
app.add_typer(provider.app, name="provider", short_help="Disable, drain, enable; aggregates, traits.")
app.command(name="replay", short_help="Fold the log into a store, and end.")(replay.replay)
app.command(name="verify", short_help="Check a store against the log; audit both.")(verify.verify)
app.command(name="digest", short_help="One hash over all that a store says.")(replay.digest)
app.command(name="dead-letters", short_help="Show the records that were refused.")(dead_letters.dead_letters)
app.add_typer(topics.app, name="topics", short_help="Make a log, or check one.")
app.add_typer(classes.app, name="classes", short_help="List or activate resource classes.")


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        sys.stdout.write(f"vacancy {version('vacancy')}\n")
        raise typer.Exit


@app.callback()
def _start(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit."),
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Say on standard error what happens, as it happens.")
    ] = False,
) -> None:
    del version
    if context.invoked_subcommand is None:
        sys.stdout.write(context.get_help() + "\n")
        raise typer.Exit
    if verbose or context.invoked_subcommand in _TALKATIVE:
        from vacancy.clients.runtime.logging import configure_logs

        configure_logs(verbose=verbose)


def main() -> int:
    """Run the command line; returns its exit code."""
    try:
        code = app(standalone_mode=False)
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
        # What the argument parser raises has no public name in every Typer that is supported.
        told = getattr(error, "format_message", None)
        code = getattr(error, "exit_code", None)
        if told is None or not isinstance(code, int):
            raise
        command = getattr(getattr(error, "ctx", None), "command_path", "vacancy")
        note(f"{' '.join(told().split()).rstrip('.')}; see `{command} --help`")
        return code
