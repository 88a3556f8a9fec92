"""Stands in for `placement.tests.fixtures` when upstream's suites run: each test gets a fresh backend."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import fixtures
from oslo_config import cfg

from vacancy.placement_api.state import unit_of_work
from vacancy.placement_api.state.backend import Backend

make_backend: list[Callable[[], tuple[Backend, Callable[[], None]]]] = []
"""What makes a fresh backend, and what closes it: set by the suite that runs."""


class Database(fixtures.Fixture):
    """A fresh backend for one test class or one file of requests."""

    def __init__(self, conf_fixture: Any, set_config: bool = False) -> None:
        super().__init__()
        self._conf_fixture = conf_fixture
        if set_config:
            with contextlib.suppress(cfg.DuplicateOptError):
                conf_fixture.register_opt(cfg.StrOpt("connection"), group="placement_database")
            conf_fixture.config(connection="vacancy:", group="placement_database")

    def _setUp(self) -> None:
        backend, close = make_backend[-1]()
        unit_of_work.use_backend(backend)
        self.addCleanup(close)
        self.addCleanup(unit_of_work.use_backend, None)
