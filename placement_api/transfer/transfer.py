"""Copies a deployment of Placement into a cell of a log, copies a cell into a Placement, and compares the two."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vacancy.placement_api.transfer.cell import Cell
from vacancy.placement_api.transfer.comparison import Comparison, as_fields, compare
from vacancy.placement_api.transfer.deployment import (
    Deployment,
    Finding,
    in_placements_words,
    sound,
)
from vacancy.placement_api.transfer.endpoint import (
    EndpointError,
    Progress,
    Refusal,
    Source,
    Target,
    is_api,
    resolve,
)
from vacancy.placement_api.transfer.plan import Plan, make_plan
from vacancy.resources.model.errors import LogError, OutcomeUnknown, StoreError

if TYPE_CHECKING:
    from vacancy.placement_api.transfer.api import PlacementApi
    from vacancy.placement_api.transfer.database import Database

ShowProgress = Callable[[str], AbstractContextManager[Progress | None, bool | None]]
"""Shows the progress of a task of this name, as `cli.output.progress_bar`."""


@dataclass(frozen=True)
class Copied:
    """What a copy did, and how source and target differ after it.

    source: what was read first. `findings`: what it has that cannot be copied as it is. `plan`: what was to be written.
    `comparison` is None for a dry run.
    """

    source: Deployment
    findings: tuple[Finding, ...]
    plan: Plan
    refusals: tuple[Refusal, ...] = ()
    comparison: Comparison | None = None

    def as_fields(self) -> dict[str, Any]:
        """For JSON."""
        plan = self.plan
        return {
            "source": self.source.counts(),
            "findings": [one._asdict() for one in self.findings],
            "to_write": {
                "names": len(plan.classes) + len(plan.traits),
                "providers": len(plan.providers),
                "consumers": len(plan.consumers),
            },
            "refusals": [one._asdict() for one in self.refusals],
            "comparison": None if self.comparison is None else as_fields(self.comparison),
        }


def open_endpoint(place: str) -> Database | PlacementApi:
    """The database or the API that a text names (`resolve`). Raises `UsageError` where it cannot be one."""
    url = resolve(place)
    if is_api(url):
        from vacancy.placement_api.transfer.api import PlacementApi

        return PlacementApi(url)
    from vacancy.placement_api.transfer.database import Database

    return Database(url)


def import_into(
    cell: Cell,
    source: Source,
    show: ShowProgress,
    *,
    dry_run: bool = False,
    go_on: bool = False,
) -> Copied:
    """Copy a deployment into a cell, and compare them after that with a source that is read again.

    `go_on`: the cell may have state, of an import that was interrupted or of another origin. What both have becomes as the source
    has it, what only the cell has stays. Raises `EndpointError` for a cell that is not empty without it.
    """
    return _copy(source, cell, show, dry_run=dry_run, go_on=go_on, plain=sound)


def export_from(
    cell: Cell,
    place: str,
    show: ShowProgress,
    *,
    dry_run: bool = False,
    go_on: bool = False,
) -> Copied:
    """Copy a cell into the empty database, or through the API, that `place` names, and compare them after that.

    A database is filled in one transaction, so it must be empty also with `go_on`.
    """
    target = open_endpoint(place)
    if isinstance(target, Target):
        return _copy(cell, target, show, dry_run=dry_run, go_on=go_on, plain=_for_placement)
    return _fill(cell, target, show, dry_run=dry_run)


def _for_placement(cell: Deployment) -> tuple[Deployment, list[Finding]]:
    kept, findings = in_placements_words(cell)
    found, more = sound(kept)
    return found, findings + more


def _copy(
    source: Source,
    target: Target,
    show: ShowProgress,
    *,
    dry_run: bool,
    go_on: bool,
    plain: Callable[[Deployment], tuple[Deployment, list[Finding]]],
) -> Copied:
    with show(f"reading {source.name}") as progress:
        read = source.read(progress)
    with show(f"reading {target.name}") as progress:
        there = target.read(progress)
    if not (there.is_empty or go_on or dry_run):
        raise EndpointError(
            f"{target.name} is not empty: {_counts(there)}",
            do="add --continue to go on with a copy that was interrupted: what both sides have becomes as the source has"
            " it, and what only the target has stays",
        )
    copied, findings = plain(read)
    plan = make_plan(copied, there)
    if dry_run:
        return Copied(read, tuple(findings), plan)
    with show(f"writing {target.name}") as progress, _resumable():
        refusals = target.write(plan, progress)
    with show("comparing") as progress:
        comparison = compare(source.read(progress), target.read(progress))
    return Copied(read, tuple(findings), plan, tuple(refusals), comparison)


@contextmanager
def _resumable() -> Iterator[None]:
    """Says of an error in the middle that the copy can be continued."""
    try:
        yield
    except (LogError, StoreError, OutcomeUnknown, EndpointError) as error:
        do = "run it again with --continue"
        if isinstance(error, OutcomeUnknown):
            do = f"check that `vacancy worker` runs, then {do}"
        raise type(error)(error.what, where=error.where, do=do) from error


def _fill(cell: Cell, database: Database, show: ShowProgress, *, dry_run: bool) -> Copied:
    read = cell.read()
    copied, findings = _for_placement(read)
    plan = make_plan(copied, Deployment())
    database.check_empty()
    if dry_run:
        return Copied(read, tuple(findings), plan)
    with show(f"writing {database.name}") as progress:
        database.fill(copied, progress)
    with show("comparing") as progress:
        comparison = compare(cell.read(), database.read(progress))
    return Copied(read, tuple(findings), plan, (), comparison)


def compare_with(cell: Cell, place: str, show: ShowProgress) -> Comparison:
    """Compare the deployment that `place` names with a cell. Nothing is written."""
    source = open_endpoint(place)
    with show(f"reading {source.name}") as progress:
        read = source.read(progress)
    return compare(read, cell.read())


def _counts(deployment: Deployment) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in deployment.counts().items() if count)
