"""A SQLite log with reports and placements, for tests of replay; and "other builds": this one with a fold that was changed."""

from __future__ import annotations

import sys
from pathlib import Path

from msgspec.structs import replace

from vacancy.clients.runtime.bootstrap import installed_registry, new_log
from vacancy.resources.model import events
from vacancy.resources.model.partitioner import cell_for
from vacancy.resources.model.record import NewRecord
from vacancy.resources.state.rows import ProviderRow
from vacancy.streams.log import Log

REGISTRY = installed_registry()

_BUILD = """#!{python}
import sys
from vacancy.clients.replay_tool import change_emitter
from vacancy.projections.store import store
from vacancy.resources.fold.fold import fold
from vacancy.resources.model.errors import Halt
from msgspec.structs import replace

def changed(state, record, *rest):
    changes = fold(state, record, *rest)
    if (record.partition, record.offset) == {at}:
        {change}
    return changes

{emits}
change_emitter.fold = store.fold = changed
from vacancy.cli.main import main
sys.exit(main())
"""

TAKES_MORE = """
        for table, rows in changes.items():
            for key, row in rows.items():
                if hasattr(row, "taken"):
                    rows[key] = replace(row, taken=row.taken + 1)"""
"""Each inventory that the record writes counts one more."""

REWRITES = """
        for table, rows in list(changes.items()):
            for key in list(state._rows[table]):
                rows.setdefault(key, state.get(table, key))"""
"""Rows are written again as they were: the state is the same."""

HALTS = """raise Halt("this build does not go on")"""


def other_build(path: Path, at: tuple[int, int], change: str = TAKES_MORE, *, emits: bool = True) -> Path:
    """An executable that is this build, but that folds the record at (partition, offset) differently. Without `emits` it is one
    that does not know the protocol of a comparison."""
    without = (
        ""
        if emits
        else 'if "--emit-changes" in sys.argv:\n    print("vacancy: No such option: --emit-changes", file=sys.stderr)\n    sys.exit(2)'
    )
    path.write_text(_BUILD.format(python=sys.executable, at=at, change=change, emits=without))
    path.chmod(0o755)
    return path


def report(root: str, sequence: int = 1, total: int = 8) -> bytes:
    """A report of a node with one inventory."""
    data = {
        "root": root,
        "incarnation": "0" * 16,
        "sequence": sequence,
        "providers": [{"id": root, "inventories": {"VCPU": {"total": total}}}],
    }
    return events.encode_plain("vacancy.node.reported.v1", f"{root}-{sequence}", f"/node/{root}", data)


def append_reports(log: Log, nodes: int, sequence: int = 1) -> None:
    """Append a report of each node."""
    names = [f"n{i}" for i in range(nodes)]
    log.append([NewRecord(cell_for(n, log.partitions), report(n, sequence, 8 + sequence)) for n in names])


def log_of_reports(home: Path, partitions: int, nodes: int) -> str:
    """The URL of a new log in `home`."""
    url = f"sqlite://{home}/log.db"
    with new_log(url, partitions, REGISTRY) as log:
        append_reports(log, nodes)
    return url


def with_trait(row: ProviderRow) -> ProviderRow:
    """A provider's row that was altered."""
    return replace(row, reported_traits=("CUSTOM_ALTERED",))
