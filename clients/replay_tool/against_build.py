"""Compares the folds of two builds, record by record: this one, and that of another virtual environment.

Each build runs as a process of its own that answers with hashes of what it changed (`change_emitter`). Where the hashes of
a batch differ, its records are compared one by one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple

from vacancy.clients.replay_tool.change_emitter import PROTOCOL
from vacancy.clients.replay_tool.parallel import replay_processes
from vacancy.clients.replay_tool.replay import BATCH, Digest
from vacancy.resources.classes.registry import Registry
from vacancy.resources.model.errors import UsageError, VacancyError
from vacancy.streams.log import Log, open_log

_MAIN: Final = "import sys; from vacancy.cli.main import main; sys.exit(main())"
_UNCHANGED: Final = "not changed"
"""In place of a row that a build leaves as it was before the record."""


class RowPair(NamedTuple):
    """A row as the two sides have it: its table, its key, and the decoded rows (None: there is no row)."""

    table: str
    key: str
    this: Any
    other: Any


class RecordDifference(NamedTuple):
    """The first record of a partition that the builds fold differently: its place, its key, its value, its timestamp (ms since
    1970, UTC), the rows that differ after it, and why one of the builds cannot fold it ("" where it can)."""

    partition: int
    offset: int
    timestamp_ms: int
    key: str
    value: str
    rows: tuple[RowPair, ...]
    this_error: str
    other_error: str


class BuildComparison(NamedTuple):
    """The versions of the two builds, the position up to which they were compared, the records that both folded, the first
    difference of each partition, the earliest first, and where both stopped (partition -> reason)."""

    this_build: str
    other_build: str
    position: dict[int, int]
    records: int
    differences: tuple[RecordDifference, ...]
    stopped: dict[int, str]


class NoProtocol(VacancyError):
    """The other build cannot be compared record by record. Operator action: compare the digests of two stores."""


class OtherBuild(NamedTuple):
    """Another build: the beginning of its command lines."""

    command: tuple[str, ...]

    @classmethod
    def at(cls, path: Path) -> OtherBuild:
        """The build at `path`: a virtual environment, its `vacancy`, or its Python. Raises `UsageError`."""
        if path.is_dir():
            path = path / "bin" / "vacancy"
        if not path.is_file() or not os.access(path, os.X_OK):
            raise UsageError(
                "there is no build of vacancy",
                where=str(path),
                do="name a virtual environment, the `vacancy` in it, or the directory of a store",
            )
        absolute = str(path.absolute())
        return cls((absolute, "-c", _MAIN) if path.name.startswith("python") else (absolute,))


THIS_BUILD: Final = OtherBuild((sys.executable, "-c", _MAIN))


def settings_file(directory: Path, url: str, client_settings: Mapping[str, str]) -> Path:
    """A settings file that names the log and how to log in, for a command of another build. Only its owner may read it."""
    path = directory / "compared.toml"
    kafka = dict(client_settings)
    archive = kafka.pop("archive", None)
    lines = [
        f"log = {json.dumps(url)}",
        *([f"archive = {json.dumps(archive)}"] if archive else ()),
        "[kafka]",
    ]
    lines += [f"{json.dumps(name)} = {json.dumps(value)}" for name, value in kafka.items()]
    with open(path, "w", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write("\n".join(lines) + "\n")
    return path


def environment() -> dict[str, str]:
    """The environment of another build, without what belongs to this one."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("VACANCY_", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"))
    }


