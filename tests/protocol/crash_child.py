"""A process that requests clips and collects them, and is killed at a named step of it.

The test starts it with ``python -m tests.protocol.crash_child``. The steps are found by what is
written, sent or read, from outside: the code that is tested knows nothing of them.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import re
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sora_dagster.generation.collecting.settings import CollectionLimits, Deadlines, PollSettings
from sora_dagster.generation.generator import GenerationSettings, Generator, parent_video
from sora_dagster.generation.protocol.claims import ClaimSettings
from sora_dagster.generation.protocol.markers import WebhookUrl, write_marker
from sora_dagster.generation.requesting.options import RequestOptions
from sora_dagster.generation.requesting.sender import SendSettings
from sora_dagster.local.processes import wait_until
from sora_dagster.prompts.clips import DEFAULT_DATASET, ClipRequest, ClipSpec
from sora_dagster.runware.catalogue import RemixMode
from sora_dagster.runware.client import RunwareClient
from sora_dagster.storage import ByteSink, StorageRoot
from tests.protocol.families import BOTH, CATALOGUE, PRICE_USD
from tests.protocol.faulty_sandbox import quick_requests
from tests.protocol.scenario import clip
from tests.s3_server import s3_environment
from tests.sandbox_server import KEY

CLIPS = ("fox", "owl")
ROOT_RUN = "the run"
# A model that Runware serves today, and Sora.
MODELS = ("google:3@3", "openai:3@2")
PARENT = "hen"
# Room for these two clips (0.60 and 1.20 USD), and not for a third; and the same for tiny ones.
RUN_LIMIT_USD = 2.0
TINY_RUN_LIMIT_USD = 2.5 * PRICE_USD
LONGEST_SECONDS = 40.0
WEBHOOK_SECRET = "the secret of the crash tests"

Operation = Literal["create", "write", "delete", "stream", "copy", "submit", "poll"]

_TASK = r"tasks/[^/]+"
_TAKE = r"clips/clips/[^/]+/take-1"
# What distinguishes one writer's files from another's.
_NONCE = r"[0-9a-f]{8}"
_ESTIMATES = '"estimates_usd": {\n'


@dataclass(frozen=True)
class Step:
    """A step of the protocol, by what it does.

    Arguments:
        operation: a write of the storage root, or a question to the API.
        key: pattern of the object's key; not for questions.
        says: text that the object has, where the key is not enough.
        occurrence: which of them, counted from 1.
    """

    operation: Operation
    key: str = ""
    says: str = ""
    occurrence: int = 1


# In the order in which two clips that are requested together go through them.
STEPS = {
    "root bound": Step("create", r"root\.json"),
    "pending written": Step("write", r"pending/.+"),
    "attempt claimed": Step("create", r"slots/.+/attempt-1\.json"),
    "second pending written": Step("write", r"pending/.+", occurrence=2),
    "second attempt claimed": Step("create", r"slots/.+/attempt-1\.json", occurrence=2),
    "run budget reserved": Step("create", r"budget/runs/.+", says=_ESTIMATES),
    "day budget reserved": Step("create", r"budget/\d.+", says=_ESTIMATES),
    "sent-1 taken": Step("create", rf"{_TASK}/sent-1\.json", says='"submit"'),
    "second sent-1 taken": Step("create", rf"{_TASK}/sent-1\.json", '"submit"', occurrence=2),
    "POST": Step("submit"),
    "seen": Step("create", rf"{_TASK}/seen\.json"),
    "second seen": Step("create", rf"{_TASK}/seen\.json", occurrence=2),
    "sign of life written": Step("write", r"claims/.+\.alive"),
    "rest claimed": Step("create", r"claims/.+/rest-\d+\.json"),
    "poll": Step("poll"),
    "video written": Step("stream", rf"{_TAKE}/.+-{_NONCE}\.mp4"),
    "poster written": Step("write", rf"{_TAKE}/poster-{_NONCE}\.jpg"),
    "contact sheet written": Step("write", rf"{_TAKE}/sheet-{_NONCE}\.jpg"),
    "thumbnail written": Step("write", rf"{_TAKE}/thumbnail-{_NONCE}\.jpg"),
    "manifest written": Step("create", rf"{_TAKE}/clip\.json"),
    "outcome written": Step("create", rf"{_TASK}/outcome-0\.json"),
    "index of stored clips written": Step("create", r"stored/.+"),
    "day budget settled": Step("create", r"budget/\d.+", says='"costs_usd": {\n'),
    "run budget settled": Step("create", r"budget/runs/.+", says='"costs_usd": {\n'),
    "marker removed": Step("delete", r"inbox/.+"),
    "pending removed": Step("delete", r"pending/.+"),
    # Only for remixes: by the parent's last frame, or where the UUID of its video is refused.
    "last frame kept": Step("create", r"last-frames/.+"),
    "refusal recorded": Step("create", rf"{_TASK}/outcome-0\.json", says='"failed"'),
    "attempt by address claimed": Step("create", r"slots/.+/attempt-2\.json"),
    "run budget reserved again": Step("create", r"budget/runs/.+", says=_ESTIMATES, occurrence=2),
    "day budget reserved again": Step("create", r"budget/\d.+", says=_ESTIMATES, occurrence=2),
    "POST of the address": Step("submit", occurrence=2),
    "second manifest written": Step("create", rf"{_TAKE}/clip\.json", occurrence=2),
    "claim released": Step("create", r"claims/.+/rest-\d+\.json", occurrence=2),
    "sign of life removed": Step("delete", r"claims/.+\.alive"),
    # Only where Runware puts the videos into the store.
    "video copied": Step("copy", rf"{_TAKE}/.+\.mp4"),
    "upload removed": Step("delete", r"incoming/.+"),
    # Only where an earlier process was killed.
    "sent-2 taken": Step("create", rf"{_TASK}/sent-2\.json"),
    "second POST": Step("submit"),
    "sent-1 voided": Step("create", rf"{_TASK}/sent-1\.json", says='"void"'),
    "void outcome written": Step("create", rf"{_TASK}/outcome-0\.json", says='"void"'),
    "dead process noted": Step("create", r"claims/.+\.dead"),
    # Only where a video cannot be fetched at first.
    "note written": Step("write", r"notes/.+"),
    "note removed": Step("delete", r"notes/.+"),
}


class CrashPoint:
    """Kills this process when it comes to a step.

    Arguments:
        text: the step's name and the moment, such as ``"seen, before"``.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        name, _, self._moment = text.rpartition(", ")
        self._step = STEPS[name]
        self._count = 0

    def install(self) -> None:
        """Have every write of every storage root and every question to the API pass by here."""
        for name in ("create", "write", "delete"):
            self._wrap(StorageRoot, name)
        for name in ("submit", "poll"):
            self._wrap(RunwareClient, name)
        self._wrap_writer()
        self._wrap_copy()

    def _wrap(self, owner: type, name: str) -> None:
        act = getattr(owner, name)

        def passing(itself: Any, target: Any, *body: bytes, **options: Any) -> Any:
            key = target if isinstance(target, str) else ""
            if not self._comes(name, key, b"".join(body)):
                return act(itself, target, *body, **options)
            self.at("before")
            result = act(itself, target, *body, **options)
            self.at("after")
            return result

        setattr(owner, name, passing)

    def _wrap_writer(self) -> None:
        write = StorageRoot.writer

        @contextmanager
        def passing(root: StorageRoot, key: str, **options: Any) -> Iterator[ByteSink]:
            if not self._comes("stream", key):
                with write(root, key, **options) as sink:
                    yield sink
                return
            self.at("before")
            with write(root, key, **options) as sink:
                yield _HalfSink(sink, self)
            self.at("after")

        StorageRoot.writer = passing  # type: ignore[method-assign, assignment]

    def _wrap_copy(self) -> None:
        copy = StorageRoot.copy

        def passing(root: StorageRoot, source: str, target: str, **options: Any) -> None:
            comes = self._comes("copy", target)
            if comes:
                self.at("before")
            copy(root, source, target, **options)
            if comes:
                self.at("after")

        StorageRoot.copy = passing  # type: ignore[method-assign, assignment]

    def _comes(self, operation: str, key: str, body: bytes = b"") -> bool:
        """Whether what is about to be done is the step."""
        step = self._step
        if not (
            operation == step.operation
            and re.fullmatch(step.key, key)
            and step.says.encode() in body
        ):
            return False
        self._count += 1
        return self._count == step.occurrence

    def at(self, moment: str) -> None:
        """Kill this process, if this is the moment."""
        if moment == self._moment:
            os.write(1, f"killed at {self._text}\n".encode())
            os.kill(os.getpid(), signal.SIGKILL)


