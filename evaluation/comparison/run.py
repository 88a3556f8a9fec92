"""Runs scenarios with candidate stores in turn, each within a time limit, and writes each result as JSON once it is there.

A pair of scenario and candidate whose store fails, hangs or takes too long is reported, and the next pair runs. So the files are
complete up to the pair that ran last: a comparison that was interrupted is resumed from them, and a report is made of them at any
time.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from evaluation.candidates import registry
from evaluation.candidates.candidate import About, Candidate, WarmsUp
from evaluation.candidates.processes import descendants
from evaluation.kept_figures.machine import cpu_name
from evaluation.reporting.comparison import Comparison, Machine, about_from_json
from evaluation.scenarios.result import ScenarioResult
from evaluation.scenarios.running import SharedSite
from evaluation.scenarios.scenario import Plan, Scenario, Size
from vacancy.resources.model.errors import UsageError

BUDGET_S: Final[Mapping[Size, float]] = {"tiny": 20.0, "quick": 200.0, "full": 3_000.0}
"""How long the whole comparison may take: a quick one 4 minutes, a full one 50, with what ends late less than 75."""

GENERAL: Final = "comparison.json"
"""The file with the machine, the headers of the scenarios and what the adapters say; each other file has the results of a pair."""

_LATE_S: Final = 90.0
_LATE_SHARE: Final = 0.25
"""How late the whole may be, as a share of its time, before pairs are skipped: a full comparison then ends within 75 minutes."""
_CLEAN_UP_S: Final = 60.0

Progress = Callable[[str], None]
Pair = tuple[Scenario, str]
"""A scenario, and the name of a candidate."""


@dataclass(frozen=True)
class ComparisonOptions:
    """`budget_s`: None: that of the size. `resume`: keep the results that are there, and run what has none or failed. `candidate`:
    makes a candidate by its name."""

    size: Size = "full"
    seed: int = 1
    budget_s: float | None = None
    require_all: bool = False
    resume: bool = False
    candidate: Callable[[str], Candidate] = field(default=registry.candidate)


def run_comparison(
    scenarios: Sequence[Scenario],
    names: Sequence[str],
    raw: Path,
    options: ComparisonOptions,
    progress: Progress,
) -> None:
    """Run each scenario with each candidate that is installed, and write what was found to `raw`, which is emptied first unless the
    comparison is resumed.

    An error of a candidate ends its run of that scenario only, and is in the report; so does its time limit. What is left when the
    time is over is skipped, and named in the report. Raises `UsageError` where a candidate is missing and all are required, or
    where the results that are there are of another size.
    """
    raw.mkdir(parents=True, exist_ok=True)
    there, left_out = _installed(names, options)
    for name, why in left_out.items():
        progress(f"left out: {name}: {why}")
    general = _general(scenarios, there, left_out, raw, options)
    # vacancy, which is named first, runs last: it goes on to the largest fleets, with the time that others left.
    pairs = [(scenario, name) for scenario in scenarios for name in reversed(there)]
    if options.size != "full":  # then scenarios share a candidate that runs
        pairs = [(scenario, name) for name in there for scenario in scenarios]
    done = {number for number, pair in enumerate(pairs) if options.resume and _is_done(raw, pair)}
    if done:
        progress(f"{len(done)} of {len(pairs)} are there already")
    schedule = Schedule(pairs, options.budget_s or BUDGET_S[options.size], done)
    before_s = general["machine"]["seconds"]
    _write(raw / GENERAL, general)
    with SharedSite() as shared:
        for number, (scenario, name) in enumerate(pairs):
            if number in done:
                continue
            progress(
                f"{number + 1} of {len(pairs)}: {scenario.name}, {name}; {_clock(schedule.left_s())} left"
            )
            each_s = schedule.share_s(number)
            if each_s == 0:
                found = {
                    **_nothing(scenario, name),
                    "skipped": f"its share of {_clock(schedule.budget_s)} was over",
                }
            else:
                plan = Plan(options.size, each_s, raw, options.seed)
                plan = plan if options.size == "full" else replace(plan, shared=shared)
                found = _run_one(scenario, name, plan, progress)
            _write(_path(raw, (scenario, name)), found)
            # After each, so that an interrupted comparison has a report of what it did.
            general["machine"]["seconds"] = round(before_s + schedule.worked_s(), 1)
            _write(raw / GENERAL, general)


def _general(
    scenarios: Sequence[Scenario],
    there: Sequence[str],
    left_out: Mapping[str, str],
    raw: Path,
    options: ComparisonOptions,
) -> dict[str, Any]:
    """What is in the file `GENERAL`. Where the comparison is resumed, with what was there; else the results are removed."""
    found: dict[str, Any] = {
        "proves": {one.name: one.proves for one in scenarios},
        "about": {name: asdict(_about(name, options)) for name in there},
        "left_out": left_out,
    }
    path = raw / GENERAL
    if options.resume and path.exists():
        old = json.loads(path.read_text())
        if old["machine"]["size"] != options.size:
            raise UsageError(
                f"the results are of size {old['machine']['size']}, not {options.size}",
                where=str(raw),
                do="resume with the same size, or start again without --resume",
            )
        both = {name: {**old[name], **found[name]} for name in ("proves", "about")}
        missing = {
            name: why
            for name, why in {**old["left_out"], **left_out}.items()
            if name in left_out or name not in both["about"]
        }
        return {**both, "left_out": missing, "machine": old["machine"]}
    for file in raw.glob("*.json"):
        file.unlink()
    machine = Machine(
        started=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        cores=os.cpu_count() or 1,
        python=platform.python_version(),
        cpu=cpu_name(),
        load=round(os.getloadavg()[0], 1),
        size=options.size,
    )
    return {**found, "machine": asdict(machine)}


def _about(name: str, options: ComparisonOptions) -> About:
    one = options.candidate(name)
    if options.size != "full" and isinstance(one, WarmsUp):
        one.prepare_for_short_runs()
    return one.about()


def _installed(names: Sequence[str], options: ComparisonOptions) -> tuple[list[str], dict[str, str]]:
    left_out = {name: why for name in names if (why := options.candidate(name).missing()) is not None}
    if left_out and options.require_all:
        missing = "; ".join(f"{name}: {why}" for name, why in left_out.items())
        raise UsageError(f"candidates are missing: {missing}", do="install them, or leave out --require-all")
    return [name for name in names if name not in left_out], left_out


# -- time -----------------------------------------------------------------------------------------------------------


class Schedule:
    """How the time is shared by pairs that run one after the other. Each scenario has its weight. `done`: the numbers of pairs that
    are not to run; their part of the time is over."""

    def __init__(self, pairs: Sequence[Pair], budget_s: float, done: set[int] | None = None) -> None:
        self.budget_s = budget_s
        self._pairs = pairs
        self._done = done or set()
        self._started = time.monotonic()
        total = sum(scenario.weight for scenario, _ in pairs)
        self._parts_s = [budget_s * scenario.weight / total for scenario, _ in pairs]
        self._saved_s = sum(self._parts_s[number] for number in self._done)

    def worked_s(self) -> float:
        """The time since the start."""
        return time.monotonic() - self._started

    def left_s(self) -> float:
        """The time that is left for all pairs."""
        return self.budget_s - self._saved_s - self.worked_s()

    def share_s(self, number: int, worked_s: float | None = None) -> float:
        """The time of a pair. Those with the same candidate or scenario in a row share the time until their last one is due. Each
        has at least its part of the whole, so that none is left out because others took too long: later pairs
        that need less than theirs give the time back. 0: the whole is too late for that, by `_LATE_SHARE`. `worked_s`: None: that until now."""
        worked_s = self.worked_s() if worked_s is None else worked_s
        end = number + 1
        for side in (0, 1):
            last = number
            while last + 1 < len(self._pairs) and self._pairs[last + 1][side] == self._pairs[number][side]:
                last += 1
            end = max(end, last + 1)
        over_s = worked_s + sum(self._parts_s[one] for one in self._done if one < end)
        to_run = [one for one in range(number, end) if one not in self._done]
        row_s = sum(self._parts_s[one] for one in to_run)
        if over_s > (1 + _LATE_SHARE) * self.budget_s:
            return 0.0
        share_s = (sum(self._parts_s[:end]) - over_s) * self._parts_s[number] / row_s
        return max(share_s, self._parts_s[number])


class TimeLimitExceeded(BaseException):
    """A pair took longer than its limit. Not an `Exception`, so that no client library takes it for an error of its own."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise `TimeLimitExceeded` in this thread, which is the main thread, after a time; and again where the end takes long. A timer
    that ran before goes on at the end."""

    def over(number: int, frame: object) -> None:
        del number, frame
        raise TimeLimitExceeded(f"it did not end in {_clock(seconds)}")

    handler = signal.signal(signal.SIGALRM, over)
    began = time.monotonic()
    before_s, interval_s = signal.setitimer(signal.ITIMER_REAL, seconds, _CLEAN_UP_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, handler)
        if before_s:
            left_s = max(0.001, before_s - (time.monotonic() - began))
            signal.setitimer(signal.ITIMER_REAL, left_s, interval_s)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(max(0, round(seconds)), 60)
    return f"{minutes}:{rest:02} min"


# -- one pair -------------------------------------------------------------------------------------------------------


def _run_one(scenario: Scenario, name: str, plan: Plan, progress: Progress) -> dict[str, Any]:
    """Run a pair, within twice its time and some more. Results that came before an error are kept."""
    found = _nothing(scenario, name)
    started = time.monotonic()
    before = set(descendants(os.getpid()))
    with tempfile.TemporaryDirectory(prefix=f"vacancy-{name}-", ignore_cleanup_errors=True) as workdir:
        inner = replace(plan, workdir=Path(workdir), progress=lambda text: progress(f"  {text}"))
        try:
            with time_limit(2 * plan.budget_s + _LATE_S):
                for one in scenario.run(name, inner):
                    found["results"].append(one.as_json())
        except (
            Exception,
            TimeLimitExceeded,
        ) as error:  # of any client library: the other candidates are to run
            found["error"] = " ".join(f"{type(error).__name__}: {error}".split())
            found["traceback"] = traceback.format_exc()
            progress(f"  it failed: {found['error']}")
            if plan.shared is not None:
                plan.shared.close()
            _end(set(descendants(os.getpid())) - before)
    found["seconds"] = round(time.monotonic() - started, 1)
    found["budget_s"] = round(plan.budget_s, 1)
    return found


def _end(pids: set[int]) -> None:
    """Kill what a pair that failed has left running."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _nothing(scenario: Scenario, name: str) -> dict[str, Any]:
    return {"scenario": scenario.name, "candidate": name, "results": [], "error": None, "skipped": None}


