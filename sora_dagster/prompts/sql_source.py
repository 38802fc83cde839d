"""Rows of a query of a database."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sora_dagster.prompts.dataset import PromptDataset
from sora_dagster.prompts.prompt_source import SourceStorage
from sora_dagster.prompts.records import require_distinct
from sora_dagster.prompts.table_sources import (
    READ_AGAIN_SECONDS,
    Recipes,
    TableSource,
    interval_version,
)
from sora_dagster.runware.catalogue import Catalogue

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection

# Parameters of URLs in which drivers take secrets.
_SECRET_PARAMETER = re.compile(r"pass|pwd|secret|token|key$|credential", re.IGNORECASE)
# For connecting, in seconds; libpq also notices a server that is gone during a query.
_LIBPQ_LIMITS = {
    "connect_timeout": 30,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 6,
}
_TIME_LIMITS = {
    "psycopg2": _LIBPQ_LIMITS,
    "psycopg": _LIBPQ_LIMITS,
    "pymysql": {"connect_timeout": 30},
    "mysqldb": {"connect_timeout": 30},
}
_SECRET_IN_ODBC = re.compile(r"(?:pwd|password|secret)\s*=\s*([^;]+)", re.IGNORECASE)
_LISTS = ("recipes", "tags", "reference_images")
# Packages of dialects that are not part of SQLAlchemy, by the name that URLs start with.
_DIALECT_PACKAGES = {
    "awsathena": "PyAthena[SQLAlchemy]",
    "bigquery": "sqlalchemy-bigquery",
    "clickhouse": "clickhouse-sqlalchemy",
    "databricks": "databricks-sqlalchemy",
    "duckdb": "duckdb-engine",
    "redshift": "sqlalchemy-redshift",
    "snowflake": "snowflake-sqlalchemy",
    "trino": "trino[sqlalchemy]",
}
# Packages of drivers whose module has another name.
_DRIVER_PACKAGES = {
    "MySQLdb": "mysqlclient",
    "psycopg": "psycopg[binary]",
    "psycopg2": "psycopg2-binary",
}


class SqlPrompts(TableSource):
    """The rows of a query.

    The columns of the query are those of a prompt dataset. `recipes`, `tags`, `reference_images`
    and `settings` may be JSON; as text they may also be written as in CSV. NULL is an empty cell.
    For `audio`, 0 and 1 are false and true. Images are URLs or data URIs.

    Arguments:
        url: URL of the database, in the form of SQLAlchemy. One with a password must be a
            ``dg.EnvVar``, which is read when the query runs.
        query: the query, as the database's driver takes it. It is only read from; nothing is
            committed.
        recipes: the recipes for remixes, by name, as in a YAML dataset; or the path of a YAML file
            with them. Default: none.
        version_query: a query whose result changes when the rows change, such as
            ``SELECT max(updated_at), count(*) FROM prompts``. Default: the rows are read again
            every `read_again_seconds`.
        read_again_seconds: without `version_query`, the interval in seconds in which the dataset
            sensor reads the rows again. Default: 300.

    Raises:
        ValueError: if the URL has a password.
    """

    def __init__(
        self,
        url: str,
        query: str,
        *,
        recipes: Recipes | str | Path | None = None,
        version_query: str | None = None,
        read_again_seconds: float = READ_AGAIN_SECONDS,
    ) -> None:
        super().__init__(recipes)
        self._url = url
        self._query = query
        self._version_query = version_query
        self._read_again_seconds = read_again_seconds
        if self._variable is None and _secrets_in(url):
            raise ValueError(
                "the URL of the database has a password, which Dagster would show; put the URL "
                'into an environment variable and pass dg.EnvVar("NAME"), in YAML {env: NAME}'
            )

    @property
    def label(self) -> str:
        """The query's database, without user and password."""
        if self._variable is not None:
            return f"the query of {self._variable}"
        url = _parsed(self._url)
        if url is None:
            return "the query"
        host = "" if url.host is None else url.host
        return f"the query of {url.drivername}://{host}/{url.database or ''}"

    def read(self, catalogue: Catalogue, storage: SourceStorage | None = None) -> PromptDataset:
        del storage
        return self.dataset_of_records(self._rows(self._query), catalogue)

    def version(self, storage: SourceStorage | None = None) -> str | None:
        """The result of the version query, or the present interval; and the file of recipes."""
        del storage
        if self._version_query is None:
            return self.with_recipes(interval_version(self._read_again_seconds))
        result = [dict(row) for row in self._rows(self._version_query)]
        return self.with_recipes(json.dumps(result, default=str))

    @property
    def _variable(self) -> str | None:
        """Name of the environment variable of the URL, if it is a ``dg.EnvVar``."""
        name: str | None = getattr(self._url, "env_var_name", None)
        return name

    def _current_url(self) -> str:
        if self._variable is None:
            return self._url
        url: str = self._url.get_value() or ""  # type: ignore[attr-defined]
        if not url:
            raise self.failed(f"the environment variable {self._variable} is not set")
        return url

    def _rows(self, query: str) -> list[Mapping[str, Any]]:
        url = self._current_url()
        with self._connection(url) as connection:
            try:
                # As it is written: neither ":" nor "%" stands for a parameter.
                result = connection.exec_driver_sql(query)
                names = [str(name) for name in result.keys()]  # noqa: SIM118
                require_distinct(names)
                return [
                    {name: _value(name, item) for name, item in zip(names, row, strict=True)}
                    for row in result
                ]
            # Drivers raise errors of their own too.
            except Exception as error:  # noqa: BLE001
                raise self.failed(f"the query failed: {_reason(error, url)}") from None

    @contextmanager
    def _connection(self, url: str) -> Iterator[Connection]:
        from sqlalchemy import create_engine
        from sqlalchemy.exc import ArgumentError, NoSuchModuleError
        from sqlalchemy.pool import NullPool

        parsed = _parsed(url)
        self._require_sqlite_file(parsed)
        try:
            engine = create_engine(url, poolclass=NullPool, connect_args=_time_limits(parsed))
        except NoSuchModuleError:
            name = "" if parsed is None else parsed.get_backend_name()
            package = _DIALECT_PACKAGES.get(name, "the package of this dialect")
            raise self.failed(
                f"SQLAlchemy has no dialect for URLs that start with {name!r}; install {package} "
                f"where the code location runs, or correct the URL"
            ) from None
        except ModuleNotFoundError as error:
            package = _DRIVER_PACKAGES.get(str(error.name), str(error.name))
            raise self.failed(
                f"the database driver {error.name!r} is not installed; install {package} where the "
                f"code location runs, or name another driver in the URL, such as "
                f"postgresql+psycopg2://"
            ) from None
        except (ImportError, TypeError) as error:
            # A driver without its library, or a parameter that it does not know.
            raise self.failed(f"the database cannot be opened: {_reason(error, url)}") from None
        except (ArgumentError, ValueError):
            raise self.failed(
                "this is not the URL of a database, such as "
                "postgresql+psycopg2://host/database or sqlite:////path/to/file"
            ) from None
        try:
            try:
                connection = engine.connect()
            except Exception as error:  # noqa: BLE001
                raise self.failed(
                    f"the database cannot be reached: {_reason(error, url)}"
                ) from None
            with connection.execution_options(no_parameters=True) as opened:
                yield opened
        finally:
            engine.dispose()

    def _require_sqlite_file(self, url: URL | None) -> None:
        """SQLite would create a missing file."""
        if url is None or url.get_backend_name() != "sqlite":
            return
        name = url.database or ""
        if name in ("", ":memory:") or name.startswith("file:"):
            return
        if not Path(name).is_file():
            raise self.failed(f"there is no such database file ({Path(name).absolute()})")


