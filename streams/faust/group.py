"""The consumer group of a store's workers, before one joins it.

The group is named after the store. Whoever starts first tells it where the store stands, so that it shows the
truth from the start; members that are dead are put out, or the group would wait for them.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import structlog
from kafka import TopicPartition
from kafka.admin import MemberToRemove
from kafka.errors import KafkaError, NoError
from kafka.structs import OffsetAndMetadata

from vacancy.resources.model.errors import LogError
from vacancy.streams.kafka.client import call_broker, connect, translated_errors
from vacancy.streams.log_url import LogUrl

_COORDINATOR_S: Final = 30.0
_RETRY_S: Final = 0.1

_events = structlog.get_logger("vacancy.streams.embedded_worker")


def group_of(store: str) -> str:
    """The name of the group of a store's workers."""
    return f"vacancy-{store}"


def client_id() -> str:
    """The name under which this process joins: host and process id, so that its death can be seen."""
    return f"vacancy-worker@{socket.gethostname()}:{os.getpid()}"


def is_gone(client: str) -> bool:
    """Whether the process that joined under this name is known to have ended. Never said of another host's."""
    _, at, place = client.partition("@")
    host, colon, pid = place.rpartition(":")
    if not at or not colon or host != socket.gethostname() or not pid.isdecimal():
        return False
    if int(pid) == os.getpid():
        return True  # this process has not joined yet, so it is one of the same number that ended before
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def prepare_group(
    place: LogUrl,
    settings: Mapping[str, str],
    group: str,
    positions: Mapping[int, int],
    *,
    alone: bool,
) -> None:
    """Put out dead members, and write `positions` (partition -> next offset) if nobody is left.

    `alone` says that this process holds all partitions of the store: then whoever is in the group writes none.
    Raises LogUnavailable, and LogError where the group may not be used.
    """
    with contextlib.closing(connect("admin", place, settings)) as admin, translated_errors(place.url):
        # A cluster makes the topic of its groups when the first one comes, and that takes a few seconds.
        members = call_broker(lambda: _members(admin, group), _COORDINATOR_S)
        gone = [m for m in members if alone or is_gone(m["client_id"])]
        if gone:
            _put_out(admin, group, gone)
        if alone:
            _write(admin, place, group, positions)


def _members(admin: Any, group: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = admin.describe_groups([group])[group]["members"]
    return found


def _put_out(admin: Any, group: str, members: Sequence[Mapping[str, Any]]) -> None:
    with contextlib.suppress(KafkaError):  # one that left by itself meanwhile
        admin.remove_group_members(group, [MemberToRemove(member_id=m["member_id"]) for m in members])
    _events.info("dead members put out", group=group, members=[m["client_id"] for m in members])


def _write(admin: Any, place: LogUrl, group: str, positions: Mapping[int, int]) -> None:
    offsets = {
        TopicPartition(place.place, partition): OffsetAndMetadata(offset, "", None)
        for partition, offset in positions.items()
    }
    deadline = time.monotonic() + _COORDINATOR_S
    while True:
        written = call_broker(lambda: admin.alter_group_offsets(group, offsets))
        refused = {code for code in written.values() if code is not NoError}
        if not refused or _members(admin, group):  # an idle worker that was put out, and is back
            return
        if not all(code.retriable for code in refused) or time.monotonic() > deadline:
            break
        time.sleep(_RETRY_S)
    raise LogError(
        f"The group's offsets cannot be written ({', '.join(sorted(code.__name__ for code in refused))})",
        where=f"{place.url}, group {group}",
        do="ask for the right to read with this group",
    )
