"""The functional tests of Placement's clients, as they are on PyPI, against Placement's API on a log in SQLite.

`python -m tests.placement_api.suites.client_suites` prints a line `SUITE: N of M` for each, and ends with 1 if a test did not pass. The
packages need many others, so they get a virtual environment of their own beside this one: `clients` in the directory of this one,
or what `--environment` names.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

PROJECT = Path(__file__).parents[3]


@dataclass(frozen=True, slots=True)
class Suite:
    """Tests of a client. `name`: as it is printed. `tests`: a module or package. `count`: how many there must be."""

    name: str
    tests: str
    count: int


SUITES = (
    Suite("osc-placement", "osc_placement.tests.functional", 160),
    Suite("nova report client", "nova.tests.functional.test_report_client", 18),
)
PACKAGES = (
    *("nova==34.0.0", "osc-placement==4.9.1", "python-openstackclient==10.5.0"),
    # What the tests import besides.
    *("ddt==1.7.2", "fixtures==4.3.2", "oslotest==6.1.1", "testresources==2.1.2", "testscenarios==0.7.0"),
    "wsgi-intercept==1.13.1",
)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="client_suites", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--environment",
        type=Path,
        default=Path(sys.prefix) / "clients",
        help="the virtual environment to use",
    )
    programs = make_environment(parser.parse_args(arguments).environment)
    found = [run(suite, programs) for suite in SUITES]
    return 0 if all(found) else 1


def make_environment(directory: Path) -> Path:
    """Where the programs of the environment are. It is made if it is not there; this project is built and installed again each time."""
    programs = directory / "bin"
    if not programs.is_dir():
        venv.create(directory, with_pip=True)
    install = [str(programs / "python"), "-m", "pip", "install", "--quiet"]
    with TemporaryDirectory(prefix="vacancy-clients-") as built:
        build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", built, str(PROJECT)]
        done = subprocess.run(build, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stdout + done.stderr)
        (wheel,) = Path(built).glob("*.whl")
        subprocess.run([*install, f"{wheel}[placement]", *PACKAGES], check=True)
        subprocess.run([*install, "--force-reinstall", "--no-deps", str(wheel)], check=True)
    return programs


def run(suite: Suite, programs: Path) -> bool:
    """Prints how many tests pass, and shows why the others do not."""
    # One of the tests starts `openstack`, and nova's would have eventlet replace modules that are loaded already.
    environment = {
        **os.environ,
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "OS_NOVA_DISABLE_EVENTLET_PATCHING": "true",
    }
    command = [str(programs / "python"), "-m", "tests.placement_api.suites.run_suite", "sqlite", suite.tests]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=PROJECT, env=environment)
    last = re.search(r"^passed: (\d+) of (\d+)$", done.stdout, re.M)
    passed = int(last[1]) if last else 0
    good = done.returncode == 0 and passed == suite.count
    if not good:
        sys.stdout.write(done.stdout + done.stderr[-20_000:])
    sys.stdout.write(f"{suite.name}: {passed} of {suite.count}\n")
    return good


if __name__ == "__main__":
    sys.exit(main())
