"""Runs Placement's API in several processes of this host, with gunicorn, and serves their metrics."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gunicorn.app.base import BaseApplication

from vacancy.resources.model.errors import UsageError
from vacancy.streams.pages.page_server import PageServer
from vacancy.streams.settings import Settings, WebAddress

_CONNECTIONS = 4
"""Threads of a process. One request runs at a time; the others keep their connections open meanwhile."""


_METRICS_DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable that chooses the multiprocess mode of prometheus_client. It is read where that is first imported."""


class _Server(BaseApplication):  # type: ignore[misc]
    """gunicorn with the settings of `serve`. Each process opens the log and the store itself, after it was forked."""

    def __init__(self, settings: Settings, options: dict[str, Any], *, with_metrics: bool = False) -> None:
        self._settings = settings
        self._with_metrics = with_metrics
        self._options = options
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._options.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        from vacancy.placement_api.wsgi import make_application

        application = make_application(self._settings)
        if not self._with_metrics:
            return application
        from vacancy.placement_api.metrics import measured

        return measured(application)


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


def serve(
    settings: Settings,
    host: str,
    port: int,
    processes: int,
    *,
    metrics: WebAddress | None = None,
    note: Callable[[str], None] = lambda _: None,
) -> None:
    """Serves until SIGTERM or Ctrl-C, after `prepare`. `metrics`: where its metrics are served; None for nowhere.

    Raises UsageError if it cannot listen there.
    """
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
    if metrics is None:
        _Server(settings, options).run()
        return
    with _metrics_directory() as directory:
        from vacancy.placement_api.metrics import collector
        from vacancy.streams.pages.metrics import metrics_page

        server = PageServer(metrics, metrics_page(collector(directory)))
        note(f"metrics at http://{server.web_address}/metrics")
        _Server(settings, options, with_metrics=True).run()


@contextmanager
def _metrics_directory() -> Iterator[Path]:
    """A directory in which the processes count, for as long as the first one runs. Each process that is forked leaves this, too."""
    first = os.getpid()
    directory = tempfile.mkdtemp(prefix="vacancy-placement-metrics-")
    os.environ[_METRICS_DIRECTORY] = directory
    try:
        yield Path(directory)
    finally:
        if os.getpid() == first:
            shutil.rmtree(directory, ignore_errors=True)
