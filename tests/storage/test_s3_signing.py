"""Expiring credentials of S3 are refreshed, and URLs are signed for one key and one method."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from sora_dagster.storage import S3Settings, StorageRoot
from tests.s3_server import SECRET, without_keys
from tests.serving import serving
from tests.store_faults import FaultyStore

# Credentials that end


@contextmanager
def container_credentials(lives_seconds: Callable[[int], float]) -> Iterator[str]:
    """The credentials endpoint of a container's role; each response has another key."""
    count = 0

    def answer(_request: Request) -> JSONResponse:
        nonlocal count
        count += 1
        ends = datetime.now(UTC) + timedelta(seconds=lives_seconds(count))
        return JSONResponse(
            {
                "AccessKeyId": f"ROLEKEY{count}",
                "SecretAccessKey": "secret",
                "Token": "token",
                "Expiration": ends.strftime("%Y-%m-%dT%H:%M:%SZ"),
            }
        )

    with serving(Starlette(routes=[Route("/role", answer)])) as url:
        yield f"{url}/role"


def test_credentials_of_a_role_are_refreshed_before_they_expire(
    watched: FaultyStore, s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_keys(monkeypatch, tmp_path)
    # Credentials that expire soon are refreshed at each use, until the eighth.
    with container_credentials(lambda count: 300 if count < 8 else 7200) as url:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", url)
        root = StorageRoot(s3_url)
        for number in range(10):
            root.create(str(number), b"1")
        signed = parse_qs(urlsplit(root.presign("GET", "a", 60)).query)
        left = root.signing_seconds_left()
    used = [request.key_id for request in watched.seen]
    assert len(set(used)) > 3
    assert used[-1] == "ROLEKEY8"
    assert signed["X-Amz-Credential"][0].startswith("ROLEKEY8/")
    assert left is not None
    assert 7000 < left <= 7200


def test_a_credential_process_runs_again_before_its_credentials_expire(
    watched: FaultyStore, s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_keys(monkeypatch, tmp_path)
    given = tmp_path / "given.json"

    def give(key_id: str, lives_seconds: float) -> None:
        ends = datetime.now(UTC) + timedelta(seconds=lives_seconds)
        given.write_text(
            json.dumps(
                {
                    "Version": 1,
                    "AccessKeyId": key_id,
                    "SecretAccessKey": "secret",
                    "SessionToken": "token",
                    "Expiration": ends.isoformat(),
                }
            )
        )

    (tmp_path / "config").write_text(f"[profile team]\ncredential_process = cat {given}\n")
    monkeypatch.setenv("AWS_PROFILE", "team")
    give("FIRSTKEY", 60)
    root = StorageRoot(s3_url)
    root.create("a", b"1")
    give("SECONDKEY", 7200)
    root.create("b", b"1")
    assert [request.key_id for request in watched.seen] == ["FIRSTKEY", "SECONDKEY"]


def test_permanent_keys_and_session_tokens_have_no_known_expiry(
    s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert StorageRoot(s3_url).signing_seconds_left() is None
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
    assert StorageRoot(s3_url).signing_seconds_left() is None


# Signed URLs


def test_a_signed_url_puts_and_gets_its_key_and_no_more(s3_url: str) -> None:
    root = StorageRoot(s3_url)
    put_url = root.presign("PUT", "in/video.mp4", 90)
    httpx.put(put_url, content=b"video").raise_for_status()
    assert root.read("in/video.mp4") == b"video"
    assert httpx.get(root.presign("GET", "in/video.mp4", 90)).content == b"video"

    parts, get_parts = urlsplit(put_url), urlsplit(root.presign("GET", "in/video.mp4", 90))
    query, get_query = parse_qs(parts.query), parse_qs(get_parts.query)
    assert parts.path.endswith("/some/prefix/in/video.mp4")
    assert query["X-Amz-Expires"] == ["90"]
    assert query["X-Amz-Algorithm"] == ["AWS4-HMAC-SHA256"]
    # Nothing but the host must be sent along, and the method is part of what is signed.
    assert query["X-Amz-SignedHeaders"] == ["host"]
    assert parts.path == get_parts.path
    assert query["X-Amz-Signature"] != get_query["X-Amz-Signature"]
    assert SECRET not in put_url


@pytest.mark.parametrize(
    ("endpoint", "is_reachable"),
    [
        ("http://127.0.0.1:9000", False),
        ("http://localhost:9000", False),
        ("http://minio:9000", False),
        ("https://10.1.2.3", False),
        ("https://[fd00::1]:9000", False),
        ("https://s3.storage.svc.cluster.local", False),
        ("https://s3.example.com", True),
        ("https://8.8.8.8", True),
    ],
)
def test_it_knows_which_endpoints_are_reachable_from_outside(
    s3_url: str, endpoint: str, is_reachable: bool
) -> None:
    root = StorageRoot(s3_url, s3=S3Settings(endpoint_url=endpoint))
    assert root.is_reachable_from_outside is is_reachable
