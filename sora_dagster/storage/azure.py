"""Opens a container of Azure Blob Storage."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from sora_dagster.storage.errors import StorageError
from sora_dagster.storage.store import OpenStore, split_bucket_url

_ACCOUNT_VARIABLES = ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT")
_KEY_VARIABLES = (
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_ACCESS_KEY",
    "AZURE_STORAGE_MASTER_KEY",
    "AZURE_STORAGE_KEY",
)
_SAS_VARIABLES = ("AZURE_STORAGE_SAS_KEY", "AZURE_STORAGE_SAS_TOKEN")
_CONNECTION_VARIABLE = "AZURE_STORAGE_CONNECTION_STRING"
_ENDPOINT_VARIABLES = ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT")


@dataclass(frozen=True)
class AzureSettings:
    """Settings of Azure Blob Storage; None takes the value of the environment.

    The first of these credentials that is set is used: key, SAS, connection string. Without any,
    obstore's chain is used: service principal (AZURE_CLIENT_ID, AZURE_CLIENT_SECRET,
    AZURE_TENANT_ID), workload identity, Azure CLI if AZURE_USE_AZURE_CLI is set, managed identity;
    their tokens are refreshed.

    Arguments:
        account_name: the storage account.
        account_key: its key, which can sign URLs.
        sas_token: a shared access signature for the container.
        connection_string: the portal's connection string: account, key or signature, endpoint.
        endpoint_url: URL of another server; default: Azure.
    """

    account_name: str | None = None
    account_key: str | None = field(default=None, repr=False)
    sas_token: str | None = field(default=None, repr=False)
    connection_string: str | None = field(default=None, repr=False)
    endpoint_url: str | None = None


def open_azure(url: str, settings: AzureSettings) -> OpenStore:
    """The store of an ``az://container/prefix`` URL.

    Raises:
        StorageError: if no account is set, or the connection string cannot be parsed.
    """
    from obstore.store import AzureStore

    container, prefix = split_bucket_url(url)
    found = _completed(settings)
    if found.account_name is None:
        raise StorageError(
            f"no Azure storage account is set for {url}: set {_ACCOUNT_VARIABLES[0]} or "
            f"{_CONNECTION_VARIABLE}, or azure_account_name of ClipStorageResource"
        )
    endpoint = found.endpoint_url or f"https://{found.account_name}.blob.core.windows.net"
    options: dict[str, Any] = {
        "account_name": found.account_name,
        "endpoint": endpoint,
        "client_options": {"allow_http": endpoint.startswith("http://")},
    }
    if found.account_key is not None:
        options |= {"account_key": found.account_key, "credential_type": "access_key"}
    elif found.sas_token is not None:
        options |= {"sas_key": found.sas_token, "credential_type": "sas_token"}
    return OpenStore(
        AzureStore(container, prefix=prefix or None, **options),
        endpoint_url=endpoint,
        can_presign=found.account_key is not None,
        accepts_plain_put=False,
    )


def _completed(settings: AzureSettings) -> AzureSettings:
    """The settings, completed from the connection string and the environment."""
    is_given = bool(settings.account_key or settings.sas_token)
    text = settings.connection_string or (
        None if is_given else os.environ.get(_CONNECTION_VARIABLE)
    )
    parts = _connection_parts(text) if text else {}
    account_key, sas_token = settings.account_key, settings.sas_token
    if not is_given:
        account_key, sas_token = parts.get("AccountKey"), parts.get("SharedAccessSignature")
    if account_key is None and sas_token is None:
        account_key, sas_token = _first(_KEY_VARIABLES), _first(_SAS_VARIABLES)
    return AzureSettings(
        account_name=settings.account_name
        or parts.get("AccountName")
        or _first(_ACCOUNT_VARIABLES),
        account_key=account_key,
        sas_token=sas_token,
        endpoint_url=settings.endpoint_url or _endpoint(parts) or _first(_ENDPOINT_VARIABLES),
    )


def _connection_parts(text: str) -> dict[str, str]:
    # Keys end in "=": only the first one of a part separates.
    parts = dict(part.split("=", 1) for part in text.split(";") if "=" in part)
    if "AccountName" not in parts and "BlobEndpoint" not in parts:
        # Without the text, which contains a key.
        raise StorageError(
            "the Azure connection string has neither AccountName nor BlobEndpoint; copy all of it "
            "from the storage account's access keys, including semicolons"
        )
    return parts


def _endpoint(parts: dict[str, str]) -> str | None:
    if "BlobEndpoint" in parts:
        return parts["BlobEndpoint"].rstrip("/")
    if "AccountName" not in parts:
        return None
    scheme = parts.get("DefaultEndpointsProtocol", "https")
    suffix = parts.get("EndpointSuffix", "core.windows.net")
    return f"{scheme}://{parts['AccountName']}.blob.{suffix}"


def _first(variables: tuple[str, ...]) -> str | None:
    return next(filter(None, map(os.environ.get, variables)), None)
