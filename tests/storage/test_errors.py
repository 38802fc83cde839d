"""Errors of a store name the cause and what to do, and show no secret."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sora_dagster.storage import (
    AzureSettings,
    ObjectMissingError,
    S3Settings,
    StorageError,
    StorageRoot,
)
from sora_dagster.storage.errors import explain
from tests.store_faults import FaultyStore, StoreFault

Operation = Callable[[StorageRoot], Any]

OPERATIONS: dict[str, Operation] = {
    "create": lambda root: root.create("slowdown/AccessDenied", b"1"),
    "read": lambda root: root.read("slowdown/AccessDenied"),
    "list": lambda root: list(root.list("")),
    "folders": lambda root: root.folders(""),
    "copy": lambda root: root.copy("x", "y"),
    "uploads": lambda root: root.stale_uploads(0),
    "check": lambda root: root.check_writable(),
}


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
@pytest.mark.parametrize(
    ("code", "status", "message"),
    [
        ("NoSuchBucket", 404, "bucket does not exist"),
        ("AccessDenied", 403, "refuses"),
        ("ExpiredToken", 400, "expired"),
        ("InvalidAccessKeyId", 403, "not accept|refuses"),  # a HEAD has no code, but its status
        ("SlowDown", 503, "overloaded"),
    ],
)
def test_an_error_of_the_store_names_its_cause(
    watched: FaultyStore,
    s3_url: str,
    operation: Operation,
    code: str,
    status: int,
    message: str,
) -> None:
    root = StorageRoot(s3_url, s3=S3Settings(max_attempts=1))
    watched.faults.append(StoreFault(code, status))
    if operation is OPERATIONS["copy"] and code == "NoSuchBucket":
        message = "no object"  # the HEAD before the copy, which has no code either
    with pytest.raises(StorageError, match=message) as raised:
        operation(root)
    assert "GenericError" not in "".join(traceback.format_exception(raised.value))


@pytest.mark.parametrize("operation", ["create", "read", "list"])
def test_a_bucket_of_another_region_is_a_clear_error(
    watched: FaultyStore, s3_url: str, operation: str
) -> None:
    watched.faults.append(StoreFault("PermanentRedirect", 301))
    with pytest.raises(StorageError, match="another region"):
        OPERATIONS[operation](StorageRoot(s3_url))


def test_a_missing_object_is_not_a_missing_bucket_whatever_its_name(
    s3_url: str,
) -> None:
    with pytest.raises(ObjectMissingError):
        StorageRoot(s3_url).read("SlowDown/AccessDenied/NoSuchBucket 503")


def test_a_bucket_that_does_not_exist_is_a_clear_error(s3_url: str) -> None:
    with pytest.raises(StorageError, match=r"no-such-bucket.*bucket does not exist"):
        StorageRoot("s3://no-such-bucket/x").check_writable()
    with pytest.raises(StorageError, match="bucket does not exist"):
        StorageRoot("s3://no-such-bucket/x").read_if_present("a")


def test_a_store_that_cannot_be_reached_is_a_clear_error(s3_url: str) -> None:
    settings = S3Settings(endpoint_url="http://127.0.0.1:1", max_attempts=1)
    with pytest.raises(StorageError, match="cannot be reached"):
        StorageRoot(s3_url, s3=settings).read("x")


def test_no_error_shows_a_signature() -> None:
    settings = AzureSettings(
        account_name="team", sas_token="sv=2024&sig=hidden", endpoint_url="http://127.0.0.1:1"
    )
    root = StorageRoot("az://container/x", azure=settings)
    error = explain(
        ValueError("PUT https://team.blob.core.windows.net/c/x?sv=2024&sig=hidden failed"),
        "write",
        root.uri("x"),
        root.url,
    )
    assert "hidden" not in str(error)
    assert "hidden" not in repr(settings)


@pytest.mark.parametrize(
    ("number", "message"),
    [(28, "no space left"), (122, "no space left"), (30, "read-only"), (13, "no permission")],
)
def test_an_error_of_the_operating_system_says_what_to_do(number: int, message: str) -> None:
    for error in (OSError(number, "refused"), ValueError(f"Unable: refused (os error {number})")):
        assert message in str(explain(error, "write", "file:///x/y", "file:///x"))


def test_a_folder_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    root = StorageRoot(tmp_path)
    (tmp_path / "clips").write_text("a file in the way")
    with pytest.raises(StorageError, match="clips/a"):
        root.write("clips/a", b"1")
