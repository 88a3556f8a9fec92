"""The worker for those who run Faust themselves: `faust -A vacancy.streams.faust.entrypoint worker`.

Built from the settings in force (`VACANCY_LOG`, `VACANCY_STORE`, `VACANCY_WEB_PORT` …, or ./vacancy.toml) when
`app` is asked for, not when this module is imported.
"""

from __future__ import annotations

import importlib
import sys
from functools import cache
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from vacancy.resources.model.errors import LogError, UsageError, VacancyError
from vacancy.streams.log import open_log
from vacancy.streams.log_url import parse_log_url
from vacancy.streams.projection_protocol import MakeParts
from vacancy.streams.settings import Settings, load_settings
from vacancy.streams.wait_for_log import LogWaiter

if TYPE_CHECKING:
    from vacancy.streams.faust.app import WorkerApp


def app_from(settings: Settings) -> WorkerApp:
    """The worker that these settings describe, once the log answers. Raises UsageError, LogError, StoreError."""
    if parse_log_url(settings.log).scheme != "kafka":
        raise UsageError(
            "Faust follows Kafka logs only", where=settings.log, do="set VACANCY_LOG, or run `vacancy worker`"
        )
    from vacancy.streams.faust.app import make_app

    make_parts = load_parts(settings.parts)
    patience = LogWaiter(settings.log, SimpleQueue())
    log = patience.open(lambda timeout_s: open_log(settings.log, timeout_s, **settings.kafka))
    if log is None:  # nobody says so here: a signal ends the process
        raise LogError("told to stop", where=settings.log, do="start it again")
    return make_app(log, make_parts(log, settings.store), settings.kafka, settings.web)


def load_parts(path: str) -> MakeParts:
    """The function named `module:name`. Raises UsageError if there is none."""
    module, _, name = path.partition(":")
    try:
        found: MakeParts = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        do = "name a function as module:name"
        raise UsageError(f"The setting 'parts' names nothing: {error}", where=path, do=do) from error
    return found


@cache
def _app() -> WorkerApp:
    try:
        return app_from(load_settings())
    except VacancyError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(error.exit_code) from None


def __getattr__(name: str) -> Any:
    if name == "app":
        return _app()
    raise AttributeError(name)
