"""Datasets in object stores."""

from __future__ import annotations

import json

import pytest
from dagster_aws.s3 import S3Resource

from sora_dagster import ClipStorageResource
from sora_dagster.prompts.files import DatasetError
from sora_dagster.prompts.sources import FilePrompts
from sora_dagster.storage import StorageRoot
from tests.prompts.dataset_files import image_bytes
from tests.prompts.test_sources import CATALOGUE
from tests.s3_server import KEY_ID, SECRET, make_bucket

ROW = {"id": "a", "prompt": "A lake", "first_frame": "frames/lake.png"}


@pytest.fixture
def bucket(s3_url: str) -> StorageRoot:
    bucket = StorageRoot(s3_url)
    bucket.write("frames/lake.png", image_bytes(640, 360))
    bucket.write("p.jsonl", json.dumps(ROW).encode())
    return bucket


def write_rows(bucket: StorageRoot, *rows: dict[str, str]) -> None:
    bucket.write("p.jsonl", "\n".join(map(json.dumps, rows)).encode())


def test_images_are_beside_the_dataset(bucket: StorageRoot) -> None:
    source = FilePrompts(f"{bucket.url}/p.jsonl")
    [clip] = source.read(CATALOGUE).clips
    bucket.write("copy.png", image_bytes(640, 360))
    write_rows(bucket, {**ROW, "first_frame": "copy.png"})
    [same] = source.read(CATALOGUE).clips
    assert clip.fingerprint == same.fingerprint
    bucket.write("copy.png", image_bytes(640, 480))
    [other] = source.read(CATALOGUE).clips
    assert other.fingerprint != clip.fingerprint


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("../secret.png", "outside of the dataset's folder"),
        ("frames/../../secret.png", "outside of the dataset's folder"),
        ("/secret.png", "relative to the dataset's folder"),
        ("frames/missing.png", "no such object"),
        ("s3://bucket/lake.png", "cannot be an image"),
    ],
)
def test_an_image_elsewhere_is_refused(bucket: StorageRoot, path: str, message: str) -> None:
    write_rows(bucket, {**ROW, "first_frame": path})
    with pytest.raises(DatasetError, match=message):
        FilePrompts(f"{bucket.url}/p.jsonl").read(CATALOGUE)


def test_the_images_of_a_folder_are_looked_up_with_one_listing(
    bucket: StorageRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"frames/{number}.png" for number in range(8)]
    for name in names:
        bucket.write(name, image_bytes(640, 360))
    write_rows(bucket, *({**ROW, "id": name[7], "first_frame": name} for name in names))
    source = FilePrompts(f"{bucket.url}/p.jsonl")
    read = source.read(CATALOGUE).version
    asked: list[str] = []
    info = StorageRoot.info
    monkeypatch.setattr(StorageRoot, "info", lambda root, key: asked.append(key) or info(root, key))
    assert source.version() == read
    assert "p.jsonl" in asked
    assert not [key for key in asked if key.startswith("frames/")]
    bucket.write(names[5], image_bytes(640, 480))
    assert source.version() != read
    bucket.delete(names[5])
    assert source.version() != read


def test_the_version_is_that_of_all_objects_that_are_needed(bucket: StorageRoot) -> None:
    source = FilePrompts(f"{bucket.url}/p.jsonl")
    assert source.version() is None
    versions = [source.read(CATALOGUE).version]
    assert source.version() == versions[0]
    bucket.write("frames/lake.png", image_bytes(640, 480))
    versions.append(source.version())
    bucket.write("p.recipes.yaml", b"night: At night")
    versions.append(source.version())
    write_rows(bucket, ROW, {"id": "b", "prompt": "A lake"})
    versions.append(source.version())
    assert len(set(versions)) == 4
    assert None not in versions


def test_a_dataset_that_is_missing_is_named(bucket: StorageRoot) -> None:
    url = f"{bucket.url}/missing.csv"
    with pytest.raises(DatasetError, match=rf"no such object \({url}\)"):
        FilePrompts(url).read(CATALOGUE)


@pytest.mark.usefixtures("s3_url")
def test_a_bucket_is_opened_with_the_settings_of_the_storage_resource(
    s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    name = make_bucket(s3_endpoint)
    server = S3Resource(
        endpoint_url=s3_endpoint, aws_access_key_id=KEY_ID, aws_secret_access_key=SECRET
    )
    # The storage root is another one; only its settings are used.
    storage = ClipStorageResource(url="s3://clips", s3=server)
    storage.root_at(f"s3://{name}").write("p.csv", b"id,prompt\nfox,A fox\n")
    source = FilePrompts(f"s3://{name}/p.csv")
    assert source.read(CATALOGUE, storage).clip_ids == ("fox",)
    assert source.version(storage) is not None