class _HalfSink:
    """Writes half of what it gets before the process may be killed."""

    def __init__(self, sink: ByteSink, point: CrashPoint) -> None:
        self._sink = sink
        self._point = point

    def write(self, chunk: bytes, /) -> object:
        half = len(chunk) // 2
        self._sink.write(chunk[:half])
        self._point.at("middle")
        return self._sink.write(chunk[half:])


def tiny_requests(families: str) -> list[ClipRequest]:
    """The two clips, each of a family of tiny models."""
    by_name = {str(family): family for family in BOTH}
    return [
        by_name[name].clip(clip(clip_id))
        for clip_id, name in zip(CLIPS, families.split(","), strict=True)
    ]


def remix_request(generator: Generator, family: str, mode: RemixMode) -> ClipRequest:
    """A remix of a stored clip."""
    parent = generator.ledger.latest_manifest("clips", PARENT)
    assert parent is not None
    [chosen] = (one for one in BOTH if str(one) == family)
    return chosen.remix(clip(CLIPS[0]), parent_video(parent), mode=mode)


def clip_requests() -> list[ClipRequest]:
    """The two clips, of a model of today and of Sora."""
    return [
        ClipRequest(
            asset="clips",
            clip=clip_id,
            spec=ClipSpec.model_validate(
                {
                    "clip_id": clip_id,
                    "prompt": f"a {clip_id} in snow",
                    "model": model,
                    "size": "1280x720",
                    "duration_seconds": 4,
                }
            ),
        )
        for clip_id, model in zip(CLIPS, MODELS, strict=True)
    ]


