"""URLs of logs: `memory://NAME`, `sqlite:///path/to/log.db` or `kafka://host:port[,host:port]/topic`."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from vacancy.resources.model.errors import UsageError

FORMS: Final = "memory://NAME, sqlite:///path/to/log.db or kafka://host:port[,host:port]/topic"


class LogUrl(NamedTuple):
    """A parsed log URL. `place` is the memory log's name, the file's absolute path, or the Kafka topic."""

    scheme: str
    place: str
    servers: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        """The URL in canonical form."""
        return f"{self.scheme}://{','.join(self.servers)}{'/' if self.servers else ''}{self.place}"

    @property
    def name(self) -> str:
        """A short name for messages: the topic, the memory log's name, or the file's stem."""
        return Path(self.place).stem if self.scheme == "sqlite" else self.place


def parse_log_url(url: str) -> LogUrl:
    """Parse `url`. Raises UsageError; the message never repeats a user name or password from the URL.

    Everything after `sqlite://` is the file's path, so three slashes start an absolute path and two a path
    relative to the working directory.
    """
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
