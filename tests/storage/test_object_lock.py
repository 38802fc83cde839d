"""A bucket with object lock and a default retention, which refuses objects without a checksum."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

from sora_dagster.generation.housekeeping.prune import prune
from sora_dagster.generation.housekeeping.verify import verify
from sora_dagster.storage import StorageError, StorageRoot
from tests.generation.requesting import clip, collect, quick_generator, request_clips
from tests.s3_server import s3_client, s3_environment
from tests.sandbox_server import Sandbox


class Quiet(WSGIRequestHandler):
    """Logs no requests."""

    def log(self, type: str, message: str, *args: Any) -> None:
        """Log nothing."""


def naming_checksums(app: Callable[..., Any]) -> Callable[..., Any]:
    """An S3 server to which a request's checksum alone says that there is one, as to AWS.

    AWS's error asks for "Content-MD5 OR x-amz-checksum-"; moto looks for x-amz-sdk-checksum- only.
    """

    def respond(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        if "HTTP_X_AMZ_CHECKSUM_SHA256" in environ:
            environ["HTTP_X_AMZ_SDK_CHECKSUM_ALGORITHM"] = "SHA256"
        return app(environ, start_response)

    return respond


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Name of a bucket whose objects are kept for a day."""
    app = naming_checksums(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    for name, value in s3_environment(endpoint).items():
        monkeypatch.setenv(name, value)
    name = f"locked-{os.urandom(6).hex()}"
    client = s3_client(endpoint)
    client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    retention = {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": 1}}
    client.put_object_lock_configuration(
        Bucket=name,
        ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": retention},
    )
    yield name
    server.shutdown()
    thread.join()


def test_the_error_says_that_it_is_object_lock_and_which_variable_to_set(bucket: str) -> None:
    with pytest.raises(StorageError, match=r"object lock.*AWS_CHECKSUM_ALGORITHM=SHA256"):
        StorageRoot(f"s3://{bucket}/clips").write("a", b"1")


def test_with_that_variable_objects_are_written_once_replaced_and_removed(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CHECKSUM_ALGORITHM", "SHA256")
    root = StorageRoot(f"s3://{bucket}/clips")
    assert root.create("slot", b"first")
    assert not root.create("slot", b"second")
    root.write("state", b"1")
    root.write("state", b"2")
    video = os.urandom(18 * 2**20)
    with root.writer("video") as upload:
        upload.write(video)
    root.delete("state")
    assert root.read("slot") == b"first"
    assert root.read("video") == video
    assert not root.exists("state")


def test_with_that_variable_clips_are_generated_verified_and_pruned(
    bucket: str, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CHECKSUM_ALGORITHM", "SHA256")
    root = StorageRoot(f"s3://{bucket}/clips")
    with quick_generator(sandbox.base_url, root, delivery="download") as generator:
        generator.bind()
        request_clips(generator, clip("fox"), clip("owl"))
        ended = collect(generator)
        assert len(ended) == 2
        assert verify(generator.ledger).is_complete
        assert prune(generator.ledger, keep_takes=1, dry_run=False).objects == {}
