"""Writes the pages of docs/reference/ that are made from the code: commands, settings, errors. `make docs`.

The page on events is made by `event_documents`, that on the Python API by `api_reference`.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import griffe
import typer

from vacancy.cli.examples import EXAMPLES
from vacancy.cli.main import app
from vacancy.streams.settings import Settings

ROOT: Final = Path(__file__).parents[3]
REFERENCE: Final = ROOT / "docs/reference"
_PACKAGES: Final = ("resources", "projections", "streams", "clients", "cli", "placement_api", "testing", "ui")
_ACTION: Final = re.compile(r"(?:Operator action|Action): ")
_MADE: Final = "Made from the code by `make docs`; do not edit it."


def cell_text(text: object) -> str:
    """A text as the cell of a table: one line, bars escaped, angle brackets as text."""
    line = " ".join(str(text).split()).replace("|", "\\|")
    return re.sub(r"<(?=\w)", "&lt;", line)


# -- commands -------------------------------------------------------------------------------------------------


def all_commands() -> Iterator[tuple[str, Any]]:
    """Each command, with `vacancy` and its groups in front of its name."""

    def below(command: Any, path: str) -> Iterator[tuple[str, Any]]:
        yield path, command
        for name, one in getattr(command, "commands", {}).items():
            yield from below(one, f"{path} {name}")

    yield from below(typer.main.get_command(app), "vacancy")


def commands_page() -> str:
    """All commands with their arguments, options and examples."""
    parts = [f"# Commands\n\n{_MADE} `vacancy COMMAND --help` shows the same.\n"]
    for path, command in all_commands():
        parts.append(f"{'#' * min(2 + path.count(' '), 3)} `{path}`\n")
        parts.append(_paragraphs(command.help or ""))
        if names := list(getattr(command, "commands", {})):
            parts.append(
                "Commands: "
                + ", ".join(f"[`{n}`](#{f'{path} {n}'.replace(' ', '-')})" for n in names)
                + ".\n"
            )
        parts.extend(_parameters(command))
        parts.extend(_examples(path.removeprefix("vacancy").strip()))
    return "\n".join(parts).rstrip() + "\n"


def _paragraphs(text: str) -> str:
    """A help text, with one line for each paragraph: Markdown breaks lines itself."""
    whole = "\n\n".join(" ".join(part.split()) for part in re.split(r"\n\s*\n", text.strip("\f\n ")))
    return whole.replace("*", "\\*").replace("<", "&lt;") + "\n"


def _parameters(command: Any) -> Iterator[str]:
    rows = [_row(one) for one in command.params if not getattr(one, "hidden", False)]
    if rows:
        yield "| argument or option | |\n|---|---|\n" + "\n".join(rows) + "\n"


def _row(parameter: Any) -> str:
    """One argument or option. Made from its fields: the texts that Typer makes of them differ between its releases."""
    is_option = parameter.opts[0].startswith("-")
    names = "/".join((*parameter.opts, *parameter.secondary_opts)) if is_option else ""
    value = parameter.metavar or parameter.name.upper()
    shown = names if getattr(parameter, "is_flag", False) else f"{names} {value}".strip()
    notes = [cell_text(parameter.help or "")]
    lowest, highest = getattr(parameter, "min", None), getattr(parameter, "max", None)
    if lowest is not None or highest is not None:
        notes.append(f"From {lowest}{'' if highest is None else f' to {highest}'}.")
    if isinstance(default := parameter.show_default, str):
        notes.append(f"Default: {cell_text(default)}.")
    elif (
        default and isinstance(parameter.default, str | int | float) and parameter.default not in (False, "")
    ):
        notes.append(f"Default: `{parameter.default}`.")
    return f"| `{cell_code(shown)}` | {' '.join(filter(None, notes))} |"


def cell_code(text: str) -> str:
    """A text as code in the cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


def _examples(path: str) -> Iterator[str]:
    if path in EXAMPLES:
        yield "```sh"
        for what, line in EXAMPLES[path]:
            yield f"# {what}\nvacancy {line}"
        yield "```\n"


# -- settings -------------------------------------------------------------------------------------------------


def setting_texts() -> dict[str, str]:
    """Setting -> what it is, from the docstrings of the fields."""
    file = ROOT / "streams/settings.py"
    module = griffe.visit("settings", filepath=file, code=file.read_text())
    members = module.members["Settings"].members
    return {
        name: one.docstring.value if (one := members[name]).docstring else ""
        for name in Settings.model_fields
    }


def setting_sources() -> dict[str, str]:
    """Setting -> its default, as the code has it."""
    (found,) = (
        node
        for node in ast.parse((ROOT / "streams/settings.py").read_text()).body
        if isinstance(node, ast.ClassDef) and node.name == "Settings"
    )
    return {
        node.target.id: ast.unparse(node.value)
        for node in found.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None
    }


