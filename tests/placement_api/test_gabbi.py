"""Upstream's functional HTTP suite, from the installed wheel, on a log in SQLite.

The control on real Placement and the run on Kafka are in `make explore`: `VACANCY_PLACEMENT_BACKENDS=placement,kafka`.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

BACKENDS = os.environ.get("VACANCY_PLACEMENT_BACKENDS", "sqlite").split(",")


@pytest.mark.parametrize("backend", BACKENDS)
def test_all_of_upstreams_requests_are_answered_as_upstream_answers_them(
    backend: str, request: pytest.FixtureRequest
) -> None:
    environment = dict(os.environ)
    if backend == "kafka":
        environment["VACANCY_TEST_KAFKA"] = request.getfixturevalue("kafka")
    command = [sys.executable, "-m", "tests.placement_api.suites.run_suite", backend]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    last = done.stdout.splitlines()[-1]
    sys.stdout.write(f"{backend}: {last.replace('passed', 'gabbi')}\n")
    assert (last, done.returncode) == ("passed: 1316 of 1316", 0), done.stderr[-5_000:]
