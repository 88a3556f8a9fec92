"""Each line of the `sh` blocks of the pages is run as a reader runs it, and succeeds."""

from __future__ import annotations

import json
import re
import shutil
import sys
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.docs.shell_pages import ELSEWHERE, FLEET, NOT_RUN, PAGES, PLACED, STOP, ShellPage, write_nodes
from tests.support.documentation.shell_site import ShellSite
from tests.support.processes.kafka_server import free_ports

ROOT = Path(__file__).parents[2]
ON_KAFKA = {"README.md", "docs/operating.md"}


def lines_of(page: str) -> list[str]:
    """The lines of a page's `sh` blocks, without comments; those that go on with a backslash are one."""
    text = (ROOT / page).read_text()
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.M | re.S)
    lines = "".join(blocks).replace("\\\n", "").splitlines()
    return [line for line in (re.sub(r"\s+# .*$|^# .*$", "", one).rstrip() for one in lines) if line]


def with_blocks() -> set[str]:
    files = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md")]
    return {str(file.relative_to(ROOT)) for file in files if "\n```sh\n" in file.read_text()}


def test_each_page_is_run_here_or_elsewhere() -> None:
    assert with_blocks() == set(PAGES) | set(ELSEWHERE)


@pytest.mark.parametrize("name", PAGES)
def test_what_is_written_for_a_page_is_used(name: str) -> None:
    page, lines = PAGES[name], lines_of(name)
    assert {*page.before, *page.codes} <= set(lines)
    assert [text for text in page.replace if not any(text in line for line in lines)] == []


def prepared(site: ShellSite, lines: tuple[str, ...]) -> None:
    for line in lines:
        ended = site.run(line)
        assert ended.code == 0, (line, ended)


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A home with a log, the fleet and some consumers, and values of this run."""
    home = tmp_path_factory.mktemp("fleet")
    write_nodes(home)
    site = ShellSite(home, programs(home))
    try:
        prepared(site, FLEET)
        values = {"earlier_position": position(site), "earlier": now()}
        prepared(site, PLACED)
    finally:
        site.close()
    return home, values


def programs(home: Path) -> Path:
    """A directory with a `virsh` that lists two guests, as libvirt's does."""
    directory = home / "bin"
    directory.mkdir(exist_ok=True)
    file = directory / "virsh"
    file.write_text("#!/bin/sh\nprintf 'web-1\\n\\nvm-1\\n'\n")
    file.chmod(0o755)
    return directory


def position(site: ShellSite) -> str:
    """The store's position, as the command line takes it."""
    partitions = json.loads(site.run("vacancy status --json").out)["partitions"]
    return ",".join(f"{one['partition']}:{one['position']}" for one in partitions)


def values_of(site: ShellSite, kept: dict[str, str], kafka: str) -> dict[str, str]:
    """What replaces the values of the pages."""
    (consumer,) = json.loads(site.run("vacancy show consumer train-1 --json").out)
    at = position(site)
    return {
        **kept,
        "home": str(site.home),
        "python": sys.prefix,
        "now": now(),
        "position": at,
        "record": max(at.split(","), key=lambda one: int(one.partition(":")[2])).partition(":")[0] + ":1",
        "claim": consumer["claim"],
        "deadline_ms": str(int(time.time() * 1000) + 5000),
        "port": str(free_ports(1)[0]),
        "kafka": kafka,
        "topic": f"shell-{uuid.uuid4().hex[:8]}",
    }


def as_run(line: str, page: ShellPage, values: dict[str, str], site: ShellSite) -> str:
    """A line with the values of this run."""

    def instead(found: re.Match[str]) -> str:
        if page.replace[found[0]] == "{snapshot}":
            return str(json.loads(site.run("vacancy snapshot list --json").out)["snapshots"][-1]["id"])
        return page.replace[found[0]].format(**values)

    return re.sub("|".join(map(re.escape, page.replace)), instead, line) if page.replace else line


def run_page(name: str, home: Path, kept: dict[str, str], kafka: str = "") -> list[str]:
    """Run the lines of a page; returns what went wrong."""
    page, wrong = PAGES[name], []
    site = ShellSite(home, home / "bin")
    try:
        prepared(site, ("vacancy worker",))
        values = values_of(site, kept, kafka)
        for line in lines_of(name):
            if line.startswith(tuple(NOT_RUN)):
                continue
            for first in page.before.get(line, ()):
                if first == STOP:
                    site.stop()
                else:
                    prepared(site, (first.format(**values),))
            run = as_run(line, page, values, site)
            ended = site.run(run)
            if ended.code != page.codes.get(line, 0):
                wrong.append(f"{run}\n  {ended}")
        site.stop()
    finally:
        site.close()
    return wrong


@pytest.mark.parametrize("name", sorted(set(PAGES) - ON_KAFKA))
def test_the_lines_of_a_page_succeed(name: str, fleet: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    home = shutil.copytree(fleet[0], tmp_path / "home")
    assert run_page(name, home, fleet[1]) == []


@pytest.mark.kafka
@pytest.mark.parametrize("name", sorted(ON_KAFKA))
def test_the_lines_of_a_page_succeed_on_kafka(
    name: str, fleet: tuple[Path, dict[str, str]], tmp_path: Path, kafka: str
) -> None:
    home = shutil.copytree(fleet[0], tmp_path / "home")
    assert run_page(name, home, fleet[1], kafka) == []
