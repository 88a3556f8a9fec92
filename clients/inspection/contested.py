"""Nodes that events of two writers reach: which they are, what was dropped, and what to do.

Rules version 3 closes such a node and counts what it drops (`ContestedRow`). A node's publisher can ask here about its
own name, if there is a store on its host.
"""

from __future__ import annotations

from pathlib import Path

from vacancy.clients.inspection.answers import ContestedAnswer
from vacancy.projections.reader.partition_reader import PartitionReader
from vacancy.projections.reader.store_reader import StoreReader
from vacancy.projections.store.manifest import read_manifest
from vacancy.projections.store.store import partition_path
from vacancy.resources.classes.registry import Registry
from vacancy.resources.model.errors import VacancyError
from vacancy.resources.model.partitioner import partition_for
from vacancy.resources.state.rows import UNTIL_DECIDED, ContestedRow
from vacancy.resources.state.tables import CONTESTED, DEAD_LETTERS, MACHINES, NODES, key, split_key
from vacancy.streams.clocks.clock import utc_text
from vacancy.streams.log import AppendedAt


def contested_node(reader: StoreReader, cell: str, root: str) -> ContestedAnswer | None:
    """What is known of conflicts of a node, as of the reader's position; None if there were none."""
    row = reader.get(CONTESTED, key(cell, root))
    return None if row is None else _answer(root, cell, partition_for(cell, reader.manifest.partitions), row)


def contested_nodes(reader: StoreReader) -> list[ContestedAnswer]:
    """All nodes that ever had conflicts: those that are closed first, then by cell and name."""
    found = [
        _answer(root, cell, partition, row)
        for partition, name, row in reader.scan(CONTESTED)
        for cell, root in (split_key(name),)
    ]
    return sorted(found, key=lambda one: (not one.closed, one.cell, one.root))


def contested_text(one: ContestedAnswer) -> str:
    """Why the node is closed and what was dropped, in one line for people."""
    if one.until_ms == UNTIL_DECIDED:
        dropped = f"; {dropped_text(one)}" if one.dropped else ""
        return (
            f"{one.reason}{dropped} since {utc_text(one.since_ms, 'seconds')}; the node takes claims again when an"
            f" operator has decided: `vacancy provider adopt {one.root}`, `vacancy provider rename`, or retire one of them"
        )
    what = (
        f"events of incarnation {one.other} come although incarnation {one.incarnation} is open"
        if one.other != one.incarnation
        else f"events of incarnation {one.other} come twice or out of order"
    )
    since, until = utc_text(one.since_ms, "seconds"), utc_text(one.until_ms, "seconds")
    return (
        f"{what}: two publishers use this name; {dropped_text(one)} since {since}, the last at"
        f" {one.partition}:{one.offset} ({one.reason}); the node takes claims again at {until} of log"
        " time if no other such event arrives"
    )


def machine_clashes(reader: StoreReader) -> dict[str, list[str]]:
    """The nodes that are one machine, in cells whose folds do not see each other: machine -> `node NAME in cell CELL` each."""
    view = reader.view
    return {
        machine: sorted(f"node {name} in cell {cell}" for cell, name in map(view.name, rows))
        for machine, rows in sorted(view.machine_clashes.items())
    }


def same_machine_text(reader: StoreReader, cell: str, root: str) -> str:
    """That a node's machine is also another node, in another cell, for people; or ""."""
    if not reader.view.machine_clashes:
        return ""
    row = reader.get(MACHINES, key(cell, root))
    names = machine_clashes(reader).get(row.machine if row is not None else "")
    if not names:
        return ""
    return f"machine {row.machine if row is not None else ''} reports as {' and as '.join(names)}"


def dropped_text(one: ContestedAnswer) -> str:
    """How many events were dropped."""
    events = "1 event was" if one.dropped == 1 else f"{one.dropped:,} events were"
    reports = (
        "1 is a full report" if one.dropped_reports == 1 else f"{one.dropped_reports:,} are full reports"
    )
    return f"{events} dropped ({reports})"


def _answer(root: str, cell: str, partition: int, row: ContestedRow) -> ContestedAnswer:
    return ContestedAnswer(
        root,
        cell,
        partition,
        row.until_ms > 0,
        row.since_ms,
        row.until_ms,
        row.dropped,
        row.dropped_reports,
        row.offset,
        row.time_ms,
        row.reason,
        row.incarnation,
        row.other,
    )


# -- a publisher's own name ---------------------------------------------------------------------------------------


def _refusal(tables: PartitionReader, incarnation: str, landed: AppendedAt) -> str:
    """Why a publisher's last event was refused, or "". Events that follow a refused report are refused because no report
    opened the incarnation, so the reason of the report is returned if it is still known."""
    letters = [DEAD_LETTERS.decode(data) for _, data in tables.scan(DEAD_LETTERS.family)]
    own = [one for one in letters if one.offset == landed.offset]
    if not own:
        return ""
    reports = [one for one in letters if incarnation.encode() in one.value and b"node.reported" in one.value]
    return max(reports or own, key=lambda one: one.offset).reason


def own_node_warning(
    store: Path,
    registry: Registry,
    log: str,
    cell: str,
    root: str,
    incarnation: str,
    landed: AppendedAt | None,
) -> str | None:
    """What a publisher must know of its events, from the store of its host: a warning if they are refused, or if another
    publisher uses the node's name, else "".

    `incarnation` is the publisher's, `landed` the place of its last event in the log (None: there is none yet). None is
    returned where there is no answer: no store that can be read, a store of another log than `log`, or a store that has
    not folded that event. Nothing is raised.
    """
    try:
        manifest = read_manifest(store)
        if landed is None or manifest is None or manifest.log != log:
            return None
        path = partition_path(store, landed.partition)
        if not path.is_dir():
            return None
        tables = PartitionReader(path, registry)
        try:
            if tables.local.position <= landed.offset:
                return None
            name = key(cell, root)
            node, contested = tables.get(NODES, name), tables.get(CONTESTED, name)
            machine = tables.get(MACHINES, name)
            refusal = _refusal(tables, incarnation, landed)
        finally:
            tables.close()
    except (VacancyError, OSError):
        return None
    if refusal:
        return f"the events of this publisher of node {root} are refused: {refusal}; correct its report"
    do = "stop the other publisher, or give one of the two another --root"
    if contested is not None and contested.until_ms == UNTIL_DECIDED:
        one = _answer(root, cell, landed.partition, contested)
        return f"node {root} is closed to new claims: {contested_text(one)}"
    if contested is not None and contested.until_ms > 0:
        one = _answer(root, cell, landed.partition, contested)
        return f"node {root} is closed to new claims: {contested_text(one)}; {do}"
    if machine is not None and incarnation in machine.strangers:
        return (
            f"the events of this publisher of node {root} are dropped: an operator decided that its machine is not {root};"
            f" stop it, or let an operator decide again: `vacancy provider adopt {root}`"
        )
    current = None if node is None else node.incarnations[0][0]
    if current not in (None, incarnation):
        return (
            f"the events of this publisher of node {root} are dropped: another publisher has opened incarnation"
            f" {current}, and this one has {incarnation}; {do}, then restart this one"
        )
    return ""