def build_generator(base_url: str, storage: str, webhook_url: str | None) -> Generator:
    """A generator that waits for little."""
    is_s3 = storage.startswith("s3:")
    # The clock of the S3 server shows whole seconds.
    dead_seconds = 2.0 if is_s3 else 0.5
    return Generator(
        RunwareClient(KEY, base_url=base_url, catalogue=CATALOGUE),
        StorageRoot(storage),
        GenerationSettings(
            webhook=WebhookUrl(webhook_url, WEBHOOK_SECRET) if webhook_url else None,
            polls=PollSettings(
                first_seconds=0.05, factor=1.2, longest_seconds=0.1, refresh_seconds=0.05
            ),
            sending=SendSettings(confirm_seconds=0.1, replay_window_seconds=1.0),
            deadlines=Deadlines(
                unknown_seconds=0.6,
                generation_seconds=0.5,
                fetch_seconds=5.0,
                # As in the default settings, it is longer than a killed process seems alive.
                unsent_seconds=1.5 * dead_seconds,
            ),
            delivery="direct" if is_s3 else "download",
            claims=ClaimSettings(
                beat_seconds=0.1, dead_seconds=dead_seconds, gap_seconds=dead_seconds / 2
            ),
        ),
    )


def request(generator: Generator, options: argparse.Namespace) -> None:
    """Request the clips; if wanted, do what the webhook receiver does when they are finished."""
    limit_usd = TINY_RUN_LIMIT_USD if options.tiny else RUN_LIMIT_USD
    if options.remix is not None:
        requests = [remix_request(generator, options.families, options.remix)]
    else:
        requests = tiny_requests(options.families) if options.tiny else clip_requests()
    for requested in generator.request(requests, RequestOptions(ROOT_RUN, limit_usd)):
        print(
            json.dumps({"clip": requested.request.clip, "state": requested.state.name}), flush=True
        )
        if options.drop_markers and requested.task_uuid is not None:
            write_marker(generator.ledger.root, DEFAULT_DATASET, requested.task_uuid, b"{}")


