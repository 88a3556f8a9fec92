"""All checks of a host, in the order in which they depend on each other."""

from __future__ import annotations

import json
import platform
import urllib.request
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from vacancy.clients.doctor.check import Check, CheckState, error, failed, ok, warning
from vacancy.clients.doctor.host_checks import disk_checks, key_checks, mode_checks, settings_checks
from vacancy.clients.doctor.log_checks import CANNOT_READ, cluster_checks, content_checks, file_checks
from vacancy.clients.doctor.store_checks import (
    StoreFound,
    clock_checks,
    lag_checks,
    log_match_checks,
    open_checks,
    version_checks,
)
from vacancy.clients.publisher.outbox import outboxes_of
from vacancy.clients.runtime.bootstrap import installed_registry
from vacancy.projections.store.manifest import read_manifest
from vacancy.resources.fold.rules_versions import RULES_VERSION
from vacancy.resources.model.errors import LogError, StoreError, UsageError, VacancyError
from vacancy.streams.clocks.clock import Clock, wall_ms
from vacancy.streams.clocks.log_clock import NOTICE_MS
from vacancy.streams.log import open_log
from vacancy.streams.log_url import parse_log_url
from vacancy.streams.settings import WEB_PORT, Settings

_PAGE_S: Final = 1.0


def examine(
    settings: Settings, file: Path | None, *, timeout_s: float = 10.0, clock: Clock = wall_ms
) -> Iterator[Check]:
    """All checks of the host that has these settings, each as soon as it is known. `file` is the one that the settings are from.

    It reads beside running workers and changes nothing: no record is appended, no file of the log or of the store is
    written. Each wait for Kafka ends after about `timeout_s`.
    """
    yield from settings_checks(settings, file)
    try:
        registry = installed_registry()
    except UsageError as raised:
        yield failed("build", raised)
        return
    plugins = f", plugin classes {', '.join(registry.plugins)}" if registry.plugins else ""
    yield ok("build", f"vacancy {version('vacancy')} on Python {platform.python_version()}{plugins}")
    yield from mode_checks(settings, outboxes_of(settings.log))
    yield from key_checks(settings)
    yield from disk_checks(settings)
    found: list[Check] = []
    store = open_checks(settings.store, registry, found)
    yield from found
    readable = True
    for check in _place_checks(settings, timeout_s):
        readable = readable and not _prevents_reading(check)
        yield check
    if readable:
        yield from _log_checks(settings, store, timeout_s, clock)
    if store is not None:
        yield from clock_checks(store, clock(), NOTICE_MS)
        yield from version_checks(store, RULES_VERSION)
        yield from _page_checks(settings, store)


def _prevents_reading(check: Check) -> bool:
    if check.state is CheckState.ERROR:
        return check.about in ("log", "permissions")
    return check.found.startswith(CANNOT_READ)


def _place_checks(settings: Settings, timeout_s: float) -> Iterator[Check]:
    """Where the log is: brokers and topic, or a file."""
    place = parse_log_url(settings.log)
    if place.scheme == "sqlite":
        yield from file_checks(place)
    elif place.scheme == "kafka":
        try:
            manifest = read_manifest(settings.store)
        except StoreError:
            manifest = None
        yield from cluster_checks(place, settings.kafka, manifest.store if manifest else None, timeout_s)


def _log_checks(
    settings: Settings, store: StoreFound | None, timeout_s: float, clock: Clock
) -> Iterator[Check]:
    """What is in the log, and how far the store is behind it."""
    try:
        log = open_log(settings.log, timeout_s, **settings.log_options)
    except LogError as raised:
        yield failed("log", raised)
        return
    with log:
        yield from _guarded("log", content_checks(log, clock()))
        if store is not None:
            yield from _guarded("store", log_match_checks(store, log))
            yield from _guarded("lag", lag_checks(store, log, clock()))


def _guarded(about: str, checks: Iterator[Check]) -> Iterator[Check]:
    """These checks, up to the first error that is raised, which is one, too."""
    try:
        yield from checks
    except VacancyError as raised:
        yield failed(about, raised)


def _page_checks(settings: Settings, store: StoreFound) -> Iterator[Check]:
    """What the worker of this store says of itself, if it serves pages where these settings say."""
    if settings.web_port in ("off", 0):
        return
    address = f"http://{settings.web_host}:{settings.web_port or WEB_PORT}/status"
    status = _page(address)
    if status is None or status.get("store") != store.manifest.store:
        return
    errors = status.get("errors") or {}
    for partition, text in errors.items():
        yield error(
            "worker",
            f"partition {partition} has stopped: {text}",
            "do what the message says, and restart the worker",
        )
    if not errors and not status.get("ready"):
        yield warning("worker", f"it is catching up ({address})", "wait until it is ready")
    elif not errors:
        yield ok("worker", f"it is ready ({address})")


def _page(address: str) -> dict[str, Any] | None:
    """A page of a worker as JSON; None if nothing answers there."""
    if not address.startswith("http://"):
        return None
    try:
        with urllib.request.urlopen(address, timeout=_PAGE_S) as answer:  # noqa: S310 - http, checked above
            found = json.loads(answer.read(2**20))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
