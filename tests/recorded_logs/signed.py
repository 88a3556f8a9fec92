"""Logs of rules version 7: one that starts with it, and one that is raised to it from version 6 midway."""

from __future__ import annotations

from typing import Final

from tests.fuzz.events.version_7_events import Version7Events
from tests.recorded_logs.new_events import log_with_new_events
from tests.recorded_logs.recording import Recording
from tests.support.logs.events_json import LOG

NAME: Final = "version_7"
RAISED: Final = "raised_to_7"
EVENTS: Final = 1_400


def signed_rules() -> Recording:
    """Make the log that starts with version 7."""
    return _made(NAME, 7)


def raised_to_signed_rules() -> Recording:
    """Make the log that is raised midway."""
    return _made(RAISED, 6)


def _made(name: str, starts: int) -> Recording:
    # The name of the log is signed, so it is that of all logs of tests.
    return log_with_new_events(name, LOG, starts, 7, Version7Events, EVENTS)
