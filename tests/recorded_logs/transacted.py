"""Logs of rules version 6: one that starts with it, and one that is raised to it from version 5 midway."""

from __future__ import annotations

from typing import Final

from tests.fuzz.events.version_6_events import Version6Events
from tests.recorded_logs.new_events import log_with_new_events
from tests.recorded_logs.recording import Recording

NAME: Final = "version_6"
RAISED: Final = "raised_to_6"
LOG_UUIDS: Final = {NAME: "6a0c58e2d7b94f1d8c3e92a41f5b7d08", RAISED: "6e47a1d93b254c8f9d06f8c2b7e1530d"}
EVENTS: Final = 1_400


def transacted_rules() -> Recording:
    """Make the log that starts with version 6."""
    return _made(NAME, 6)


def raised_to_transacted_rules() -> Recording:
    """Make the log that is raised midway."""
    return _made(RAISED, 5)


def _made(name: str, starts: int) -> Recording:
    return log_with_new_events(name, LOG_UUIDS[name], starts, 6, Version6Events, EVENTS)
