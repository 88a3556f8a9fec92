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

from vacancy.cli.command_table import CommandGroup
from vacancy.cli.output import emit, note
from vacancy.resources.model.errors import VacancyError
from vacancy.streams.files.file_modes import restrict_umask
from vacancy.streams.printable import make_process_printable

_INTERRUPTED = 130
_LOGGING_COMMANDS = frozenset({"worker", "publish", "demo"})
"""Commands that write log lines. The others start faster because they do not load the logging library."""

# Help is plain text: rendering it with Rich takes longer than everything else that --help does.
app = typer.Typer(
    name="vacancy",
    cls=CommandGroup,
    help="Track the resources of compute nodes in one log, find nodes with free capacity, and claim it.",
    epilog="Settings: flag, then environment (VACANCY_LOG, VACANCY_STORE, VACANCY_CELL), then ./vacancy.toml."
    " Exit codes: 0 done, 1 error, 2 wrong usage, 3 no valid host, 4 claim lost, 5 verification found a"
    " difference, 6 outcome not yet known, 7 the consumer holds something already, 8 over quota.",
    invoke_without_command=True,
    add_completion=False,  # `vacancy completion` answers faster, and knows names
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


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
