"""Settings from the environment (``LEDGERLINE_*``) or a TOML file, and the servers they lead to.

The environment wins over the file, which is named by ``LEDGERLINE_CONFIG`` or is ``ledgerline.toml`` in the current
folder. Without ``kafka`` or ``postgres`` the running local stack is used.
"""

import hashlib
import os
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit, urlunsplit

from platformdirs.unix import Unix
from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from ledgerline.errors import ConfigurationError, UnreachableError
from ledgerline.stack import local
from ledgerline.stack.layout import Layout, layout

PARTITIONS = 64
PARTITIONS_LOCAL = 8
CONFIG_FILE = "ledgerline.toml"


def _address(text: str) -> str:
    host, separator, port = text.rpartition(":")
    if not (host and separator and port.isascii() and port.isdecimal() and int(port) < 65536):
        raise ValueError("expected host:port with a port from 0 to 65535")
    return text


def _addresses(text: str) -> str:
    for one in text.split(","):
        _address(one)
    return text


def _dsn(secret: SecretStr) -> SecretStr:
    if not secret.get_secret_value().startswith(("postgresql://", "postgres://")):
        raise ValueError("expected postgresql://user@host:port/database")
    return secret


def _prefix(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,100}", text):
        raise ValueError("expected 1 to 100 of the characters that Kafka allows in topic names: A-Z a-z 0-9 . _ -")
    return text


def _default_home() -> Path:
    """A folder in the user's data folder; not in root's own, which PostgreSQL's user would have to pass."""
    return Path("/var/lib/ledgerline") if os.geteuid() == 0 else Unix("ledgerline").user_data_path


def _default_cache() -> Path:
    return Unix("ledgerline").user_cache_path


class Settings(BaseSettings):
    """Everything that can be set. Load it with ``load_settings``, which explains what is wrong."""

    model_config = SettingsConfigDict(
        env_prefix="LEDGERLINE_", env_ignore_empty=True, extra="forbid", frozen=True, hide_input_in_errors=False
    )

    kafka: Annotated[str, AfterValidator(_addresses)] | None = None
    """Bootstrap servers, host:port separated by commas; without it the local stack's."""
    postgres: Annotated[SecretStr, AfterValidator(_dsn)] | None = None
    """DSN of the ledger's database, used as it is; without it the prefix's database in the local stack."""
    prefix: Annotated[str, AfterValidator(_prefix)] = "ledgerline."
    """Begins the name of every topic and consumer group, and decides the local stack's database."""
    http: Annotated[str, AfterValidator(_address)] = "127.0.0.1:0"
    """Where a process serves /metrics, /livez, /readyz; port 0 is any free port."""
    partitions: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Partitions of a new ledger; without it 64, on the local stack 8."""
    home: Path = Field(default_factory=_default_home)
    """Where the local stack keeps its data and running processes their addresses."""
    cache: Path = Field(default_factory=_default_cache)
    """Where downloads are kept; may be deleted at any time."""
    log_format: Literal["json", "console"] = "console"
    dev: bool = False
    """Waives what a single broker cannot give (replication); implied by the local stack's address."""

    @property
    def layout(self) -> Layout:
        """The files of the local stack. Raises ConfigurationError for a path that its servers cannot use."""
        return layout(self.home, self.cache)

    @property
    def http_address(self) -> tuple[str, int]:
        """Host and port of ``http``."""
        host, _, port = self.http.rpartition(":")
        return host.strip("[]"), int(port)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the library passes it by name
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment, then the file."""
        file = Path(os.environ.get("LEDGERLINE_CONFIG") or CONFIG_FILE)
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=file)


@dataclass(frozen=True, kw_only=True, slots=True)
class Servers:
    """The servers that a command works with."""

    kafka: str
    """Bootstrap servers."""
    postgres: str
    """DSN of the ledger's database. On the local stack ``init`` creates it."""
    postgres_admin: str | None
    """DSN of a database that always exists, to create the ledger's; None for a server that is not ours."""
    partitions: int
    """Partitions of a new ledger."""
    dev: bool


def load_settings() -> Settings:
    """Read the settings. Raises ConfigurationError naming each wrong field, what it expects, and what it got."""
    named = os.environ.get("LEDGERLINE_CONFIG")
    if named and not Path(named).is_file():
        raise ConfigurationError(f"LEDGERLINE_CONFIG: expected a TOML file, {named!r} is none")
    try:
        return Settings()
    except ValidationError as error:
        raise ConfigurationError(
            "\n".join(_explain(one["loc"], one["msg"], one["input"]) for one in error.errors())
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{named or CONFIG_FILE}: not valid TOML: {error}") from None
    except SettingsError as error:
        raise ConfigurationError(f"LEDGERLINE_*: {error}") from None


def resolve(settings: Settings) -> Servers:
    """Return the servers that *settings* lead to: their own, or those of the running local stack.

    Raises UnreachableError if neither is there.
    """
    stack = local.running(settings.layout)
    broker = settings.kafka or (stack.kafka.address if stack.kafka else None)
    admin = None
    if settings.postgres is not None:
        database: str | None = settings.postgres.get_secret_value()
    else:
        admin = stack.postgres.address if stack.postgres else None
        database = with_database(admin, database_name(settings.prefix)) if admin else None
    if broker is None or database is None:
        missing = " and ".join(name for name, found in (("Kafka", broker), ("PostgreSQL", database)) if found is None)
        message = (
            f"no {missing}: the local stack in {settings.home} is not running; run `ledgerline up --detach`,"
            " or set LEDGERLINE_KAFKA and LEDGERLINE_POSTGRES to servers of your own"
        )
        raise UnreachableError(message)
    ours = stack.kafka is not None and broker == stack.kafka.address
    partitions = settings.partitions or (PARTITIONS_LOCAL if ours else PARTITIONS)
    return Servers(
        kafka=broker, postgres=database, postgres_admin=admin, partitions=partitions, dev=settings.dev or ours
    )


def database_name(prefix: str) -> str:
    """Return the local stack's database for *prefix*: one ledger per database, so two prefixes never share one.

    ``ledgerline.`` is ``ledgerline``. What a database name should not hold is replaced; a hash keeps the names apart.
    """
    plain = re.sub(r"[^a-z0-9_]", "_", prefix.removesuffix(".").lower())[:48]
    if prefix == f"{plain}." and plain not in {"postgres", "template0", "template1"}:
        return plain
    return f"{plain}_{hashlib.sha256(prefix.encode()).hexdigest()[:8]}"


def with_database(dsn: str, database: str) -> str:
    """Return *dsn* with its database replaced."""
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{database}"))


def _explain(location: tuple[int | str, ...], message: str, got: object) -> str:
    """One line for one wrong field; the DSN's value is not repeated, it may hold a password."""
    field = str(location[0])
    if field not in Settings.model_fields:
        return f"{field}: there is no such setting; the settings are {', '.join(sorted(Settings.model_fields))}"
    shown = "a value that is not shown" if field == "postgres" else repr(got)
    return (
        f"LEDGERLINE_{field.upper()} ({field} in the TOML file): {message.removeprefix('Value error, ')}, got {shown}"
    )
