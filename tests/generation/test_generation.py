"""Request, wait and store against the sandbox: each clip once, whole, and paid for once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sora_dagster.generation.collecting.settings import Deadlines
from sora_dagster.generation.generator import Generator, parent_video
from sora_dagster.generation.protocol.claims import ClaimReader, ClaimSettings
from sora_dagster.generation.protocol.markers import WebhookUrl, write_marker
from sora_dagster.generation.requesting.results import RequestState
from sora_dagster.local.processes import wait_until
from sora_dagster.prompts.clips import DEFAULT_DATASET, ClipRequest
from sora_dagster.prompts.recipes import Recipe, remix_spec
from sora_dagster.runware.catalogue import Catalogue
from sora_dagster.runware.client import RunwareClient
from sora_dagster.runware.errors import AuthenticationError, ConnectionFailedError
from sora_dagster.storage import StorageRoot
from tests.generation.requesting import clip, collect, request_clips
from tests.media.probing import probe
from tests.sandbox_server import KEY, Sandbox

DEAD_SECONDS = 0.5
# What was never sent is sent again after the deadline.
SHORT_DEADLINES = Deadlines(unknown_seconds=0.3, unsent_seconds=0.3, generation_seconds=5)
# More than twice the writes of asking for a clip and collecting it: the last meets none.
STEPS = 61


def test_a_clip_is_stored_whole_with_its_record(generate: Callable[..., Generator]) -> None:
    generator = generate()
    request_clips(generator, clip())
    [finished] = collect(generator)
    manifest = finished.manifest
    assert manifest is not None
    video = manifest.videos[0]
    assert (video.width, video.height) == (1280, 720)
    assert video.duration_seconds == pytest.approx(4, abs=1 / video.frames_per_second)
    assert video.audio_codec is not None
    assert manifest.cost_usd == pytest.approx(1.2)
    assert manifest.content_hash == video.sha256
    assert manifest.generation_seconds > 0
    with generator.ledger.root.open(video.key) as file:
        assert probe(file).frame_count == video.frame_count
    assert generator.ledger.root.read(manifest.poster_key).startswith(b"\xff\xd8")


@pytest.mark.parametrize(
    ("fields", "codec", "ending"),
    [
        ({"output_format": "MP4"}, "h264", ".mp4"),
        ({"output_format": "MOV"}, "h264", ".mov"),
        ({"output_format": "WEBM"}, "vp9", ".webm"),
    ],
)
def test_every_container_is_stored_as_asked(
    generate: Callable[..., Generator], fields: dict[str, Any], codec: str, ending: str
) -> None:
    generator = generate()
    request_clips(generator, clip(**fields))
    [finished] = collect(generator)
    assert finished.manifest is not None
    assert finished.manifest.videos[0].video_codec == codec
    assert finished.manifest.videos[0].key.endswith(ending)


def test_several_results_are_several_videos_of_one_clip(
    generate: Callable[..., Generator],
) -> None:
    generator = generate()
    request_clips(generator, clip(number_results=3))
    [finished] = collect(generator)
    assert finished.manifest is not None
    videos = finished.manifest.videos
    assert len({video.key for video in videos}) == 3
    assert [video.video_uuid for video in videos] == sorted(video.video_uuid for video in videos)
    assert finished.manifest.cost_usd == pytest.approx(3.6)


def test_many_clips_go_in_one_post(generate: Callable[..., Generator]) -> None:
    generator = generate()
    request_clips(generator, *[clip(f"clip-{number}") for number in range(8)])
    assert generator.client.posts.submissions == 1


def test_nothing_is_left_outstanding(generate: Callable[..., Generator]) -> None:
    generator = generate()
    request_clips(generator, clip())
    collect(generator)
    for folder in ("pending", "inbox"):
        assert list(generator.ledger.root.list(folder)) == []


def test_asking_again_for_what_is_stored_is_free(
    generate: Callable[..., Generator], sandbox: Sandbox
) -> None:
    generator = generate()
    request_clips(generator, clip())
    collect(generator)
    before = sandbox.ledger()["total_usd"]
    [again] = request_clips(generate(), clip())
    assert again.state is RequestState.STORED
    assert "0.00 USD" in again.detail
    assert sandbox.ledger()["total_usd"] == before


def test_asking_again_for_what_is_generated_joins_it(generate: Callable[..., Generator]) -> None:
    [first] = request_clips(generate(), clip())
    [second] = request_clips(generate(), clip())
    assert second.state is RequestState.OUTSTANDING
    assert second.task_uuid == first.task_uuid


def test_many_who_ask_at_once_pay_once(
    generate: Callable[..., Generator], sandbox: Sandbox, root: StorageRoot
) -> None:
    before = sandbox.charged()
    start = threading.Barrier(6)
    generators = [generate(StorageRoot(root.url)) for _ in range(6)]

    def request(generator: Generator) -> str | None:
        start.wait()
        return request_clips(generator, clip())[0].task_uuid

    with ThreadPoolExecutor(6) as pool:
        tasks = set(pool.map(request, generators))
    assert len(tasks) == 1
    assert sandbox.charged() - before == tasks
    assert len(collect(generators[0])) == 1


def test_a_changed_prompt_makes_a_new_take_and_keeps_the_old(
    generate: Callable[..., Generator],
) -> None:
    generator = generate()
    request_clips(generator, clip())
    collect(generator)
    [changed] = request_clips(generator, clip(prompt="a fox in rain"), regenerate_changed=True)
    collect(generator)
    assert changed.take == 2
    takes = [generator.ledger.manifest("clips", "fox", take) for take in (1, 2)]
    assert [take.request.spec.prompt for take in takes if take] == [
        "a fox in snow",
        "a fox in rain",
    ]


def test_a_changed_tag_generates_nothing(generate: Callable[..., Generator]) -> None:
    generator = generate()
    request_clips(generator, clip())
    collect(generator)
    [again] = request_clips(generator, clip(tags=("hero",)))
    assert again.state is RequestState.STORED


def test_a_higher_take_is_made_once(generate: Callable[..., Generator]) -> None:
    generator = generate()
    request_clips(generator, clip())
    collect(generator)
    [second] = request_clips(generator, clip(take=2))
    collect(generator)
    [again] = request_clips(generator, clip(take=2))
    assert (second.state, second.take) == (RequestState.SUBMITTED, 2)
    assert again.state is RequestState.STORED


def test_a_changed_clip_is_kept_as_it_is_by_default(generate: Callable[..., Generator]) -> None:
    generator = generate()
    request_clips(generator, clip())
    collect(generator)
    [kept] = request_clips(generator, clip(prompt="a fox in rain"))
    assert (kept.state, kept.clip_state) == (RequestState.CHANGED, RequestState.STORED)
    assert list(generator.ledger.root.list("pending")) == []


def test_a_remix_is_made_from_its_parents_video(
    generate: Callable[..., Generator], sandbox: Sandbox
) -> None:
    generator = generate()
    request_clips(generator, clip())
    [parent] = collect(generator)
    assert parent.manifest is not None
    request = ClipRequest(
        asset="remixes",
        clip="fox|night",
        spec=remix_spec(clip().spec, Recipe("night", "the same at night"), Catalogue.builtin()),
        recipe="night",
        parent=parent_video(parent.manifest),
    )
    request_clips(generator, request)
    [remix] = collect(generator)
    assert remix.manifest is not None
    video = remix.manifest.videos[0]
    assert (video.width, video.height) == (1280, 720)
    assert remix.manifest.wire["inputs"] == {"videoId": parent.manifest.videos[0].video_id}
    assert not {"width", "height"} & set(remix.manifest.wire)


def test_what_passes_the_limit_is_not_sent_and_the_rest_is(
    generate: Callable[..., Generator], sandbox: Sandbox
) -> None:
    before = sandbox.charged()
    generator = generate()
    requests = [clip(f"clip-{number}") for number in range(4)]
    answers = request_clips(generator, *requests, run_limit_usd=2.5)
    assert [answer.state for answer in answers] == [
        RequestState.SUBMITTED,
        RequestState.SUBMITTED,
        RequestState.OVER_LIMIT,
        RequestState.OVER_LIMIT,
    ]
    assert "2.50 USD" in answers[2].detail
    assert len(sandbox.charged() - before) == 2
    assert len(collect(generator)) == 2


def test_what_passed_the_limit_can_be_asked_for_later(generate: Callable[..., Generator]) -> None:
    generator = generate()
    request_clips(generator, clip(), run_limit_usd=1.0)
    [later] = request_clips(generator, clip(), run_limit_usd=2.0, root_run="another run")
    assert later.state is RequestState.SUBMITTED
    assert len(collect(generator)) == 1


def test_a_wrong_key_costs_nothing_and_leaves_nothing(
    generate: Callable[..., Generator], sandbox: Sandbox, root: StorageRoot
) -> None:
    before = sandbox.charged()
    with pytest.raises(AuthenticationError):
        request_clips(generate(key="wrong"), clip())
    assert sandbox.charged() == before
    assert list(root.list("")) == []


def test_an_unreachable_api_costs_nothing_and_leaves_nothing(root: StorageRoot) -> None:
    client = RunwareClient(KEY, base_url="http://127.0.0.1:9/v1", retry_attempts=1)
    with Generator(client, root) as generator, pytest.raises(ConnectionFailedError):
        request_clips(generator, clip())
    assert list(root.list("")) == []


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"prompt": "x"}, "positivePrompt"),
        ({"prompt": "x" * 6001}, "positivePrompt"),
        ({"prompt": "\u200b\u200b\u200b"}, "0 of them visible"),
        ({"size": "100x100"}, "width"),
        ({"duration_seconds": 5}, "duration"),
        ({"model": "openai:9@9"}, "SORA_MODELS"),
    ],
)
def test_a_clip_that_the_api_would_refuse_is_not_sent(
    generate: Callable[..., Generator], sandbox: Sandbox, fields: dict[str, Any], word: str
) -> None:
    before = sandbox.charged()
    generator = generate()
    [refused] = request_clips(generator, clip(**fields))
    assert refused.state is RequestState.REFUSED
    assert word in refused.detail
    assert generator.client.posts.submissions == 0
    assert list(generator.ledger.root.list("pending")) == []
    assert sandbox.charged() == before


def test_a_marker_brings_the_poll_forward(
    generate: Callable[..., Generator], sandbox: Sandbox, root: StorageRoot
) -> None:
    generator = generate(webhook=WebhookUrl("http://127.0.0.1:9/runware", "s" * 32))
    [result] = request_clips(generator, clip())
    assert result.task_uuid is not None
    write_marker(root, DEFAULT_DATASET, result.task_uuid, b"{}")
    assert len(collect(generator)) == 1
    assert list(root.list("inbox")) == []


def test_records_hold_no_secret(generate: Callable[..., Generator], root: StorageRoot) -> None:
    generator = generate(webhook=WebhookUrl("http://127.0.0.1:9/runware", "the-secret-of-the-test"))
    settings = {"cameraMovement": "https://user:the-secret@example.com/path?signature=the-secret"}
    ltx = {"model": "lightricks:ltx@2.5-fast", "duration_seconds": 6, "settings": settings}
    [requested] = request_clips(generator, clip(**ltx))
    assert requested.state is RequestState.SUBMITTED
    collect(generator)
    for info in root.list(""):
        if info.key.endswith(".json") or info.key.startswith("pending/"):
            body = root.read(info.key)
            assert KEY.encode() not in body
            assert b"the-secret" not in body
            assert b"signature=" not in body


def test_collecting_where_nothing_was_asked_for_leaves_nothing(
    generate: Callable[..., Generator], root: StorageRoot
) -> None:
    assert collect(generate()) == []
    assert list(root.list("")) == []


class CrashError(BaseException):
    """The process ends here."""


@contextmanager
def crashing_at(root: StorageRoot, step: int) -> Iterator[Callable[[], bool]]:
    """Crash at the n-th write or delete, half of the time just after it; none follows it.

    Gives whether it has crashed.
    """
    lock = threading.Lock()
    count = [0]

    def guarded(operation: Callable[..., object]) -> Callable[..., object]:
        def run(*arguments: object, **options: object) -> object:
            with lock:
                number = count[0] = count[0] + 1
            if number <= step // 2:
                return operation(*arguments, **options)
            if number == step // 2 + 1 and step % 2 == 1:
                operation(*arguments, **options)
            raise CrashError

        return run

    names = ("create", "write", "delete")
    originals = {name: getattr(root, name) for name in names}
    for name in names:
        setattr(root, name, guarded(originals[name]))
    try:
        yield lambda: count[0] > step // 2
    finally:
        for name in names:
            delattr(root, name)


def collect_after_a_crash(generator: Generator) -> None:
    """Collect as soon as the claims of the process that crashed count no more."""
    claims = ClaimReader(
        generator.ledger,
        DEFAULT_DATASET,
        store_time=generator.store_time,
        settings=ClaimSettings(dead_seconds=DEAD_SECONDS),
    )
    assert wait_until(lambda: claims.view().rest is None, timeout_seconds=30)
    collect(generator)


@pytest.mark.parametrize("step", range(STEPS))
def test_a_process_that_ends_at_any_write_never_pays_twice_and_loses_nothing(
    generate: Callable[..., Generator], sandbox: Sandbox, tmp_path: Path, step: int
) -> None:
    """After the crash a new process collects, and then asks again for what was not to be found."""
    before = sandbox.charged()
    root = StorageRoot(tmp_path / "crashing")
    # It says that it is alive only once, so that its writes are the same in each test.
    claims = ClaimSettings(beat_seconds=3600, dead_seconds=DEAD_SECONDS)
    with crashing_at(root, step) as has_crashed:
        try:
            generator = generate(root, claims=claims)
            request_clips(generator, clip())
            collect(generator)
            is_done = True
        except CrashError:
            is_done = False
    assert is_done != has_crashed()
    assert is_done or step < STEPS - 1
    generator = generate(StorageRoot(root.url), claims=claims, deadlines=SHORT_DEADLINES)
    collect_after_a_crash(generator)
    request_clips(generator, clip())
    collect(generator)
    assert generator.ledger.manifest("clips", "fox", 1) is not None
    assert len(sandbox.charged() - before) == 1
    for folder in ("pending", "inbox"):
        assert list(root.list(folder)) == []
