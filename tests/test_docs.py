"""The documentation is true: its code runs, its commands print what it shows, and it names everything that it must name."""

from __future__ import annotations

import argparse
import configparser
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from socket import gethostname
from typing import Any, NamedTuple, get_args

import pytest
import typer
from pydantic import BaseModel

from tests.placement_api.transfer.page import moved_placement
from tests.support.documentation.doc_runner import SAME_EXAMPLES, DocSession
from vacancy.cli.main import app
from vacancy.clients.request_language.placement_syntax import RequestText, parse, parse_document
from vacancy.resources.classes import registry
from vacancy.resources.fold import requests
from vacancy.resources.fold.claims import judge
from vacancy.resources.fold.rules_versions import RULES_VERSION
from vacancy.resources.model import errors, events, request
from vacancy.resources.state import tables
from vacancy.streams.settings import Settings, load_settings
from vacancy.testing import PROPERTIES

ROOT = Path(__file__).parent.parent
PAGES = {path.relative_to(ROOT).as_posix(): path.read_text() for path in sorted(ROOT.glob("docs/**/*.md"))}
PAGES |= {name: (ROOT / name).read_text() for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")}
ALL = "\n".join(PAGES.values())
NEW_CLASS = PAGES["docs/adding-a-resource-class.md"]


class Block(NamedTuple):
    """A block of code: what kind, under which name, and what is in it."""

    kind: str
    name: str
    text: str


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page."""
    return [Block(*found) for found in re.findall(r"^```(\S*) ?(\S*)\n(.*?)^```$", page, re.M | re.S)]


def block(page: str, name: str) -> str:
    """The only block of that name."""
    (found,) = (one.text for one in blocks(page) if one.name == name)
    return found


# -- what runs ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[DocSession, str]]:
    """The quickstart with the output of this run. Its worker keeps running."""
    running = DocSession(tmp_path_factory.mktemp("session"))
    page = running.answers(PAGES["docs/quickstart.md"])
    yield running, page
    running.close()


def masked(page: str) -> list[str]:
    """The output in a page, without what differs from run to run and from host to host."""
    text = "\n".join(one.text for one in blocks(page) if one.kind == "console")
    text = re.sub(r"^vacancy: node-1: .*\n", "", text, flags=re.M)  # what this host does not offer
    text = re.sub(r"\b\d{8}T\d{9}Z-[0-9a-f]{8}\b", "ID", text)
    text = re.sub(r"\b([0-9a-f]{16,64}(-[0-9a-f]+)?|[0-9A-Za-z]{21})\b", "ID", text)
    text = re.sub(r"gpu-1:[ab]\b", "gpu-1:?", text)  # one of two equal GPUs
    text = re.sub(r"\d[\d:.,TZ-]*", "N", text)
    return [" ".join(line.split()) for line in text.splitlines()]


def test_the_quickstart_prints_what_it_shows(session: tuple[DocSession, str]) -> None:
    _, page = session
    assert masked(page) == masked(PAGES["docs/quickstart.md"]), (
        "update it: python -m tests.support.documentation.doc_runner docs/quickstart.md --write"
    )


@pytest.mark.parametrize(
    "name",
    [
        "README.md",
        "docs/audit.md",
        "docs/devices.md",
        "docs/history.md",
        "docs/running-a-fleet.md",
        "docs/signing.md",
        "docs/snapshots.md",
    ],
)
def test_the_session_of_a_page_prints_what_it_shows(name: str, tmp_path: Path) -> None:
    running = DocSession(tmp_path)
    try:
        page = running.answers(PAGES[name])
    finally:
        running.close()
    assert masked(page) == masked(PAGES[name]), (
        f"update it: python -m tests.support.documentation.doc_runner {name} --write"
    )


def test_every_session_is_run_by_a_test() -> None:
    with_session = {name for name, page in PAGES.items() for one in blocks(page) if one.kind == "console"}
    assert with_session == {
        "README.md",
        "docs/audit.md",
        "docs/quickstart.md",
        "docs/devices.md",
        "docs/history.md",
        "docs/operating.md",
        "docs/placement.md",
        "docs/running-a-fleet.md",
        "docs/signing.md",
        "docs/snapshots.md",
    }


def test_moving_a_placement_prints_what_the_page_shows(tmp_path: Path) -> None:
    assert masked(moved_placement(tmp_path)) == masked(PAGES["docs/placement.md"]), (
        "update it: python -m tests.placement_api.transfer.page --write"
    )


def test_the_readme_is_short() -> None:
    assert len(PAGES["README.md"].splitlines()) < 200


def test_programs_in_the_pages_run(session: tuple[DocSession, str]) -> None:
    running, _ = session
    running.output("vacancy provider enable gpu-1")
    page = PAGES["docs/queries.md"]
    (running.home / "request.json").write_text(block(page, "request.json"))
    found = json.loads(running.output("vacancy candidates --request request.json --json"))["candidates"]
    assert [{one["group"] for one in candidate["allocations"]} for candidate in found] == [{"", "a", "b"}]
    for source, name, output in (
        (page, "scheduler.py", r"\('(gpu|node)-1', \{'VCPU': 1, 'MEMORY_MB': 256\}\)"),
        (page, "place.py", r"^20 placed$"),
        (page, "query.py", r"^2 candidates\n0 nodes have 4,096 cores\nFalse$"),
        (PAGES["docs/tracing.md"], "traced_scheduler.py", r"^placed$"),
        (PAGES["docs/reference/metrics.md"], "scheduler_with_metrics.py", r"^placed$"),
    ):
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", block(source, name).replace("8000", "0")],
            capture_output=True,
            text=True,
            env=running.environment,
            cwd=running.home,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert re.search(output, done.stdout, re.M), done.stdout
    (running.home / "typical.json").write_text(block(page, "typical.json"))
    run = [sys.executable, "-W", "error", "-c", block(page, "fragmentation.py")]
    done = subprocess.run(run, capture_output=True, text=True, cwd=running.home, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("least_fragmentation CUSTOM_GPU_MILLI\n", "")
    first = "vacancy candidates --resources VCPU:1 --order least_fragmentation --typical typical.json --json"
    assert json.loads(running.output(first))["candidates"]


def test_the_two_ways_to_ask_for_numa_cells_say_the_same() -> None:
    page = PAGES["docs/numa.md"]
    said: dict[str, Any] = {}
    exec(block(page, "numa.py"), said)  # noqa: S102 - our own page
    by_option = parse(
        RequestText(
            resources=["DISK_GB:20"],
            options={"numa": "cells=2,cpus=8,policy=dedicated,threads=isolate,memory_mb=16384,page=2M"},
        ),
        registry.Registry(),
    )
    assert said["spec"] == by_option.spec
    by_hand = parse_document(block(page, "cells.json"), registry.Registry())
    assert [group.name for group in by_hand.groups] == ["numa0", "numa1"]
    provider = json.loads(block(page, "numa0.json"))
    record = (
        registry.Registry()
        .table("NUMA_CELL")
        .resource_class.report(provider["inventories"]["NUMA_CELL"], None)
    )
    assert (len(record.cores), record.shared) == (3, (2, 18))


def test_every_program_is_run_by_a_test() -> None:
    ran = {
        *("scheduler.py", "place.py", "query.py", "fragmentation.py", "numa.py"),
        *("fpga_region.py", "fpga_region_syntax.py", "fpga_region_auditor.py", "test_fpga_region.py"),
        *("traced_scheduler.py", "scheduler_with_metrics.py"),
    }
    assert {one.name for page in PAGES.values() for one in blocks(page) if one.kind == "python"} == ran
    assert block(PAGES["README.md"], "scheduler.py") == block(PAGES["docs/queries.md"], "scheduler.py")


# -- the class of another package ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of the worked example, as an installer would lay it out."""
    home = tmp_path_factory.mktemp("package")
    project = tomllib.loads(block(NEW_CLASS, "pyproject.toml"))["project"]
    for name in ("fpga_region.py", "fpga_region_syntax.py", "fpga_region_auditor.py"):
        (home / name).write_text(block(NEW_CLASS, name))
    information = home / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    information.mkdir()
    lines = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (information / "METADATA").write_text(lines)
    points = configparser.ConfigParser()
    points.optionxform = str  # type: ignore[assignment, method-assign]  # names keep their case
    points.read_dict(project["entry-points"])
    with (information / "entry_points.txt").open("w") as file:
        points.write(file)
    return home


def run(*words: object, package: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A Python program, with the package or without."""
    outside = {name: value for name, value in os.environ.items() if not name.startswith("VACANCY_")}
    path = {} if package is None else {"PYTHONPATH": str(package)}
    return subprocess.run(
        [sys.executable, *map(str, words)],
        capture_output=True,
        text=True,
        env={**outside, **path},
        timeout=280,
        check=False,
    )


VACANCY = ("-c", "import sys; from vacancy.cli.main import main; sys.exit(main())")


@pytest.fixture(scope="module")
def way(package: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Where the example went its whole way, and what was found."""
    home = tmp_path_factory.mktemp("way")
    done = run(ROOT / "tests/docs/plugin_walkthrough.py", home, package=package)
    assert done.returncode == 0, done.stderr
    return home, json.loads(done.stdout)


def test_the_example_is_one_short_file() -> None:
    code = block(NEW_CLASS, "fpga_region.py")
    assert len([line for line in code.splitlines() if line]) < 65


def test_the_example_goes_the_whole_way(way: tuple[Path, dict[str, Any]]) -> None:
    found = way[1]["allowed"]
    assert found["plugins"] == ["FPGA_REGION"]
    assert found["by_text"] == {"FPGA_REGION": {"count": 1, "bitstream": "video"}, "VCPU": 2}
    assert found["serves"] == {"": "node-1", "card": "node-1:card1"}
    assert (found["too_many"], found["left"]) == (0, 0)
    assert found["granted"] == {"a node-1:card1": ["r2"], "b node-1:card0": ["r0", "r1"]}
    assert "node-1:card0" in found["on_pulled"], "someone held some of it"
    assert found["after"] == ["node-1", "node-1:card1"]
    assert found["free"] == 1
    assert found["equal"] == [True, True], "the state rebuilt from the log is the same"
    assert found["audit"] == {"accepted": 2, "unverifiable": 0, "problems": []}, "the class is judged"


def raised_rules(package: Path, home: Path) -> str:
    """The page with the sessions of this run: first the worker lacks the plugin, then it has it."""
    running = DocSession(home)
    host = gethostname()
    before, middle, after = PAGES["docs/operating.md"].partition("After the plugin was installed there")
    try:
        running.output("vacancy worker")
        running.environment["PYTHONPATH"] = str(package)
        first = running.answers(before)
        running.close()
        running.output("vacancy worker")
        page = first + middle + running.answers(after)
    finally:
        running.close()
    return page.replace(host, "scheduler-1")


def test_raising_the_rules_prints_what_the_page_shows(package: Path, tmp_path: Path) -> None:
    assert masked(raised_rules(package, tmp_path)) == masked(PAGES["docs/operating.md"])


def test_a_log_that_does_not_allow_it_refuses_it_until_it_is_activated(
    way: tuple[Path, dict[str, Any]],
) -> None:
    found = way[1]["refused"]
    assert found["dead"] == ["resource class FPGA_REGION is not allowed by the log's rules"]
    assert found["claim"] == "class_unknown"
    assert (found["activated"], found["placed"]) == (["FPGA_REGION"], "placed")


def test_a_build_without_it_stops_where_it_was_allowed(
    way: tuple[Path, dict[str, Any]], package: Path
) -> None:
    home, found = way
    store, offset = home / "without", found["refused"]["position"]
    log = ("--log", f"sqlite://{home}/refused/log.db")
    stopped = run(*VACANCY, "replay", *log, "--into", store)
    assert stopped.returncode == 1
    assert stopped.stderr == (
        "vacancy: the log's rules allow resource class FPGA_REGION, which this build does not have"
        f" (partition 0, offset {offset}); install the package that provides it, then start again\n"
    )
    told = json.loads(run(*VACANCY, "digest", "--store", store, "--json").stdout)
    assert told["position"] == {"0": offset}
    went_on = run(*VACANCY, "replay", *log, "--into", store, "--json", package=package)
    assert json.loads(went_on.stdout)["position"]["0"] > offset


def test_a_build_without_it_folds_the_same_where_it_is_not_allowed(way: tuple[Path, dict[str, Any]]) -> None:
    home, found = way
    store = home / "unallowed"
    run(*VACANCY, "replay", "--log", f"sqlite://{home}/refused/log.db", "--into", store)
    told = json.loads(run(*VACANCY, "digest", "--store", store, "--json").stdout)
    assert told["digest"] == found["refused"]["digest"]


def test_a_build_without_it_does_not_open_its_store(way: tuple[Path, dict[str, Any]]) -> None:
    told = run(*VACANCY, "digest", "--store", way[0] / "allowed/store")
    assert told.returncode == 1
    assert "tables of resource class FPGA_REGION" in told.stderr
    assert "install the package that provides it" in told.stderr


def test_the_example_passes_the_conformance_suite(package: Path) -> None:
    tests = package / "test_fpga_region.py"
    tests.write_text(block(NEW_CLASS, tests.name))
    done = run("-m", "pytest", "-q", "-p", "no:cacheprovider", SAME_EXAMPLES, tests, package=package)
    assert done.returncode == 0, done.stdout
    assert f"{len(PROPERTIES)} passed" in done.stdout


def test_the_page_names_every_property() -> None:
    assert set(re.findall(r"`(\w+)`", NEW_CLASS[NEW_CLASS.index("| property |") :])) >= set(PROPERTIES)


# -- events -------------------------------------------------------------------------------------------------------

EVENTS = {one.model_fields["type"].default: one for one in get_args(events.Event)}
EVENT_PAGE = PAGES["docs/events.md"]


def test_every_event_has_an_example_that_is_read() -> None:
    sections = dict(re.findall(r"^### `(\S+)`\n(.*?)(?=^##|\Z)", EVENT_PAGE, re.M | re.S))
    assert set(sections) == set(EVENTS)
    for name, section in sections.items():
        (example,) = (one.text for one in blocks(section) if one.kind == "json")
        assert type(events.parse(example.encode())) is EVENTS[name]


@pytest.mark.parametrize("name", EVENTS)
def test_every_field_of_an_event_is_explained(name: str) -> None:
    (chapter,) = (text for text in re.split(r"^## ", EVENT_PAGE, flags=re.M) if f"### `{name}`" in text)
    queries = PAGES["docs/queries.md"]
    missing = [
        field
        for model in _models(EVENTS[name].model_fields["data"].annotation)
        for field in model.model_fields
        if f"`{field}`" not in (queries if model.__module__ == request.__name__ else chapter)
    ]
    assert not missing


def _models(kind: Any) -> Iterator[type[BaseModel]]:
    """The models that a type is made of."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        yield kind
        kinds: Any = [field.annotation for field in kind.model_fields.values()]
    else:
        kinds = get_args(kind)
    for inner in kinds:
        yield from _models(inner)


def test_every_reason_of_a_rejection_is_named() -> None:
    source = "\n".join(file.read_text() for file in (ROOT / "resources").rglob("*.py"))
    reasons = set(re.findall(r'(?:Rejection|Shortfall)\(\s*"(\w+)"', source))
    assert len(reasons) > 12
    assert {reason for reason in reasons if f"`{reason}`" not in EVENT_PAGE} == set()


def test_figures_are_those_of_the_code() -> None:
    said = " ".join(ALL.split())
    for figure in (
        f"up to {events.BATCH_MAX} claims",
        f"{events.PROVIDERS_MAX:,} providers",
        f"`groups` are 1 to {request.GROUPS_MAX} groups",
        f"newest {tables.DEAD_LETTERS_MAX:,} of each",
        f"first {tables.DEAD_LETTER_BYTES // 1024} KiB",
        f"At most {judge.DEADLINE_AHEAD_MS_MAX // 60_000} minutes ahead",
        f"for {requests.REQUEST_KEPT_MS // 3_600_000} hours of log time",
    ):
        assert figure in said
    assert f"versions 1 to {RULES_VERSION}" in said


# -- commands, settings, codes ------------------------------------------------------------------------------------


def commands(command: Any = None, path: str = "vacancy") -> dict[str, set[str]]:
    """Every command line there is, with its options."""
    command = command or typer.main.get_command(app)
    inner = getattr(command, "commands", {})
    options = {name for one in command.params for name in (*one.opts, *one.secondary_opts) if name[:1] == "-"}
    found = {} if inner and path != "vacancy classes" else {path: options | {"--help"}}
    for name, one in inner.items():
        found |= commands(one, f"{path} {name}")
    return found


def test_every_command_is_listed() -> None:
    page = PAGES["docs/operating.md"]
    listed = set(re.findall(r"`(vacancy [a-z -]+)`", page.partition("## All commands")[2]))
    assert listed == set(commands())


def evaluation_options() -> set[str]:
    """The options of `python -m evaluation`, all commands together."""
    from evaluation.__main__ import COMMANDS

    parser = argparse.ArgumentParser(conflict_handler="resolve")
    for module, _ in COMMANDS.values():
        module.add_arguments(parser)
    return {word for word in parser.format_help().replace(",", " ").split() if word.startswith("--")}


def test_commands_and_options_in_the_pages_exist() -> None:
    known = commands() | {"vacancy": {"--help", "--version", "--verbose"}}
    said = [
        one.text.replace("\\\n", "")
        for page in PAGES.values()
        for one in blocks(page)
        if one.kind in ("sh", "console")
    ]
    lines = [line.removeprefix("$ ") for text in said for line in text.splitlines()]
    lines += re.findall(r"`(vacancy [^`]+)`", ALL)
    lines += re.findall(r"^ExecStart=\S+/(vacancy .*)$", ALL, re.M)
    checked = 0
    for line in lines:
        if not line.startswith("vacancy ") or "…" in line or "|" in line or " --" not in line:
            continue
        words = shlex.split(line)
        name = max((one for one in known if f"{line} ".startswith(f"{one} ")), key=len, default=None)
        assert name is not None, line
        wrong = {word.partition("=")[0] for word in words if word.startswith("--")} - known[name] - {"--"}
        assert not wrong, f"{line}: {wrong}"
        checked += 1
    assert checked > 15
    options = set().union(*known.values(), evaluation_options())
    assert {word for word in re.findall(r"`(--[a-z-]+)", ALL) if word not in options | {"--write"}} == set()


def test_every_setting_is_named() -> None:
    section = PAGES["docs/operating.md"].partition("## Settings")[2].partition("\n## ")[0]
    for name in Settings.model_fields:
        assert f"| `{name}` |" in section
        assert f"`VACANCY_{name.upper()}" in section


def test_the_settings_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("VACANCY_")]:
        monkeypatch.delenv(name)
    file = tmp_path / "vacancy.toml"
    file.write_text(block(PAGES["docs/operating.md"], "vacancy.toml"))
    found = load_settings(config=file)
    assert found.kafka["security.protocol"] == "SASL_SSL"
    from vacancy.streams.kafka.settings import client_settings

    assert client_settings("producer", ("k1:9092",), found.kafka)["sasl_plain_username"] == "vacancy"


def test_every_exit_code_is_named() -> None:
    page = PAGES["docs/operating.md"].partition("## Exit codes")[2].partition("\n## ")[0]
    codes = {
        one.exit_code for one in vars(errors).values() if isinstance(one, type) and hasattr(one, "exit_code")
    }
    assert {f"| {code} |" for code in codes | {0, 5, 9, 130, 141}} == set(
        re.findall(r"^\| \d+ \|", page, re.M)
    )


def test_no_command_ends_with_a_code_of_its_own() -> None:
    """Codes come from the errors; the test above and `tests/docs/test_generated.py` compare them with the table."""
    ends = {
        f"{file.relative_to(ROOT)}: {found}"
        for package in ("cli", "clients", "streams", "ui", "placement_api")
        for file in (ROOT / package).rglob("*.py")
        for found in re.findall(r"\b(?:Exit|sys\.exit|SystemExit)\((\d+)\)", file.read_text())
        if found not in "01"
    }
    assert ends == set(), "raise a VacancyError with an exit_code"


def test_messages_in_the_pages_are_said_somewhere() -> None:
    packages = ("resources", "projections", "streams", "clients", "cli")
    source = "\n".join(file.read_text() for package in packages for file in (ROOT / package).rglob("*.py"))
    section = PAGES["docs/operating.md"].partition("## When something breaks")[2].partition("\n## ")[0]
    told = [
        message
        for line in re.findall(r"^\| (`.*?) \|", section, re.M)
        for message in re.findall("`(.*?)`", line)
    ]
    assert len(told) > 10
    parts = [part.strip() for message in told for part in message.split("…") if part.strip(" ,")]
    assert [part for part in parts if part not in source] == []


def test_units_of_systemd_are_whole() -> None:
    units = {one.name: one.text for one in blocks(PAGES["docs/operating.md"]) if one.kind == "ini"}
    assert set(units) == {"vacancy-worker.service", "vacancy-publish.service"}
    for text in units.values():
        unit = configparser.ConfigParser(strict=True)
        unit.read_string(text)
        assert set(unit) == {"DEFAULT", "Unit", "Service", "Install"}


def test_make_has_the_targets_of_the_pages() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    made = set(re.findall(r"(?:^|`)make ([a-z]+)\b", PAGES["README.md"] + PAGES["CONTRIBUTING.md"], re.M))
    assert {"demo", "test", "check", "soak", "explore", "docs"} <= made <= targets
    assert "make test" in (ROOT / ".ci/run").read_text()


# -- links --------------------------------------------------------------------------------------------------------


def anchors(page: str) -> set[str]:
    """The names of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", page, flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", PAGES[name]):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / name).parent / path if path else ROOT / name
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file.read_text()), target


def test_files_that_the_pages_name_exist() -> None:
    named = set(re.findall(r"`((?:resources|projections|streams|clients|cli|tests)/[\w/.]*)`", ALL))
    assert len(named) > 8
    assert {name for name in named if not (ROOT / name).exists()} == set()