class _Emitter:
    """A build that folds and answers (see `change_emitter`). Opening raises `NoProtocol` where it does not know how."""

    def __init__(self, name: str, build: OtherBuild, config: Path, store: Path) -> None:
        self._name = name
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        options = ["--emit-changes", "--config", str(config), "--into", str(store)]
        command = [*build.command, "replay", *options]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env=environment(),
            )
        except OSError as error:
            self._errors.close()
            raise UsageError(
                f"the build cannot be started: {error.strerror}", where=command[0], do="check its path"
            ) from None
        try:
            self.hello = self.receive()
        except VacancyError:
            code, said = self._process.returncode, self._said()
            self.close()
            if code == 2 and "--emit-changes" in said:
                raise NoProtocol(
                    "the other build cannot compare record by record", where=build.command[0]
                ) from None
            raise
        if self.hello.get("protocol") != PROTOCOL:
            self.close()
            raise NoProtocol(
                f"the other build compares by protocol {self.hello.get('protocol')}, this one by {PROTOCOL}",
                where=build.command[0],
            )

    def send(self, request: Mapping[str, Any]) -> None:
        """Send a request."""
        assert self._process.stdin is not None  # noqa: S101 - a pipe was asked for
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise self._ended() from None

    def receive(self) -> dict[str, Any]:
        """Wait for the answer. Raises `VacancyError` where the build has ended."""
        assert self._process.stdout is not None  # noqa: S101
        line = self._process.stdout.readline()
        try:
            found: dict[str, Any] = json.loads(line)
        except ValueError:
            raise self._ended() from None
        return found

    def _ended(self) -> VacancyError:
        self._process.kill()
        code = self._process.wait()
        return VacancyError(
            f"{self._name} ended with code {code}: {self._said() or 'it sent no error'}",
            do="correct the cause, and compare again",
        )

    def _said(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").splitlines()
        return lines[-1].removeprefix("vacancy: ") if lines else ""

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._errors.close()

    def __enter__(self) -> _Emitter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Pair:
    """Both builds, side by side."""

    def __init__(self, this: _Emitter, other: _Emitter) -> None:
        self._both = (this, other)

    def ask(self, request: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The answers of both, which work at the same time."""
        for one in self._both:
            one.send(request)
        this, other = (one.receive() for one in self._both)
        return this, other


def compare_builds(
    url: str,
    build: OtherBuild,
    scratch: Path,
    ends: Mapping[int, int],
    *,
    processes: int,
    client_settings: Mapping[str, str],
    progress: Callable[[int, int], None] | None = None,
) -> BuildComparison:
    """Fold the log up to `ends` with this build and with another one, and find the first record of each partition at which a row
    differs. `scratch` is a directory for their two stores, `this` and `other`: where these exist, both continue.

    Raises `NoProtocol` where the other build is too old or too new for that; `VacancyError` where one of them ends.
    """
    config = settings_file(scratch, url, client_settings)
    pairs = max(1, min(processes // 2, len(ends)))
    with ExitStack() as stack:
        # One after the other: the first of each side makes the store.
        opened = [
            tuple(
                stack.enter_context(_Emitter(name, one, config, scratch / folder))
                for name, folder, one in (
                    ("this build", "this", THIS_BUILD),
                    ("the other build", "other", build),
                )
            )
            for _ in range(pairs)
        ]
        this, other = opened[0]
        start = {int(p): offset for p, offset in this.hello["position"].items()}
        work = _Work(url, client_settings, start, dict(ends), progress)
        shares = [sorted(ends)[n::pairs] for n in range(pairs)]
        with ThreadPoolExecutor(pairs) as threads:
            jobs = [
                threads.submit(work.compare, _Pair(a, b), share)
                for (a, b), share in zip(opened, shares, strict=True)
            ]
            found = [one for job in jobs for one in job.result()]
        found.sort(key=lambda one: (one.timestamp_ms, one.partition))
        return BuildComparison(
            this.hello["build"], other.hello["build"], dict(ends), work.done, tuple(found), work.stopped
        )


class _Work:
    """What the threads of a comparison share."""

    def __init__(
        self,
        url: str,
        client_settings: Mapping[str, str],
        start: Mapping[int, int],
        ends: Mapping[int, int],
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self._url, self._settings = url, client_settings
        self._start, self._ends, self._progress = start, ends, progress
        self._total = sum(end - start[p] for p, end in ends.items())
        self._at = dict(start)
        self.stopped: dict[int, str] = {}

    @property
    def done(self) -> int:
        """The records that both builds have folded alike."""
        return sum(self._at[p] - self._start[p] for p in self._ends)

    def compare(self, pair: _Pair, partitions: Sequence[int]) -> list[RecordDifference]:
        """The first difference of each of these partitions that has one."""
        found = []
        for partition in partitions:
            while self._at[partition] < self._ends[partition] and partition not in self.stopped:
                difference = self._step(pair, partition)
                if difference is not None:
                    found.append(difference)
                    break
                if self._progress is not None:
                    self._progress(self.done, self._total)
        return found

    def _step(self, pair: _Pair, partition: int) -> RecordDifference | None:
        """Compare one batch."""
        start = self._at[partition]
        end = min(start + BATCH, self._ends[partition])
        this, other = pair.ask({"fold": partition, "end": end})
        same = (this["position"], this["changes"]) == (other["position"], other["changes"])
        offset = None if same else self._first(pair, partition, start)
        if offset is None and this["position"] == other["position"]:
            self._at[partition] = this["position"]
            if "error" in this and "error" in other:
                self.stopped[partition] = this["error"]
                return None
            if "error" not in this and "error" not in other:
                return None
        if offset is None:  # up to where one of them stops they are alike
            offset = min(this["position"], other["position"])
        self._at[partition] = offset
        return self._difference(
            pair,
            partition,
            offset,
            *(one.get("error", "") if one["position"] == offset else "" for one in (this, other)),
        )

    @staticmethod
    def _first(pair: _Pair, partition: int, start: int) -> int | None:
        """The offset of the first record of the batch after which the tables differ. None: there is none that both folded."""
        this, other = pair.ask({"records": partition})
        for place, (ours, theirs) in enumerate(zip(this["records"], other["records"], strict=False)):
            if ours != theirs:
                return start + place
        return None

    def _difference(
        self, pair: _Pair, partition: int, offset: int, this_error: str, other_error: str
    ) -> RecordDifference:
        this, other = pair.ask({"rows": partition, "at": offset})
        ours, theirs = (
            {(one["table"], one["key"]): (one["hash"], one["row"]) for one in side["rows"]}
            for side in (this, other)
        )
        unchanged = ("", _UNCHANGED)
        rows = tuple(
            RowPair(*at, ours.get(at, unchanged)[1], theirs.get(at, unchanged)[1])
            for at in sorted({*ours, *theirs})
            if ours.get(at, unchanged)[0] != theirs.get(at, unchanged)[0]
        )
        with open_log(self._url, **self._settings) as log:
            record = _record(log, partition, offset)
        return RecordDifference(partition, offset, *record, rows, this_error, other_error)


def _record(log: Log, partition: int, offset: int) -> tuple[int, str, str]:
    """Timestamp, key and value of a record."""
    for record in log.read(partition, offset, 1, timeout_s=10.0):
        return (
            record.timestamp_ms,
            record.key.decode(errors="backslashreplace"),
            record.value.decode(errors="backslashreplace"),
        )
    return 0, "", ""


# -- builds without the protocol ----------------------------------------------------------------------------


class DigestDifference(NamedTuple):
    """A partition whose digests differ at `position`, and the last position known at which they are equal (None: it was not
    looked for, because the other build has no `--until`)."""

    partition: int
    position: int
    equal_at: int | None
    this: str
    other: str


def compare_digests(
    url: str,
    build: OtherBuild,
    scratch: Path,
    registry: Registry,
    *,
    until: Mapping[int, int] | None,
    client_settings: Mapping[str, str],
) -> tuple[dict[int, int], list[DigestDifference]]:
    """Compare the digests of two whole folds, by commands that every build has. Returns the position, and the partitions that
    differ there. Where the other build has `--until`, the interval is halved until it is one record, with a fold of both builds
    each time. Raises `VacancyError` where the other build fails."""
    config = settings_file(scratch, url, client_settings)
    can_stop = "--until" in _output(build, "replay", "--help")
    if until is not None and not can_stop:
        raise UsageError(
            "the other build has no --until", where=build.command[0], do="compare without it: up to the end"
        )

    def folded(at: Mapping[int, int] | None) -> tuple[Digest, Digest]:
        with tempfile.TemporaryDirectory(dir=scratch) as both:
            words = ["--config", str(config), "--into", f"{both}/other", "--json"]
            if at is not None:
                words += ["--until", ",".join(f"{p}:{offset}" for p, offset in at.items())]
            said = json.loads(_output(build, "replay", *words))
            position = {int(p): offset for p, offset in said["position"].items()}
            this = replay_processes(
                url, Path(both) / "this", registry, until=position, client_settings=client_settings
            )
            return this, Digest(said["digest"], tuple(said["partitions"]), position)

    this, other = folded(until)
    found = []
    for partition, (ours, theirs) in enumerate(zip(this.partitions, other.partitions, strict=True)):
        if ours == theirs:
            continue
        low, high = (0 if can_stop else None), this.position[partition]
        while low is not None and high - low > 1:
            middle = (low + high) // 2
            one, two = folded({partition: middle})
            if one.partitions[partition] == two.partitions[partition]:
                low = middle
            else:
                high = middle
        found.append(DigestDifference(partition, high, low, ours, theirs))
    return this.position, found


def _output(build: OtherBuild, *words: str) -> str:
    """The standard output of a command of the other build."""
    done = subprocess.run(
        [*build.command, *words], capture_output=True, text=True, env=environment(), check=False
    )
    if done.returncode:
        said = (done.stderr.splitlines() or ["it sent no error"])[-1].removeprefix("vacancy: ")
        raise VacancyError(
            f"the other build ended with code {done.returncode}: {said}", where=build.command[0]
        )
    return done.stdout