# -- files ----------------------------------------------------------------------------------------------------------


def _path(raw: Path, pair: Pair) -> Path:
    return raw / f"{pair[0].name}-{pair[1]}.json"


def _is_done(raw: Path, pair: Pair) -> bool:
    path = _path(raw, pair)
    if not path.exists():
        return False
    found = json.loads(path.read_text())
    return found["error"] is None and found["skipped"] is None


def _write(path: Path, data: Mapping[str, Any]) -> None:
    """Write a file at once: a comparison that is killed leaves no half of one."""
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(data, indent=1) + "\n")
    draft.replace(path)


def load_comparison(raw: Path) -> Comparison:
    """What `run_comparison` wrote: by scenarios, and then by candidates. Raises `UsageError` where nothing is there."""
    general_path = raw / GENERAL
    if not general_path.exists():
        raise UsageError(f"there are no results in {raw}", do="run the comparison without --render")
    general = json.loads(general_path.read_text())
    scenarios = list(general["proves"])
    files = [json.loads(path.read_text()) for path in sorted(raw.glob("*.json")) if path.name != GENERAL]
    files.sort(key=lambda one: (_place(scenarios, one["scenario"]), _place(registry.NAMES, one["candidate"])))
    results: list[ScenarioResult] = []
    failed, skipped = {}, {}
    for found in files:
        results += [ScenarioResult.from_json(one) for one in found["results"]]
        if found["error"] is not None:
            failed[found["scenario"], found["candidate"]] = found["error"]
        if found["skipped"] is not None:
            skipped[found["scenario"], found["candidate"]] = found["skipped"]
    return Comparison(
        machine=Machine.from_json(general["machine"]),
        proves=general["proves"],
        results=results,
        about={name: about_from_json(one) for name, one in general["about"].items()},
        left_out=general["left_out"],
        failed=failed,
        skipped=skipped,
    )


def _place(names: Sequence[str], name: str) -> int:
    return names.index(name) if name in names else len(names)
