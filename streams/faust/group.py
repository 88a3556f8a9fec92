"""Prepares the consumer group of a store's workers before a worker joins it.

The group is named after the store. The first worker commits the store's positions to it, so that its offsets are correct
from the start. Members whose process has ended are removed, because the group would wait for them.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

import structlog
from kafka import TopicPartition
from kafka.admin import MemberToRemove
from kafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    KafkaError,
    NoError,
)
from kafka.structs import OffsetAndMetadata

from vacancy.resources.model.errors import LogError
from vacancy.streams.kafka.client import call_broker, connect, translated_errors
from vacancy.streams.log_url import LogUrl

_COORDINATOR_S: Final = 30.0
_RETRY_S: Final = 0.1

_events = structlog.get_logger("vacancy.worker")


_PREFIX: Final = "vacancy-"


def group_of(store: str) -> str:
    """The name of the group of a store's workers."""
    return f"{_PREFIX}{store}"


def client_id() -> str:
    """The name under which this process joins: host and process id, so that its death can be seen."""
    return f"vacancy-worker@{socket.gethostname()}:{os.getpid()}"


def is_gone(client: str) -> bool:
    """Whether the process with this client id is known to have ended. False for processes of other hosts."""
    _, at, place = client.partition("@")
    host, colon, pid = place.rpartition(":")
    if not at or not colon or host != socket.gethostname() or not pid.isdecimal():
        return False
    if int(pid) == os.getpid():
        return True  # this process has not joined yet, so the member is an earlier process with the same id
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
    owns_all: bool,
) -> None:
    """Remove ended members from the group, and commit `positions` (partition -> next offset) if no member is left.

    `owns_all`: this process owns all partitions of the store, so no other member can be writing. Raises LogUnavailable,
    and LogError if the group must not be used.
    """
    with contextlib.closing(connect("admin", place, settings)) as admin, translated_errors(place.url):
        # A new cluster creates the topic of the group offsets for the first group, which takes a few seconds.
        members = call_broker(lambda: _members(admin, group), _COORDINATOR_S)
        gone = [m for m in members if owns_all or is_gone(m["client_id"])]
        if gone:
            _remove_members(admin, group, gone)
        if owns_all:
            _commit_positions(admin, place, group, positions)


def following_stores(place: LogUrl, settings: Mapping[str, str]) -> dict[str, bool]:
    """The stores whose groups have positions in this log, and whether each has a running worker.

    A group may be that of a store that is gone: Kafka forgets it a week after its last worker (`offsets.retention.minutes`).
    Empty where this client may not list groups. Raises LogError.
    """
    with contextlib.closing(connect("admin", place, settings)) as admin, translated_errors(place.url):
        try:
            listed = call_broker(admin.list_groups)
            groups = [one["group_id"] for one in listed if one["group_id"].startswith(_PREFIX)]
            found = {}
            for group in sorted(groups):
                offsets = call_broker(partial(_offsets, admin, group))
                if any(partition.topic == place.place for partition in offsets):
                    found[group.removeprefix(_PREFIX)] = bool(call_broker(partial(_members, admin, group)))
        except (ClusterAuthorizationFailedError, GroupAuthorizationFailedError):
            return {}
    return found


def _offsets(admin: Any, group: str) -> Mapping[TopicPartition, Any]:
    found: Mapping[TopicPartition, Any] = admin.list_group_offsets(group)[group]
    return found


def _members(admin: Any, group: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = admin.describe_groups([group])[group]["members"]
    return found


def _remove_members(admin: Any, group: str, members: Sequence[Mapping[str, Any]]) -> None:
    with contextlib.suppress(KafkaError):  # a member may have left meanwhile
        admin.remove_group_members(group, [MemberToRemove(member_id=m["member_id"]) for m in members])
    _events.info("removed ended group members", group=group, members=[m["client_id"] for m in members])


def _commit_positions(admin: Any, place: LogUrl, group: str, positions: Mapping[int, int]) -> None:
    offsets = {
        TopicPartition(place.place, partition): OffsetAndMetadata(offset, "", None)
        for partition, offset in positions.items()
    }
    deadline = time.monotonic() + _COORDINATOR_S
    while True:
        written = call_broker(lambda: admin.alter_group_offsets(group, offsets))
        refused = {code for code in written.values() if code is not NoError}
        if not refused or _members(admin, group):  # an idle worker that was removed has joined again
            return
        if not all(code.retriable for code in refused) or time.monotonic() > deadline:
            break
        time.sleep(_RETRY_S)
    raise LogError(
        f"the group's offsets cannot be written ({', '.join(sorted(code.__name__ for code in refused))})",
        where=f"{place.url}, group {group}",
        do="get the permission to read with this group",
    )
