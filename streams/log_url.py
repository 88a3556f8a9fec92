"""URLs of logs: `memory://NAME`, `sqlite:///path/to/log.db`, `kafka://host:port[,host:port]/topic`, and of archives:
`archive+file:///path`, `archive+s3://bucket/path`."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from vacancy.resources.model.errors import UsageError

FORMS: Final = (
    "memory://NAME, sqlite:///path/to/log.db, kafka://host:port[,host:port]/topic or archive+file:///path"
)
ARCHIVE: Final = "archive"
"""The scheme of archives. What follows it is a URL of its own."""


class LogUrl(NamedTuple):
    """A parsed log URL. `place` is the memory log's name, the file's absolute path, the Kafka topic, or the URL of the
    archive."""

    scheme: str
    place: str
    servers: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        """The URL in canonical form."""
        if self.scheme == ARCHIVE:
            return f"{ARCHIVE}+{self.place}"
        return f"{self.scheme}://{','.join(self.servers)}{'/' if self.servers else ''}{self.place}"

    @property
    def name(self) -> str:
        """A short name for messages: the topic, the memory log's name, the file's stem, or the archive's last folder."""
        if self.scheme == ARCHIVE:
            return self.place.rstrip("/").rpartition("/")[2]
        return Path(self.place).stem if self.scheme == "sqlite" else self.place


def parse_log_url(url: str) -> LogUrl:
    """Parse `url`. Raises UsageError; the message never repeats a user name or password from the URL.

    Everything after `sqlite://` is the file's path, so three slashes start an absolute path and two a path
    relative to the working directory.
    """
    if url.startswith(f"{ARCHIVE}+"):
        return LogUrl(ARCHIVE, archive_place(url))
    scheme, separator, rest = url.partition("://")
    if "@" in rest.partition("/")[0]:
        raise UsageError(
            "a log URL must not contain a user name or password",
            do="pass sasl.username and sasl.password as Kafka client settings",
        )
    if not separator or not rest or scheme not in ("memory", "sqlite", "kafka"):
        raise UsageError(f"{url!r} is not a log URL", do=f"write {FORMS}")
    if scheme == "memory":
        return LogUrl(scheme, rest)
    if scheme == "sqlite":
        if rest.endswith("/"):
            raise UsageError(f"{url!r} names a directory", do="name the file: sqlite:///path/to/log.db")
        return LogUrl(scheme, "/" + str(Path(rest).absolute()).lstrip("/"))
    return _parse_kafka(url, rest)


def archive_place(text: str) -> str:
    """The canonical URL of an archive, from a directory, a URL, or a log URL of an archive. Raises UsageError as
    `parse_log_url` does."""
    url = text.removeprefix(f"{ARCHIVE}+")
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, rest = "file", str(Path(url).expanduser())
    if "@" in rest.partition("/")[0]:
        raise UsageError(
            "the URL of an archive must not contain a user name or password",
            do="give them as its storage expects them, for example in the environment",
        )
    if not scheme or not rest.strip("/"):
        raise UsageError(f"{text!r} names no archive", do="write file:///path, or s3://bucket/path")
    if scheme == "file":
        rest = "/" + str(Path(rest).absolute()).lstrip("/")
    return f"{scheme}://{rest.rstrip('/')}"


def _parse_kafka(url: str, rest: str) -> LogUrl:
    addresses, _, topic = rest.partition("/")
    servers = tuple(address.strip() for address in addresses.split(",") if address.strip())
    for server in servers:
        host, _, port = server.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise UsageError(
                f"{server!r} in {url!r} is not an address", do="write host:port, for example kafka1:9092"
            )
    legal = topic and len(topic) <= 249 and all(c.isascii() and (c.isalnum() or c in "._-") for c in topic)
    if not servers or not legal:
        raise UsageError(
            f"{url!r} is not the URL of a Kafka log",
            do="write kafka://host:port[,host:port]/topic; a topic has letters, digits, '.', '_' and '-'",
        )
    return LogUrl("kafka", topic, servers)
