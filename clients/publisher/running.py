"""Says in the log which consumers a node runs: whole lists, when they change and every so often."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from pydantic import TypeAdapter, ValidationError

from vacancy.clients.publisher.publisher import new_incarnation
from vacancy.resources.model.errors import UsageError
from vacancy.resources.model.events import RUNNING_MAX, NodeRunning, NodeRunningData, encode
from vacancy.resources.model.names import Id
from vacancy.resources.model.record import NewRecord
from vacancy.streams.log import AppendedAt, Log

if TYPE_CHECKING:
    from vacancy.clients.signing.signer import EventSigner

AGAIN_S = 600.0
"""How often a list that has not changed is sent again: audits take none that is an hour old."""

_FILE_BYTES_MAX = 4 * 1024 * 1024
_ids = TypeAdapter(tuple[Id, ...])


class RunningReporter:
    """Reports what the node `root` runs. `cell` is the node's cell. It draws an incarnation of its own at random; a list that
    the log did not take is sent with the next call. Not thread-safe."""

    def __init__(
        self,
        log: Log,
        root: str,
        cell: str,
        *,
        signer: EventSigner | None = None,
        again_s: float = AGAIN_S,
        monotonic: Callable[[], float] = time.monotonic,
        new_id: Callable[[], str] = new_incarnation,
    ) -> None:
        self._log, self.root, self.cell, self._signer = log, root, cell, signer
        self._again_s, self._monotonic = again_s, monotonic
        self.incarnation = new_id()
        self._sequence = 0
        self._sent: frozenset[str] | None = None
        self._due = 0.0

    def report(self, consumers: Iterable[str], timeout_s: float = 30.0) -> AppendedAt | None:
        """Append the list if it changed since the last one, or if that was long ago. Returns its place in the log, None where
        nothing was due. Raises `LogError`, and `UsageError` for a list that the rules do not allow."""
        runs = frozenset(consumers)
        now = self._monotonic()
        if runs == self._sent and now < self._due:
            return None
        self._sequence += 1
        try:
            data = NodeRunningData(
                root=self.root,
                incarnation=self.incarnation,
                sequence=self._sequence,
                consumers=tuple(sorted(runs)),
            )
        except ValidationError as error:
            raise _invalid(error, self.root) from None
        event = NodeRunning(id=uuid4().hex, source=f"/vacancy/node/{self.root}"[:512], data=data)
        value = encode(event)
        if self._signer is not None:
            value = self._signer.sign(value, self.cell)
        (place,) = self._log.append([NewRecord(self.cell, value)], timeout_s)
        self._sent, self._due = runs, now + self._again_s
        return place


def read_running(path: Path) -> tuple[str, ...]:
    """The consumers that a file names: a JSON list, or one on each line; `#` starts a comment. Raises `UsageError`."""
    try:
        if path.stat().st_size > _FILE_BYTES_MAX:
            raise UsageError("the file is larger than 4 MiB", where=str(path), do="list only the consumers")
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"the list of running consumers cannot be read: {error}", where=str(path), do="make it readable"
        ) from None
    try:
        if text.lstrip().startswith("["):
            return _ids.validate_python(tuple(json.loads(text)))
        lines = (line.partition("#")[0].strip() for line in text.splitlines())
        return _ids.validate_python(tuple(line for line in lines if line))
    except ValidationError as error:
        raise _invalid(error, str(path)) from None
    except ValueError as error:
        raise UsageError(f"the list is no JSON: {error}", where=str(path), do='write ["vm-1", …]') from None


def _invalid(error: ValidationError, where: str) -> UsageError:
    first = error.errors(include_url=False)[0]
    return UsageError(
        f"what the node runs is not valid: {first['msg']}",
        where=where,
        do=f"list up to {RUNNING_MAX:,} ids of consumers",
    )
