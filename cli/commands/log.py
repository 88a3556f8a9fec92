"""`vacancy log`: the records of the log, and its archives."""

from __future__ import annotations

import typer

from vacancy.cli.commands import log_archive

app = typer.Typer(help="Export the log to an archive, or make a log of one.", rich_markup_mode=None)

app.command(name="export")(log_archive.export)
