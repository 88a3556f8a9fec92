"""Writes docs/reference/api.md from the docstrings of the public API: `make docs`.

griffe reads the sources without importing them, so the page depends on the committed code only.
"""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import griffe

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs/reference/api.md"


class Section(NamedTuple):
    """One chapter of the page: `names` are `module.path:Name`, modules relative to `vacancy`."""

    title: str
    text: str
    names: tuple[str, ...]


SECTIONS = (
    Section(
        "Scheduling",
        "Find candidates, claim one, learn the verdict.",
        (
            "clients.scheduler.client:Scheduler",
            "clients.scheduler.client:SchedulerOptions",
            "clients.scheduler.store_query:StoreQuery",
            "clients.scheduler.store_query:Candidates",
            "clients.scheduler.placement:PlacementRequest",
            "clients.scheduler.placement:Outcome",
            "clients.scheduler.settlement:Settlement",
        ),
    ),
    Section(
        "Publishing",
        "Send the reports of a node to the log.",
        (
            "clients.publisher.publisher:Publisher",
            "clients.publisher.service:PublishService",
            "clients.publisher.outbox:Outbox",
        ),
    ),
    Section(
        "The past",
        "Ask the tables as they were at a position or a time.",
        (
            "clients.history.past_queries:PastQueries",
            "clients.past.historical_store:historical_store",
            "clients.past.historical_store:HistoricalStore",
            "clients.history.bisect:bisect",
            "clients.history.bisect:Flip",
        ),
    ),
    Section(
        "Replay and verification",
        "Rebuild tables from the log, and compare.",
        (
            "clients.replay_tool.replay:replay",
            "clients.replay_tool.replay:digest",
            "clients.replay_tool.verify:verify",
        ),
    ),
    Section(
        "History",
        "Read the log, and find out what happened. [History](../history.md) explains points in time.",
        (
            "clients.past.points:parse_point",
            "clients.past.points:resolve",
            "clients.history.record_view:view_record",
            "clients.history.record_view:RecordView",
            "clients.history.record_outcome:record_outcome",
            "clients.history.record_outcome:RecordOutcome",
            "clients.history.log_reading:newest",
            "clients.history.log_reading:read_from",
            "clients.history.log_reading:follow",
            "clients.history.log_reading:RecordFilter",
            "clients.history.history:history",
            "clients.history.history:History",
            "clients.history.history:HistoryEntry",
            "clients.history.effects:Effect",
            "clients.history.differences:differences",
            "clients.history.differences:Differences",
            "clients.history.differences:NodeDifference",
            "clients.history.differences:ProviderDifference",
            "clients.history.differences:ConsumerDifference",
            "clients.history.differences:Total",
            "clients.history.diff_sources:open_source",
        ),
    ),
    Section(
        "Requests",
        "What is asked for.",
        (
            "resources.model.request:RequestSpec",
            "resources.model.request:RequestGroup",
            "resources.model.server_group:ServerGroupMembership",
            "resources.model.server_group:ServerGroupMembershipV2",
            "clients.request_language.placement_syntax:parse_query",
            "clients.request_language.numa_syntax:numa_request",
        ),
    ),
    Section(
        "Resource classes",
        "The contract of a resource class. [Adding a resource class](../adding-a-resource-class.md) has an example.",
        (
            "resources.classes.resource_class:ResourceClass",
            "resources.classes.resource_class:Term",
            "resources.classes.resource_class:Granted",
            "resources.classes.resource_class:Shortfall",
            "resources.classes.resource_class:Exactness",
            "clients.request_language.ask_syntax:AskSyntax",
            "clients.auditor.classes.class_auditor:ClassAuditor",
        ),
    ),
    Section(
        "The syntax and the auditor of a class",
        "Optional parts of a package with a resource class. Each has an entry point group of its own.",
        (
            "clients.request_language.ask_syntax:AskSyntax",
            "clients.auditor.classes.class_auditor:ClassAuditor",
            "clients.auditor.classes.class_auditor:Objection",
            "clients.auditor.classes.class_auditor:Slot",
            "clients.auditor.classes.class_auditor:Stock",
        ),
    ),
    Section(
        "Conformance of a resource class",
        "`vacancy.testing` needs the extra `vacancy[testing]`.",
        (
            "testing.subject:ClassUnderTest",
            "testing.conformance:ResourceClassConformance",
            "testing.conformance:check",
        ),
    ),
    Section(
        "Logs and settings",
        "Open what the command line opens.",
        (
            "streams.settings:Settings",
            "streams.settings:load_settings",
            "streams.log:Log",
            "streams.log:open_log",
        ),
    ),
    Section("Errors", "All are subclasses of `VacancyError`.", ("resources.model.errors:*",)),
)


