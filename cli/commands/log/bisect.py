"""`vacancy bisect`."""

from __future__ import annotations

import json
import shlex
from dataclasses import fields
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vacancy.cli.context import CommandContext
from vacancy.cli.options import shared_options as o
from vacancy.cli.output import (
    emit,
    emit_json,
    is_watched,
    note,
    position_text,
    progress_bar,
    time_text,
)
from vacancy.resources.model.encoding.plain import plain
from vacancy.resources.model.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from vacancy.clients.history.bisect import Flip, Question
    from vacancy.clients.scheduler.store_query import StoreQuery
    from vacancy.resources.classes.registry import Registry

_SHOWN = ("provider", "consumer", "request", "claim", "group")
_VOLATILE = frozenset({"heard_ms"})
"""Fields of answers that change with each heartbeat."""
_NOT_ASKED = (
    "as_of",
    "at_least",
    "timeout",
    "log",
    "store",
    "snapshots",
    "archive",
    "config",
    "kafka",
    "as_json",
)


def bisect(
    query: Annotated[
        str,
        typer.Argument(
            metavar="QUERY",
            help="What to ask, in quotes: 'candidates …' with the options of that command (the answer is whether there is"
            " a candidate), or 'show provider ID', 'show consumer ID', 'show request ID', 'show claim ID', 'show group ID'.",
        ),
    ],
    from_: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="POINT",
            help="Where the search begins: a position, a time, or -1d (default: before the first record).",
        ),
    ] = None,
    to: Annotated[
        str | None, typer.Option("--to", metavar="POINT", help="Where it ends (default: now).")
    ] = None,
    log: o.LogOption = None,
    snapshots: o.SnapshotsOption = None,
    archive: o.ArchiveOption = None,
    config: o.ConfigOption = None,
    kafka: o.KafkaOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Find the record of the log that changed an answer.

    The answers at both ends must differ. Half of the records between them is left after each question, so a day of
    10,000,000 records takes 26 questions; snapshots make them fast. If the answer changed several times, one of these
    changes is found.
    """
    context = CommandContext(log=log, snapshots=snapshots, archive=archive, config=config, kafka=kafka)
    registry = context.registry()
    question = _question(query, registry)
    from vacancy.clients.history.bisect import bisect as search
    from vacancy.clients.past.historical_store import open_stores
    from vacancy.clients.past.points import parse_point, resolve

    def report(position: Mapping[int, int], answer: Any, left: int) -> None:
        if is_watched() and not as_json:
            note(f"at {position_text(position)}: {_answer_text(answer)}; {left:,} records are left")

    with context.open_log() as opened, progress_bar("records folded") as progress:
        first = dict.fromkeys(opened.end(), 0)
        if from_ is not None:
            first = context.resolve_beginning(from_, opened)
        last = opened.end() if to is None else resolve(parse_point(to), opened)
        flip = search(
            opened,
            open_stores(opened, context.settings, registry, in_parallel=True),
            registry,
            question,
            first,
            last,
            report=report,
            progress=progress,
            view_memory_mb=context.settings.view_memory_mb,
        )
    if as_json:
        emit_json(_as_json(query, flip))
        return
    _render(query, flip)


def _question(text: str, registry: Registry) -> Question:
    """What is asked at each position. Raises `UsageError` for anything else than the queries of the help."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UsageError(f"the query cannot be read: {error}", where=text, do="close the quotes") from None
    if words[:1] == ["candidates"]:
        return _candidates(words[1:], registry)
    if len(words) == 3 and words[0] == "show" and words[1] in _SHOWN:
        return _shown(words[1], words[2])
    raise UsageError(
        f"{text!r} is not a query that can be searched for",
        do="write 'candidates --resources VCPU:8', 'show provider ID' or 'show consumer ID'; see `vacancy bisect --help`",
    )


