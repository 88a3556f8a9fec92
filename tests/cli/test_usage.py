"""Errors of the command are one line with the right exit code; and the precedence of settings."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.command import Vacancy, node_file

_HERE = "sqlite://HOME/log.db"

WRONG: dict[str, tuple[int, str]] = {
    # what the parser refuses
    "nonsense": (2, "No such command 'nonsense'; see `vacancy --help`"),
    "show": (2, "Missing command; see `vacancy show --help`"),
    "show provider": (2, "Missing argument 'ID'; see `vacancy show provider --help`"),
    "place --hold never": (2, "Invalid value for '--hold'"),
    "place --deadline 601": (2, "Invalid value for '--deadline'"),
    "candidates --colour red": (2, "No such option: --colour"),
    # requests that cannot be meant
    "candidates": (2, "the request is empty; name resources, as in --resources VCPU:4,MEMORY_MB:8192"),
    "candidates --resources VCPUS:1": (2, "unknown resource class 'VCPUS' (--resources); did you mean VCPU"),
    "candidates --resources VCPU": (2, "'VCPU' has no amount (--resources); write VCPU:1"),
    "candidates --resources VCPU:-1": (2, "'VCPU:-1' is not an amount (--resources)"),
    "candidates --resources VCPU:1 --required HW_CPU_X86_AVX22": (2, "did you mean HW_CPU_X86_AVX2"),
    "candidates --resources VCPU:1 --group gpu": (2, "a group has no name"),
    "candidates --resources VCPU:1 --query resources=VCPU:1": (2, "given twice, by options and by --query"),
    "candidates --query resource=VCPU:1": (2, "a query has no 'resource'"),
    "candidates --request nowhere.json": (2, "the file cannot be read: No such file"),
    "candidates --resources VCPU:1 --order best": (
        2,
        "choose one of random, pack, spread, best_fit, least_fragmentation",
    ),
    "candidates --resources VCPU:1 --order least_fragmentation": (2, "give --typical FILE"),
    "candidates --resources VCPU:1 --order least_fragmentation --typical nowhere.json": (
        2,
        "the file of typical requests cannot be read: No such file",
    ),
    "typical GPUS": (2, "unknown resource class 'GPUS'"),
    "place --resources VCPU:1 --order best": (
        2,
        "choose one of random, pack, spread, best_fit, least_fragmentation",
    ),
    # settings that cannot be used
    "digest --config nowhere.toml": (2, "the settings file does not exist (nowhere.toml)"),
    "status --log ftp://host/log": (2, "not a log URL"),
    "place --resources VCPU:1 --set nonsense": (2, "name=value"),
    # things that are not there
    "show provider node-0": (1, "there is no provider 'node-0'"),
    "show consumer nobody": (1, "consumer 'nobody' holds nothing"),
    "show request none": (1, "there is no request 'none'"),
    "show claim none": (1, "there is no verdict on claim 'none'"),
    "digest --store nowhere": (1, "there is no store"),
    "place --resources VCPU:1 --log sqlite:///nowhere/log.db": (
        1,
        "there is no log (sqlite:///nowhere/log.db); create it with `vacancy topics create --log",
    ),
    "worker --log sqlite:///nowhere/log.db": (1, "vacancy topics create"),
    "publish --once --log sqlite:///nowhere/log.db": (1, "vacancy topics create"),
    f"topics create --log {_HERE}": (1, "the log exists already"),
    "release nobody": (1, "no allocations of nobody"),
    "confirm nobody": (1, "no allocations of nobody"),
    # operators
    "provider disable node-0": (1, "there is no provider 'node-0'"),
    "provider trait node-1": (2, "no change is given; give --add"),
    "provider trait node-1 --add HW_CPU_X86_AVX22": (2, "unknown trait"),
    "provider aggregate node-1 --add two,words!": (2, "aggregates"),
    "provider override node-1 VCPU": (2, "an override is either set or cleared"),
    "provider override node-1 VCPU --ratio 0.0001": (2, "'0.0001' is not an allocation ratio (--ratio)"),
    "provider override node-1 VCPU --ratio nan": (2, "'nan' is not an allocation ratio (--ratio)"),
    "provider override node-1 VCPUS --reserved 1": (2, "unknown resource class 'VCPUS'"),
    # publishing
    "publish --once --file nowhere.json": (2, "the file cannot be read"),
    "publish --once --file vacancy.toml": (2, "the file does not describe a node"),
    "publish --once --file node-1.json --root node-2": (2, "the file describes node-1, not node-2"),
    "publish --once --file node-1.json --cell elsewhere": (2, "is known in cell"),
    "publish --once --root two,words": (2, "is not a valid node id"),
}


def test_each_error_is_one_line_with_the_right_exit_code(tmp_path: Path) -> None:
    (tmp_path / "vacancy.toml").write_text("# nothing is set here\n")
    node_file(tmp_path, "node-1")
    problems = []
    with Vacancy(tmp_path, log=f"sqlite://{tmp_path}/log.db", store=str(tmp_path / "store")) as vacancy:
        vacancy("topics", "create", "--partitions", "2")
        vacancy("publish", "--once", "--file", "node-1.json")
        vacancy("replay")
        for line, (code, told) in WRONG.items():
            got, _, err = vacancy.run_shared(*line.replace("HOME", str(tmp_path)).split())
            lines = [one for one in err.splitlines() if not one.startswith("vacancy: folding ")]
            if got != code or len(lines) != 1 or not lines[0].startswith("vacancy: ") or told not in lines[0]:
                problems.append(f"vacancy {line}: ended with {got}, {err!r}; wanted {code}, {told!r}")
    assert not problems, "\n".join(problems)


def test_settings_have_precedence_flag_environment_file(tmp_path: Path) -> None:
    logs = {name: f"sqlite://{tmp_path}/{name}.db" for name in ("file", "environment", "flag")}
    with Vacancy(tmp_path) as quiet, Vacancy(tmp_path, log=logs["environment"]) as spoken:
        for url in logs.values():
            quiet("topics", "create", "--partitions", 1, "--log", url)
        (tmp_path / "vacancy.toml").write_text(f'log = "{logs["file"]}"\n')
        assert quiet.json("topics", "check")["url"] == logs["file"]
        assert spoken.json("topics", "check")["url"] == logs["environment"]
        assert spoken.json("topics", "check", "--log", logs["flag"])["url"] == logs["flag"]


def test_without_settings_the_default_log_is_created(tmp_path: Path) -> None:
    with Vacancy(tmp_path) as vacancy:
        published = vacancy.json("publish", "--once", "--root", "here")
        assert published["node"] == "here"
        assert vacancy.json("topics", "check")["partitions"] == 4
        vacancy("replay")
        assert vacancy.json("show", "nodes")["nodes"][0]["cell"] == published["cell"]


_HELP = """
import sys
sys.argv = ["vacancy", *sys.argv[1:]]
from vacancy.cli.main import main
code = main()
heavy = {"faust", "kafka", "numpy", "rocksdict", "pydantic_settings", "msgspec", "structlog", "rich", "os_traits"}
print(code, *sorted(heavy & set(sys.modules)), *(n for n in sys.modules if n == "vacancy.resources.model.events"), file=sys.stderr)
"""


@pytest.mark.parametrize("words", [["--help"], ["place", "--help"], ["provider", "override", "--help"]])
def test_help_loads_nothing_heavy(tmp_path: Path, words: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _HELP, *words], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert done.stderr == "0\n"
    assert done.stdout.startswith("Usage: vacancy")


_MODULES = """
import sys
sys.argv = ["vacancy", *sys.argv[1:]]
from vacancy.cli.main import main
main()
loaded = {n: m for n, m in sys.modules.items() if not hasattr(m, "__path__")}
print(*(n.rpartition(".")[2] for n in loaded if n.startswith("vacancy.cli.commands.")), file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("words", "needed"),
    [
        (["dead-letters", "--help"], {"dead_letters"}),
        (["topics", "check", "--help"], {"topics"}),
        (["--version"], set()),
        (["shw"], set()),
    ],
)
def test_a_command_line_imports_the_module_of_its_command_only(
    tmp_path: Path, words: list[str], needed: set[str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _MODULES, *words], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert set(done.stderr.splitlines()[-1].split()) == needed


def test_a_command_that_does_not_exist_is_told_from_those_alike(tmp_path: Path) -> None:
    with Vacancy(tmp_path) as vacancy:
        assert "No such command 'shw'. Did you mean 'show'?" in vacancy.fails(2, "shw")


def test_every_command_and_option_has_a_help_text(tmp_path: Path) -> None:
    commands = [
        *([name] for name in ("demo", "worker", "publish", "candidates", "place", "confirm", "release")),
        *([name] for name in ("status", "replay", "verify", "digest", "dead-letters", "classes")),
        *(["show", name] for name in ("provider", "consumer", "request", "claim", "nodes")),
        *(["provider", name] for name in ("disable", "drain", "enable", "aggregate", "trait", "override")),
        *(["topics", name] for name in ("create", "check")),
        ["classes", "activate"],
    ]
    with Vacancy(tmp_path) as vacancy:
        for words in commands:
            code, out, err = vacancy.run_shared(*words, "--help")
            assert (code, err) == (0, ""), words
            assert out.startswith(f"Usage: vacancy {' '.join(words)}"), words
            if words != ["worker"]:
                assert "--json" in out, words


def test_output_in_a_pipe_has_no_colours(tmp_path: Path) -> None:
    assert "\x1b" not in Vacancy(tmp_path).run("classes").out