def page() -> str:
    """The whole page."""
    parts = [
        "# API reference\n",
        "Made from the docstrings by `make docs`; do not edit it. What is not listed here may change without notice.\n",
    ]
    for section in SECTIONS:
        parts.append(f"## {section.title}\n")
        parts.append(section.text + "\n")
        for name in section.names:
            parts.extend(_documented(name))
    return "\n".join(parts).rstrip() + "\n"


def front_doors() -> dict[str, str]:
    """Name -> the package that offers it: what `vacancy.clients` and `vacancy.testing` list in `__all__`."""
    found: dict[str, str] = {}
    for package in ("clients", "testing"):
        tree = ast.parse((ROOT / package / "__init__.py").read_text())
        for node in tree.body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                found |= dict.fromkeys(ast.literal_eval(node.value), package)
    return found


def _import(name: str, module_path: str) -> str:
    return f"`from vacancy.{front_doors().get(name, module_path)} import {name}`"


def _documented(name: str) -> Iterator[str]:
    module_path, _, wanted = name.partition(":")
    module = _module(module_path)
    names = [wanted] if wanted != "*" else [n for n, m in module.members.items() if _is_own_class(m)]
    for one in names:
        member = module.members[one]
        if isinstance(member, griffe.Class):
            yield from _class(member, module_path)
        elif isinstance(member, griffe.Function):
            yield f"### `{one}`\n"
            yield _import(one, module_path) + "\n"
            yield _signature(member)
            yield _docstring(member)


def _module(path: str) -> griffe.Module:
    file = ROOT / (path.replace(".", "/") + ".py")
    return griffe.visit(path.rpartition(".")[2], filepath=file, code=file.read_text())


def _is_own_class(member: griffe.Object | griffe.Alias) -> bool:
    return isinstance(member, griffe.Class) and not member.name.startswith("_")


def _class(member: griffe.Class, module_path: str) -> Iterator[str]:
    bases = ", ".join(str(base) for base in member.bases)
    yield f"### `{member.name}`\n"
    yield _import(member.name, module_path) + (f", a `{bases}`\n" if bases else "\n")
    yield _docstring(member)
    fields = [
        f"| `{one.name}` | `{_one_line(one.annotation)}` | {_default(one)} | {_one_line(_text(one))} |"
        for one in member.members.values()
        if isinstance(one, griffe.Attribute) and not one.name.startswith("_") and one.annotation is not None
    ]
    if fields:
        yield "| field | type | default | |\n|---|---|---|---|\n" + "\n".join(fields) + "\n"
    for one in member.members.values():
        if isinstance(one, griffe.Function) and (one.name == "__init__" or not one.name.startswith("_")):
            if one.name == "__init__":
                yield _signature(one, member.name)
            else:
                yield f"#### `{member.name}.{one.name}`\n"
                yield _signature(one)
            yield from filter(str.strip, [_docstring(one)])


def _signature(function: griffe.Function, name: str = "") -> str:
    """The signature in a block of code, without `self`. `name` takes the place of the function's."""
    parameters = [one for one in function.parameters if one.name not in ("self", "cls")]
    shown = []
    star = False
    for one in parameters:
        if one.kind is griffe.ParameterKind.keyword_only and not star:
            shown.append("*")
            star = True
        star = star or one.kind is griffe.ParameterKind.var_positional
        prefix = {griffe.ParameterKind.var_positional: "*", griffe.ParameterKind.var_keyword: "**"}
        text = prefix.get(one.kind or griffe.ParameterKind.positional_or_keyword, "") + one.name
        if one.annotation is not None:
            text += f": {one.annotation}"
        if one.default is not None and one.kind not in prefix:
            text += f" = {one.default}"
        shown.append(text)
    returns = f" -> {function.returns}" if function.returns is not None else ""
    name = name or function.name
    returns = "" if returns == " -> None" else returns
    whole = f"{name}({', '.join(shown)}){returns}"
    if len(whole) > 100:
        whole = f"{name}(\n" + "".join(f"    {one},\n" for one in shown) + f"){returns}"
    return f"```text\n{whole}\n```\n"


def _docstring(member: griffe.Object) -> str:
    return textwrap.dedent(_text(member)).strip() + "\n"


def _text(member: griffe.Object) -> str:
    return "" if member.docstring is None else member.docstring.value


def _one_line(text: object) -> str:
    return " ".join(str(text).replace("|", "\\|").split())


def _default(attribute: griffe.Attribute) -> str:
    return "" if attribute.value is None else f"`{_one_line(attribute.value)}`"


def main() -> None:
    """Write the page."""
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page())


if __name__ == "__main__":
    main()
