"""`vacancy status`."""

from __future__ import annotations

from vacancy.cli import options as o
from vacancy.cli.context import OPTIONAL_LOG_S, CommandContext
from vacancy.cli.output import emit, emit_json, emit_table, note, time_text
from vacancy.resources.model.errors import LogError


def status(
    log: o.LogOption = None,
    store: o.StoreOption = None,
    config: o.ConfigOption = None,
    kafka: o.KafkaOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """How this host's store is: how far behind the log, how much it holds, what needs a person.

    Where the log does not answer, the rest is told all the same.
    """
    site = CommandContext(log=log, store=store, config=config, kafka=kafka)
    from vacancy.clients.inspection import status as whole

    with site.open_reader() as reader:
        ends = None
        try:
            with site.open_log(OPTIONAL_LOG_S) as opened:
                ends = opened.end()
                if opened.identity().log != reader.manifest.log:
                    note(
                        f"the store was folded from another log than {site.settings.log}; name its own with --log"
                    )
                    ends = None
        except LogError as error:
            note(str(error))
        found = whole.status(reader, ends)
    if as_json:
        emit_json(found)
        return
    emit(f"store {site.store} of log {found.log}")
    emit_table(
        (
            "PARTITION",
            "POSITION",
            "LOG END",
            "LAG",
            "LOG TIME",
            "NODES",
            "PROVIDERS",
            "ALLOCATIONS",
            "VERDICTS",
            "OPEN REQUESTS",
            "DEAD LETTERS",
        ),
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
    if found.node_states:
        emit("nodes: " + ", ".join(f"{count} {state}" for state, count in found.node_states.items()))
    for root, cells in found.clashes.items():
        emit(
            f"node {root} is live in cells {' and '.join(cells)}: a candidate in neither until one is retired"
        )
    for name, types in found.attribute_clashes.items():
        said = ", ".join(f"{kind} on {one.providers} ({one.example})" for kind, one in types.items())
        emit(f"attribute {name} is of several types, and no comparison matches them all: {said}")
