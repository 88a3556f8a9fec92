"""The worker as an application of the `faust` command: `faust -A vacancy.streams.faust.entrypoint worker`.

`app` is created on first access, not on import, from the environment (`VACANCY_LOG`, `VACANCY_STORE`,
`VACANCY_WEB_PORT` and so on) or ./vacancy.toml.
"""

from __future__ import annotations

import importlib
import sys
from functools import cache
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from vacancy.resources.model.errors import LogError, UsageError, VacancyError
from vacancy.streams.files.file_modes import restrict_umask
from vacancy.streams.log import open_log
from vacancy.streams.log_url import parse_log_url
from vacancy.streams.printable import make_process_printable, printable
from vacancy.streams.settings import Settings, load_settings
from vacancy.streams.worker.projection_protocol import MakeParts
from vacancy.streams.worker.wait_for_log import LogWaiter

if TYPE_CHECKING:
    from vacancy.streams.faust.app import WorkerApp


def app_from(settings: Settings) -> WorkerApp:
    """Wait until the log answers, and make the worker. Raises UsageError, LogError, StoreError."""
    if parse_log_url(settings.log).scheme != "kafka":
        raise UsageError(
            "Faust follows Kafka logs only", where=settings.log, do="set VACANCY_LOG, or run `vacancy worker`"
        )
    from vacancy.streams.faust.app import make_app

    make_parts = load_parts(settings.parts)
    waiter = LogWaiter(settings.log, SimpleQueue())
    log = waiter.open(lambda timeout_s: open_log(settings.log, timeout_s, **settings.kafka))
    if log is None:  # not reached: nothing here requests a stop, a signal ends the process
        raise LogError("stopped while waiting for the log", where=settings.log, do="start it again")
    return make_app(log, make_parts(log, settings.store), settings.kafka, settings.web)


def load_parts(path: str) -> MakeParts:
    """Import the function named `module:name`. Raises UsageError if there is none."""
    module, _, name = path.partition(":")
    try:
        found: MakeParts = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        do = "name a function as module:name"
        raise UsageError(
            f"the function in the setting 'parts' cannot be imported: {error}", where=path, do=do
        ) from error
    return found


@cache
def _app() -> WorkerApp:
    make_process_printable()
    restrict_umask()
    try:
        return app_from(load_settings())
    except VacancyError as error:
        sys.stderr.write(f"{printable(str(error))}\n")
        raise SystemExit(error.exit_code) from None


def __getattr__(name: str) -> Any:
    if name == "app":
        return _app()
    raise AttributeError(name)
