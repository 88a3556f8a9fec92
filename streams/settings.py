"""Settings. Precedence: flag, environment, file, default.

The environment variables are `VACANCY_LOG`, `VACANCY_STORE`, `VACANCY_CELL`, and so on. Kafka client settings keep
their own names: in a `[kafka]` table of the file, as `name=value` pairs on the command line, and in the environment as
`VACANCY_KAFKA_SASL_PASSWORD` for `sasl.password`. Values that could be secrets are never shown.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from vacancy.resources.model.errors import UsageError
from vacancy.streams.log_url import archive_place, parse_log_url

WEB_PORT: Final = 6066
"""The default port of a worker's HTTP pages."""

MASK: Final = "********"
_KAFKA_ENVIRONMENT: Final = "VACANCY_KAFKA_"
_SECRET_WORDS: Final = ("password", "secret", "token", "key", "jaas", "credential")


def no_page() -> str:
    """The address of the page where a worker serves none."""
    return ""


class WebAddress(NamedTuple):
    """The address of a worker's HTTP pages.

    `port`: 0 chooses a free port, "off" disables the pages, None is the default port, or a free one if that is in use.
    `page` returns the URL of the page for people that is served beside them (`vacancy ui`), "" while there is none. It is called
    in the worker's thread, so it must be cheap.
    """

    host: str = "127.0.0.1"
    port: int | Literal["off"] | None = None
    page: Callable[[], str] = no_page


def is_secret(name: str) -> bool:
    """Whether the setting called `name` may hold a secret."""
    return any(word in name.lower() for word in _SECRET_WORDS)


def masked(settings: Mapping[str, str]) -> dict[str, str]:
    """`settings` with possible secrets replaced by a mask."""
    return {name: MASK if is_secret(name) else value for name, value in settings.items()}


def kafka_pairs(pairs: Iterable[str]) -> dict[str, str]:
    """Kafka client settings from `name=value` pairs. Raises UsageError, which never repeats a value."""
    found = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator or not name.strip():
            raise UsageError(
                "a Kafka setting is not a name=value pair", do="write it as security.protocol=SSL"
            )
        found[name.strip()] = value
    return found


