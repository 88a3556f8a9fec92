"""`vacancy demo`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vacancy.cli.context import DEFAULT_PARTITIONS, CommandContext
from vacancy.cli.errors import DifferenceFound
from vacancy.cli.options import shared_options as o
from vacancy.cli.output import emit, emit_json, emit_table, is_watched, note, stderr_console
from vacancy.streams.printable import printable

if TYPE_CHECKING:
    from vacancy.clients.demo.demo import DemoResult
    from vacancy.clients.demo.race_trial import Step

_STAGES = {
    "publish": "nodes report",
    "race": "schedulers race",
    "settle": "the tables catch up",
    "rebuild": "a second store is built from the log",
    "audit": "every claim is audited",
}


def demo(
    nodes: Annotated[
        int, typer.Option("--nodes", min=1, help="The number of synthetic nodes, in addition to this host.")
    ] = 300,
    schedulers: Annotated[
        int, typer.Option("--schedulers", min=1, help="The number of schedulers, each in its own process.")
    ] = 4,
    requests: Annotated[
        int | None,
        typer.Option(
            "--requests",
            min=1,
            help="The number of requests.",
            show_default="one and a half times what fills the fleet",
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", min=0, help="The seed of the fleet and of all random choices.")
    ] = 0,
    order: o.OrderOption = None,
    typical: o.TypicalOption = None,
    in_flight: Annotated[
        int, typer.Option("--in-flight", min=1, help="Claims that each scheduler has under way at once.")
    ] = 16,
    hosts: Annotated[
        int,
        typer.Option(
            "--hosts", min=1, help="The number of stores that follow the log, each with its own worker."
        ),
    ] = 1,
    partitions: Annotated[
        int, typer.Option("--partitions", min=1, help="The number of partitions, if the log is created.")
    ] = DEFAULT_PARTITIONS,
    directory: Annotated[
        Path | None,
        typer.Option(
            "--keep",
            metavar="DIR",
            help="Keep the log and the stores in this directory (default: a temporary one, which is removed).",
        ),
    ] = None,
    log: o.LogOption = None,
    config: o.ConfigOption = None,
    kafka: o.KafkaOption = None,
    as_json: o.JsonOption = False,
) -> None:
    """Run the whole loop: this host and a synthetic fleet report, schedulers race, the state is rebuilt and compared.

    Only the fleet is synthetic. The log, the tables, the worker and the schedulers are real, each in its own process.
    Ends with exit code 5 if anything was allocated twice or the rebuilt state differs. Without --log, a new log is
    created.
    """
    from vacancy.clients.demo.demo import DemoOptions, run_demo
    from vacancy.clients.scheduler.order_names import order_named

    settings = CommandContext(log=log, config=config, kafka=kafka).settings
    options = DemoOptions(
        nodes=nodes,
        schedulers=schedulers,
        requests=requests,
        seed=seed,
        partitions=partitions,
        # Use a configured log only if it is named on this command line: it may be in production.
        log=None if log is None else settings.log,
        directory=directory,
        hosts=hosts,
        order=order_named(order or "random", typical),
        in_flight=in_flight,
        client_settings=settings.kafka,
    )
    with _progress() as progress:
        result = run_demo(options, progress)
    if as_json:
        emit_json(result.as_json())
    else:
        _print_result(result)
    if not result.ok:
        first = result.audit.problems[0] if result.audit.problems else "the rebuilt state differs"
        raise DifferenceFound(
            f"the demo found a problem: {first}", where=result.log, do="report it, with the seed and the log"
        )


def _print_result(result: DemoResult) -> None:
    race, audit = result.race, result.audit
    emit_table(
        ("WHAT", "RESULT"),
        [
            ("nodes, including this host", f"{result.nodes:,}"),
            ("resource providers", f"{result.providers:,}"),
            ("requests", f"{race.requests:,}"),
            ("placed", f"{race.accepted:,}"),
            ("found no valid host", f"{race.no_valid_host:,}"),
            ("released again", f"{race.released:,}"),
            ("claims lost to other schedulers", f"{race.lost_claims:,}"),
            ("claims per second", f"{race.claims_per_s:,.0f}"),
            ("request to verdict, ms", f"{race.claim_ms.p50:.1f} (p99 {race.claim_ms.p99:.1f})"),
            ("query, ms", f"{race.query_ms.p50:.2f} (p99 {race.query_ms.p99:.2f})"),
            ("events in the log", f"{result.events:,}"),
            ("allocated twice", f"{audit.overcommitted:,}"),
            ("wrong rejections", f"{audit.wrong_rejections:,}"),
            ("rebuilt from the log", "the same" if result.rebuilt_equal else "NOT the same"),
        ],
    )
    emit(f"digest {result.digest_live}")
    if result.directory is not None:
        note(f"the log and the stores are in {result.directory}")


@contextmanager
def _progress() -> Iterator[Callable[[Step], None] | None]:
    if not is_watched():
        yield None
        return
    from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn

    bar = Progress(
        TextColumn("{task.description:<28}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        console=stderr_console(),
    )
    tasks: dict[str, TaskID] = {}

    def show(step: Step) -> None:
        if step.stage not in tasks:
            tasks[step.stage] = bar.add_task(printable(_STAGES.get(step.stage, step.stage)), note="")
        bar.update(tasks[step.stage], completed=step.done, total=step.total, note=printable(step.note))

    with bar:
        yield show
