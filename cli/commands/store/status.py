"""`vacancy status`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vacancy.cli.context import OPTIONAL_LOG_S, CommandContext
from vacancy.cli.options import shared_options as o
from vacancy.cli.options.reading_options import ReadingOptions, with_reading_options
from vacancy.cli.output import emit, emit_json, emit_table, note, past_text, time_text
from vacancy.resources.model.errors import LogError
from vacancy.streams.clocks.log_clock import NOTICE_MS, duration_text

if TYPE_CHECKING:
    from vacancy.clients.inspection.answers import (
        ColumnsStatus,
        ContestedAnswer,
        ExcludedAnswer,
        PartitionStatus,
        SigningSummary,
    )

_CONTESTED_SHOWN = 20
_TAINTS_SHOWN = 20
_COLUMNS = (
    *("PARTITION", "POSITION", "LOG END", "LAG", "LOG TIME", "NODES", "PROVIDERS", "ALLOCATIONS", "VERDICTS"),
    *("OPEN REQUESTS", "DEAD LETTERS"),
)


@with_reading_options
def status(
    reading: ReadingOptions,
    as_json: o.JsonOption = False,
) -> None:
    """Show the state of this host's store: how far it is behind the log, what it contains, what needs attention.

    If the log does not answer, everything else is still shown.
    """
    site = reading.context()
    from vacancy.clients.inspection import status as whole

    with site.open_reader() as reader:
        # The end of the log is of now: it does not belong beside tables of the past.
        found = whole.status(reader, None if site.is_past else _ends(site, reader.manifest.log))
        past = past_text(reader)
    if as_json:
        emit_json(found)
        return
    if past:
        note(past)
    emit(f"store {site.store} of log {found.log}")
    emit_table(
        _COLUMNS,
        (
            (
                one.partition,
                one.position,
                one.end,
                one.lag,
                time_text(one.time_ms),
                one.nodes,
                one.providers,
                one.allocations,
                one.verdicts,
                one.requests_open,
                one.dead_letters,
            )
            for one in found.partitions
        ),
    )
    _print_partitions(found.partitions)
    if found.node_states:
        emit("nodes: " + ", ".join(f"{count} {state}" for state, count in found.node_states.items()))
    _print_taints(found.taints)
    if found.signing is not None:
        _print_signing(found.signing)
    _print_memory(found.columns)
    for root, cells in found.clashes.items():
        emit(
            f"node {root} is live in cells {' and '.join(cells)}: it is excluded from candidates in both until it is"
            " retired in one"
        )
    for machine, names in found.machine_clashes.items():
        emit(
            f"machine {machine} reports as {' and as '.join(names)}: none of them is a candidate until an operator decides:"
            " `vacancy provider adopt`, or retire one of them"
        )
    _print_contested(found.contested)
    _print_excluded(found.excluded)
    for name, types in found.attribute_clashes.items():
        types_text = ", ".join(f"{kind} on {one.providers} ({one.example})" for kind, one in types.items())
        emit(f"attribute {name} has several types, and no comparison matches all of them: {types_text}")


def _ends(site: CommandContext, of: str) -> dict[int, int] | None:
    """The end of the log of a store, partition -> offset; None where the log does not answer, or is another one."""
    try:
        with site.open_log(OPTIONAL_LOG_S) as opened:
            ends = opened.end()
            if opened.identity().log == of:
                return ends
            note(
                f"the store was folded from another log than {site.settings.log}; give its own log with --log"
            )
    except LogError as error:
        note(str(error))
    return None


def _print_excluded(devices: list[ExcludedAnswer]) -> None:
    """The devices that nobody gets; those that somebody holds first."""
    from vacancy.cli.commands.fleet.show import excluded_text

    ordered = sorted(devices, key=lambda one: not one.holders)
    for one in ordered[:_CONTESTED_SHOWN]:
        emit(f"{one.provider} in cell {one.cell}: {excluded_text(one)}")
    if len(ordered) > _CONTESTED_SHOWN:
        emit(f"and {len(ordered) - _CONTESTED_SHOWN:,} more devices are not granted; see all with --json")


def _print_partitions(partitions: list[PartitionStatus]) -> None:
    """The partitions that differ from those of another host, or whose log time is ahead of this host's clock."""
    for one in partitions:
        for difference in one.differs.values():
            emit(f"partition {one.partition}: {difference}; run `vacancy verify` on both hosts")
        if one.ahead_s * 1000 >= NOTICE_MS:
            emit(
                f"log time of partition {one.partition} is {duration_text(int(one.ahead_s * 1000))} ahead of this host's"
                " clock: check the clocks of the brokers and of this host; until log time is reached, no deadline passes"
            )


def _print_taints(taints: dict[str, int]) -> None:
    """How many providers have which taint."""
    if taints:
        shown = [f"{text} on {count}" for text, count in list(taints.items())[:_TAINTS_SHOWN]]
        more = len(taints) - len(shown)
        emit("taints (providers): " + ", ".join(shown) + (f", and {more:,} more" if more else ""))


def _print_signing(signing: SigningSummary) -> None:
    """How far nodes sign, and whether some cannot report."""
    emit(f"signing: {signing.operator_keys} keys of operators, {signing.must_sign:,} nodes must sign")
    if signing.without_key:
        emit(
            f"{signing.without_key:,} nodes must sign and have no key, so their events are refused: register their keys"
            " with `vacancy signing register`, or see `vacancy signing show`"
        )


def _print_memory(memory: ColumnsStatus) -> None:
    """What a reader of this store leaves out of its columns, if it reaches its bound."""
    if memory.left_out:
        emit(
            f"memory: a reader of this store reaches its bound of {memory.bytes_max // 2**20:,} MiB (view_memory_mb):"
            f" {memory.left_out:,} names that few providers have are left out of its columns, for example"
            f" {', '.join(memory.examples)}; requests that ask for them are refused"
        )


def _print_contested(nodes: list[ContestedAnswer]) -> None:
    """The nodes that are closed because two writers use their names, and those that were."""
    from vacancy.clients.inspection.contested import contested_text, dropped_text

    closed = [node for node in nodes if node.closed]
    for node in closed[:_CONTESTED_SHOWN]:
        emit(f"node {node.root} in cell {node.cell} is closed: {contested_text(node)}")
    if len(closed) > _CONTESTED_SHOWN:
        emit(
            f"and {len(closed) - _CONTESTED_SHOWN:,} more nodes are closed for this reason; see all with --json"
        )
    before = [node for node in nodes if not node.closed]
    for node in before[:_CONTESTED_SHOWN]:
        emit(
            f"node {node.root} in cell {node.cell} is open again: {dropped_text(node)} earlier ({node.reason})"
        )
    if len(before) > _CONTESTED_SHOWN:
        emit(f"and {len(before) - _CONTESTED_SHOWN:,} more nodes are open again; see all with --json")