def _flatten(table: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Flatten nested tables: TOML reads `security.protocol = "SSL"` as a table in a table, Kafka's names have dots."""
    flat: dict[str, str] = {}
    for name, value in table.items():
        if isinstance(value, Mapping):
            flat.update(_flatten(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = str(value).lower() if isinstance(value, bool) else str(value)
    return flat


def state_directory() -> Path:
    """The directory of the default log and store: `$XDG_STATE_HOME/vacancy`, else `~/.local/state/vacancy`."""
    configured = os.environ.get("XDG_STATE_HOME", "")
    # The XDG base directory specification requires that relative paths are ignored.
    base = Path(configured) if configured.startswith("/") else Path.home() / ".local" / "state"
    return base / "vacancy"


class _KafkaEnvironment(PydanticBaseSettingsSource):
    """Reads `VACANCY_KAFKA_SASL_MECHANISM` as the Kafka client setting `sasl.mechanism`."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        del field
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        found = {
            name.removeprefix(_KAFKA_ENVIRONMENT).lower().replace("_", "."): value
            for name, value in os.environ.items()
            if name.startswith(_KAFKA_ENVIRONMENT)
        }
        return {"kafka": found} if found else {}


class _TomlFile(TomlConfigSettingsSource):
    """Reads the file and flattens its `[kafka]` table before the sources are merged."""

    def __call__(self) -> dict[str, Any]:
        found = super().__call__()
        if isinstance(found.get("kafka"), Mapping):
            found["kafka"] = _flatten(found["kafka"])
        return found


class Settings(BaseSettings):
    """The settings of every command. Use `load_settings` to create them."""

    model_config = SettingsConfigDict(env_prefix="VACANCY_", extra="forbid", frozen=True)

    log: str = Field(default_factory=lambda: f"sqlite://{state_directory()}/log.db")
    """The URL of the log."""
    store: Path = Field(default_factory=lambda: state_directory() / "store")
    """The directory of the tables."""
    cell: str | None = None
    """The cell of this node. `auto` spreads nodes over all cells. None: the node's cell so far, else `auto`."""
    kafka: dict[str, str] = Field(default_factory=dict)
    """Settings of the Kafka clients, under Kafka's own names."""
    web_host: str = "127.0.0.1"
    """The address at which a worker serves its pages (`/ready`, `/status`, `/metrics`)."""
    web_port: Annotated[int, Field(ge=0, le=65_535)] | Literal["off"] | None = None
    """The port of these pages. 0: a free one. `off`: no pages. None: 6066, or a free one if that is in use."""
    ui_host: str = "127.0.0.1"
    """The address at which a worker serves the page for people (docs/page.md). The page has no login."""
    ui_port: Annotated[int, Field(ge=0, le=65_535)] | Literal["off"] = "off"
    """The port at which a worker serves the page, in a process of its own. 0: a free one. `off`: no page."""
    schedulers: tuple[Annotated[str, Field(pattern="^https?://")], ...] = ()
    """The URLs of the metrics of schedulers, whose latency the page shows (docs/page.md)."""
    view_memory_mb: Annotated[int, Field(ge=1)] | None = None
    """About how much memory the columns of one reader may use, in MiB. None: 256 MiB and 4 KiB for each provider."""
    allow_devices: tuple[str, ...] = ()
    """Rules for the devices that a publisher offers. None given: all (docs/devices.md)."""
    deny_devices: tuple[str, ...] = ()
    """Rules for the devices that a publisher does not offer (docs/devices.md)."""
    reserve_hugepages: tuple[str, ...] = ()
    """Hugepages that a publisher does not offer, as CELL:KIB:PAGES (docs/numa.md)."""
    node_key: Path | None = None
    """The file of the private key with which a publisher signs (docs/signing.md). None: it does not sign."""
    operator_key: Path | None = None
    """The file of the private key with which operators' events are signed (docs/signing.md). None: they are not."""
    log_id: str = ""
    """The UUID of the log, for a publisher that signs and may not read the log."""
    snapshots: str = Field(default_factory=lambda: str(state_directory() / "snapshots"))
    """The directory or URL of snapshots."""
    archive: str = ""
    """The directory or URL of the log's archive, "" if it has none. Records that the log lacks are read from there."""
    history: Path = Field(default_factory=lambda: state_directory() / "history")
    """The directory of tables of the past that were made."""
    history_stores: Annotated[int, Field(ge=1)] = 16
    """How many tables of the past are kept at most."""
    history_mb: Annotated[int, Field(ge=1)] = 8_192
    """About how much room tables of the past may take, in MiB."""
    tracing: bool = False
    """Whether schedulers and workers make OpenTelemetry spans (extra `otel`, docs/tracing.md)."""
    parts: str = "vacancy.clients.runtime.bootstrap:worker_parts"
    """The function, as module:name, that makes the tables of a worker that the `faust` command runs."""

    @field_validator("log")
    @classmethod
    def _canonical(cls, url: str) -> str:
        return parse_log_url(url).url

    @field_validator("store", "history")
    @classmethod
    def _expanded(cls, store: Path) -> Path:
        return store.expanduser().absolute()

    @field_validator("node_key", "operator_key", mode="before")
    @classmethod
    def _expanded_key(cls, file: Path | str | None) -> Path | None:
        return Path(file).expanduser().absolute() if file else None  # an empty variable is none

    @field_validator("snapshots")
    @classmethod
    def _url_or_directory(cls, snapshots: str) -> str:
        return snapshots if "://" in snapshots else str(Path(snapshots).expanduser().absolute())

    @field_validator("archive")
    @classmethod
    def _archive_url(cls, archive: str) -> str:
        return archive_place(archive) if archive else ""

    @property
    def log_options(self) -> dict[str, str]:
        """What `open_log` needs besides the URL to read all of the log: Kafka's settings, and the archive."""
        return {**self.kafka, **({"archive": self.archive} if self.archive else {})}

    @property
    def web(self) -> WebAddress:
        """`web_host` and `web_port` together."""
        return WebAddress(self.web_host, self.web_port)

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        yield from ((name, value) for name, value in super().__repr_args__() if name != "kafka")
        yield "kafka", masked(self.kafka)


def setting_variables() -> frozenset[str]:
    """The environment variables that `load_settings` reads, besides those of Kafka's settings (`VACANCY_KAFKA_…`)."""
    return frozenset({"VACANCY_CONFIG", *(f"VACANCY_{name.upper()}" for name in Settings.model_fields)})


def load_settings(
    *,
    log: str | None = None,
    store: Path | str | None = None,
    cell: str | None = None,
    snapshots: str | None = None,
    archive: str | None = None,
    kafka: Iterable[str] = (),
    web_host: str | None = None,
    web_port: int | str | None = None,
    ui_host: str | None = None,
    ui_port: int | str | None = None,
    schedulers: Iterable[str] | None = None,
    allow_devices: Iterable[str] | None = None,
    deny_devices: Iterable[str] | None = None,
    reserve_hugepages: Iterable[str] | None = None,
    node_key: Path | str | None = None,
    operator_key: Path | str | None = None,
    config: Path | str | None = None,
) -> Settings:
    """Load the settings. The arguments are flags of the command line; None means not given.

    `kafka` are `name=value` pairs. A list replaces that of the environment and the file. `config` is the TOML file (default: `$VACANCY_CONFIG`, else `./vacancy.toml` if it
    exists). Raises UsageError for a file that cannot be read, an unknown setting or an invalid value.
    """
    flags: dict[str, Any] = {"log": log, "store": store, "cell": cell, "kafka": kafka_pairs(kafka) or None}
    flags |= {"snapshots": snapshots, "archive": archive}
    flags |= {"web_host": web_host, "web_port": web_port, "ui_host": ui_host, "ui_port": ui_port}
    flags |= {"schedulers": schedulers}
    flags |= {"allow_devices": allow_devices, "deny_devices": deny_devices}
    flags |= {"reserve_hugepages": reserve_hugepages}
    flags |= {"node_key": node_key, "operator_key": operator_key}
    given: dict[str, Any] = {name: value for name, value in flags.items() if value is not None}
    file = config_file(config)
    try:
        return _settings_class(file)(**given)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(
            f"the settings file is not valid TOML: {error}", where=str(file), do="correct it"
        ) from None
    except OSError as error:
        do = "check the file and its permissions"
        raise UsageError(
            f"the settings file cannot be read: {error.strerror}", where=str(file), do=do
        ) from error
    except (ValidationError, SettingsError) as error:
        # Neither is chained: both repeat the values, which may be secrets.
        raise _translate_error(error, given, file) from None


def config_file(config: Path | str | None) -> Path | None:
    """The TOML file that `load_settings` reads, None if there is none. Raises UsageError if a file that was named does not exist."""
    named = config or os.environ.get("VACANCY_CONFIG")
    if named:
        file = Path(named).expanduser()
        if not file.is_file():
            raise UsageError(
                "the settings file does not exist", where=str(file), do="correct its name, or omit it"
            )
        return file
    usual = Path("vacancy.toml")
    return usual if usual.is_file() else None


def _settings_class(file: Path | None) -> type[Settings]:
    """A `Settings` class that also reads `file`: pydantic attaches sources to a class, not to an instance."""

    class _Loaded(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            del dotenv_settings, file_secret_settings
            environment = _KafkaEnvironment(settings_cls)
            flags_and_environment = (init_settings, env_settings, environment)
            return (
                flags_and_environment
                if file is None
                else (*flags_and_environment, _TomlFile(settings_cls, file))
            )

    _Loaded.__name__ = Settings.__name__
    return _Loaded


def _translate_error(
    error: ValidationError | SettingsError, given: Mapping[str, object], file: Path | None
) -> UsageError:
    if isinstance(error, SettingsError):
        return UsageError("a setting in the environment cannot be read", do="check the VACANCY_… variables")
    first = error.errors(include_input=False, include_url=False)[0]
    name = ".".join(str(part) for part in first["loc"])
    variable = f"VACANCY_{name.upper()}"
    where = "command line" if name in given else variable if variable in os.environ else str(file)
    if first["type"] == "extra_forbidden":
        known = ", ".join(Settings.model_fields)
        return UsageError(f"there is no setting {name!r}", where=where, do=f"the settings are {known}")
    return UsageError(f"the setting {name!r} is invalid: {first['msg']}", where=where, do="correct it")
