"""Runs Placement's API in several processes of this host, with gunicorn."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from gunicorn.app.base import BaseApplication

from vacancy.resources.model.errors import UsageError
from vacancy.streams.settings import Settings

_CONNECTIONS = 4
"""Threads of a process. One request runs at a time; the others keep their connections open meanwhile."""


class _Server(BaseApplication):  # type: ignore[misc]
    """gunicorn with the settings of `serve`. Each process opens the log and the store itself, after it was forked."""

    def __init__(self, settings: Settings, options: dict[str, Any]) -> None:
        self._settings = settings
        self._options = options
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._options.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        from vacancy.placement_api.wsgi import make_application

        return make_application(self._settings)


def prepare(placement_config: Path | None) -> None:
    """Checks what `serve` needs. `placement_config`: the directory of `placement.conf`.

    Raises UsageError if Placement is not installed in the release that this build needs, or the file does not exist.
    """
    from vacancy.placement_api import substitution

    substitution.check_release()
    if placement_config is not None:
        if not (placement_config / "placement.conf").is_file():
            raise UsageError(
                "there is no placement.conf", where=str(placement_config), do="name the directory that has it"
            )
        os.environ["OS_PLACEMENT_CONFIG_DIR"] = str(placement_config)


def serve(settings: Settings, host: str, port: int, processes: int) -> None:
    """Serves until SIGTERM or Ctrl-C, after `prepare`."""
    options = {
        "bind": f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
        "workers": processes,
        "worker_class": "gthread",
        "threads": _CONNECTIONS,
        "proc_name": "vacancy-placement",
        "keepalive": 60,
        "loglevel": "warning",
        "control_socket_disable": True,
        # Loaded once, in the first process: half the memory, and a start that takes a third of the time.
        "preload_app": True,
    }
    _Server(settings, options).run()
