"""Placement's WSGI application on a backend: what a request passes before and after Placement's own middlewares."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

from vacancy.placement_api import substitution

substitution.install()

from oslo_config import cfg  # noqa: E402 - after the substitution, as everything of Placement
from placement import wsgi as placement_wsgi  # noqa: E402
from placement.conf import api as api_conf  # noqa: E402
from placement.conf import database as database_conf  # noqa: E402

from vacancy.placement_api.state import unit_of_work  # noqa: E402
from vacancy.placement_api.state.backend import Backend  # noqa: E402
from vacancy.resources.model.errors import VacancyError  # noqa: E402

POSITION_HEADER = "Vacancy-Position"
"""The answer's header that says how far the log was read: `partition:next offset`, joined by commas."""

Environ = dict[str, Any]
StartResponse = Callable[..., Any]


class Application:
    """Placement's API. `open_backend` is called at the first request, in the thread that serves it.

    One request runs at a time; a server uses several processes.
    """

    def __init__(self, open_backend: Callable[[], Backend]) -> None:
        self._open_backend = open_backend
        self._backend: Backend | None = None
        self._lock = threading.Lock()
        self._placement = _placement_application()

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        with self._lock:
            backend = self._backend
            if backend is None:
                try:
                    backend = self._open_backend()
                except VacancyError as error:  # the next request tries again
                    away = unit_of_work.unavailable(f"{error}; nothing was written")
                    answer: Iterable[bytes] = away(environ, start_response)
                    return answer
                self._backend = backend
                unit_of_work.use_backend(backend)

            def start(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
                return start_response(status, [*headers, (POSITION_HEADER, backend.position())], *more)

            return list(self._placement(environ, start))


def _placement_application() -> Callable[[Environ, StartResponse], Iterable[bytes]]:
    """As `placement.conf` says, found as Placement finds it. Without a word there, there is no authentication."""
    cfg.set_defaults(api_conf.api_opts, auth_strategy="noauth2")
    cfg.set_defaults(
        database_conf.placement_db_opts, connection="vacancy:"
    )  # Placement demands one and nobody reads it
    application: Callable[[Environ, StartResponse], Iterable[bytes]] = placement_wsgi.init_application()
    return application
