"""`vacancy verify`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from vacancy.cli.context import CommandContext
from vacancy.cli.errors import DifferenceFound
from vacancy.cli.options import shared_options as o
from vacancy.cli.output import emit_json, emit_table, note, position_text, progress_bar

if TYPE_CHECKING:
    from vacancy.clients.replay_tool.differences import PartedPartition
    from vacancy.clients.replay_tool.verify import Verification
    from vacancy.projections.store.state_digests import ComparedStore

_PROBLEMS_SHOWN = 10


def verify(
    log: o.LogOption = None,
    store: o.StoreOption = None,
    config: o.ConfigOption = None,
    kafka: o.KafkaOption = None,
    archive: o.ArchiveOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Compare this host's store with the log and with what other hosts said of theirs, and audit every allocation.

    The log is folded again into a temporary store, and the two are compared. Where they differ, it names the first record
    that can be the cause, or the rows that were altered after they were committed. Then an auditor that shares no code with
    the fold checks every claim, verdict and release. Ends with 5 if anything differs or is wrong.
    """
    site = CommandContext(log=log, store=store, config=config, kafka=kafka, archive=archive)
    from vacancy.clients.replay_tool.verify import verify as verify_store

    with site.open_log() as opened, progress_bar("records folded") as progress:
        found = verify_store(opened, site.store, site.registry(), progress=progress)
    if as_json:
        emit_json(
            {
                "ok": found.ok,
                "position": found.position,
                "digest_store": found.digest_store,
                "digest_rebuilt": found.digest_rebuilt,
                "different": found.different,
                "compared": found.compared,
                "parted": found.parted,
                "hosts": found.hosts,
                "audit": found.audit,
            }
        )
    else:
        _show(found)
    _raise_difference(found, site)


def _show(found: Verification) -> None:
    """Print it for people."""
    audit = found.audit
    emit_table(
        ("WHAT", "FOUND"),
        [
            ("position", position_text(found.position)),
            ("digest of the store", found.digest_store),
            ("digest of the log", found.digest_rebuilt),
            *([("compared with what hosts said", found.compared)] if found.compared else []),
            ("claims", audit.claims),
            ("accepted", audit.accepted),
            ("rejected", audit.rejected),
            ("after their deadline", audit.late),
            ("released", audit.released),
            ("overcommitted", audit.overcommitted),
            ("wrong rejections", audit.wrong_rejections),
            ("missing verdicts", audit.missing_verdicts),
            ("unexpected verdicts", audit.extra_verdicts),
            ("not as requested", audit.misplaced),
            ("cannot be verified", audit.unverifiable),
        ],
    )
    for one in found.parted:
        _print_parted(one)
    for partition, stores in found.hosts.items():
        for other in stores:
            note(f"partition {partition}: {_host_text(other)}")
    for reason, count in audit.unverifiable_reasons.items():
        note(f"cannot be verified: {reason} ({count})")
    for open_move in audit.open_moves:
        note(open_move)
    for problem in audit.problems[:_PROBLEMS_SHOWN]:
        note(problem)
    if len(audit.problems) > _PROBLEMS_SHOWN:
        note(f"and {len(audit.problems) - _PROBLEMS_SHOWN} more; see all with --json")


def _raise_difference(found: Verification, site: CommandContext) -> None:
    """Raise `DifferenceFound` for what is most important."""
    audit = found.audit
    if found.different:
        raise DifferenceFound(
            f"the store differs from the log in partitions {', '.join(map(str, found.different))}",
            where=f"store {site.store} at {position_text(found.position)}",
            do="rebuild it with `vacancy replay --rebuild`, and keep the old one to find the cause",
        )
    if found.hosts:
        partition, (first, *_) = next(iter(found.hosts.items()))
        raise DifferenceFound(
            f"a store of another host differs from the log: {_host_text(first)}",
            where=f"partition {partition}, offset {first.offset}",
            do="run `vacancy verify` there; if that finds nothing, the builds differ: compare their versions",
        )
    if not found.ok:
        raise DifferenceFound(
            f"the auditor found {len(audit.problems)} errors, the first: {audit.problems[0]}",
            where=site.settings.log,
            do="see all with --json, and report them",
        )


def _print_parted(one: PartedPartition) -> None:
    """Say how a partition differs from the log."""
    note(f"partition {one.partition}: {_parted_text(one)}")
    for row in one.rows[:_PROBLEMS_SHOWN]:
        note(
            f"  table {row.table}, key {row.key}: here {_row_text(row.here)}, in the log {_row_text(row.log)}"
        )
    if one.count > _PROBLEMS_SHOWN:
        note(f"  and {one.count - _PROBLEMS_SHOWN:,} more rows; see the first with --json")


def _parted_text(one: PartedPartition) -> str:
    rows = f"{one.count:,} rows differ" if one.count != 1 else "1 row differs"
    text = f"{rows} at position {one.position:,}"
    if one.altered:
        text += ", altered on the disk: no record wrote " + ("it" if one.count == 1 else "them")
        text += " since they were equal" if one.equal >= 0 else ""
    else:
        text += f"; the first record that can be the cause is at offset {one.first:,}"
    if one.equal >= 0:
        text += f"; they were equal at position {one.equal:,} (digest {one.digest_equal or 'not kept'})"
    if one.differs >= 0:
        text += f"; they differed at position {one.differs:,} (digest {one.digest_differs}, of the log {one.digest_differs_log})"
    return f"{text}; now the digest is {one.digest}, that of the log {one.digest_log}"


def _row_text(row: object) -> str:
    return "no row" if row is None else json.dumps(row)


def _host_text(one: ComparedStore) -> str:
    equal = f", and was equal at {one.equal:,}" if one.equal >= 0 else ""
    return (
        f"store {one.store} on {one.host or 'an unnamed host'} (vacancy {one.build}) said at offset {one.offset:,} that it has"
        f" digest {one.theirs} at position {one.differs:,}, the log gives {one.ours}{equal}"
    )
