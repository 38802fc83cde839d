"""An S3 server of this machine, in a thread."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

KEY_ID = "testing"
SECRET = "testing-secret"


@contextmanager
def running_s3() -> Iterator[str]:
    """An S3 server without buckets; gives its address."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def make_bucket(endpoint: str, name: str | None = None) -> str:
    """Make a bucket, of a name that is free where none is given; gives its name."""
    bucket = name or f"clips-{os.urandom(6).hex()}"
    s3_client(endpoint).create_bucket(Bucket=bucket)
    return bucket


def s3_environment(endpoint: str) -> dict[str, str]:
    """The environment variables with which AWS's tools use the server."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": "us-east-1",
    }


def s3_client(endpoint: str) -> Any:
    """boto3's client of the server, to look at what is really there."""
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=KEY_ID,
        aws_secret_access_key=SECRET,
    )


def without_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Take away keys, configuration files and the machine's role."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
