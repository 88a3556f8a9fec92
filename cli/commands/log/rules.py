"""`vacancy rules`: the version of the rules that the log follows, and how to raise it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from vacancy.cli.context import CommandContext
from vacancy.cli.options import shared_options as o
from vacancy.cli.options.reading_options import ReadingOptions, with_reading_options
from vacancy.cli.output import (
    NOT_WAITED,
    emit,
    emit_json,
    emit_table,
    emit_written,
    failure_as_json,
    note,
    outcome_name,
    past_text,
)

if TYPE_CHECKING:
    from vacancy.clients.admin.rules import OpenProposal, Raised

app = typer.Typer(
    help="Show the rules of the log, propose others, or raise their version.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

ProposeOnlyOption = Annotated[
    bool, typer.Option("--propose-only", help="Propose the rules and stop. Workers answer meanwhile.")
]
DespiteMissingOption = Annotated[
    bool,
    typer.Option(
        "--despite-missing",
        help="Activate although some stores lack something or have not answered. Their workers stop there.",
    ),
]


@app.command()
@with_reading_options
def show(
    reading: ReadingOptions,
    as_json: o.JsonOption = False,
) -> None:
    """Show, for each partition, the version in force and the plugin classes allowed; what this build supports; and the
    open proposals with the stores' answers."""
    context = reading.context()
    from vacancy.clients.admin.rules import show_rules

    with context.open_reader(with_view=False) as reader:
        found = show_rules(reader)
        past = past_text(reader)
    if as_json:
        emit_json(found)
        return
    if past:
        note(past)
    emit_table(
        ("PARTITION", "POSITION", "VERSION", "PLUGIN CLASSES"),
        ((one.partition, one.position, one.version, " ".join(one.classes)) for one in found.partitions),
    )
    if found.unread:
        emit(f"not read yet: partitions {', '.join(map(str, found.unread))}")
    for one in found.supported:
        emit(f"this build supports version {one.version}: {one.summary}")
    emit_proposals(found.proposals)


@app.command()
def activate(
    version: Annotated[int, typer.Argument(min=1, help="The version that the log shall follow.")],
    propose_only: ProposeOnlyOption = False,
    despite_missing: DespiteMissingOption = False,
    timeout: o.TimeoutOption = 10.0,
    log: o.LogOption = None,
    store: o.StoreOption = None,
    config: o.ConfigOption = None,
    kafka: o.KafkaOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Raise every partition of the log to a version of the rules, and wait until this host's store follows it. Then count for
    quotas what was held before, if the version has quotas; after an interruption the same command continues.

    The version is proposed in the log. The worker of each store answers whether its build supports it. It is activated
    if at least one store does and none lacks it. A log of version 1 or 2 is raised in one step, without answers: upgrade
    all hosts first. Rules are never lowered.

    Exit codes: 0 all partitions follow the version, or it is proposed; 1 a store lacks it, or the event was refused; 2 this build does not support
    it, or a partition follows a higher one; 6 no worker answered, or the store did not read the events in time.
    """
    context = CommandContext(log=log, store=store, config=config, kafka=kafka)
    from vacancy.clients.admin.rules import RaiseOptions, activate_rules
    from vacancy.clients.runtime.bootstrap import followers_of

    options = RaiseOptions(timeout, propose_only, despite_missing, followers_of(context.settings))
    with (
        failure_as_json(as_json, version=version),
        context.open_log(timeout, to_write=True) as opened,
        context.open_reader(with_view=False) as reader,
    ):
        found = activate_rules(opened, reader, version, options)
    if as_json:
        emit_written(
            {"version": version, **outcome_fields(found), "counted": found.counted._asdict()}, context
        )
    elif found.outcome == "activated":
        emit_proposals(found.proposals)
        emit(f"partitions {', '.join(map(str, found.raised))} follow rules version {version} now")
        emit_one_step(found)
        emit_counted(found)
    elif found.outcome == "unchanged":
        emit(f"every partition follows rules version {version} already")
        emit_counted(found)
    else:
        emit_proposals(found.proposals)
        emit_unanswered(found)
    found.check()


@app.command()
def withdraw(
    proposal: Annotated[
        str | None, typer.Argument(help="The id of the proposal (default: all open ones).")
    ] = None,
    timeout: o.TimeoutOption = 10.0,
    no_wait: o.NoWaitOption = False,
    log: o.LogOption = None,
    store: o.StoreOption = None,
    config: o.ConfigOption = None,
    kafka: o.KafkaOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Withdraw proposals to raise the rules, so that they cannot be activated.

    Exit codes: 0 no such proposal is open any more; 1 the withdrawal was refused; 2 no proposal has this id; 6 the store
    did not read the event in time.
    """
    context = CommandContext(log=log, store=store, config=config, kafka=kafka)
    from vacancy.clients.admin.rules import withdraw_proposals

    with (
        failure_as_json(as_json, proposal=proposal),
        context.open_log(timeout, to_write=True) as opened,
        context.open_reader(with_view=False) as reader,
    ):
        found = withdraw_proposals(opened, reader, proposal, timeout_s=timeout, wait=not no_wait)
    if as_json:
        withdrawn = [{"partition": one.partition, "id": one.id} for one in found]
        emit_written({"withdrawn": withdrawn, "outcome": outcome_name(not no_wait)}, context)
    elif not found:
        emit("no proposal is open")
    for one in () if as_json else found:
        emit(f"withdrawn in partition {one.partition}: proposal {one.id} of rules version {one.version}")
    if no_wait:
        note(NOT_WAITED)


def outcome_fields(found: Raised) -> dict[str, object]:
    """The fields of an outcome in JSON."""
    return {
        "outcome": found.outcome,
        "raised": found.raised,
        "one_step": found.one_step,
        "proposals": found.proposals,
        "unanswered": [{"store": store, "running": runs} for store, runs in found.unanswered.items()],
    }


def emit_proposals(proposals: Iterable[OpenProposal]) -> None:
    """Write a table of proposals with one line for each answer."""
    rows: list[tuple[object, ...]] = []
    for one in proposals:
        head = (one.partition, one.id, one.version, " ".join(one.classes))
        for answer in one.answers:
            lacks = f"lacks {', '.join(answer.missing)}" if answer.missing else "supports it"
            rows.append((*head, answer.store, answer.host, lacks))
        if not one.answers:
            rows.append((*head, "", "", "no answer yet"))
    if rows:
        emit_table(("PARTITION", "PROPOSAL", "VERSION", "PLUGIN CLASSES", "STORE", "HOST", "ANSWER"), rows)


def emit_unanswered(found: Raised) -> None:
    """Write the stores that follow the log and have not answered."""
    for store, runs in found.unanswered.items():
        emit(
            f"store {store} has not answered; " + ("a worker of it runs" if runs else "no worker of it runs")
        )


def emit_counted(found: Raised) -> None:
    """Write what was counted that was there before the rules."""
    allocations, nodes = found.counted.allocations, found.counted.nodes
    if allocations:
        emit(
            f"counted for quotas what was granted before: {allocations:,} allocation{'s' * (allocations > 1)}"
        )
    if nodes:
        emit(f"counted for the spread of server groups: {nodes:,} silent node{'s' * (nodes > 1)}")


def emit_one_step(found: Raised) -> None:
    """Write that partitions were raised without a proposal, for the last time."""
    if found.one_step:
        emit(
            f"partitions {', '.join(map(str, found.one_step))} were raised in one step, without answers of the workers;"
            " from rules version 3 on, rules are raised in three steps"
        )
