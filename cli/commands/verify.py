"""`vacancy verify`."""

from __future__ import annotations

from vacancy.cli import options as o
from vacancy.cli.context import CommandContext
from vacancy.cli.errors import DifferenceFound
from vacancy.cli.output import emit_json, emit_table, note, position_text, progress_bar

_PROBLEMS_SHOWN = 10


def verify(
    log: o.LogOption = None,
    store: o.StoreOption = None,
    config: o.ConfigOption = None,
    kafka: o.KafkaOption = None,
    archive: o.ArchiveOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Compare this host's store with the log, and audit every allocation.

    The log is folded again into a temporary store, and the two are compared. Then an auditor that shares no code with
    the fold checks every claim, verdict and release. Ends with 5 if anything differs or is wrong.
    """
    site = CommandContext(log=log, store=store, config=config, kafka=kafka, archive=archive)
    from vacancy.clients.replay_tool.verify import verify as verify_store

    with site.open_log() as opened, progress_bar("records folded") as progress:
        found = verify_store(opened, site.store, site.registry(), progress=progress)
    audit = found.audit
    if as_json:
        emit_json(
            {
                "ok": found.ok,
                "position": found.position,
                "digest_store": found.digest_store,
                "digest_rebuilt": found.digest_rebuilt,
                "different": found.different,
                "audit": audit,
            }
        )
    else:
        emit_table(
            ("WHAT", "FOUND"),
            [
                ("position", position_text(found.position)),
                ("digest of the store", found.digest_store),
                ("digest of the log", found.digest_rebuilt),
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
        for reason, count in audit.unverifiable_reasons.items():
            note(f"cannot be verified: {reason} ({count})")
        for open_move in audit.open_moves:
            note(open_move)
        for problem in audit.problems[:_PROBLEMS_SHOWN]:
            note(problem)
        if len(audit.problems) > _PROBLEMS_SHOWN:
            note(f"and {len(audit.problems) - _PROBLEMS_SHOWN} more; see all with --json")
    if found.different:
        raise DifferenceFound(
            f"the store differs from the log in partitions {', '.join(map(str, found.different))}",
            where=f"store {site.store} at {position_text(found.position)}",
            do="rebuild it with `vacancy replay --rebuild`, and keep the old one to find the cause",
        )
    if not found.ok:
        raise DifferenceFound(
            f"the auditor found {len(audit.problems)} errors, the first: {audit.problems[0]}",
            where=site.settings.log,
            do="see all with --json, and report them",
        )
