"""The WSGI entry for uWSGI, Apache and other servers: `vacancy.placement_api.wsgi:application`.

The log, the store and the cell come from vacancy's settings (`VACANCY_LOG`, `VACANCY_STORE`, `VACANCY_CELL`, or the file
that `VACANCY_CONFIG` names), everything else from `placement.conf`.
"""

from __future__ import annotations

from vacancy.clients.runtime.bootstrap import installed_registry
from vacancy.clients.signing.key_pair import read_key
from vacancy.clients.signing.operator_log import OperatorLog
from vacancy.placement_api import DEFAULT_CELL
from vacancy.placement_api.application import Application
from vacancy.placement_api.state.backend import Backend
from vacancy.placement_api.state.log_backend import LogBackend
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.streams.log import open_log
from vacancy.streams.settings import Settings, load_settings


def open_backend(settings: Settings) -> Backend:
    """Raises LogError if there is no log, StoreError if there is no store."""
    log = open_log(settings.log, **settings.log_options)
    if settings.operator_key is not None:
        log = OperatorLog(log, read_key(settings.operator_key))
    reader = StoreReader(settings.store, installed_registry(), with_view=False)
    return LogBackend(log, reader, settings.cell or DEFAULT_CELL)


def make_application(settings: Settings) -> Application:
    """Placement's API on the log and the store that the settings name."""
    return Application(lambda: open_backend(settings))


def __getattr__(name: str) -> Application:
    if name == "application":
        return make_application(load_settings())
    raise AttributeError(name)
