"""`vacancy doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vacancy.cli.context import CommandContext
from vacancy.cli.errors import DifferenceFound
from vacancy.cli.options import shared_options as o
from vacancy.cli.output import emit, emit_json
from vacancy.resources.model.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vacancy.clients.doctor.check import Check

_ABOUT_WIDTH = 12
_STATE_WIDTH = 8


def doctor(
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", min=0.0, help="How long to wait for the log.")
    ] = 10.0,
    log: o.LogOption = None,
    store: o.StoreOption = None,
    archive: o.ArchiveOption = None,
    config: o.ConfigOption = None,
    kafka: o.KafkaOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Check this host and its log, and say what to do about each problem.

    Checked are settings, file modes, disks, brokers, topic, clock, store, worker, lag, versions, digests and permissions. It
    runs beside workers and writes nothing.

    Exit codes: 0 there is no error (there may be warnings); 5 there is an error.
    """
    found = []
    for check in _checks(log, store, archive, config, kafka, timeout):
        found.append(check)
        if not as_json:
            _print(check)
    errors = sum(check.state == "error" for check in found)
    warnings = sum(check.state == "warning" for check in found)
    if as_json:
        emit_json({"checks": found, "errors": errors, "warnings": warnings})
    elif not errors:
        emit(f"no errors, {_count(warnings, 'warning')}")
    if errors:
        raise DifferenceFound(
            f"found {_count(errors, 'error')} and {_count(warnings, 'warning')}",
            do="do what the lines above say, then run `vacancy doctor` again",
        )


def _checks(
    log: str | None,
    store: Path | None,
    archive: str | None,
    config: Path | None,
    kafka: list[str] | None,
    timeout_s: float,
) -> Iterator[Check]:
    from vacancy.clients.doctor.check import failed
    from vacancy.clients.doctor.doctor import examine
    from vacancy.streams.settings import config_file

    try:
        context = CommandContext(log=log, store=store, archive=archive, config=config, kafka=kafka)
    except UsageError as error:  # of a setting: a check like the others, so that programs find it in the JSON
        yield failed("settings", error)
        return
    yield from examine(context.settings, config_file(config), timeout_s=timeout_s)


def _print(check: Check) -> None:
    """Two lines: what was found, and what to do."""
    emit(f"{check.state:<{_STATE_WIDTH}} {check.about:<{_ABOUT_WIDTH}} {check.found}")
    if check.do:
        emit(f"{'':<{_STATE_WIDTH}} {'':<{_ABOUT_WIDTH}} -> {check.do}")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"
