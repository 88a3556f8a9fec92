"""What `vacancy publish` publishes, and how it goes on until it is stopped."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from queue import SimpleQueue
from typing import Any, cast, get_args
from urllib.parse import quote

from pydantic import TypeAdapter, ValidationError

from vacancy.cli.order_option import read_text
from vacancy.clients.publisher.host import HostOptions, collect
from vacancy.clients.publisher.host.files import parse_cpu_list
from vacancy.clients.publisher.host.numa_inventory import NumaMode
from vacancy.clients.publisher.outbox import Outbox
from vacancy.clients.publisher.publisher import Providers, Publisher, PublishService
from vacancy.resources.model.errors import UsageError
from vacancy.resources.model.events import ProviderReport
from vacancy.resources.model.partitioner import cell_for
from vacancy.streams.log import Log
from vacancy.streams.settings import state_directory
from vacancy.streams.shutdown import Told, forward_signals, on_stop
from vacancy.streams.wait_for_log import LogWaiter, OpenLog

Look = Callable[[], Providers]

_CPU_LIST = re.compile(r"[0-9]{1,5}(-[0-9]{1,5})?(,[0-9]{1,5}(-[0-9]{1,5})?)*")

_adapter = TypeAdapter(tuple[ProviderReport, ...])


def this_host(root: str | None, **options: Any) -> tuple[str, Look]:
    """This host's id, and how to look at it. `options` are those of `HostOptions`."""
    given = HostOptions(**options) if root is None else HostOptions(root=root, **options)
    return given.root, lambda: collect(given)


def cpu_list(text: str | None, where: str) -> frozenset[int] | None:
    """The CPUs of a list such as 2-15,18-31. Raises `UsageError`."""
    if text is None:
        return None
    if not _CPU_LIST.fullmatch(text) or not (found := frozenset(parse_cpu_list(text))):
        raise UsageError(
            f"{text!r} is no list of CPUs", where=where, do="write numbers and ranges: 2-15,18-31"
        )
    return found


def numa_mode(text: str) -> NumaMode:
    """Raises `UsageError` for what is none."""
    if text not in get_args(NumaMode):
        raise UsageError(f"{text!r} is no way to offer NUMA cells", where="--numa", do="write split or whole")
    return cast(NumaMode, text)


def described(file: str, root: str | None) -> tuple[str, Look]:
    """The id of the node that a file describes, and how to look at it. Raises `UsageError`."""

    def look() -> Providers:
        try:
            found = json.loads(read_text(file))
            if isinstance(found, dict):
                found = found.get("providers")
            providers = _adapter.validate_json(json.dumps(found))
        except ValueError as error:
            told = error.errors()[0] if isinstance(error, ValidationError) else None
            what = str(error) if told is None else f"{'.'.join(map(str, told['loc']))}: {told['msg']}"
            raise UsageError(f"the file describes no node: {what}", where=file, do="correct it") from None
        roots = [provider.id for provider in providers if provider.parent is None]
        if len(roots) != 1:
            raise UsageError(
                f"the file describes {len(roots)} nodes",
                where=file,
                do="leave out the parent of one provider",
            )
        return providers

    node = next(provider.id for provider in look() if provider.parent is None)
    if root not in (None, node):
        raise UsageError(f"the file describes {node}, not {root}", where=file, do="leave --root out")
    return node, look


def outbox_path(log: str, node: str) -> Path:
    """Where a node's outbox is unless told: a file for each node and log, so that none sends what is another's."""
    which = blake2b(log.encode(), digest_size=4).hexdigest()
    return state_directory() / "outbox" / f"{quote(node, safe='')}-{which}.db"


def make_publisher(log: Log, node: str, cell: str | None, outbox: Outbox, *, move_cell: bool) -> Publisher:
    """The node's publisher. Its cell is the one given; else the one it was in; else by hash of its id."""
    if cell is None:
        cell = outbox.cell or "auto"
    if cell == "auto":
        cell = cell_for(node, log.partitions)
    return Publisher(log, node, cell, outbox, move_cell=move_cell)


def serve(where: str, open_log: OpenLog, service: Callable[[Log], PublishService]) -> None:
    """Publish until SIGTERM or SIGINT, once the log called `where` answers: a node may be up before the brokers are.
    Until then nothing is published."""
    told: Told = SimpleQueue()
    with forward_signals(told), LogWaiter(where, told) as patience:
        log = patience.open(open_log)
        if log is None:
            return
        stop = threading.Event()
        on_stop(told, stop.set)
        with log:
            service(log).run(stop)
