"""What `sora-dagster doctor` finds out: where each setting comes from, and what works."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from sora_dagster.cli.diagnosis_checks import (
    Check,
    api_checks,
    dataset_checks,
    extras_checks,
    models_checks,
    storage_checks,
    webhook_checks,
    without_user,
)
from sora_dagster.environment.declarations import (
    secret_variables,
    setting_variable,
    settings_table,
)
from sora_dagster.environment.values import SettingsError, SettingValues, values_in

if TYPE_CHECKING:
    from sora_dagster.settings import Settings

Source = Literal["option", ".env", "environment", "default"]

# Longer than a request to the API or to the webhook receiver may take.
_CHECK_SECONDS = 30.0
_SECRET_LENGTH = 32


class SettingRow(NamedTuple):
    """One setting, as it counts.

    Arguments:
        variable: its environment variable.
        value: its value; of a secret, only whether it is set, and whether it is long.
        source: where the value comes from.
        description: what it sets.
    """

    variable: str
    value: str
    source: Source
    description: str


class Diagnosis(NamedTuple):
    """All settings, and the results of all checks."""

    settings: list[SettingRow]
    checks: list[Check]

    @property
    def is_ok(self) -> bool:
        """Whether no check failed."""
        return all(check.status != "failed" for check in self.checks)


def diagnose(
    options: Mapping[str, str | None], *, folder: Path, check_seconds: float = _CHECK_SECONDS
) -> Diagnosis:
    """Read the settings and check what they name. Pays nothing and requests no video.

    Arguments:
        options: values from the command line, by the names of settings. None: not given.
        folder: where Dagster is started, and reads `.env`.
        check_seconds: maximum time of all checks in seconds. Default: 30.
    """
    from sora_dagster.settings import Settings

    in_file = _env_file(folder)
    checks = _env_file_checks(in_file)
    # As Dagster does. Credentials of the store may be there, too.
    os.environ.update(in_file)
    environ = dict(os.environ)
    values = values_in(environ)
    for field in list(values):
        try:
            SettingValues.value_of(field, environ)
        except SettingsError as error:
            checks.append(Check("settings", "failed", str(error), "Correct this variable."))
            del values[field]
    given = {field: value for field, value in options.items() if value is not None}
    settings = Settings.from_values({**values, **given})
    if not any(check.name == "settings" for check in checks):
        checks.append(Check("settings", "ok", "All settings have valid values."))
    account: Future[str | None] = Future()

    def known_account() -> str | None:
        try:
            return account.result(check_seconds * 0.8)
        except TimeoutError:
            # The check of the API says so; that of the storage root goes on without the account.
            return None

    parts: Mapping[str, Callable[[], Sequence[Check]]] = {
        "API": lambda: api_checks(settings, environ, account),
        "storage": lambda: storage_checks(settings, known_account),
        "webhook": lambda: webhook_checks(settings, environ),
        "models": lambda: models_checks(settings),
        "extras": lambda: extras_checks(settings),
        "dataset": lambda: dataset_checks(settings),
    }
    checks += _run_all(parts, check_seconds)
    return Diagnosis(_rows(settings, environ, in_file, given), checks)


def _run_all(parts: Mapping[str, Callable[[], Sequence[Check]]], seconds: float) -> list[Check]:
    found: dict[str, Sequence[Check]] = {}

    def run(name: str, part: Callable[[], Sequence[Check]]) -> None:
        try:
            found[name] = part()
        # A check must never end the command: whatever it raises is its result.
        except Exception as error:  # noqa: BLE001
            found[name] = [Check(name, "failed", f"{type(error).__name__}: {error}")]

    # A thread that hangs does not keep the process alive.
    threads = [
        threading.Thread(target=run, args=part, daemon=True, name=part[0]) for part in parts.items()
    ]
    for thread in threads:
        thread.start()
    ends_at = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, ends_at - time.monotonic()))
    late = f"There was no result within {seconds:g} s."
    action = "Check the network, the proxy and the address."
    return [
        check for name in parts for check in found.get(name, [Check(name, "failed", late, action)])
    ]


# Where settings come from


def _env_file(folder: Path) -> dict[str, str]:
    from dotenv import dotenv_values

    path = folder / ".env"
    if not path.is_file():
        return {}
    return {name: value for name, value in dotenv_values(path).items() if value is not None}


def _env_file_checks(in_file: Mapping[str, str]) -> list[Check]:
    names = sorted({variable.name for variable in settings_table()} & set(in_file))
    if not names:
        return []
    differing = [name for name in names if os.environ.get(name, "") != in_file[name]]
    if not differing:
        return [Check(".env", "ok", f".env and the environment agree on {', '.join(names)}.")]
    return [
        Check(
            ".env",
            "warning",
            f".env sets {', '.join(differing)} differently from the environment. Dagster uses "
            f".env, and this table shows it; commands such as generate use the environment.",
            "Export the same values for the commands.",
        )
    ]


def _rows(
    settings: Settings,
    environ: Mapping[str, str],
    in_file: Mapping[str, str],
    given: Mapping[str, str],
) -> list[SettingRow]:
    texts = settings.to_environment()
    from_options = {setting_variable(field).name for field in given}
    # These depend on other settings.
    defaults = {"SORA_PROMPTS": settings.dataset_path() or "unset"}
    with suppress(SettingsError):
        defaults["SORA_STORAGE"] = settings.storage_root_url()
    rows = []
    for variable in settings_table():
        source: Source = "default"
        if variable.name in from_options:
            source = "option"
        elif in_file.get(variable.name, "").strip():
            source = ".env"
        elif environ.get(variable.name, "").strip():
            source = "environment"
        if variable.name in secret_variables():
            value = _secret_text(environ.get(variable.name, "").strip())
        elif source == "default":
            value = defaults.get(variable.name, variable.default)
        else:
            value = without_user(texts.get(variable.name, "not allowed"))
        rows.append(SettingRow(variable.name, value, source, variable.description))
    return rows


def _secret_text(value: str) -> str:
    if not value:
        return "unset"
    is_long = len(value) >= _SECRET_LENGTH
    return f"set, {_SECRET_LENGTH} characters or more" if is_long else "set, shorter than 32"
