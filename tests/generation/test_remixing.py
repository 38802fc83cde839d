"""Remixes by models that take a video, or an image: what is sent, what is paid, what is kept."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from sora_dagster.generation.generator import Generator, parent_video
from sora_dagster.generation.library.clip_checks import build_clip_checks
from sora_dagster.generation.protocol import layout
from sora_dagster.generation.protocol.records import AttemptRecord, ClipManifest
from sora_dagster.generation.requesting.options import RequestOptions
from sora_dagster.generation.requesting.payloads import request_price
from sora_dagster.generation.requesting.results import RequestState
from sora_dagster.media import MediaError, last_frame
from sora_dagster.prompts.clips import ClipRequest, ClipSpec
from sora_dagster.prompts.recipes import Recipe, remix_spec
from sora_dagster.runware.catalogue import Catalogue, FrameSize, VideoModel
from sora_dagster.sandbox.server import running_sandbox
from sora_dagster.sandbox.settings import SandboxSettings
from sora_dagster.storage import StorageError, StorageRoot
from tests.generation.requesting import collect, quick_generator, request_clips
from tests.protocol.faulty_sandbox import FaultySandbox
from tests.sandbox.models import EDITOR, FULL, GUIDED, MODELS

# Edits by reference videos, in the length of its parent.
BY_REFERENCE = VideoModel.model_validate(
    {
        **GUIDED.model_dump(by_alias=True),
        "air": "maker:reference@1",
        "name": "Reference 1",
        "short_name": "reference-1",
        "durations": {"min": 1, "max": 6, "default": 2},
        "remix": {
            "edit": {
                "input": "referenceVideos",
                "size": "resolution",
                "duration": "parent",
                "result_length": "requested",
            }
        },
    }
)
CATALOGUE = MODELS.extended([BY_REFERENCE])
NO_UUIDS = {"fault": "refuse_video_uuids"}


@pytest.fixture(scope="module")
def _running_sandbox() -> Iterator[FaultySandbox]:
    settings = SandboxSettings(latency_seconds=0, latency_step_seconds=0, reuse_rendered=True)
    with running_sandbox(settings, catalogue=CATALOGUE) as base_url:
        yield FaultySandbox(base_url)


@pytest.fixture
def api(_running_sandbox: FaultySandbox) -> Iterator[FaultySandbox]:
    """A sandbox with small live models, without faults at first."""
    yield _running_sandbox
    _running_sandbox.clear_faults()


@pytest.fixture
def start(api: FaultySandbox) -> Iterator[Callable[..., Generator]]:
    """Makes generators, as processes on several machines would."""
    made: list[Generator] = []

    def make(root: StorageRoot, **settings: Any) -> Generator:
        generator = quick_generator(api.base_url, root, catalogue=CATALOGUE, **settings)
        made.append(generator)
        return generator

    yield make
    for generator in made:
        generator.close()


PARENT = ClipSpec(
    clip_id="fox", prompt="a fox in snow", model=FULL.air, size=(426, 240), duration_seconds=1
)


def stored_parent(generator: Generator) -> ClipManifest:
    request_clips(generator, ClipRequest(asset="clips", clip="fox", spec=PARENT))
    [finished] = collect(generator)
    assert finished.manifest is not None
    return finished.manifest


def remix_of(parent: ClipManifest, **recipe: Any) -> ClipRequest:
    spec = remix_spec(PARENT, Recipe("night", "the same at night", **recipe), CATALOGUE)
    return ClipRequest(
        asset="remixes",
        clip="fox|night",
        spec=spec,
        recipe="night",
        parent=parent_video(parent),
    )


def stored_remix(generator: Generator, request: ClipRequest) -> ClipManifest:
    [requested] = request_clips(generator, request)
    assert requested.state is RequestState.SUBMITTED, requested.detail
    [finished] = collect(generator)
    assert finished.manifest is not None
    return finished.manifest


def attempts_of(generator: Generator) -> tuple[AttemptRecord, ...]:
    [take] = generator.ledger.takes("remixes", "fox|night")
    return take.attempts


def charges(api: FaultySandbox) -> int:
    return len(api.books()["charges"])


def failed_checks(manifest: ClipManifest) -> set[str]:
    results = build_clip_checks().evaluate(manifest, CATALOGUE)
    return {result.name for result in results if result.evaluated and not result.passed}


@pytest.mark.parametrize(
    ("recipe", "inputs", "fields"),
    [
        ({"model": EDITOR.air}, "video", {}),
        ({"mode": "edit"}, "video", {"settings": {"operation": "edit"}, "duration": "auto"}),
        ({"mode": "extend"}, "video", {"settings": {"operation": "extend"}}),
        (
            {"model": BY_REFERENCE.air},
            "referenceVideos",
            {"resolution": "240p", "duration": 1},
        ),
    ],
)
def test_a_parents_video_goes_as_its_uuid(
    start: Callable[..., Generator],
    root: StorageRoot,
    recipe: dict[str, Any],
    inputs: str,
    fields: dict[str, Any],
) -> None:
    generator = start(root)
    parent = stored_parent(generator)
    assert parent.videos[0].video_id is None
    manifest = stored_remix(generator, remix_of(parent, **recipe))
    uuid = parent.videos[0].video_uuid
    assert manifest.wire["inputs"] == {inputs: [uuid] if inputs == "referenceVideos" else uuid}
    sent = {name: manifest.wire.get(name) for name in ("width", "height", *fields)}
    assert sent == {"width": None, "height": None, **fields}
    assert [attempt.carrier for attempt in attempts_of(generator)] == ["uuid"]
    assert failed_checks(manifest) <= {"cost_within_estimate"}


def test_a_remix_is_paid_once_for_each_video_of_its_parent(
    start: Callable[..., Generator], root: StorageRoot, api: FaultySandbox
) -> None:
    generator = start(root)
    parent = stored_parent(generator)
    stored_remix(generator, remix_of(parent, model=EDITOR.air))
    paid = charges(api)
    [again] = request_clips(start(root), remix_of(parent, model=EDITOR.air))
    assert again.state is RequestState.STORED
    [edited_otherwise] = request_clips(generator, remix_of(parent, mode="edit"))
    assert edited_otherwise.state is RequestState.CHANGED
    assert charges(api) == paid


def test_a_continuation_starts_from_the_last_frame_of_its_parent(
    start: Callable[..., Generator], root: StorageRoot
) -> None:
    generator = start(root)
    parent = stored_parent(generator)
    manifest = stored_remix(generator, remix_of(parent, mode="continue"))
    assert [attempt.carrier for attempt in attempts_of(generator)] == ["frame"]
    [image] = manifest.wire["inputs"]["frameImages"]  # type: ignore[index,call-overload]
    assert image.startswith("sha256:")
    # A size is refused beside a frame; the tier of the parent's is sent instead.
    assert {name: manifest.wire.get(name) for name in ("width", "resolution", "duration")} == {
        "width": None,
        "resolution": "240p",
        "duration": 2,
    }
    video = manifest.videos[0]
    assert (video.width, video.height, video.duration_seconds) == (426, 240, 2)
    assert not failed_checks(manifest)
    first, last = pictures(root.read(video.key))[0], pictures(root.read(parent.videos[0].key))[-1]
    assert np.abs(first.astype(float) - last.astype(float)).mean() < 6


def test_the_last_frame_is_cut_once(start: Callable[..., Generator], root: StorageRoot) -> None:
    generator = start(root)
    parent = stored_parent(generator)
    request = remix_of(parent, mode="continue")
    stored_remix(generator, request)
    key = layout.last_frame_key(parent.videos[0].sha256)
    cut = root.read(key)
    assert Image.open(io.BytesIO(cut)).size == (426, 240)
    [attempt] = attempts_of(generator)
    sent = generator._requester.rebuild(attempt).to_wire()["inputs"]
    root.delete(key)
    assert generator._requester.rebuild(attempt).to_wire()["inputs"] == sent
    assert root.read(key) == cut


def test_an_estimate_of_a_continuation_writes_nothing(
    start: Callable[..., Generator], root: StorageRoot
) -> None:
    generator = start(root)
    parent = stored_parent(generator)
    before = {info.key for info in root.list("")}
    options = RequestOptions(root_run="run", run_limit_usd=None)
    [item] = generator.estimate([remix_of(parent, mode="continue")], options)
    assert item.price is not None
    assert (item.price.priced_by, item.price.usd) == ("api", pytest.approx(0.40))
    assert {info.key for info in root.list("")} == before


def test_each_way_of_every_model_is_accepted_and_priced_for_a_stored_clip(
    generate: Callable[..., Generator],
) -> None:
    generator = generate()
    row = ClipSpec(
        clip_id="fox",
        prompt="a fox in snow",
        model="alibaba:wan@3.0",
        size=FrameSize(832, 480),
        duration_seconds=4,
    )
    request_clips(generator, ClipRequest(asset="clips", clip="fox", spec=row))
    [finished] = collect(generator)
    assert finished.manifest is not None
    parent = parent_video(finished.manifest)
    catalogue = Catalogue.builtin()
    requests = []
    for entry in catalogue.entries:
        for mode in entry.remix_modes:
            if mode == "remix":
                # Only a video by Sora has the id that it needs.
                continue
            # Ray 3.2 has no edit without this setting.
            settings: dict[str, Any] = {"edit": {}} if "edit" in entry.settings else {}
            recipe = Recipe(
                "next",
                "the same at night",
                model=entry.air,
                mode=mode,
                settings=settings if mode == "edit" else {},
            )
            requests.append(
                ClipRequest(
                    asset="remixes",
                    clip=f"fox|{entry.short_name}-{mode}",
                    spec=remix_spec(row, recipe, catalogue),
                    parent=parent,
                )
            )
    assert len({request.spec.model for request in requests}) >= 15
    options = RequestOptions(root_run="run", run_limit_usd=None)
    for item in generator.estimate(requests, options):
        assert item.price is not None, item
        assert item.price.priced_by == "api", item
        expected = request_price(item.request, catalogue)
        if expected.certainty == "published":
            assert expected.usd is not None
            assert expected.usd >= (item.price.usd or 0) - 1e-6, item


def test_a_refused_uuid_is_followed_by_a_presigned_address(
    start: Callable[..., Generator], s3_url: str, api: FaultySandbox
) -> None:
    root = StorageRoot(s3_url)
    generator = start(root)
    parent = stored_parent(generator)
    paid = charges(api)
    api.set_faults(rules=[NO_UUIDS])
    manifest = stored_remix(generator, remix_of(parent, model=EDITOR.air))
    first, second = attempts_of(generator)
    assert (first.carrier, second.carrier, manifest.attempt) == ("uuid", "address", 2)
    outcome = generator.ledger.outcome(first.task_uuid)
    assert outcome is not None
    assert (outcome.state, outcome.was_accepted, outcome.cost_usd) == ("failed", False, 0)
    assert charges(api) == paid + 1
    video = manifest.wire["inputs"]["video"]  # type: ignore[index,call-overload]
    assert video.endswith(".mp4")
    records = [root.read(info.key) for info in root.list("") if info.key.endswith(".json")]
    assert not [record for record in records if b"Signature" in record]
    [again] = request_clips(start(root), remix_of(parent, model=EDITOR.air))
    assert (again.state, charges(api)) == (RequestState.STORED, paid + 1)


def test_an_address_is_sent_once_a_take(
    start: Callable[..., Generator], s3_url: str, api: FaultySandbox
) -> None:
    root = StorageRoot(s3_url)
    generator = start(root)
    parent = stored_parent(generator)
    paid, key = charges(api), parent.videos[0].key
    video = root.read(key)
    api.set_faults(rules=[NO_UUIDS])
    root.write(key, b"not a video")
    request = remix_of(parent, model=EDITOR.air)
    [refused] = request_clips(generator, request)
    assert (refused.state, refused.attempt) == (RequestState.REFUSED, 2)
    [again] = request_clips(generator, request)
    assert again.state is RequestState.FAILED
    assert charges(api) == paid
    root.delete(key)
    [without_video] = request_clips(generator, request, retry_failed=True)
    assert without_video.state is RequestState.REFUSED
    assert "the video is no longer in s3://" in without_video.detail
    root.write(key, video)
    [retried] = request_clips(generator, request, retry_failed=True)
    assert (retried.state, retried.attempt) == (RequestState.SUBMITTED, 3)
    assert [attempt.carrier for attempt in attempts_of(generator)] == ["uuid", "address", "address"]
    assert charges(api) == paid + 1


def test_a_failure_after_acceptance_is_not_a_refusal_of_the_uuid(
    start: Callable[..., Generator],
    s3_url: str,
    api: FaultySandbox,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root = StorageRoot(s3_url)
    generator = start(root, delivery="download")
    parent = stored_parent(generator)
    api.set_faults(rules=[NO_UUIDS])
    request = remix_of(parent, model=EDITOR.air)
    with monkeypatch.context() as patch:
        patch.setattr(StorageRoot, "can_presign", False)
        request_clips(generator, request)
    [attempt] = attempts_of(generator)
    outcome = generator.ledger.outcome(attempt.task_uuid)
    assert outcome is not None
    # As if Runware had accepted it, and reported the same error later.
    accepted = outcome.model_copy(update={"was_accepted": True, "cost_usd": 0.5})
    root.write(layout.task_key(attempt.task_uuid, "outcome-0"), accepted.to_json())
    [again] = request_clips(generator, request)
    assert again.state is RequestState.FAILED
    assert len(attempts_of(generator)) == 1
    [retried] = request_clips(generator, request, retry_failed=True)
    assert retried.state is RequestState.SUBMITTED
    assert [attempt.carrier for attempt in attempts_of(generator)] == ["uuid", "address"]


def test_another_process_goes_on_after_a_refused_uuid(
    start: Callable[..., Generator],
    s3_url: str,
    api: FaultySandbox,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root = StorageRoot(s3_url)
    generator = start(root, delivery="download")
    parent = stored_parent(generator)
    api.set_faults(rules=[NO_UUIDS])

    def refuse(method: str, key: str, expires_seconds: float) -> str:
        raise StorageError("the credentials expired")

    monkeypatch.setattr(root, "presign", refuse)
    request = remix_of(parent, model=EDITOR.air)
    [refused] = request_clips(generator, request)
    assert refused.state is RequestState.REFUSED
    assert "the credentials expired" in refused.detail
    [submitted] = request_clips(start(StorageRoot(s3_url)), request)
    assert (submitted.state, submitted.attempt) == (RequestState.SUBMITTED, 2)


def test_a_root_that_cannot_sign_says_so(
    start: Callable[..., Generator], root: StorageRoot, api: FaultySandbox
) -> None:
    generator = start(root)
    parent = stored_parent(generator)
    paid = charges(api)
    api.set_faults(rules=[NO_UUIDS])
    for _ in range(2):
        [refused] = request_clips(generator, remix_of(parent, model=EDITOR.air))
        assert refused.state is RequestState.REFUSED
        assert "cannot sign URLs" in refused.detail
    assert len(attempts_of(generator)) == 1
    assert charges(api) == paid


def test_a_source_that_is_too_short_is_not_sent(
    start: Callable[..., Generator], root: StorageRoot
) -> None:
    generator = start(root)
    request = remix_of(stored_parent(generator), model=EDITOR.air)
    assert request.parent is not None
    shorter = request.parent.model_copy(update={"duration_seconds": 0.5})
    [refused] = request_clips(generator, request.model_copy(update={"parent": shorter}))
    assert refused.state is RequestState.REFUSED
    assert "0.5 s long; allowed: 1 to 20 seconds" in refused.detail
    assert generator.ledger.takes("remixes", "fox|night") == ()


@pytest.mark.parametrize("container", ["mp4", "webm"])
def test_the_last_frame_is_that_of_the_highest_time(container: str) -> None:
    video = numbered_video(container, frame_count=40)
    image = np.asarray(Image.open(io.BytesIO(last_frame(io.BytesIO(video)))).convert("L"))
    assert image.shape == (96, 160)
    assert abs(float(image.mean()) - 39 * 5) < 8


def test_a_file_without_a_frame_has_no_last_frame() -> None:
    with pytest.raises(MediaError):
        last_frame(io.BytesIO(b"not a video"))


def numbered_video(container: str, *, frame_count: int) -> bytes:
    """A video whose n-th frame has the grey value 5 n, with frames that depend on later ones."""
    body = io.BytesIO()
    with av.open(body, "w", format=container) as output:
        stream = output.add_stream("libx264" if container == "mp4" else "libvpx-vp9", rate=24)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        for number in range(frame_count):
            grey = np.full((96, 160, 3), 5 * number, np.uint8)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        output.mux(stream.encode())
    return body.getvalue()


def pictures(video: bytes) -> list[np.ndarray[Any, Any]]:
    with av.open(io.BytesIO(video)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
