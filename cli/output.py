"""Output of the commands: answers go to standard output, everything else to standard error.

All of it passes `printable`, line by line. No other module of the command writes to a stream (a test checks that).
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from vacancy.resources.model.encoding.plain import plain
from vacancy.resources.model.errors import OutcomeUnknown, VacancyError
from vacancy.streams.clocks.clock import utc_text
from vacancy.streams.printable import printable

if TYPE_CHECKING:
    from rich.console import Console

    from vacancy.cli.context import CommandContext
    from vacancy.clients.inspection.cell_moves import CellMove
    from vacancy.clients.replay_tool.replay import Progress
    from vacancy.projections.reader.store_reader import StoreReader

_PIPED_COLUMNS = 10_000
_FOLDED_MIN = 16
"""The width of a folded column below which nobody can read it."""

_PIPE_CLOSED = 141
"""What a shell reports for a program that a closed pipe has ended."""


def emit(line: str = "") -> None:
    """Write one line of an answer to standard output. What a terminal must not receive is escaped, line feeds too."""
    _write(printable(line))


def emit_json(answer: Any) -> None:
    """Write an answer as one JSON document. Dataclasses, named tuples, models and structs become objects.

    It is ASCII: every other character, and every control character, is an escape of JSON.
    """
    _write(json.dumps(plain(answer), indent=1))


def emit_json_line(answer: Any) -> None:
    """As `emit_json`, on one line: for answers that come one after the other."""
    _write(json.dumps(plain(answer)))


def _write(text: str) -> None:
    """Write printable text to standard output. If the reader has closed the pipe (`| head`), exit silently."""
    try:
        try:
            sys.stdout.write(text + "\n")
        except UnicodeEncodeError:  # the terminal's encoding does not have a character
            encoding = sys.stdout.encoding
            sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # Otherwise Python would fail again at exit, when it flushes its buffer.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(_PIPE_CLOSED) from None


NOT_WAITED = "the log has it; what becomes of it is not known yet"
"""What a command notes that did not wait for the store."""


def outcome_name(applied: bool) -> str:
    """The outcome of a record that was not refused, for JSON."""
    return "applied" if applied else "unknown"


@contextmanager
def failure_as_json(as_json: bool, **fields: object) -> Iterator[None]:
    """With `as_json`, write how a record failed as JSON, too: `outcome` is `refused`, or `unknown` where it is not known
    yet. The error is raised as it is. `fields` come first in the JSON."""
    try:
        yield
    except OutcomeUnknown as error:
        if as_json:
            emit_json({**fields, "outcome": "unknown", "reason": error.what})
        raise
    except VacancyError as error:
        at = getattr(error, "at", None)
        if as_json and at is not None:
            place = {"partition": at.partition, "offset": at.offset}
            emit_json({**fields, "outcome": "refused", "reason": getattr(error, "reason", ""), **place})
        raise


_bar: list[Console] = []
"""The console of the progress bar that is shown, if one is."""


def note(text: str) -> None:
    """Write a message that is not part of the answer to standard error, as one line. Beside a progress bar it is written above
    the bar, and stays there."""
    if _bar:
        _bar[-1].print(f"vacancy: {printable(text)}", soft_wrap=True)
        return
    sys.stderr.write(f"vacancy: {printable(text)}\n")
    sys.stderr.flush()


def is_watched() -> bool:
    """Whether standard error is a terminal."""
    return sys.stderr.isatty()


def emit_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table. In a pipe each row is one line. At a terminal it fits the width: its widest column is folded; where that
    is not enough, each row is a paragraph. Numbers are right-aligned."""
    from rich.console import Console
    from rich.table import Table

    cells = [["" if value is None else value for value in row] for row in rows]
    is_number = [
        bool(cells) and all(isinstance(row[at], int | float) or row[at] == "" for row in cells)
        for at in range(len(columns))
    ]
    texts = [[printable(str(value)) for value in row] for row in cells]
    names = [printable(name) for name in columns]
    console = Console(
        width=None if sys.stdout.isatty() else _PIPED_COLUMNS, markup=False, highlight=False, emoji=False
    )
    widths = (
        [max(len(name), *(len(row[at]) for row in texts)) for at, name in enumerate(names)] if texts else [0]
    )
    widest = widths.index(max(widths))
    if (
        sum(widths) - widths[widest] + 2 * len(names) + _FOLDED_MIN
        > console.width
        < sum(widths) + 2 * len(names)
    ):
        for row in texts:
            _write("\n".join(row_paragraph(names, row, console.width)))
        return
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for at, name in enumerate(names):
        table.add_column(
            name,
            justify="right" if is_number[at] else "left",
            overflow="fold",
            no_wrap=bool(texts) and at != widest,
        )
    for row in texts:
        table.add_row(*row)
    with console.capture() as captured:
        console.print(table)
    # Rich's own escapes (bold headings) are in it; the cells are printable already.
    _write("\n".join(line.rstrip() for line in captured.get().splitlines()))


