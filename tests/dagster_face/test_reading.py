"""What assets downstream of clips are given, from a folder and from a bucket."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from sora_dagster.generation.library.stored_clip import StoredClip
from sora_dagster.io_manager import ClipIOManager
from sora_dagster.prompts.clips import ClipRequest
from sora_dagster.resources import ClipStorageResource
from sora_dagster.storage import StorageError
from tests.dagster_face.stack import Stack, failure_text, stack_in
from tests.generation.requesting import clip, collect, quick_generator, request_clips
from tests.s3_server import make_bucket, s3_environment
from tests.sandbox_server import Sandbox

FOX, OWL, BEE = {"id": "fox", "recipes": ["night"]}, {"id": "owl"}, {"id": "a bee"}
SKIP_MISSING = {"allow_missing_partitions": True}


@pytest.fixture(scope="module")
def in_a_folder(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A dataset of three clips, of which the fox, the owl and a remix of the fox are stored."""
    with stack_in(tmp_path_factory.mktemp("folder"), sandbox.base_url) as stack:
        store_some(stack)
        yield stack


@pytest.fixture(scope="module")
def in_a_bucket(
    sandbox: Sandbox, s3_endpoint: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """The same in a bucket."""
    with pytest.MonkeyPatch.context() as environment:
        for name, value in s3_environment(s3_endpoint).items():
            environment.setenv(name, value)
        with stack_in(tmp_path_factory.mktemp("bucket"), sandbox.base_url) as stack:
            stack.storage_url = f"s3://{make_bucket(s3_endpoint)}/clips"
            store_some(stack)
            yield stack


def store_some(stack: Stack) -> None:
    stack.write(FOX, OWL, BEE, recipes={"night": "at night"})
    stack.tick_dataset_sensor()
    for assets, partitions in (
        (["clip_requests", "clips"], ["fox", "owl"]),
        (["remix_requests", "remixes"], ["fox|night"]),
    ):
        result = stack.materialize(assets, partitions)
        assert result.success, failure_text(result)


def read(
    stack: Stack,
    annotation: Any = None,
    *,
    partition: str | None = None,
    upstream: str = "clips",
    metadata: Mapping[str, Any] | None = None,
    use: Callable[[Any], Any] = lambda value: value,
) -> Any:
    """What a downstream asset is given, or made of it within its step.

    Raises:
        RuntimeError: with the text of the run's failure.
    """
    seen: list[Any] = []

    def reel(clips) -> None:  # type: ignore[no-untyped-def]
        seen.append(use(clips))

    if annotation is not None:
        reel.__annotations__["clips"] = annotation
    source = asset_of(stack, upstream)
    downstream = dg.asset(
        ins={"clips": dg.AssetIn(upstream, metadata=metadata)},
        partitions_def=None if partition is None else source.partitions_def,
    )(reel)
    result = dg.materialize(
        [source, downstream],
        selection=["reel"],
        partition_key=partition,
        instance=stack.instance,
        resources=stack.definitions.resources,
        raise_on_error=False,
    )
    if not result.success:
        raise RuntimeError(failure_text(result))
    [value] = seen
    return value


def asset_of(stack: Stack, key: str) -> dg.AssetsDefinition:
    return next(
        asset
        for asset in stack.definitions.assets or []
        if isinstance(asset, dg.AssetsDefinition) and asset.key.to_user_string() == key
    )


def video(stack: Stack, clip_id: str, asset: str = "clips") -> bytes:
    """The bytes of a stored clip."""
    manifest = stack.ledger.latest_manifest(asset, clip_id)
    assert manifest is not None
    return stack.root.read(manifest.videos[0].key)


def content(value: Any) -> bytes:
    if isinstance(value, StoredClip):
        return value.read()
    return value.read_bytes() if isinstance(value, Path) else bytes(value)


@pytest.mark.parametrize("annotation", [StoredClip, Path, bytes, None, Any])
def test_one_partition_is_loaded_as_annotated(in_a_folder: Stack, annotation: Any) -> None:
    kind = StoredClip if annotation in (None, Any) else annotation
    value = read(in_a_folder, annotation, partition="fox")
    assert isinstance(value, kind)
    assert content(value) == video(in_a_folder, "fox")


def test_several_partitions_are_a_dict_by_partition_key(in_a_folder: Stack) -> None:
    expected = {clip_id: video(in_a_folder, clip_id) for clip_id in ("fox", "owl")}
    for annotation in (dict[str, StoredClip], dict[str, bytes], Mapping[str, bytes], dict, None):
        given = read(in_a_folder, annotation, metadata=SKIP_MISSING)
        assert {clip_id: content(value) for clip_id, value in given.items()} == expected


def test_several_partitions_in_a_bucket_are_files(in_a_bucket: Stack) -> None:
    given = read(
        in_a_bucket,
        dict[str, Path],
        metadata=SKIP_MISSING,
        use=lambda files: {clip_id: file.read_bytes() for clip_id, file in files.items()},
    )
    assert given == {clip_id: video(in_a_bucket, clip_id) for clip_id in ("fox", "owl")}


def test_a_dict_of_one_partition_is_a_dict(in_a_folder: Stack) -> None:
    given = read(in_a_folder, dict[str, bytes], partition="owl")
    assert given == {"owl": video(in_a_folder, "owl")}


def test_a_dict_of_no_partition_is_empty(stack: Stack) -> None:
    stack.write(FOX)
    assert read(stack, dict[str, StoredClip]) == {}
    assert read(stack) == {}


def test_partitions_that_are_not_stored_are_named_with_what_to_do(in_a_folder: Stack) -> None:
    with pytest.raises(RuntimeError, match="1 of 3 partitions of clips are not stored") as raised:
        read(in_a_folder, dict[str, StoredClip])
    assert "a bee." in str(raised.value)
    assert "'allow_missing_partitions': True" in str(raised.value)


def test_of_many_partitions_that_are_not_stored_some_are_named(stack: Stack) -> None:
    stack.write(*[{"id": f"clip-{number:02}"} for number in range(25)])
    stack.tick_dataset_sensor()
    with pytest.raises(RuntimeError, match="clip-09 and 15 more") as raised:
        read(stack, dict[str, StoredClip])
    assert "clip-10" not in str(raised.value)


@pytest.mark.parametrize("annotation", [StoredClip | None, Path | None, bytes | None, None])
def test_one_partition_that_is_not_stored_is_none_where_the_input_allows_it(
    in_a_folder: Stack, annotation: Any
) -> None:
    assert read(in_a_folder, annotation, partition="a bee", metadata=SKIP_MISSING) is None
    with pytest.raises(RuntimeError, match="clips/a bee is not stored"):
        read(in_a_folder, annotation, partition="a bee")


def test_an_annotation_without_none_is_named_where_a_partition_is_not_stored(
    in_a_folder: Stack,
) -> None:
    with pytest.raises(RuntimeError, match=r"clips/a bee is not stored.*StoredClip \| None"):
        read(in_a_folder, StoredClip, partition="a bee", metadata=SKIP_MISSING)


def test_optional_annotations_load_what_is_stored(in_a_folder: Stack) -> None:
    stored = video(in_a_folder, "fox")
    assert read(in_a_folder, bytes | None, partition="fox") == stored
    clips = read(in_a_folder, dict[str, StoredClip | None], metadata=SKIP_MISSING)
    assert list(clips) == ["fox", "owl"]


@pytest.mark.parametrize("annotation", [str, list[StoredClip], dict[str, str], dict[int, bytes]])
def test_an_unsupported_annotation_is_an_error_that_lists_the_supported_ones(
    in_a_folder: Stack, annotation: Any
) -> None:
    with pytest.raises(RuntimeError) as raised:
        read(in_a_folder, annotation, partition="fox")
    for part in ("TypeError: input 'clips', asset clips", "StoredClip", "pathlib.Path", "bytes"):
        assert part in str(raised.value)


def test_several_partitions_for_an_annotation_of_one_are_an_error(in_a_folder: Stack) -> None:
    with pytest.raises(RuntimeError, match=r"maps to 3 partitions.*dict\[str"):
        read(in_a_folder, StoredClip)


def test_a_file_from_a_bucket_exists_until_the_run_ends(in_a_bucket: Stack) -> None:
    def use(file: Path) -> tuple[Path, bytes]:
        return file, file.read_bytes()

    file, body = read(in_a_bucket, Path, partition="fox", use=use)
    assert file.name == "fox.mp4"
    assert body == video(in_a_bucket, "fox")
    assert not file.parent.exists()


def test_a_damaged_video_is_not_loaded_as_a_file(in_a_bucket: Stack) -> None:
    manifest = in_a_bucket.ledger.latest_manifest("clips", "owl")
    assert manifest is not None
    key, body = manifest.videos[0].key, video(in_a_bucket, "owl")
    in_a_bucket.root.write(key, b"something else")
    with pytest.raises(RuntimeError, match="is damaged"):
        read(in_a_bucket, Path, partition="owl")
    in_a_bucket.root.write(key, body)


def test_a_value_is_loaded_without_a_run(in_a_bucket: Stack) -> None:
    def load(**options: Any) -> Any:
        return in_a_bucket.definitions.load_asset_value(
            "clips", instance=in_a_bucket.instance, **options
        )

    file = load(partition_key="fox", python_type=Path)
    assert file.read_bytes() == video(in_a_bucket, "fox")
    assert load(partition_key="owl").cost_usd == 1.2
    with pytest.raises(StorageError, match="pass the partition keys to load"):
        load()


def test_remixes_are_a_dict_by_cell_of_the_grid(in_a_folder: Stack) -> None:
    remixes = read(in_a_folder, dict[str, StoredClip], upstream="remixes", metadata=SKIP_MISSING)
    assert list(remixes) == ["fox|night"]
    assert remixes["fox|night"].prompt == "at night"
    assert remixes["fox|night"].load_parent().read() == video(in_a_folder, "fox")
    given = read(in_a_folder, bytes, upstream="remixes", partition="fox|night")
    assert given == video(in_a_folder, "fox|night", "remixes")


def test_an_asset_without_partitions_is_one_clip(in_a_folder: Stack) -> None:
    request = ClipRequest(asset="mangrove/dawn", clip="dawn", board="mangrove", spec=clip().spec)
    with quick_generator(in_a_folder.base_url, in_a_folder.root) as generator:
        request_clips(generator, request)
        collect(generator)
    shot = dg.AssetSpec(["mangrove", "dawn"]).with_io_manager_key("clip_io_manager")
    seen: list[bytes] = []

    @dg.asset(ins={"dawn": dg.AssetIn(["mangrove", "dawn"])})
    def trailer(dawn: bytes) -> None:
        seen.append(dawn)

    result = dg.materialize(
        [shot, trailer],
        selection=["trailer"],
        instance=in_a_folder.instance,
        resources=in_a_folder.definitions.resources,
    )
    assert result.success
    assert seen == [video(in_a_folder, "dawn", "mangrove/dawn")]


def test_clips_and_their_downstream_assets_are_made_in_one_run(in_a_folder: Stack) -> None:
    seen: list[bytes] = []

    @dg.asset(partitions_def=asset_of(in_a_folder, "clips").partitions_def)
    def length(clips: bytes) -> None:
        seen.append(clips)

    definitions = in_a_folder.definitions
    result = (
        dg.Definitions([*(definitions.assets or []), length], resources=definitions.resources)
        .resolve_implicit_global_asset_job_def()
        .execute_in_process(
            instance=in_a_folder.instance,
            asset_selection=[dg.AssetKey(key) for key in ("clip_requests", "clips", "length")],
            partition_key="owl",
        )
    )
    assert result.success
    assert seen == [video(in_a_folder, "owl")]


def test_the_io_manager_records_only_stored_clips(stack: Stack) -> None:
    @dg.asset(io_manager_key="clip_io_manager")
    def table() -> int:
        return 1

    result = dg.materialize(
        [table],
        instance=stack.instance,
        resources=stack.definitions.resources,
        raise_on_error=False,
    )
    assert "the output of table is a int; this IO manager records only StoredClip" in failure_text(
        result
    )


def test_an_asset_cannot_record_a_clip_of_another_asset(in_a_folder: Stack) -> None:
    stored = in_a_folder.ledger.latest_manifest("clips", "owl")
    assert stored is not None
    clip_of_owl = StoredClip(stored, in_a_folder.root)
    manager = ClipIOManager(storage=ClipStorageResource(url=in_a_folder.root.url))
    for asset, partition in (("poster", "owl"), ("clips", "fox")):
        context = dg.build_output_context(asset_key=dg.AssetKey(asset), partition_key=partition)
        with pytest.raises(ValueError, match="An asset can only record its own clips"):
            manager.handle_output(context, clip_of_owl)
    elsewhere = ClipIOManager(storage=ClipStorageResource(url="memory://"))
    context = dg.build_output_context(asset_key=dg.AssetKey("clips"), partition_key="owl")
    with pytest.raises(ValueError, match="Pass the same clip_storage to both"):
        elsewhere.handle_output(context, clip_of_owl)
