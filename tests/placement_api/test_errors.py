"""Which errors of the log and the tables are a fault of the request (400), and which of the service (503)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vacancy.clients.runtime.folded_log import RecordRefused
from vacancy.placement_api.state.backend import BackendUnavailable, InvalidTransaction
from vacancy.placement_api.state.log_backend import translate_error
from vacancy.resources.model.errors import (
    Halt,
    LogError,
    LogUnavailable,
    OldRules,
    OutcomeUnknown,
    RecordTooLarge,
    StoreError,
    UsageError,
    VacancyError,
)
from vacancy.streams.log import AppendedAt


@pytest.mark.parametrize(
    ("error", "known"),
    [
        (LogUnavailable("the broker is down"), True),
        (OldRules("transactions need version 6"), True),
        (LogError("Kafka does not allow this"), False),
        (OutcomeUnknown("not known yet"), False),
        (StoreError("the store is away"), False),
        (Halt("the rules are newer"), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_the_service_cannot_do_now_is_503(error: VacancyError, known: bool) -> None:
    found = translate_error(error)
    assert isinstance(found, BackendUnavailable)
    assert (str(found), found.outcome_known) == (str(error), known)


@pytest.mark.parametrize(
    "error",
    [
        UsageError("the transaction is invalid"),
        RecordTooLarge("a record is too large"),
        RecordRefused("transaction 1", "record_full", AppendedAt(0, 1, 2)),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_no_retry_helps_is_400(error: VacancyError) -> None:
    assert isinstance(translate_error(error), InvalidTransaction)


_TWICE = """
import json
from vacancy.placement_api.application import Application
from vacancy.resources.model.errors import LogError

def open_backend():
    raise LogError("there is no log", where="sqlite:///log.db")

application = Application(open_backend)
for _ in range(2):
    environ = {"REQUEST_METHOD": "GET", "HTTP_ACCEPT": "application/json"}
    body = b"".join(application(environ, lambda status, headers: print("answer:", status)))
    print("answer:", *json.loads(body)["errors"][0]["detail"].split())
"""


def test_a_log_that_cannot_be_opened_is_503_at_each_request(tmp_path: Path) -> None:
    """In a process of its own: Placement must not be imported in that of the tests."""
    (tmp_path / "placement.conf").touch()
    environment = {**os.environ, "OS_PLACEMENT_CONFIG_DIR": str(tmp_path)}
    command = [sys.executable, "-c", _TWICE]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    answers = [line[8:] for line in done.stdout.splitlines() if line.startswith("answer: ")]
    again = "The server is currently unavailable. Please try again at a later time. "
    expected = ["503 Service Unavailable", f"{again}there is no log (sqlite:///log.db); nothing was written"]
    assert answers == expected * 2, done.stderr