def row_paragraph(names: Sequence[str], row: Sequence[str], width: int) -> list[str]:
    """A row of a table that is too wide, as lines of at most `width` columns: its first cell, and below it the others with their
    names. Empty cells are left out. A cell that is longer than a line has lines of its own."""
    lines = [f"{names[0]} {row[0]}"]
    line = ""
    for name, value in zip(names[1:], row[1:], strict=True):
        if not value:
            continue
        item = f"{name} {value}"
        if line and len(line) + 2 + len(item) > width:
            lines.append(line)
            line = ""
        line = f"{line}  {item}"
        while len(line) > width:
            lines.append(line[:width])
            line = f"    {line[width:]}"
    return [*lines, line] if line else lines


def taints_text(taints: Iterable[Mapping[str, str]]) -> str:
    """Taints as they are given to `vacancy provider taint`."""
    return ", ".join(
        f"{one['key']}{'=' if one['value'] else ''}{one['value']}"
        + (" (prefers others)" if one["effect"] == "prefer_no_schedule" else "")
        for one in taints
    )


def attributes_text(attributes: Mapping[str, str | int | bool]) -> str:
    """Attributes in the syntax of expressions: `name=value`, text in quotes."""
    return " ".join(
        f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in sorted(attributes.items())
    )


def ask_text(ask: Any) -> int | str:
    """An ask or a grant for a table: compact JSON, but a number stays a number, so that tables align it."""
    return ask if isinstance(ask, int) else json.dumps(ask, separators=(",", ":"))


def time_text(ms: int) -> str:
    """Milliseconds since 1970 as ISO 8601 in UTC; "" for 0."""
    if not ms:
        return ""
    return utc_text(ms)


def position_text(position: Mapping[int, int]) -> str:
    """A position as `partition:offset` pairs."""
    return " ".join(f"{partition}:{offset}" for partition, offset in sorted(position.items()))


def as_of_text(reader: StoreReader) -> str:
    """The position of the tables that an answer was read from, and the age of their newest record; for tables of the past
    its log time."""
    newest = reader.newest_ms
    if reader.still:
        return f"as of {position_text(reader.position)}{f', log time {time_text(newest)}' if newest else ''}"
    age = f", {max(0.0, time.time() - newest / 1000):.1f} s old" if newest else ""
    return f"as of {position_text(reader.position)}{age}"


def past_text(reader: StoreReader) -> str:
    """The position of tables of the past, as `as_of_text`; "" for those that a worker keeps up to date."""
    return as_of_text(reader) if reader.still else ""


def position_fields(reader: StoreReader) -> dict[str, Any]:
    """The position of the tables that an answer was read from, for JSON: `as_of`, and its newest log time in `as_of_ms`."""
    return {"as_of": reader.position, "as_of_ms": reader.newest_ms}


def emit_written(answer: Any, context: CommandContext) -> None:
    """Write the answer of a command that writes as JSON, with `written`: the position after its records, for `--at-least`."""
    emit_json(with_position(answer, {"written": context.written}))


def with_position(answer: Any, position: Mapping[str, Any]) -> Any:
    """An answer for JSON with the fields of `position_fields`; of a list, each of its answers."""
    found = plain(answer)
    if isinstance(found, list):
        return [{**one, **position} for one in found]
    return {**found, **position}


def stderr_console() -> Console:
    """Rich's console for progress bars. What is written to it must be `printable`; markup is text."""
    from rich.console import Console

    return Console(stderr=True, markup=False, highlight=False, emoji=False)


@contextmanager
def progress_bar(task: str) -> Iterator[Progress | None]:
    """A progress callback (records done, records in all). The bar shows records, records a second, and the time left.

    None if standard error is not a terminal.
    """
    if not is_watched():
        yield None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TextColumn, TimeRemainingColumn

    class Rate(TextColumn):
        def render(self, task: Task) -> Any:
            self.text_format = f"{task.speed or 0:,.0f}/s"
            return super().render(task)

    console = stderr_console()
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(""),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
    _bar.append(console)
    try:
        with bar:
            number = bar.add_task(printable(task), total=None)
            yield lambda done, total: bar.update(number, completed=done, total=total)
    finally:
        _bar.pop()


def open_move_text(move: CellMove) -> str:
    """An open move between cells, what it waits for, and the command that goes on with it."""
    return (
        f"{move.consumer} is being moved from cell {move.source} to cell {move.destination} (move {move.id}): {move.reason};"
        f" go on with `vacancy settle {move.consumer}`"
    )
