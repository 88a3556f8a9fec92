"""What a copy reads from and writes to, and how it is named."""

from __future__ import annotations

import configparser
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple, Protocol, runtime_checkable
from urllib.parse import urlsplit, urlunsplit

from vacancy.placement_api.transfer.deployment import Deployment
from vacancy.placement_api.transfer.plan import Plan
from vacancy.resources.model.errors import UsageError, VacancyError

Progress = Callable[[int, int], None]
"""Takes how much is done, and of how much."""

_API: Final = ("http", "https")
_DATABASES: Final = ("mysql", "mariadb", "postgresql", "sqlite")
_FORMS: Final = (
    "name one of mysql+pymysql://USER:PASSWORD@HOST/DATABASE, postgresql+psycopg://…, sqlite:///FILE, http://HOST:PORT,"
    " or the path of a placement.conf"
)


class EndpointError(VacancyError):
    """A database or an API of Placement cannot be read or written. Operator action: what the text says."""


class Refusal(NamedTuple):
    """What the target did not take, and why."""

    subject: str
    reason: str

    def __str__(self) -> str:
        return f"{self.subject} was refused: {self.reason}"


class Source(Protocol):
    """What a deployment is read from."""

    @property
    def name(self) -> str:
        """What it is called in messages: its URL without the password."""

    def read(self, progress: Progress | None = None) -> Deployment:
        """The deployment as it is now. Raises `EndpointError` where it cannot be read."""


@runtime_checkable
class Target(Source, Protocol):
    """What a deployment is written to."""

    def write(self, plan: Plan, progress: Progress | None = None) -> list[Refusal]:
        """Do the steps of a plan. What is refused is returned, and the others are done. Raises `EndpointError` and the errors of
        the log where it cannot go on."""


def is_api(url: str) -> bool:
    """Whether a URL is that of an API. Raises `UsageError` unless it is that or the URL of a database."""
    scheme = url.partition(":")[0].partition("+")[0].lower()
    if scheme in _API:
        return True
    if scheme not in _DATABASES:
        raise UsageError(
            f"{without_password(url)!r} is neither a database nor an API of Placement", do=_FORMS
        )
    return False


def resolve(place: str) -> str:
    """The URL of what an option names: a URL, or the path of a `placement.conf`, whose database is meant.

    Raises `UsageError` if the file does not name a database.
    """
    if "://" in place:
        return place
    file = Path(place)
    config = configparser.ConfigParser(strict=False, interpolation=None)
    try:
        config.read_string(file.read_text())
        return config["placement_database"]["connection"].strip("'\" ")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {file}: {getattr(error, 'strerror', error)}", do=_FORMS) from None
    except (configparser.Error, KeyError):
        raise UsageError(
            "there is no `connection` in [placement_database]",
            where=str(file),
            do="name the database by its URL",
        ) from None


def without_password(url: str) -> str:
    """A URL as it may be shown: without its password and without its parameters, which may have one."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url.partition(":")[0]
    user, at, host = parts.netloc.rpartition("@")
    name = user.partition(":")[0]
    return urlunsplit((parts.scheme, f"{name}{at}{host}", parts.path, "", ""))
