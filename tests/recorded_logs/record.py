"""`python -m tests.recorded_logs.record NAME [FILE] [--again]`: make a log, and write it and its digests beside this file.

The logs that are there stay as they are: they prove that later code gives the digests of that time. This is for new ones, in
files of other names, once there are new rules. `--again` replaces a log: only for rules that no release has yet.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch
from uuid import uuid4

from tests.recorded_logs.activation import activated_midway
from tests.recorded_logs.bounded_rules import bounded_rules
from tests.recorded_logs.every_event import every_event, kinds_of
from tests.recorded_logs.fleet_rules import fleet_rules, raised_to_fleet_rules
from tests.recorded_logs.folding import fold_in_memory
from tests.recorded_logs.race_fleet import RaceFleet, race_fleet
from tests.recorded_logs.recording import (
    Recording,
    path_of,
    read_recording,
    recorded,
    restore,
    write_digest,
    write_recording,
)
from tests.recorded_logs.signed import raised_to_signed_rules, signed_rules
from tests.recorded_logs.stated import raised_to_stated_rules, stated_rules
from tests.recorded_logs.transacted import raised_to_transacted_rules, transacted_rules
from vacancy.clients.demo import demo
from vacancy.clients.demo.race_plan import deal
from vacancy.clients.demo.race_trial import Trial, TrialOptions, TrialResult, run_trial
from vacancy.clients.demo.synthetic_fleet import node_reports
from vacancy.clients.publisher.host import HostOptions, collect
from vacancy.clients.replay_tool.replay import read_all, replay
from vacancy.resources.model import events
from vacancy.resources.model.partitioner import cell_for
from vacancy.resources.model.record import NewRecord
from vacancy.streams.log import open_log

PARTITIONS = 4
SEED = 20


def record_demo(directory: Path) -> Recording:
    """The log of `vacancy demo`, but for the names of the host that it ran on and of its kernel."""
    with (
        patch.object(demo, "HostOptions", lambda: HostOptions(root="demo-host")),
        patch.object(demo, "collect", _demo_host),
    ):
        return _of_trial("demo", demo.run_demo(demo.DemoOptions(directory=directory)))


def _demo_host(options: HostOptions) -> list[events.ProviderReport]:
    root, *others = collect(options)
    attributes = {**root.attributes, "kernel_version": "6.1.0-21-amd64"}
    return [root.model_copy(update={"attributes": attributes}), *others]


def record_race(directory: Path) -> Recording:
    """Several schedulers on two hosts, until the fleet is full and long after."""
    fleet = race_fleet(150, 40, PARTITIONS, SEED)
    options = TrialOptions(
        directory=directory, partitions=PARTITIONS, hosts=2, in_flight=16, release_batch=16, seed=SEED
    )
    result = run_trial(options, lambda trial: _publish(trial, fleet), deal(fleet.arrivals, 6))
    sys.stdout.write(f"{result.as_json()}\n")
    return _of_trial("race", result)


def _publish(trial: Trial, fleet: RaceFleet) -> None:
    trial.append(list(node_reports(fleet.trees, PARTITIONS)))
    facts = []
    for root, aggregates in fleet.aggregates.items():
        data = events.OperatorSettingsData(
            provider=root, revision=1, facts=events.OperatorSettings(aggregates=aggregates)
        )
        event = events.OperatorSettingsSet(id=uuid4().hex, source="/operator", data=data)
        facts.append(NewRecord(cell_for(root, PARTITIONS), events.encode(event)))
    trial.append(facts)


def _of_trial(name: str, result: TrialResult) -> Recording:
    if not result.ok:
        raise ValueError(f"the trial found something wrong: {result.audit.problems[:3]}")
    with open_log(result.log) as log:
        return recorded(name, read_all(log))


def record_every_event(directory: Path) -> Recording:
    """See `every_event`."""
    del directory  # it needs no files
    return every_event()


def record_activation(directory: Path) -> Recording:
    """The race, with the activation of version 2 in the middle; see `activated_midway`."""
    del directory  # it needs no files
    return activated_midway(read_recording("race"), "activation", 2)


def record_version_3(directory: Path) -> Recording:
    """See `bounded_rules`."""
    del directory  # it needs no files
    return bounded_rules()


def record_version_4(directory: Path) -> Recording:
    """See `fleet_rules`."""
    del directory  # it needs no files
    return fleet_rules()


def record_raised_to_4(directory: Path) -> Recording:
    """See `raised_to_fleet_rules`."""
    del directory  # it needs no files
    return raised_to_fleet_rules()


def record_version_5(directory: Path) -> Recording:
    """See `stated_rules`."""
    del directory  # it needs no files
    return stated_rules()


def record_raised_to_5(directory: Path) -> Recording:
    """See `raised_to_stated_rules`."""
    del directory  # it needs no files
    return raised_to_stated_rules()


def record_version_6(directory: Path) -> Recording:
    """See `transacted_rules`."""
    del directory  # it needs no files
    return transacted_rules()


def record_raised_to_6(directory: Path) -> Recording:
    """See `raised_to_transacted_rules`."""
    del directory  # it needs no files
    return raised_to_transacted_rules()


def record_version_7(directory: Path) -> Recording:
    """See `signed_rules`."""
    del directory  # it needs no files
    return signed_rules()


def record_raised_to_7(directory: Path) -> Recording:
    """See `raised_to_signed_rules`."""
    del directory  # it needs no files
    return raised_to_signed_rules()


RECORDERS: dict[str, Callable[[Path], Recording]] = {
    "demo": record_demo,
    "race": record_race,
    "every_event": record_every_event,
    "activation": record_activation,
    "version_3": record_version_3,
    "version_4": record_version_4,
    "raised_to_4": record_raised_to_4,
    "version_5": record_version_5,
    "raised_to_5": record_raised_to_5,
    "version_6": record_version_6,
    "raised_to_6": record_raised_to_6,
    "version_7": record_version_7,
    "raised_to_7": record_raised_to_7,
}


def record(name: str, file: str, *, again: bool = False) -> None:
    """Make the log, fold it, and write both down. The store must give the digest that memory gives."""
    if path_of(file).exists() and not again:
        raise FileExistsError(f"{path_of(file)} was recorded before, and stays as it is: give another FILE")
    with tempfile.TemporaryDirectory(prefix="vacancy-record-") as directory:
        recording = RECORDERS[name](Path(directory) / "trial")._replace(name=file)
        folded = fold_in_memory(recording)
        size = write_recording(recording)
        with restore(recording, Path(directory) / "log.db") as log:
            found = replay(log, Path(directory) / "store", recording.registry)
    if found != folded.digest:
        raise ValueError(f"the store gives {found}, memory {folded.digest}")
    kinds = not name.startswith(("version_", "raised_"))  # the kinds are those of version 1
    letters = kinds_of(folded.dead_letters) if kinds else {}
    write_digest(file, found, folded.verdicts, letters)
    sys.stdout.write(f"{file}: {len(recording.records)} records, {size} bytes, digest {found.whole}\n")
    sys.stdout.write(f"  {dict(folded.events)}\n  {dict(folded.reasons)}\n")


if __name__ == "__main__":
    words = [word for word in sys.argv[1:] if word != "--again"]
    record(words[0], words[-1], again="--again" in sys.argv)