def settings_page() -> str:
    """All settings."""
    flags: defaultdict[str, list[str]] = defaultdict(list)
    for _, command in all_commands():
        for one in command.params:
            named = re.search(r"\[env: (VACANCY_\w+)", getattr(one, "help", None) or "")
            option = next((name for name in one.opts if name.startswith("--")), "")
            if named and option and option not in flags[named[1]]:
                flags[named[1]].append(option)
    texts = setting_texts()
    rows = []
    for name in Settings.model_fields:
        variable = f"VACANCY_{name.upper()}"
        shown = ", ".join(f"`{flag}`" for flag in flags[variable])
        rows.append(f"| `{name}` | `{variable}` | {shown} | `{_default(name)}` | {cell_text(texts[name])} |")
    return (
        f"""# Settings

{_MADE} A flag takes precedence over the environment, the environment over the file (`--config FILE`, `VACANCY_CONFIG`,
else `./vacancy.toml`), and the file over the default. [Operating](../operating.md#settings) has an example of a file.

Kafka's client settings keep their own names: in a table `[kafka]` of the file, as `--set NAME=VALUE`, or in the environment as
`VACANCY_KAFKA_SASL_PASSWORD` for `sasl.password`.

| setting | environment | flag | default | |
|---|---|---|---|---|
"""
        + "\n".join(rows)
        + "\n"
    )


def _default(name: str) -> str:
    source = setting_sources()[name]
    for pattern, shown in (
        (r'Field\(default_factory=lambda: f"(.*)"\)', r"\1"),
        (r"Field\(default_factory=lambda: f'(.*)'\)", r"\1"),
        (
            r"Field\(default_factory=lambda: (?:str\()?state_directory\(\) / '(\w+)'\)?\)",
            r"{state_directory()}/\1",
        ),
        (r"Field\(default_factory=dict\)", "{}"),
    ):
        source = re.sub(rf"^{pattern}$", shown, source)
    return source.replace("{state_directory()}", "STATE").strip("'") or '""'


# -- errors ---------------------------------------------------------------------------------------------------


class ErrorClass(NamedTuple):
    """One class of errors: its name, the module that has it, its exit code, and its docstring."""

    name: str
    module: str
    exit_code: int
    text: str


def error_classes() -> list[ErrorClass]:
    """All errors that are shown to people: `VacancyError` and what is below it, in the order of names."""
    nodes: dict[str, tuple[str, ast.ClassDef]] = {}
    for package in _PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            module = ".".join(("vacancy", *file.relative_to(ROOT).with_suffix("").parts))
            for node in ast.parse(file.read_text()).body:
                if isinstance(node, ast.ClassDef):
                    nodes.setdefault(node.name, (module, node))
    codes: dict[str, int] = {}

    def code(name: str) -> int | None:
        """The exit code of a class, or None if it is no error of this kind."""
        if name not in nodes:
            return None
        own = [
            ast.literal_eval(one.value)
            for one in nodes[name][1].body
            if isinstance(one, ast.Assign) and ast.unparse(one.targets[0]) == "exit_code"
        ]
        inherited = [found for base in nodes[name][1].bases if (found := code(ast.unparse(base))) is not None]
        if name != "VacancyError" and not inherited:
            return None
        return (own or inherited)[0]

    for name in nodes:
        if (found := code(name)) is not None and not name.startswith("_"):
            codes[name] = found
    return [
        ErrorClass(name, nodes[name][0], codes[name], ast.get_docstring(nodes[name][1]) or "")
        for name in sorted(codes)
    ]


def errors_page() -> str:
    """All errors, by name."""
    rows = []
    for one in error_classes():
        what, _, action = _ACTION.sub("\0", one.text).partition("\0")
        rows.append(
            f"| `{one.name}` | {one.exit_code} | {cell_text(what)} | {cell_text(action)} | `{one.module}` |"
        )
    return (
        f"""# Errors and exit codes

{_MADE} Each error is one line: what happened, where, and what to do. A command that fails with it ends with its exit code;
[operating](../operating.md#exit-codes) has the exit codes with their meaning, and
[when something breaks](../operating.md#when-something-breaks) has messages with what to do. Why a claim was rejected is
in [events](../events.md#vacancyclaimsrequestedv1).

| error | exit code | | what to do | module |
|---|---|---|---|---|
"""
        + "\n".join(rows)
        + "\n"
    )


PAGES: Final = {
    "commands.md": commands_page,
    "settings.md": settings_page,
    "errors.md": errors_page,
}
"""The name of each page, and the function that makes it."""


def main() -> None:
    """Write the pages."""
    for name, page in PAGES.items():
        (REFERENCE / name).write_text(page())


if __name__ == "__main__":
    main()
