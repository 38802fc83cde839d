"""Google's and Azure's stores, opened and signed for without a network."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import dagster as dg
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from sora_dagster.resources import ClipStorageResource
from sora_dagster.storage import AzureSettings, GcsSettings, StorageError, StorageRoot

ACCOUNT_KEY = base64.b64encode(b"the key of an account" * 2).decode()
CONNECTION = f"DefaultEndpointsProtocol=https;AccountName=team;AccountKey={ACCOUNT_KEY}"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("GOOGLE_", "AZURE_"))]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def service_account(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A service account's file, with its own key."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    text = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()
    path = tmp_path_factory.mktemp("google") / "account.json"
    path.write_text(
        json.dumps(
            {
                "type": "service_account",
                "client_email": "clips@team.iam.gserviceaccount.com",
                "private_key": text,
                "private_key_id": "1",
            }
        )
    )
    return path


def check_google_url(root: StorageRoot) -> None:
    assert root.can_presign
    assert root.accepts_plain_put
    assert root.is_reachable_from_outside
    put, get = (urlsplit(root.presign(method, "in/video.mp4", 90)) for method in ("PUT", "GET"))
    query = parse_qs(put.query)
    assert f"{put.scheme}://{put.netloc}{put.path}" == (
        "https://storage.googleapis.com/bucket/clips/in/video.mp4"
    )
    assert query["X-Goog-Expires"] == ["90"]
    assert query["X-Goog-SignedHeaders"] == ["host"]
    assert query["X-Goog-Credential"][0].startswith("clips@team.iam.gserviceaccount.com/")
    assert query["X-Goog-Signature"] != parse_qs(get.query)["X-Goog-Signature"]


def test_a_service_accounts_file_signs_for_google(service_account: Path) -> None:
    check_google_url(
        ClipStorageResource(
            url="gs://bucket/clips", gcs_service_account_path=str(service_account)
        ).root()
    )


@pytest.mark.parametrize(
    "variable",
    ["GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_KEY"],
)
def test_googles_environment_is_used(
    service_account: Path, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = service_account.read_text() if variable.endswith("_KEY") else str(service_account)
    monkeypatch.setenv(variable, value)
    check_google_url(StorageRoot("gs://bucket/clips"))


def test_without_a_key_google_is_opened_and_nothing_is_signed() -> None:
    root = StorageRoot("gs://bucket/clips")
    assert not root.can_presign
    assert root.is_reachable_from_outside
    with pytest.raises(StorageError, match="service account"):
        root.presign("GET", "x", 60)


def test_a_google_file_that_cannot_be_used_is_a_clear_error(tmp_path: Path) -> None:
    for text, message in (
        (None, "cannot be read"),
        ("no json", "not a JSON object"),
        ("{}", "no client_email and no private_key"),
    ):
        path = tmp_path / "account.json"
        if text is not None:
            path.write_text(text)
        with pytest.raises(StorageError, match=message):
            StorageRoot("gs://bucket", gcs=GcsSettings(service_account_path=str(path)))


def check_azure_url(root: StorageRoot) -> None:
    assert root.can_presign
    assert not root.accepts_plain_put
    put = urlsplit(root.presign("PUT", "in/video.mp4", 90))
    query = parse_qs(put.query)
    assert f"{put.scheme}://{put.netloc}{put.path}" == (
        "https://team.blob.core.windows.net/container/clips/in/video.mp4"
    )
    # One blob, to be written.
    assert (query["sr"], query["sp"]) == (["b"], ["w"])
    assert query["se"]
    read = parse_qs(urlsplit(root.presign("GET", "in/video.mp4", 90)).query)
    assert read["sp"] == ["r"]
    assert read["sig"] != query["sig"]
    assert ACCOUNT_KEY not in put.query


def test_an_accounts_key_signs_for_azure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEAM_KEY", ACCOUNT_KEY)
    check_azure_url(
        ClipStorageResource(
            url="az://container/clips",
            azure_account_name="team",
            azure_account_key=dg.EnvVar("TEAM_KEY"),
        ).root()
    )


@pytest.mark.parametrize(
    "environment",
    [
        {"AZURE_STORAGE_CONNECTION_STRING": CONNECTION},
        {"AZURE_STORAGE_ACCOUNT_NAME": "team", "AZURE_STORAGE_ACCOUNT_KEY": ACCOUNT_KEY},
        {"AZURE_STORAGE_ACCOUNT": "team", "AZURE_STORAGE_KEY": ACCOUNT_KEY},
    ],
)
def test_azures_environment_is_used(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    check_azure_url(StorageRoot("az://container/clips"))
    check_azure_url(ClipStorageResource(url="az://container/clips").root())


def test_a_connection_string_may_name_an_emulator() -> None:
    settings = AzureSettings(
        connection_string=f"AccountName=dev;AccountKey={ACCOUNT_KEY};"
        "BlobEndpoint=http://127.0.0.1:10000/dev;"
    )
    root = StorageRoot("az://container", azure=settings)
    assert root.presign("GET", "x", 60).startswith("http://127.0.0.1:10000/dev/container/x?")
    assert not root.is_reachable_from_outside


def test_a_shared_access_signature_and_an_identity_sign_nothing() -> None:
    for settings in (
        AzureSettings(account_name="team", sas_token="sv=2024&sig=abc"),
        AzureSettings(account_name="team"),
    ):
        root = StorageRoot("az://container", azure=settings)
        assert not root.can_presign
        with pytest.raises(StorageError, match="account's key"):
            root.presign("GET", "x", 60)


def test_azure_without_an_account_is_a_clear_error() -> None:
    with pytest.raises(StorageError, match="AZURE_STORAGE_ACCOUNT_NAME"):
        StorageRoot("az://container/clips")
    with pytest.raises(StorageError, match="connection string") as raised:
        StorageRoot("az://c", azure=AzureSettings(connection_string="hidden"))
    assert "hidden" not in str(raised.value)


def test_secrets_do_not_show() -> None:
    settings = AzureSettings(account_key="hidden", sas_token="hidden", connection_string="hidden")
    assert "hidden" not in repr(settings)
