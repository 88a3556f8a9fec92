"""Logs of rules version 5: one that starts with it, and one that is raised to it from version 4 midway."""

from __future__ import annotations

from typing import Final

from tests.fuzz.events.version_5_events import Version5Events
from tests.recorded_logs.new_events import log_with_new_events
from tests.recorded_logs.recording import Recording

NAME: Final = "version_5"
RAISED: Final = "raised_to_5"
LOG_UUIDS: Final = {NAME: "5b1fd2c09a6e4c3bb1a84d7f60e2c915", RAISED: "5c83e6f1742d4d0c9e5ab03f18d7642a"}
EVENTS: Final = 1_000


def stated_rules() -> Recording:
    """Make the log that starts with version 5."""
    return _made(NAME, 5)


def raised_to_stated_rules() -> Recording:
    """Make the log that is raised midway."""
    return _made(RAISED, 4)


def _made(name: str, starts: int) -> Recording:
    return log_with_new_events(name, LOG_UUIDS[name], starts, 5, Version5Events, EVENTS)
