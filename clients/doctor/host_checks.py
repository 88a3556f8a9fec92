"""Checks of this host: its settings, files, disks. Nothing here connects to anything."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from vacancy.clients.doctor.check import Check, error, ok, warning
from vacancy.resources.model.errors import UsageError
from vacancy.streams.files.file_modes import too_open
from vacancy.streams.log_url import parse_log_url
from vacancy.streams.settings import Settings, is_secret, setting_variables

_ROOM_MIN: Final = 256 * 2**20
_ROOM_LOW: Final = 2 * 2**30
_NETWORK: Final = frozenset(
    {
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "9p",
        "ceph",
        "glusterfs",
        "fuse.sshfs",
        "fuse.glusterfs",
        "lustre",
    }
)
_MOUNTS: Final = Path("/proc/self/mountinfo")


def settings_checks(settings: Settings, file: Path | None) -> Iterator[Check]:
    """What the settings are, where they come from, and names in the environment that are no settings."""
    named = "log" in settings.model_fields_set
    source = f"file {file}" if file else "no settings file"
    yield ok(
        "settings",
        f"log {settings.log}{'' if named else ' (the default)'}, store {settings.store}; {source}",
    )
    unknown = sorted(name for name in os.environ if name.startswith("VACANCY_") and not _is_known(name))
    if unknown:
        yield warning(
            "settings",
            f"the environment has {', '.join(unknown)}, and there {'is' if len(unknown) == 1 else 'are'} no such"
            f" setting{'s' * (len(unknown) > 1)}",
            "correct the name, or unset it; `vacancy doctor --help` and docs/operating.md name the settings",
        )
    if file is not None and _has_secret(settings, file) and file.stat().st_mode & 0o077:
        mode = stat.S_IMODE(file.stat().st_mode)
        yield warning(
            "settings",
            f"{file} has a secret of Kafka, and other users can read it (mode {mode:04o})",
            f"`chmod 600 {file}`, or give the secret in the environment, as VACANCY_KAFKA_SASL_PASSWORD",
        )


def _is_known(name: str) -> bool:
    known = setting_variables()
    return name in known or name.startswith("VACANCY_KAFKA_")


def _has_secret(settings: Settings, file: Path) -> bool:
    from_environment = {
        name.removeprefix("VACANCY_KAFKA_").lower().replace("_", ".")
        for name in os.environ
        if name.startswith("VACANCY_KAFKA_")
    }
    secrets = [name for name in settings.kafka if is_secret(name) and name not in from_environment]
    if not secrets:
        return False
    text = file.read_text(errors="replace")
    return any(name.rpartition(".")[2] in text for name in secrets)


def mode_checks(settings: Settings, outboxes: list[Path]) -> Iterator[Check]:
    """Who may read and write the files of the log, of the store and of outboxes."""
    found = [*too_open(settings.log, settings.store)]
    for outbox in outboxes:
        found += too_open("memory://none", outbox=outbox)
    for text in found:
        what, _, do = text.partition("; close it with ")
        yield warning("file modes", what, do)
    if not found:
        yield ok(
            "file modes", "no other user can read or write the files of the log, the store and the outbox"
        )


def key_checks(settings: Settings) -> Iterator[Check]:
    """The files of the private keys that the settings name. Their content is read, and never shown."""
    from vacancy.clients.signing.key_pair import read_key

    for name, file in (("node_key", settings.node_key), ("operator_key", settings.operator_key)):
        if file is None:
            continue
        try:
            key = read_key(file)
        except UsageError as raised:
            yield error(
                "signing", f"{name}: {raised.what} ({file})", f"`chmod 600 {file}`, or see docs/signing.md"
            )
        else:
            yield ok("signing", f"{name} {file} has key {key.id}, and no other user can read it")


def disk_checks(settings: Settings) -> Iterator[Check]:
    """The room on the disks of the store and of an SQLite log, and whether these are disks of this host."""
    place = parse_log_url(settings.log)
    places = {"store": settings.store}
    if place.scheme == "sqlite":
        places["log"] = Path(place.place)
    seen: dict[int, str] = {}
    for name, path in places.items():
        there = _existing(path)
        kind = _file_system(there)
        if kind in _NETWORK:
            yield error(
                "disk",
                f"the {name} {path} is on a network file system ({kind}), where locks do not hold",
                "move it to a disk of this host",
            )
        device = there.stat().st_dev
        if device in seen:
            continue
        seen[device] = name
        yield _room(name, there, _size(settings.store) if name == "store" else 0)


def _room(name: str, there: Path, needed: int) -> Check:
    """The check of the disk that `there` is on. `needed`: the bytes of the store, which a rebuild writes once more."""
    free = shutil.disk_usage(there).free
    text = f"{_bytes(free)} free on the disk of the {name} ({there})"
    if free < _ROOM_MIN:
        return error("disk", text, "make room: a worker stops when it cannot write")
    if free < _ROOM_LOW:
        return warning("disk", text, "make room before the disk is full: a worker stops when it cannot write")
    if free < needed:
        return warning(
            "disk",
            f"{text}, and the store has {_bytes(needed)}",
            "make room: a rebuild beside the store needs its size once more",
        )
    return ok("disk", text)


def _existing(path: Path) -> Path:
    """The path, or the nearest directory above it that is there."""
    for one in (path, *path.parents):
        if one.exists():
            return one
    return Path("/")


def _size(directory: Path) -> int:
    found = 0
    for top, _, names in os.walk(directory):
        for name in names:
            try:
                found += os.lstat(Path(top, name)).st_size
            except OSError:  # a worker has removed it meanwhile
                continue
    return found


def _file_system(path: Path) -> str:
    """The kind of the file system that a path is on; "" where it is not known."""
    device = path.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        lines = _MOUNTS.read_text().splitlines()
    except OSError:
        return ""
    for line in lines:
        fields, _, rest = line.partition(" - ")
        if fields.split()[2:3] == [wanted]:
            return rest.split()[0]
    return ""


def _bytes(count: int) -> str:
    for unit, size in (("GiB", 2**30), ("MiB", 2**20)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count / 2**10:,.1f} KiB"