def _candidates(words: list[str], registry: Registry) -> Question:
    """Whether there is a candidate. The answer is True or False."""
    from vacancy.cli.commands.scheduling.candidates import candidates
    from vacancy.cli.options.request_options import RequestOptions
    from vacancy.projections.query.budget import gave_up_text
    from vacancy.resources.model.errors import SearchGivenUp

    asked = typer.Typer(add_completion=False)
    asked.command("candidates")(candidates)
    given = typer.main.get_command(asked).make_context("vacancy candidates", words).params
    for name in _NOT_ASKED:
        if name in given and given[name] and name != "timeout":
            raise UsageError(
                f"--{name.removeprefix('as_').replace('_', '-')} does not belong into the query",
                do="leave it out",
            )
    names = [one.name for one in fields(RequestOptions)]
    request = RequestOptions(**{name: given[name] for name in names})
    qualities_only = given["qualities_only"]
    spec = request.parse(registry, qualities_only=qualities_only).spec

    def ask(query: StoreQuery) -> bool:
        if qualities_only:
            return bool(query.qualified(spec, max_staleness_s=given["max_staleness"])[0])
        found = query.candidates(
            spec,
            limit=1,
            max_staleness_s=given["max_staleness"],
            consumer=given["consumer"],
            cell=given["cell"],
            prefer_cell=given["prefer_cell"],
            not_nodes=given["not_node"] or (),
        )
        if found.gave_up and not found.candidates:
            raise SearchGivenUp(gave_up_text(found.gave_up), f"at {position_text(found.as_of)}")
        return bool(found.candidates)

    return ask


def _shown(kind: str, name: str) -> Question:
    """What `vacancy show` answers, without the fields that change all the time; None where there is no such thing."""
    from vacancy.clients.inspection import group_report, lookup

    commands: dict[str, Callable[..., Any]] = {
        "provider": lookup.show_provider,
        "consumer": lookup.show_consumer,
        "request": lookup.show_request,
        "claim": lookup.show_claim,
        "group": group_report.show_group,
    }
    show = commands[kind]

    def ask(query: StoreQuery) -> Any:
        try:
            return _without_volatile(plain(show(query.reader, name)))
        except lookup.NotFound:
            return None

    return ask


def _without_volatile(answer: Any) -> Any:
    if isinstance(answer, dict):
        return {name: _without_volatile(one) for name, one in answer.items() if name not in _VOLATILE}
    return [_without_volatile(one) for one in answer] if isinstance(answer, list) else answer


def _answer_text(answer: Any) -> str:
    if isinstance(answer, bool):
        return "there is a candidate" if answer else "there is no candidate"
    return "not there" if answer is None else "there"


def _as_json(query: str, flip: Flip) -> dict[str, Any]:
    from vacancy.clients.history.record_view import view_record

    return {
        "query": query,
        "record": {**view_record(flip.record).as_json(), "outcome": flip.outcome},
        "position_before": flip.position_before,
        "position_after": flip.position_after,
        "before": flip.before,
        "after": flip.after,
        "asked": flip.asked,
    }


def _render(query: str, flip: Flip) -> None:
    from vacancy.cli.commands.log.log import print_outcome
    from vacancy.clients.history.record_view import record_lines, view_record

    record = flip.record
    place = f"{record.partition}:{record.offset}"
    emit(f"record {place} of {time_text(record.timestamp_ms)} changed the answer to: {query}")
    emit(f"before, at {position_text(flip.position_before)}: {_answer_text(flip.before)}")
    emit(f"after, at {position_text(flip.position_after)}: {_answer_text(flip.after)}")
    for line in _differences(flip.before, flip.after):
        emit(f"  {line}")
    for line in record_lines(view_record(record), full=False):
        emit(line)
    print_outcome(flip.outcome)
    note(f"asked at {flip.asked} positions; if the answer changed several times, this is one of the changes")


def _differences(before: Any, after: Any, path: str = "") -> list[str]:
    """The fields of two answers that differ."""
    if isinstance(before, dict) and isinstance(after, dict):
        names = sorted({*before, *after})
        return [
            line
            for name in names
            if before.get(name) != after.get(name)
            for line in _differences(before.get(name), after.get(name), f"{path}.{name}" if path else name)
        ]
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        pairs = enumerate(zip(before, after, strict=True))
        return [line for at, (a, b) in pairs if a != b for line in _differences(a, b, f"{path}[{at}]")]
    if isinstance(before, bool):
        return []
    return [f"{path or 'answer'}: {json.dumps(before)} became {json.dumps(after)}"]
