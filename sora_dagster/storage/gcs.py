"""Opens a bucket of Google Cloud Storage."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sora_dagster.storage.errors import StorageError
from sora_dagster.storage.store import OpenStore, split_bucket_url

DEFAULT_ENDPOINT = "https://storage.googleapis.com"
# obstore's environment variables for a service account's file or key.
_PATH_VARIABLES = ("GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_PATH")
_KEY_VARIABLE = "GOOGLE_SERVICE_ACCOUNT_KEY"
_ADC_VARIABLE = "GOOGLE_APPLICATION_CREDENTIALS"


@dataclass(frozen=True)
class GcsSettings:
    """Settings of Google Cloud Storage; None takes the value of the environment.

    Without a service account, the application default credentials are used: the file in
    GOOGLE_APPLICATION_CREDENTIALS, gcloud's login, or the machine's service account; their tokens
    are refreshed.

    Arguments:
        service_account_path: JSON file of a service account's key.
        endpoint_url: URL of another server; default: Google.
        unsigned: do not sign requests, for public buckets and emulators.
    """

    service_account_path: str | None = None
    endpoint_url: str | None = None
    unsigned: bool = False


def open_gcs(url: str, settings: GcsSettings) -> OpenStore:
    """The store of a ``gs://bucket/prefix`` URL.

    Raises:
        StorageError: if a credentials file cannot be read.
    """
    from obstore.store import GCSStore

    bucket, prefix = split_bucket_url(url)
    account, options = (None, {}) if settings.unsigned else _service_account(settings)
    endpoint = (
        settings.endpoint_url
        or os.environ.get("GOOGLE_BASE_URL")
        or (account or {}).get("gcs_base_url")
        or DEFAULT_ENDPOINT
    )
    objects = GCSStore(
        bucket,
        prefix=prefix or None,
        base_url=endpoint,
        skip_signature=settings.unsigned,
        client_options={"allow_http": endpoint.startswith("http://")},
        **options,  # type: ignore[arg-type]
    )
    return OpenStore(
        objects,
        endpoint_url=endpoint,
        can_presign=account is not None,
    )


def _service_account(settings: GcsSettings) -> tuple[dict[str, Any] | None, dict[str, str]]:
    """The key of a service account (None with other credentials), and obstore's option for it."""
    named = next(filter(None, map(os.environ.get, _PATH_VARIABLES)), None)
    if path := settings.service_account_path or named:
        return _checked(_read(path), path), {"service_account": str(Path(path).expanduser())}
    if key := os.environ.get(_KEY_VARIABLE):
        return _checked(_parsed(key, _KEY_VARIABLE), _KEY_VARIABLE), {}
    if path := os.environ.get(_ADC_VARIABLE):
        found = _read(path)
        # Such a file may also contain credentials of a login or a federation, without a key.
        if found.get("type") == "service_account":
            return _checked(found, path), {}
    return None, {}


def _read(path: str) -> dict[str, Any]:
    try:
        text = Path(path).expanduser().read_text()
    except OSError as error:
        raise StorageError(
            f"the Google credentials file {path} cannot be read: {error.strerror}. Set the path of "
            f"a service account's JSON file, or {_ADC_VARIABLE}"
        ) from error
    return _parsed(text, path)


def _parsed(text: str, where: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise StorageError(f"{where} is not a JSON object with Google credentials")
    return found


def _checked(account: dict[str, Any], where: str) -> dict[str, Any]:
    missing = [name for name in ("client_email", "private_key") if not account.get(name)]
    if missing:
        raise StorageError(
            f"{where} is not a service account's key: it has no {' and no '.join(missing)}. "
            f"Download a key in JSON format, or use {_ADC_VARIABLE} for other credentials"
        )
    return account
