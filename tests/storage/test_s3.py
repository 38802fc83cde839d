"""A bucket of S3: how it is opened, what is copied on the server, and what is cleaned up."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from dagster_aws.s3 import S3Resource

from sora_dagster.resources import ClipStorageResource
from sora_dagster.storage import ObjectAttributes, S3Settings, StorageError, StorageRoot
from tests.s3_server import KEY_ID, SECRET, s3_client, without_keys
from tests.store_faults import FaultyStore, StoreFault

MEBIBYTE = 1 << 20


def bucket_of(url: str) -> str:
    return urlsplit(url).netloc


# Settings


def test_s3_settings_come_from_dagsters_resource(
    s3_endpoint: str, s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_keys(monkeypatch, tmp_path)
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.delenv("AWS_REGION")
    s3 = S3Resource(
        endpoint_url=s3_endpoint,
        region_name="us-east-1",
        aws_access_key_id=KEY_ID,
        aws_secret_access_key=SECRET,
    )
    ClipStorageResource(url=s3_url, s3=s3).root().create("a.json", b"1")
    answer = s3_client(s3_endpoint).get_object(Bucket=bucket_of(s3_url), Key="some/prefix/a.json")
    assert answer["Body"].read() == b"1"


def test_the_endpoint_of_the_resource_overrides_the_environment(
    s3_endpoint: str, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    s3 = S3Resource(endpoint_url=s3_endpoint)
    assert ClipStorageResource(url=s3_url, s3=s3).root().create("a", b"1")


def test_the_endpoint_of_s3_overrides_that_of_aws(
    s3_endpoint: str, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3_endpoint)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    assert StorageRoot(s3_url).create("a", b"1")


def test_the_resources_keys_and_region_sign_the_requests(watched: FaultyStore, s3_url: str) -> None:
    s3 = S3Resource(
        aws_access_key_id="RESOURCEKEY",
        aws_secret_access_key="s",
        aws_session_token="t",
        region_name="eu-central-1",
    )
    root = ClipStorageResource(url=s3_url, s3=s3).root()
    root.create("a", b"1")
    assert {request.key_id for request in watched.seen} == {"RESOURCEKEY"}
    signed = parse_qs(urlsplit(root.presign("GET", "a", 60)).query)
    assert signed["X-Amz-Credential"][0].startswith("RESOURCEKEY/")
    assert "/eu-central-1/s3/" in signed["X-Amz-Credential"][0]
    assert signed["X-Amz-Security-Token"] == ["t"]


def test_an_unsigned_session_signs_nothing(
    watched: FaultyStore, s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_keys(monkeypatch, tmp_path)
    root = ClipStorageResource(url=s3_url, s3=S3Resource(use_unsigned_session=True)).root()
    root.read_if_present("a")
    assert [request.key_id for request in watched.seen] == [""]
    assert not root.can_presign
    with pytest.raises(StorageError, match="cannot be signed"):
        root.presign("GET", "a", 60)


@pytest.mark.parametrize("attempts", [1, 3])
def test_a_request_is_tried_as_often_as_the_resource_says(
    watched: FaultyStore, s3_url: str, attempts: int
) -> None:
    root = ClipStorageResource(url=s3_url, s3=S3Resource(max_attempts=attempts)).root()
    watched.faults.append(StoreFault("SlowDown", 503))
    with pytest.raises(StorageError, match="overloaded"):
        root.read("a")
    assert len(watched.seen) == attempts


def test_a_profile_is_used(
    watched: FaultyStore, s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_keys(monkeypatch, tmp_path)
    (tmp_path / "credentials").write_text(
        "[team]\naws_access_key_id = TEAMKEY\naws_secret_access_key = testing\n"
    )
    ClipStorageResource(url=s3_url, s3=S3Resource(profile_name="team")).root().create("a", b"1")
    monkeypatch.setenv("AWS_PROFILE", "team")
    StorageRoot(s3_url).create("b", b"1")
    assert [request.key_id for request in watched.seen] == ["TEAMKEY", "TEAMKEY"]


def test_the_region_comes_from_either_variable(
    s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    assert "%2Feu-west-1%2Fs3" in StorageRoot(s3_url).presign("GET", "a", 60)
    monkeypatch.setenv("AWS_REGION", "eu-north-1")
    assert "%2Feu-north-1%2Fs3" in StorageRoot(s3_url).presign("GET", "a", 60)


def test_without_an_endpoint_it_is_awss_own(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    root = StorageRoot("s3://bucket/x", s3=S3Settings(region_name="eu-central-1"))
    url = urlsplit(root.presign("PUT", "a", 60))
    assert url.hostname is not None
    assert url.hostname.endswith("eu-central-1.amazonaws.com")
    assert root.is_reachable_from_outside
    assert url.scheme == "https"
    plain = StorageRoot("s3://bucket/x", s3=S3Settings(use_ssl=False))
    assert plain.presign("PUT", "a", 60).startswith("http://")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"profile_name": "nobody"}, "nobody"),
        ({"aws_access_key_id": "half"}, "must be set together"),
        ({"aws_session_token": "alone"}, "requires"),
        ({"endpoint_url": "no-url"}, "no-url"),
        ({"endpoint_url": "https://s3.example.com", "use_ssl": False}, "use_ssl"),
        ({"max_attempts": 0}, "at least 1"),
        (
            {
                "use_unsigned_session": True,
                "aws_access_key_id": "a",
                "aws_secret_access_key": "b",
            },
            "choose one",
        ),
    ],
)
def test_s3_settings_that_cannot_be_used_are_a_clear_error(
    s3_url: str, settings: dict[str, str], message: str
) -> None:
    with pytest.raises(StorageError, match=message):
        ClipStorageResource(url=s3_url, s3=S3Resource(**settings)).root()  # type: ignore[arg-type]


def test_authorities_that_cannot_be_read_are_a_clear_error(s3_url: str, tmp_path: Path) -> None:
    settings = S3Settings(verify=str(tmp_path / "none.pem"))
    with pytest.raises(StorageError, match=r"none\.pem cannot be read"):
        StorageRoot(s3_url, s3=settings)


def test_an_unencrypted_endpoint_can_be_forbidden(
    s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ALLOW_HTTP", "false")
    with pytest.raises(StorageError, match="AWS_ALLOW_HTTP=false"):
        StorageRoot(s3_url)
    monkeypatch.delenv("AWS_ALLOW_HTTP")
    assert StorageRoot(s3_url).create("a", b"1")


def test_without_credentials_it_says_where_they_may_come_from(
    s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_keys(monkeypatch, tmp_path)
    with pytest.raises(StorageError, match="AWS_ACCESS_KEY_ID"):
        StorageRoot(s3_url)


def test_s3_secrets_do_not_show() -> None:
    assert "hidden" not in repr(S3Settings(aws_secret_access_key="hidden"))


# Copies and uploads


def test_a_copy_on_the_server_gets_new_attributes(watched: FaultyStore, s3_url: str) -> None:
    root = StorageRoot(s3_url)
    body = b"v" * (9 * MEBIBYTE)
    root.write("a", body, attributes=ObjectAttributes("text/plain", {"old": "1", "clip": "x"}))
    watched.seen.clear()
    root.copy("a", "b", attributes=ObjectAttributes("video/mp4", {"clip": "fox"}))
    # More than boto3 would copy in one piece by itself, and the bytes stay on the server.
    assert [request.method for request in watched.seen] == ["HEAD", "PUT"]
    assert root.attributes("b") == {"Content-Type": "video/mp4", "clip": "fox"}
    assert root.read("b") == body


def test_a_copy_without_attributes_keeps_those_of_its_source(s3_url: str) -> None:
    root = StorageRoot(s3_url)
    kept = ObjectAttributes("video/mp4", {"clip": "fox"})
    root.write("a", b"v" * (9 * MEBIBYTE), attributes=kept)
    root.copy("a", "b")
    assert root.attributes("b") == kept.encoded()


def test_a_stream_that_breaks_leaves_no_parts(s3_url: str, s3_endpoint: str) -> None:
    root = StorageRoot(s3_url)
    client = s3_client(s3_endpoint)
    began: list[object] = []
    with pytest.raises(RuntimeError), root.writer("video.mp4") as sink:
        for _ in range(24):
            sink.write(b"x" * MEBIBYTE)
        began = client.list_multipart_uploads(Bucket=bucket_of(s3_url))["Uploads"]
        raise RuntimeError("the connection broke")
    assert len(began) == 1
    assert not root.exists("video.mp4")
    assert "Uploads" not in client.list_multipart_uploads(Bucket=bucket_of(s3_url))


def test_stale_uploads_are_those_below_the_root_and_can_be_aborted(
    s3_url: str, s3_endpoint: str
) -> None:
    root = StorageRoot(s3_url)
    client, bucket = s3_client(s3_endpoint), bucket_of(s3_url)
    for key in ("some/prefix/clips/a.mp4", "some/prefixes/b.mp4", "c.mp4"):
        client.create_multipart_upload(Bucket=bucket, Key=key)
    [stale] = root.stale_uploads(3600)
    assert stale.key == "clips/a.mp4"
    # The server dates all of them to one day of 2010.
    assert root.stale_uploads(100 * 365 * 86_400) == []
    root.abort_upload(stale)
    root.abort_upload(stale)
    assert root.stale_uploads(3600) == []
    assert len(client.list_multipart_uploads(Bucket=bucket)["Uploads"]) == 2