def collect(generator: Generator, *, tells: bool) -> None:
    """Collect as the job does, until nothing is outstanding."""
    is_over = wait_until(
        lambda: _collect_once(generator, tells=tells), timeout_seconds=LONGEST_SECONDS
    )
    assert is_over, "something stays outstanding"


def _collect_once(generator: Generator, *, tells: bool) -> bool:
    """A collecting run; whether nothing is left. A killed process may seem alive for a while."""
    limits = CollectionLimits(max_wait_seconds=LONGEST_SECONDS)
    with generator.collection(
        limits, holder=str(os.getpid()), datasets=[DEFAULT_DATASET]
    ) as collection:
        while not collection.is_done:
            for finished in collection.wait():
                if tells:
                    print(f"reported {finished.attempt.clip}", flush=True)
                collection.close(finished)
    return not (generator.ledger.pending.task_uuids() or collection.report.is_elsewhere)


def run_collect_job(folder: Path, base_url: str) -> None:
    """Run the job `collect_clips` on a Dagster instance of the test's."""
    import dagster as dg

    from tests.dagster_face.stack import Stack

    with dg.DagsterInstance.from_config(str(folder / "dagster")) as instance:
        Stack(folder, base_url, instance).run_job("collect_clips")


def main(arguments: Sequence[str] | None = None) -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--base-url")
    parser.add_argument("--storage")
    parser.add_argument("--s3-endpoint", help="server of an s3:// storage root")
    parser.add_argument(
        "--request", action="store_true", help="request the clips before collecting"
    )
    parser.add_argument("--drop-markers", action="store_true")
    parser.add_argument("--tiny", action="store_true", help="clips of the sandbox's tiny models")
    parser.add_argument("--families", default="live,sora", help="families of the tiny models")
    parser.add_argument("--remix", help="how a remix of a stored clip is made, instead of clips")
    parser.add_argument("--tell", action="store_true", help="print the clips that it reports")
    parser.add_argument("--webhook-url")
    parser.add_argument("--crash-at")
    parser.add_argument("--collect-job", type=Path, help="folder of a Dagster stack")
    parser.add_argument("--serve", action="store_true", help="fork for each line of stdin")
    options = parser.parse_args(arguments)
    if options.serve:
        serve()
        return
    if options.s3_endpoint is not None:
        os.environ.update(s3_environment(options.s3_endpoint))
    if options.crash_at is not None:
        CrashPoint(options.crash_at).install()
    if options.collect_job is not None:
        run_collect_job(options.collect_job, options.base_url)
        return
    with build_generator(options.base_url, options.storage, options.webhook_url) as generator:
        if options.request:
            request(generator, options)
        collect(generator, tells=options.tell)


def serve() -> None:
    """Fork a process for each line of stdin, with its arguments; tell how it ended.

    Most of a process's time would be its imports. A fork has them, and nothing else: it opens the
    storage root and its connections for itself, and a SIGKILL ends it alone.
    """
    for heavy in ("av", "boto3", "numpy", "obstore.auth.boto3", "obstore.store"):
        importlib.import_module(heavy)
    with quick_requests():
        _fork_for_each_line()


def _fork_for_each_line() -> None:
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            try:
                main(json.loads(line))
            except BaseException:  # noqa: BLE001
                # Whatever it is, it is printed, and the fork must not go on in the server's loop.
                traceback.print_exc(file=sys.stdout)
                sys.stdout.flush()
                os._exit(1)
            sys.stdout.flush()
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(f"ended with {os.waitstatus_to_exitcode(status)}", flush=True)


if __name__ == "__main__":
    main()
