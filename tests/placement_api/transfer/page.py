"""Runs the session of docs/placement.md: `python -m tests.placement_api.transfer.page --write` writes its output into the page."""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.placement_api.transfer.placement_database import (
    empty_database,
    fleet_database,
    random_fleet,
)
from tests.support.documentation.doc_runner import DocSession

PAGE = Path(__file__).parents[3] / "docs/placement.md"


def moved_placement(home: Path) -> str:
    """The page with the output of this run. `placement.conf` names a database with a fleet, `new-placement.conf` an empty one."""
    for name, url in (
        ("placement.conf", fleet_database(home / "placement.db", random_fleet(5, 40, 60))),
        ("new-placement.conf", empty_database(home / "new.db")),
    ):
        (home / name).write_text(f"[placement_database]\nconnection = {url}\n")
    running = DocSession(home)
    try:
        return running.answers(PAGE.read_text())
    finally:
        running.close()


def main() -> None:
    """Print the page with the output of this run, or write it."""
    with TemporaryDirectory() as directory:
        page = moved_placement(Path(directory).resolve())
    if "--write" in sys.argv:
        PAGE.write_text(page)
    else:
        sys.stdout.write(page)


if __name__ == "__main__":
    main()
