"""A bucket with object lock, which refuses an object without a checksum."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from sora_dagster.storage import StorageError, StorageRoot

# S3's answer to an object without a checksum, in a bucket with a default retention.
REFUSAL = (
    b"<Error><Code>InvalidRequest</Code><Message>Content-MD5 OR x-amz-checksum- HTTP header is "
    b"required for Put Object requests with Object Lock parameters</Message></Error>"
)


class LockedBucket(BaseHTTPRequestHandler):
    """Takes objects with a checksum only."""

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        has_checksum = "x-amz-checksum-sha256" in self.headers
        body = b"" if has_checksum else REFUSAL
        self.send_response(200 if has_checksum else 400)
        self.send_header("ETag", '"1"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def locked_url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), LockedBucket) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(name, value)
        yield "s3://locked/clips"
        server.shutdown()


def test_the_error_of_a_bucket_with_object_lock_says_which_variable_to_set(locked_url: str) -> None:
    with pytest.raises(StorageError, match=r"object lock.*AWS_CHECKSUM_ALGORITHM=SHA256"):
        StorageRoot(locked_url).write("a", b"1")


def test_objects_have_a_checksum_with_that_variable(
    locked_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CHECKSUM_ALGORITHM", "SHA256")
    StorageRoot(locked_url).write("a", b"1")