def _time_limits(url: URL | None) -> dict[str, int]:
    """Arguments of the driver, so that a run does not wait for a dead database without an end."""
    try:
        driver = "" if url is None else url.get_dialect().driver
    except Exception:  # noqa: BLE001 - reported when the engine is created
        driver = ""
    limits = _TIME_LIMITS.get(driver, {})
    return {name: value for name, value in limits.items() if url and name not in url.query}


def _parsed(url: str) -> URL | None:
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(str(url))
    except (ArgumentError, ValueError):
        return None


def _secrets_in(text: str) -> list[str]:
    """The passwords and keys in the URL of a database."""
    url = _parsed(text)
    if url is None:
        return []
    secrets = [] if url.password is None else [str(url.password)]
    for name, value in url.query.items():
        for item in (value,) if isinstance(value, str) else value:
            if name == "odbc_connect":
                secrets += _SECRET_IN_ODBC.findall(item)
            elif _SECRET_PARAMETER.search(name):
                secrets.append(item)
    return [secret for secret in secrets if secret]


def _reason(error: Exception, url: str) -> str:
    """The first line of a driver's error, without the secrets of the URL."""
    # SQLAlchemy's own text has the query and a link.
    text = str(getattr(error, "orig", None) or error).strip() or type(error).__name__
    reason = text.splitlines()[0]
    for secret in _secrets_in(url):
        reason = reason.replace(secret, "***")
    return reason


def _value(column: str, value: Any) -> Any:
    """A value of a query, whose database may have neither booleans nor lists."""
    if column == "audio" and value in (0, 1):
        return bool(value)
    if column in _LISTS and isinstance(value, str) and value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value
